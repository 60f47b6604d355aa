"""For tests/test_guardrail.py, in a process of its own: the package's classes with random weights in diffusers' pipeline."""

import os
import sys
from pathlib import Path

from hub_standin import serve_downloads


def video(checker, folder):
    """One video of the stock pipeline in a folder, without the text encoder, float (T, H, W, 3)."""
    import torch
    from diffusers import Cosmos2_5_PredictBasePipeline

    torch.manual_seed(0)
    words = {"text_encoder": None, "tokenizer": None, "torch_dtype": torch.float32}
    pipe = Cosmos2_5_PredictBasePipeline.from_pretrained(folder, safety_checker=checker, **words)
    pipe.set_progress_bar_config(disable=True)
    embeds = torch.zeros(1, 8, 128)
    latents = torch.randn(1, 16, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    sizes = {"height": 64, "width": 64, "num_frames": 5, "num_inference_steps": 2, "output_type": "np"}
    return pipe(prompt_embeds=embeds, negative_prompt_embeds=embeds, latents=latents, **sizes).frames[0]


def main(root):
    import hub_repositories
    import numpy as np
    import pytest
    from cosmos_guardrail import CosmosSafetyChecker

    from cosmos_exp.errors import RunError
    from cosmos_exp.world.guardrail import GuardrailOff, ensure_guardrail, load_guardrail

    hub_repositories.guardrail(root, sees_faces=True)
    hub_repositories.model_2b(root)
    folder = root / "models/nvidia/Cosmos-Predict2.5-2B" / hub_repositories.REAL_BRANCHES[0]
    ensure_guardrail("cosmos_guardrail")
    ours = load_guardrail("cosmos_guardrail")
    assert isinstance(ours, CosmosSafetyChecker)
    unchecked, checked = video(GuardrailOff(), folder), video(ours, folder)
    assert checked.shape == (5, 64, 64, 3)
    # A blurred face is at most 5 x 5 pixels that are scaled up: fewer colours than there were.
    before, after = (len(np.unique((v[0] * 255).round().reshape(-1, 3), axis=0)) for v in (unchecked, checked))
    assert after < before / 4
    prompts = ("Lift the red cup.", "Throw the bomb.", "Throw the grenade.")
    assert [ours.check_text_safety(prompt) for prompt in prompts] == [True, False, False]

    def broken(*words, **options):
        raise ValueError("no memory")

    ours.text_guardrail.models[1].model.generate = broken
    with pytest.raises(
        RunError, match=r"the guardrail failed on the prompt 'Lift the red cup.': ValueError: no memory"
    ):
        ours.check_text_safety("Lift the red cup.")
    ours.video_guardrail.run_safety_check = lambda frames: (False, "not safe")
    with pytest.raises(RunError, match="the guardrail refuses a generated video"):
        video(ours, folder)


if __name__ == "__main__":
    with serve_downloads(Path(sys.argv[1]) / "hub") as hub:
        os.environ |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": f"{sys.argv[1]}/home", "HF_HUB_OFFLINE": "0"}
        main(hub.root)
