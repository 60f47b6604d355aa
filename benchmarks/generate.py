"""Videos per hour compared with plain diffusers' pipeline: same start noise, same frames up to rounding.

    python benchmarks/generate.py                       the embedded model and one of about 50 M parameters, on the CPU
    python benchmarks/generate.py --models 2b --device cuda --steps 8

Plain diffusers: its forward pass twice per step, the whole padded clip through the encoder, the file written before the
next video starts. Ours: the run's Generator; guidance as two passes or one batch of two; compiled with --compile. The
frames must agree to one grey level (on a GPU in bf16: mean absolute difference below 2), otherwise this is an error.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import torch
from common import interleaved, ratios
from diffusers import Cosmos2_5_PredictBasePipeline
from train_step import MODELS, open_run, options, publish

from cosmos_exp.config.schema import Config
from cosmos_exp.data.video import write_video
from cosmos_exp.experiment.generate import AdaptedPipeline, video_tasks
from cosmos_exp.experiment.prepare import Inputs, prepare
from cosmos_exp.experiment.record import dtype_of
from cosmos_exp.generation.videos import VideoTask, start_noise
from cosmos_exp.world.guardrail import GuardrailOff
from cosmos_exp.world.hardware import latent_shape
from cosmos_exp.world.loading import load_transformer, load_vae
from cosmos_exp.world.pipeline import load_pipeline, negative_prompt

MakeVideo = Callable[[], np.ndarray]  # generates one video, writes its file and returns the frames


def plain(config: Config, inputs: Inputs, task: VideoTask, device: torch.device) -> MakeVideo:
    """With diffusers' pipeline, which encodes the whole padded clip, and diffusers' transformer."""
    dtype, shape = dtype_of(config), latent_shape(config)
    transformer, _ = load_transformer(inputs.model, dtype)
    pipe = load_pipeline(inputs.model, transformer, load_vae(inputs.model, dtype), GuardrailOff()).to(device)
    pipe.prepare_latents = MethodType(Cosmos2_5_PredictBasePipeline.prepare_latents, pipe)
    generation, data = config.generation, config.data

    @torch.no_grad()
    def call() -> np.ndarray:
        frames = pipe(
            image=task.frames()[0],
            prompt_embeds=inputs.cache.read(task.prompt)[None].to(device, dtype),
            negative_prompt_embeds=inputs.cache.read(negative_prompt(config))[None].to(device, dtype),
            latents=start_noise(task.seed, shape),
            height=data.height,
            width=data.width,
            num_frames=data.num_frames,
            num_inference_steps=generation.num_steps,
            guidance_scale=generation.guidance_scale,
            conditional_frame_timestep=config.training.condition_timestep,
            output_type="np",
        ).frames[0]
        frames = np.clip(frames * 255 + 0.5, 0, 255).astype(np.uint8)
        write_video(task.path, frames, generation.fps, generation.crf)
        return frames

    return call


def ours(config: Config, inputs: Inputs, task: VideoTask, device: torch.device) -> MakeVideo:
    """As a run makes its videos."""
    pipeline = AdaptedPipeline(config, {"base": []}, inputs.model, inputs.cache, device)
    sample, made = pipeline.generator.frames, []

    def kept(task: VideoTask, negative: str | None) -> np.ndarray:
        made.append(sample(task, negative))
        return made[-1]

    pipeline.generator.frames = kept

    def call() -> np.ndarray:
        path = task.path.with_name(f"ours{id(pipeline)}-{len(made)}.mp4")
        pipeline.make("base", [replace(task, path=path)])
        return made[-1]

    return call


# Any: a row of the result file
def measure(model: str, args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """One model: one row per way."""
    words = [*MODELS[model], "adapter=none", "generation.seeds=[0]"]
    if args.steps:
        words.append(f"generation.num_steps={args.steps}")
    context = open_run([*words, "hardware.compile=false"], folder / model, args.device)
    config, inputs, device = context.config, prepare(context), context.processes.device
    task = video_tasks(config, inputs.dataset.pairs, context.folder.video)[0]
    calls = {"plain diffusers": plain(config, inputs, task, device)}
    for passes in ("two_passes", "one_batch"):
        for compiled in (False, True) if args.compile else (False,):
            label = f"ours, {passes.replace('_', ' ')}{', compiled' if compiled else ''}"
            speed = [f"hardware.compile={compiled}", f"hardware.guidance={passes}"]
            own = open_run([*words, *speed], folder / f"{model} {label}", args.device)
            calls[label] = ours(own.config, inputs, task, device)
    expected = calls["plain diffusers"]().astype(int)
    differences = {}
    for name, call in calls.items():
        difference = np.abs(call().astype(int) - expected)
        differences[name] = (int(difference.max()), float(difference.mean()))
        near = difference.mean() < 2 if args.device == "cuda" else difference.max() <= 1
        if not near:
            raise SystemExit(f"{model}: the frames of {name!r} differ by up to {difference.max()} grey levels")
    seconds = interleaved(calls, args.repeats, args.device, warm_up=0)
    rows = []
    for name, each in seconds.items():
        row = {"model": model, "way": name, "seconds": each}
        row["videos_per_hour"] = [3600 / duration for duration in each]
        row["ratio"] = ratios(seconds["plain diffusers"], each)
        row["largest_difference"], row["mean_difference"] = differences[name]
        rows.append(row)
    return rows


def main() -> None:
    """Measure, print the table, write it."""
    parser = options(__doc__, 5)
    parser.add_argument("--steps", type=int, help="denoising steps (default: as configured)")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for model in args.models.split(","):
            rows += measure(model, args, Path(folder))
    publish(args, "generate", "Generation", f"{args.repeats} videos", rows)


if __name__ == "__main__":
    main()
