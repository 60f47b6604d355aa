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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import device_name, interleaved, machine_line, ratios, table, write
from diffusers import Cosmos2_5_PredictBasePipeline, UniPCMultistepScheduler
from train_step import COMMON, MODELS

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.context import RunContext
from cosmos_exp.config.schema import Config
from cosmos_exp.data.pairs import pair_frames
from cosmos_exp.data.video import write_video
from cosmos_exp.distributed import Processes
from cosmos_exp.experiment.generate import video_tasks
from cosmos_exp.experiment.prepare import Inputs, prepare
from cosmos_exp.experiment.record import dtype_of
from cosmos_exp.generation.videos import Generator, VideoTask, start_noise
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.world.guardrail import GuardrailOff
from cosmos_exp.world.hardware import latent_shape
from cosmos_exp.world.loading import load_transformer, load_vae
from cosmos_exp.world.pipeline import load_pipeline, negative_prompt

MakeVideo = Callable[[], np.ndarray]  # generates one video, writes its file and returns the frames


def plain(config: Config, inputs: Inputs, folder: Path, device: torch.device) -> MakeVideo:
    """With diffusers' unchanged pipeline."""
    dtype = dtype_of(config)
    transformer, _ = load_transformer(inputs.model, dtype)
    vae = load_vae(inputs.model, dtype)
    pipe = Cosmos2_5_PredictBasePipeline(
        text_encoder=None,
        tokenizer=None,
        transformer=transformer,
        vae=vae,
        scheduler=UniPCMultistepScheduler.from_pretrained(inputs.model.path / "scheduler"),
        safety_checker=GuardrailOff(),
    )
    pipe.vae_scale_factor_spatial = vae.config.scale_factor_spatial or pipe.vae_scale_factor_spatial
    pipe.video_processor.register_to_config(vae_scale_factor=pipe.vae_scale_factor_spatial)
    pipe.set_progress_bar_config(disable=True)
    pipe.to(device)
    torch.set_grad_enabled(True)
    generation, data = config.generation, config.data
    task = video_tasks(config, inputs.dataset.pairs, inputs.dataset.held_out, lambda s, seed: folder / f"{s}.mp4")[0]
    shape = latent_shape(config)

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
        write_video(folder / "plain.mp4", frames, generation.fps, generation.crf)
        return frames

    return call


def ours(config: Config, inputs: Inputs, folder: Path, device: torch.device) -> MakeVideo:
    """With the run's Generator."""
    dtype = dtype_of(config)
    transformer, _ = load_transformer(inputs.model, dtype)
    pipe = load_pipeline(inputs.model, transformer, load_vae(inputs.model, dtype), GuardrailOff()).to(device)
    maker = Generator(config, pipe, inputs.cache.read, device)
    pair = inputs.dataset.pairs[0]
    negative = negative_prompt(config)
    conditioning = partial(pair_frames, pair, inputs.dataset.held_out, config.data, 1)
    made: list[np.ndarray] = []
    inner = maker.frames
    maker.frames = lambda task, negative: made.append(inner(task, negative)) or made[-1]  # type: ignore[method-assign]

    def call() -> np.ndarray:
        path = folder / f"ours{id(maker)}-{len(made)}.mp4"
        maker.make(
            [VideoTask(pair.name, config.generation.seeds[0], pair.prompt, path, conditioning)], negative, show=False
        )
        return made[-1]

    return call


# Any: a row of the result file
def measure(model: str, args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """One model: one row per way."""
    hardware = "hardware=1xh100" if args.device == "cuda" else "hardware=cpu"
    steps = [f"generation.num_steps={args.steps}"] if args.steps else []
    words = [
        *COMMON,
        *MODELS[model],
        hardware,
        "adapter=none",
        *steps,
        "generation.seeds=[0]",
        "hardware.compile=false",
    ]
    config = compose_config(words)
    record = RunFolder(folder / model)
    record.path.mkdir(parents=True)
    inputs = prepare(RunContext(config, record, Processes(args.device, 1)))
    device = torch.device("cuda:0" if args.device == "cuda" else "cpu")
    calls = {"plain diffusers": plain(config, inputs, record.path, device)}
    for passes in ("two_passes", "one_batch"):
        for compiled in (False, True) if args.compile else (False,):
            own = compose_config([*words[:-1], f"hardware.compile={compiled}", f"hardware.guidance={passes}"])
            calls[f"ours, {passes.replace('_', ' ')}{', compiled' if compiled else ''}"] = ours(
                own, inputs, record.path, device
            )
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
        row: dict[str, Any] = {"model": model, "way": name, "seconds": each}
        row["videos_per_hour"] = [3600 / duration for duration in each]
        row["ratio"] = ratios(seconds["plain diffusers"], each)
        row["largest_difference"], row["mean_difference"] = differences[name]
        rows.append(row)
    return rows


def main() -> None:
    """Measure, print the table, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="tabletop,mid", help="of " + ", ".join(MODELS))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=None, help="denoising steps (default: as configured)")
    parser.add_argument("--compile", action="store_true", help="also compiled")
    parser.add_argument("--name", default=None)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for model in args.models.split(","):
            rows += measure(model, args, Path(folder))
    text = f"{machine_line(args.device)}; {args.repeats} videos of each in turn: median (lowest to highest).\n\n{table(rows)}"
    write(args.name or f"generate_{args.device}", f"Generation on {device_name(args.device)}", text, rows, args.out)


if __name__ == "__main__":
    main()
