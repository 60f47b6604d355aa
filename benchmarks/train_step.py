"""Samples a second of training beside the reference's way of doing the same step, in turn, on the same machine.

    python benchmarks/train_step.py                     the embedded model and one of about 50 M parameters, on the CPU
    python benchmarks/train_step.py --models 2b --device cuda [--kinds lora,dora]      the full size, random weights

Rows, all of LoRA (or DoRA) of rank 32:
  reference            as its train_lora.sh: every visit decodes the video, encodes it and its prompt; diffusers' forward
                       pass with gradient checkpointing, plain AdamW, a wait for the loss in each step. Written anew
                       from the description of the diffusers example.
  reference, no checkpointing
  reference, cached    the same step with latents and projected prompts given, as ours has them; no checkpointing
  ours                 the run's own Trainer; also compiled, and with each checkpointing policy where asked for
The losses of "reference, cached" and ours must agree to 1e-4 (2e-2 in bf16), or this ends with an error.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import command_line, device_name, interleaved, machine_line, ratios, table, write
from diffusers.video_processor import VideoProcessor
from PIL import Image

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.context import RunContext
from cosmos_exp.data.video import read_video
from cosmos_exp.distributed import Processes
from cosmos_exp.experiment.prepare import prepare
from cosmos_exp.experiment.record import dtype_of
from cosmos_exp.experiment.train import make_trainer
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.training.loop import StopRequest
from cosmos_exp.training.plan import lr_at, sample_order
from cosmos_exp.training.samples import SampleSource
from cosmos_exp.world import adapter as adapters
from cosmos_exp.world.encoders import Encoders, embed_prompt
from cosmos_exp.world.loading import latent_statistics, load_transformer
from cosmos_exp.world.rectified_flow import FlowBatch, flow_loss

WARM_UP = 2  # steps
COMMON = [
    "tracking=none",
    "rank=32",
    "data.train_clips=8",
    "data.validation_videos=0",
    "data.test_pairs=1",
    "data.windows_per_video=1",
    "training.schedule.warmup_samples=0",
]
MODELS = {
    "tabletop": [],
    "mid": [
        "model.weights=random",
        "model.max_first_loss=null",
        "model.z_dim=16",
        "model.transformer.in_channels=17",
        "model.transformer.out_channels=16",
        "model.transformer.num_attention_heads=8",
        "model.transformer.num_layers=8",
        "model.transformer.text_embed_dim=512",
        "model.transformer.adaln_lora_dim=256",
        "data.height=128",
        "data.width=224",
        "data.num_frames=33",
    ],
    "2b": [
        "model.weights=random",
        "model.max_first_loss=null",
        "model.z_dim=16",
        "model.transformer.in_channels=17",
        "model.transformer.out_channels=16",
        "model.transformer.num_attention_heads=16",
        "model.transformer.attention_head_dim=128",
        "model.transformer.num_layers=28",
        "model.transformer.text_embed_dim=1024",
        "model.transformer.adaln_lora_dim=256",
        "model.prompt_tokens=512",
        "data.height=432",
        "data.width=768",
        "data.num_frames=93",
        "data.train_clips=2",
    ],
}


class Reference:
    """The reference's step, with everything at each visit or (cached) with the sources that ours has."""

    def __init__(
        self, config: Any, prepared: Any, encoders: Encoders | None, device: torch.device, checkpointing: bool
    ):
        self.config, self.prepared, self.encoders, self.device = config, prepared, encoders, device
        self.model, _ = load_transformer(prepared.model, dtype_of(config))
        self.parameters = adapters.inject(self.model, config.adapter, config.seed)
        self.model.to(device).train()
        if checkpointing:
            self.model.enable_gradient_checkpointing()
        self.optimizer = torch.optim.AdamW(
            list(self.parameters.values()), lr=config.training.learning_rate, weight_decay=config.training.weight_decay
        )
        self.source = SampleSource(config, prepared.dataset.train, prepared.cache, latent_statistics(prepared.model))
        self.order = sample_order(len(prepared.dataset.train), config)
        self.done = 0
        self.losses = []

    def batch(self) -> FlowBatch:
        batch = self.source.batch(self.order.batch(self.done), self.device)
        if self.encoders is None:
            return batch
        clips = [self.prepared.dataset.train[video] for _, video in self.order.batch(self.done)]
        means, prompts = zip(*map(self.encode, clips), strict=True)
        centre, scale = latent_statistics(self.prepared.model)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        clean = (torch.cat(means) - centre.to(self.device)) / scale.to(self.device)
        return replace(batch, clean=clean, prompt=torch.cat(prompts))

    @torch.no_grad()
    def encode(self, clip: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """A clip's latent mean and projected prompt, from its files."""
        data, encoders = self.config.data, self.encoders
        frames = [Image.fromarray(f) for f in read_video(clip.clip.path)][: data.num_frames]
        video = VideoProcessor(vae_scale_factor=8, resample="bilinear").preprocess_video(
            frames, data.height, data.width
        )
        mean = encoders.vae.encode(video.to(self.device, encoders.vae.dtype)).latent_dist.mean.float()
        words = (clip.clip.prompt, encoders.prompt_tokens, encoders.dtype)
        return mean, encoders.projection(embed_prompt(encoders.tokenizer, encoders.text_encoder, *words))

    def step(self) -> None:
        config, training = self.config, self.config.training
        data = self.batch()
        bf16 = config.hardware.mixed_precision == "bf16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16):
            loss = flow_loss(
                self.model, data, training.condition_timestep, (config.data.height, config.data.width)
            ).mean()
        self.losses.append(loss.item())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), training.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = lr_at(self.order.samples_before(self.done), training)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.done += 1


class Ours:
    """The run's own trainer, a step a call."""

    def __init__(self, context: RunContext, prepared: Any):
        self.trainer = make_trainer(context, prepared, lambda *row: None)
        self.trainer.model.transformer.train()
        self.trainer.start_batches()
        self.losses = []

    def step(self) -> None:
        trainer, pending = self.trainer, self.trainer.log.pending
        pending.append(trainer.train_step(StopRequest()))
        trainer.step += 1
        while len(pending) > trainer.log.lag:
            self.losses.append(pending.popleft().read(str)[0])


def open_run(words: list[str], folder: Path, device: str) -> RunContext:
    """A run of one process on `device`, and its new folder."""
    config = compose_config([*COMMON, "hardware=1xh100" if device == "cuda" else "hardware=cpu", *words])
    folder.mkdir(parents=True)
    return RunContext(config, RunFolder(folder), Processes(device, 1))


def variants(model: str, kind: str, args: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], Any]:
    """What is timed, by name."""
    words = ["training.global_batch_size=1", "hardware.samples_per_forward=1", *MODELS[model], f"adapter={kind}"]
    words += args.override
    plain = [*words, "hardware.compile=false", "hardware.checkpointing=none"]
    context = open_run(plain, folder / f"{model}-{kind}", args.device)
    config, device, prepared = context.config, context.processes.device, prepare(context)
    encoders = Encoders(prepared.model, device, dtype_of(config), config.model.prompt_tokens)
    fits = model != "2b"  # without checkpointing the reference does not fit any card at this size
    found = {"reference": lambda: Reference(config, prepared, encoders, device, True)}
    if fits:
        found["reference, no checkpointing"] = lambda: Reference(config, prepared, encoders, device, False)
    found["reference, cached"] = lambda: Reference(config, prepared, None, device, not fits)
    for policy in args.checkpointing.split(","):
        for compiled in (False, True) if args.compile else (False,):
            label = "ours" + (", compiled" if compiled else "") + (f", {policy}" if policy != "none" else "")
            speed = [f"hardware.compile={compiled}", f"hardware.checkpointing={policy}"]
            own = open_run([*words, *speed], folder / f"{model}-{kind}-{label}", args.device)
            found[label] = lambda own=own: Ours(own, prepared)
    return found, config


def measure(model: str, kind: str, args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """One model and adapter: rows for the table. On a GPU each variant has the memory for itself, so that its peak can be read."""
    makers, config = variants(model, kind, args, folder)
    limit = 2e-2 if config.hardware.mixed_precision == "bf16" else 1e-4
    losses, peaks, seconds = {}, {}, {}
    if args.device == "cuda":
        for name, make in makers.items():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            variant = make()
            seconds |= interleaved({name: variant.step}, args.repeats, "cuda", WARM_UP)
            losses[name], peaks[name] = variant.losses, torch.cuda.max_memory_allocated() / 2**30
            del variant
    else:
        made = {name: make() for name, make in makers.items()}
        seconds = interleaved({name: variant.step for name, variant in made.items()}, args.repeats, "cpu", WARM_UP)
        losses = {name: variant.losses for name, variant in made.items()}
    rows = []
    for name, each in seconds.items():
        row = {"model": model, "adapter": kind, "variant": name, "seconds": each}
        row["samples_per_second"] = [1 / duration for duration in each]
        row["ratio"] = ratios(seconds["reference"], each)
        row["ratio_cached"] = ratios(seconds["reference, cached"], each)
        row["peak_gib"] = peaks.get(name)
        if name.startswith("ours"):
            row["loss_difference"] = largest_difference(losses[name], losses["reference, cached"])
            if not row["loss_difference"] < limit:
                raise SystemExit(f"{model} {kind}: the losses of {name!r} differ by {row['loss_difference']:.2g}")
        rows.append(row)
    return rows


def largest_difference(losses: list[float], expected: list[float]) -> float:
    """Largest relative difference; the longer list is cut."""
    pairs = np.array(list(zip(losses, expected, strict=False)))
    return float(np.abs(pairs[:, 0] / pairs[:, 1] - 1).max())


def options(doc: str | None, repeats: int) -> argparse.ArgumentParser:
    """The command line of a program that times models."""
    parser = command_line(doc)
    parser.add_argument("--models", default="tabletop,mid", help="of " + ", ".join(MODELS))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--compile", action="store_true", help="also compiled")
    parser.add_argument("--name", help="of the result files")
    parser.add_argument("--out", type=Path)
    return parser


def publish(args: argparse.Namespace, name: str, title: str, what: str, rows: list[dict[str, Any]]) -> None:
    """Print the table and write it."""
    text = f"{machine_line(args.device)}; {what} of each in turn: median (lowest to highest).\n\n{table(rows)}"
    write(args.name or f"{name}_{args.device}", f"{title} on {device_name(args.device)}", text, rows, args.out)


def main() -> None:
    """Measure, print the table, write it."""
    parser = options(__doc__, 15)
    parser.add_argument("--kinds", default="lora,dora")
    parser.add_argument(
        "--checkpointing", default="none", help="policies, by commas; auto on a GPU plans with its memory"
    )
    parser.add_argument("--override", nargs="*", default=[], help="any further configuration")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for model in args.models.split(","):
            for kind in args.kinds.split(","):
                rows += measure(model, kind, args, Path(folder))
    publish(args, "train_step", "Training step", f"batch 1, rank 32, {args.repeats} steps", rows)


if __name__ == "__main__":
    main()
