"""Videos from cached, projected prompts against plain diffusers with its text encoder and projection."""

import numpy as np
import pytest
import torch
from conftest import WAN
from diffusers import AutoencoderKLWan, Cosmos2_5_PredictBasePipeline, CosmosTransformer3DModel, UniPCMultistepScheduler
from PIL import Image
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

from cosmos_exp.errors import RunError
from cosmos_exp.generation.videos import Generator, VideoTask, start_noise
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.world.encoders import Encoders
from cosmos_exp.world.guardrail import GuardrailOff
from cosmos_exp.world.loading import load_transformer, load_vae
from cosmos_exp.world.model_folder import ensure_model
from cosmos_exp.world.pipeline import load_pipeline

PROMPT = "Use the left hand to pick up the red block and place it in the blue bowl."


@pytest.fixture(scope="module")
def folder(small_config):
    config = small_config(*WAN)
    return ensure_model(config)


@pytest.fixture(scope="module")
def encoders(folder, small_config):
    return Encoders(folder, torch.device("cpu"), torch.float32, small_config(*WAN).model.prompt_tokens)


@pytest.fixture(scope="module")
def plain(folder):
    """diffusers' pipeline with all its own parts."""
    path = folder.path
    pipe = Cosmos2_5_PredictBasePipeline(
        text_encoder=Qwen2_5_VLForConditionalGeneration.from_pretrained(path / "text_encoder"),
        tokenizer=AutoTokenizer.from_pretrained(path / "tokenizer"),
        transformer=CosmosTransformer3DModel.from_pretrained(path / "transformer"),
        vae=AutoencoderKLWan.from_pretrained(path / "vae"),
        scheduler=UniPCMultistepScheduler.from_pretrained(path / "scheduler"),
        safety_checker=GuardrailOff(),
    )
    pipe.vae_scale_factor_spatial = 8
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_a_generated_video_equals_plain_diffusers(folder, encoders, plain, small_config, tmp_path):
    config = small_config(
        *WAN, "generation.num_steps=3", "generation.guidance_scale=3", "generation.negative_prompt=blurry"
    )
    transformer, _ = load_transformer(folder, torch.float32)
    pipe = load_pipeline(folder, transformer, load_vae(folder, torch.float32), GuardrailOff())
    image = Scene.sample(1, "robot", num_frames=1).clip().frames
    maker = Generator(config, pipe, encoders.encode_prompt, torch.device("cpu"))
    ours = maker.frames(VideoTask("a", 7, PROMPT, tmp_path / "v.mp4", lambda: image), "blurry")
    noise = np.random.RandomState(7).standard_normal((1, 16, 5, 8, 12)).astype(np.float32)  # the reference's draw
    assert torch.equal(start_noise(7, (16, 5, 8, 12)), torch.from_numpy(noise))
    with torch.no_grad():
        theirs = plain(
            image=image[0],
            prompt=PROMPT,
            negative_prompt="blurry",
            height=64,
            width=96,
            num_frames=17,
            num_inference_steps=3,
            guidance_scale=3.0,
            latents=torch.from_numpy(noise),
            max_sequence_length=64,
            output_type="np",
        ).frames[0]
    assert ours.shape == (17, 64, 96, 3)
    assert np.abs(ours / 255.0 - theirs).max() < 0.5 / 255 + 1e-4


@torch.no_grad()
def test_cached_prompts_and_latents_are_those_of_the_pipeline(folder, encoders, plain):
    """The velocity with and without text; the posterior's mean of frames in [-1, 1]."""
    frames = Scene.sample(2, "robot").clip().frames
    video = plain.video_processor.preprocess_video([Image.fromarray(f) for f in frames], 96, 160)
    latent = plain.vae.encode(video).latent_dist.mode()[0]
    assert (encoders.encode_video(frames) - latent).abs().max() < 1e-5
    transformer, _ = load_transformer(folder, torch.float32)
    embeds = plain._get_prompt_embeds(PROMPT, max_sequence_length=64, device="cpu")
    g = torch.Generator().manual_seed(0)
    words = {
        "hidden_states": torch.randn(1, 16, 5, 12, 20, generator=g),
        "condition_mask": torch.zeros(1, 1, 5, 12, 20),
        "timestep": torch.full((1, 1, 5, 1, 1), 0.4),
        "padding_mask": torch.zeros(1, 1, 96, 160),
        "return_dict": False,
    }
    for text, full in ((PROMPT, embeds), (None, torch.zeros_like(embeds))):
        expected = plain.transformer(encoder_hidden_states=full, **words)[0]
        ours = transformer(encoder_hidden_states=encoders.encode_prompt(text)[None], **words)[0]
        assert (ours - expected).abs().max() < 1e-5


def test_a_prompt_that_the_guardrail_refuses_stops_before_anything_is_generated(folder, small_config, tmp_path):
    class Strict(GuardrailOff):
        def check_text_safety(self, prompt):
            return "red" not in prompt

    transformer, _ = load_transformer(folder, torch.float32)
    pipe = load_pipeline(folder, transformer, load_vae(folder, torch.float32), Strict())
    maker = Generator(small_config(), pipe, None, torch.device("cpu"))
    with pytest.raises(RunError, match="guardrail refuses"):
        maker.make([VideoTask("a", 0, PROMPT, tmp_path / "v.mp4", None)], None)
    assert not list(tmp_path.iterdir())
