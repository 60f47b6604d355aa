"""Times the reference's own training script: seconds of each optimizer step and peak memory, as JSON.

    python benchmarks/run_reference.py SCRIPT --size tiny                    here, on a CPU
    python benchmarks/run_reference.py SCRIPT --size 2b --steps 6            on a GPU

SCRIPT is examples/cosmos/train_cosmos_predict25_lora.py of a diffusers checkout; it is run as it is, in this process,
never copied. Model and videos are random ones of the real classes: "2b" the full sizes (a 7B text encoder, the Wan 2.1
autoencoder, 432x768x93, gradient checkpointing, TF32, as its train_lora.sh), "tiny" the embedded world's. A step ends
with AdamW's; after --steps of them the script is stopped. It needs `datasets` and `imageio-ffmpeg` besides.
"""

from __future__ import annotations

import argparse
import json
import runpy
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from common import machine_line
from train_step import MODELS
from transformers import AutoTokenizer

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.paths import cache_root
from cosmos_exp.data.video import write_video
from cosmos_exp.world.model_folder import ensure_model

FRAMES = {"tiny": (96, 160, 17), "2b": (432, 768, 93)}


class Enough(BaseException):
    """So many steps were timed."""


def make_model(size: str, folder: Path) -> Path:
    """A diffusers folder with random weights; the transformer and tokenizer are the embedded builder's at this size."""
    words = (
        [
            "model.weights=random",
            "model.max_first_loss=null",
            "model.z_dim=16",
            "model.transformer.in_channels=17",
            "model.transformer.out_channels=16",
        ]
        if size == "tiny"
        else MODELS["2b"]
    )
    if size == "2b":
        words = [*words, "model.text_channels=100352"]
    config = compose_config(words)
    source = ensure_model(config.model, cache_root(config)).path
    target = folder / "model"
    target.mkdir()
    for part in source.iterdir():
        (target / part.name).symlink_to(part)
    _encoders(target, full=size == "2b")
    tokenizer = AutoTokenizer.from_pretrained(target / "tokenizer")
    index = {
        "_class_name": "Cosmos2_5_PredictBasePipeline",
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "text_encoder": ["transformers", "Qwen2_5_VLForConditionalGeneration"],
        "tokenizer": ["transformers", type(tokenizer).__name__],
        "transformer": ["diffusers", "CosmosTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }
    (target / "model_index.json").write_text(json.dumps(index))
    return target


def _encoders(target: Path, full: bool) -> None:
    """Random encoders, bf16: Cosmos-Reason1's and Wan 2.1's at their sizes, or a small autoencoder of Wan 2.1's form."""
    from diffusers import AutoencoderKLWan
    from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration

    config = AutoConfig.from_pretrained(target / "text_encoder")
    config.text_config.update(
        {
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
        }
    )
    config.vision_config.out_hidden_size = 3584
    small = {"base_dim": 8, "dim_mult": [1, 1, 2, 2], "num_res_blocks": 1}
    parts = {"vae": lambda: AutoencoderKLWan(**({} if full else small))}
    if full:
        parts["text_encoder"] = lambda: Qwen2_5_VLForConditionalGeneration(config)
    for name, build in parts.items():
        (target / name).unlink()
        torch.set_default_dtype(torch.bfloat16)
        try:
            build().save_pretrained(target / name)
        finally:
            torch.set_default_dtype(torch.float32)


def make_videos(size: str, folder: Path) -> Path:
    """Four noisy videos with prompts in the reference's layout."""
    height, width, frames = FRAMES[size]
    data = folder / "data"
    (data / "metas").mkdir(parents=True)
    (data / "videos").mkdir()
    rng = np.random.RandomState(0)
    for number in range(4):
        small = rng.randint(0, 255, (frames, height // 8, width // 8, 3)).astype(np.uint8)
        write_video(data / "videos" / f"{number}.mp4", small.repeat(8, 1).repeat(8, 2), 16)
        (data / "metas" / f"{number}.txt").write_text("Use the left hand to pick up the red block.")
    return data


def run(script: Path, size: str, steps: int, kind: str, folder: Path) -> dict:
    """Run the script until `steps` optimizer steps were timed."""
    height, width, frames = FRAMES[size]
    cuda = torch.cuda.is_available() and size == "2b"
    words = [
        str(script),
        "--pretrained_model_name_or_path",
        str(make_model(size, folder)),
        "--train_data_dir",
        str(make_videos(size, folder)),
        "--train_batch_size",
        "1",
        "--num_train_epochs",
        "1000",
        "--seed",
        "0",
        "--output_dir",
        str(folder / "out"),
        "--height",
        str(height),
        "--width",
        str(width),
        "--num_frames",
        str(frames),
        "--gradient_checkpointing",
        "--lora_rank",
        "32",
        "--lora_alpha",
        "32",
        "--mixed_precision",
        "bf16",
        "--report_to",
        "wandb",
        *(["--allow_tf32"] if cuda else []),
        *(["--use_dora"] if kind == "dora" else []),
    ]
    times: list[float] = []
    step = torch.optim.AdamW.step

    def timed(self, *args, **kwargs):
        result = step(self, *args, **kwargs)
        if cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter())
        if len(times) > steps:
            raise Enough
        return result

    torch.optim.AdamW.step = timed
    before, sys.argv = sys.argv, words
    try:
        runpy.run_path(str(script), run_name="__main__")
    except Enough:
        pass
    finally:
        torch.optim.AdamW.step, sys.argv = step, before
    seconds = [b - a for a, b in pairwise(times)]
    peak = torch.cuda.max_memory_allocated() / 2**30 if cuda else None
    return {"size": size, "adapter": kind, "seconds": seconds, "median": statistics.median(seconds), "peak_gib": peak}


def main() -> int:
    """Run and print; with --out also write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("script", type=Path)
    parser.add_argument("--size", default="tiny", choices=tuple(FRAMES))
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--kind", default="lora", choices=("lora", "dora"))
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run(args.script.resolve(), args.size, args.steps, args.kind, Path(folder)) | {"machine": machine_line()}
    print(json.dumps(found))
    if args.out:
        args.out.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
