"""The usage snippet of a card: plain diffusers, the adapter at its trained scale, the settings of the run's own videos."""

from __future__ import annotations

from dataclasses import dataclass

from cosmos_exp.config.registry import VAE_CLASSES
from cosmos_exp.config.schema import Config
from cosmos_exp.publish.base import Base
from cosmos_exp.publish.source import Arm
from cosmos_exp.run_folder import ADAPTER_FILE

CONDITIONING = "conditioning"  # folder of the first frames of an example

_PARTS = '''
class NoGuardrail:
    """This base model is a toy that draws coloured blocks. Cosmos models need their guardrail."""

    def to(self, *args, **kwargs):
        return self

    def check_text_safety(self, prompt):
        return True

    def check_video_safety(self, frames):
        return frames


pipe = Cosmos2_5_PredictBasePipeline(
    text_encoder=Qwen2_5_VLForConditionalGeneration.from_pretrained(f"{base}/text_encoder", dtype=dtype),
    tokenizer=AutoTokenizer.from_pretrained(f"{base}/tokenizer"),
    transformer=CosmosTransformer3DModel.from_pretrained(f"{base}/transformer", torch_dtype=dtype),
    vae=VAE_CLASS.from_pretrained(f"{base}/vae", torch_dtype=dtype),
    scheduler=UniPCMultistepScheduler.from_pretrained(f"{base}/scheduler"),
    safety_checker=NoGuardrail(),
)'''

_PATCHED = """pipe.vae_scale_factor_spatial = 8  # diffusers counts stages, and the first of this autoencoder is a patch
pipe.video_processor.register_to_config(vae_scale_factor=8)"""


@dataclass(frozen=True)
class Example:
    """A published video: where it is, and what it was generated from.

    video: its path in the published folder. frames: those of its conditioning frames, where they are published.
    arm: the adapter's name in a sweep; empty for a single run.
    """

    video: str
    prompt: str
    seed: int
    frames: list[str]
    arm: str = ""


def snippet(arm: Arm, base: Base, example: Example | None, repository: str | None) -> str:
    """Python code that generates the example's video with the adapter.

    Args:
        example: None: the user's own first frame and prompt.
        repository: of the published folder on the hub; None: it is not known yet.
    """
    config = arm.run.settings
    by_parts = base.repository is None
    return "\n".join(
        [
            *_imports(config, base, by_parts, repository is not None),
            "",
            *_places(base, repository, by_parts),
            *_pipeline(config, base, by_parts),
            *_adapter(arm),
            "",
            *_call(config, example, by_parts),
        ]
    )


def _video2world(config: Config) -> bool:
    return config.generation.mode != "image2world"


def _imports(config: Config, base: Base, by_parts: bool, hub: bool) -> list[str]:
    lines = ["import sys", ""] if by_parts and base.autoencoder else []
    lines += ["import numpy as np", "import torch"]
    classes = ["Cosmos2_5_PredictBasePipeline"]
    if by_parts:
        own = [] if base.autoencoder else ["AutoencoderKLWan"]
        classes = [*own, *classes, "CosmosTransformer3DModel", "UniPCMultistepScheduler"]
    lines.append(f"from diffusers import {', '.join(classes)}")
    lines.append(f"from diffusers.utils import {'export_to_gif' if by_parts else 'export_to_video'}, load_image")
    lines += ["from huggingface_hub import snapshot_download"] if hub else []
    lines += ["from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration"] if by_parts else []
    return lines


def _places(base: Base, repository: str | None, by_parts: bool) -> list[str]:
    """Where the published folder and the base are."""
    here = f"snapshot_download({repository!r})" if repository else '"."'
    what = "or the path of a local copy" if repository else "the folder that holds this README.md"
    lines = [f"folder = {here}  # {what}"]
    if by_parts:
        where = f"path/to/{base.shown_weights or 'the/base'}"
        known = f" ({base.fingerprint})" if base.fingerprint else ""
        what = (
            f"a folder of the package {base.shown_weights.partition('/')[0]}" if base.weights else "a diffusers folder"
        )
        lines.append(f"base = {where!r}  # the base model: {what}{known}".replace("'", '"'))
    if by_parts and base.autoencoder:
        module = VAE_CLASSES.source(base.autoencoder).stem  # its file is copied into the folder
        lines += ["sys.path.append(folder)", f"from {module} import {base.autoencoder}  # noqa: E402"]
    return lines


def _pipeline(config: Config, base: Base, by_parts: bool) -> list[str]:
    dtype = "torch.bfloat16" if config.hardware.mixed_precision == "bf16" else "torch.float32"
    if by_parts:
        vae = base.autoencoder or "AutoencoderKLWan"
        lines = [f"dtype = {dtype}  # as in the run", "", *_PARTS.replace("VAE_CLASS", vae).splitlines()]
        return [*lines, *(_PATCHED.splitlines() if base.embedded and base.random else [])]
    revision = f", revision={base.revision!r}".replace("'", '"') if base.revision else ""
    return [
        f'base = "{base.repository}"',
        f"pipe = Cosmos2_5_PredictBasePipeline.from_pretrained(base{revision}, torch_dtype={dtype})",
        'pipe.to("cuda")',
    ]


def _adapter(arm: Arm) -> list[str]:
    place = f'f"{{folder}}/{arm.place}"' if arm.place else "folder"
    scales = sorted({float(f"{s:.6g}") for s in arm.header.scales.values()})
    words = f"scale {scales[0]:g}" if len(scales) == 1 else f"scales {scales[0]:g} to {scales[-1]:g}"
    return [f'pipe.load_lora_weights({place}, weight_name="{ADAPTER_FILE}")  # at the trained {words}']


def _call(config: Config, example: Example | None, by_parts: bool) -> list[str]:
    """Start noise, the call of the pipeline with the run's settings, and the file."""
    data, generation, model = config.data, config.generation, config.model
    frames, height, width = (data.num_frames - 1) // 4 + 1, data.height // 8, data.width // 8
    shape = f"(1, {model.z_dim}, {frames}, {height}, {width})"
    seed = example.seed if example else (generation.seeds or [0])[0]
    lines = [f'noise = torch.from_numpy(np.random.RandomState({seed}).standard_normal({shape}).astype("float32"))']
    lines += ["frames = pipe("] if example else ["frames = pipe(  # with your own frames and prompt"]
    lines += [f"    {word}," for word in [*_conditioning(config, example), *_prompts(config, example)]]
    timestep = config.training.condition_timestep
    settings = {
        "latents": "noise",
        "height": data.height,
        "width": data.width,
        "num_frames": data.num_frames,
        "num_inference_steps": generation.num_steps,
        "guidance_scale": generation.guidance_scale,
        "conditional_frame_timestep": -1.0 if timestep is None else timestep,
        "max_sequence_length": model.prompt_tokens,
    }
    lines += [f"    {name}={value}," for name, value in settings.items()]
    write = f'export_to_{"gif" if by_parts else "video"}(frames, "video.{"gif" if by_parts else "mp4"}", fps={generation.fps:g})'
    return [*lines, ").frames[0]", write]


def _conditioning(config: Config, example: Example | None) -> list[str]:
    if not _video2world(config):
        name = f'f"{{folder}}/{example.frames[0]}"' if example and example.frames else '"first_frame.png"'
        return [f"image=load_image({name})"]
    pattern = (
        f'f"{{folder}}/{example.frames[0].rpartition("/")[0]}/{{k}}.png"'
        if example and example.frames
        else 'f"frames/{k}.png"'
    )
    return [f"video=[load_image({pattern}) for k in range(5)]", "num_latent_conditional_frames=2"]


def _prompts(config: Config, example: Example | None) -> list[str]:
    """Prompt and negative prompt, as in the run: the zero embedding is that of text dropout."""
    prompt = example.prompt if example else "Your prompt."
    if config.generation.chunk_prompts == "lines" and config.generation.chunks > 1:
        prompt = prompt.partition("\\n")[0]
    lines = [f"prompt={prompt!r}"]
    negative = config.generation.negative_prompt
    if config.generation.guidance_scale <= 1 or negative == "default":
        return lines
    if negative is not None:
        return [*lines, f"negative_prompt={negative!r}"]
    return [
        *lines,
        f"negative_prompt_embeds=torch.zeros(1, {config.model.prompt_tokens}, {config.model.text_channels}, "
        "dtype=pipe.transformer.dtype, device=pipe.device)",
    ]
