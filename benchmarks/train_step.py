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
from pathlib import Path
from typing import Any

import torch
from common import device_name, interleaved, machine_line, ratios, table, write
from diffusers.video_processor import VideoProcessor
from PIL import Image

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.context import RunContext
from cosmos_exp.data.video import read_video
from cosmos_exp.distributed import Processes
from cosmos_exp.experiment.cost import estimate_cost
from cosmos_exp.experiment.prepare import prepare
from cosmos_exp.experiment.record import dtype_of
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.training.log import SpeedMeter
from cosmos_exp.training.loop import AdaptedModel, StopRequest, Trainer
from cosmos_exp.training.plan import lr_at, sample_order
from cosmos_exp.training.samples import SampleSource
from cosmos_exp.world import adapter as adapters
from cosmos_exp.world.encoders import Encoders, embed_prompt
from cosmos_exp.world.loading import latent_statistics, load_transformer
from cosmos_exp.world.rectified_flow import FlowBatch, flow_loss

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
        self.losses: list[float] = []

    def batch(self) -> FlowBatch:
        batch = self.source.batch(self.order.batch(self.done), self.device)
        if self.encoders is None:
            return batch
        means, prompts = [], []
        for _, video in self.order.batch(self.done):
            mean, prompt = self.encode(self.prepared.dataset.train[video])
            means.append(mean)
            prompts.append(prompt)
        centre, scale = latent_statistics(self.prepared.model)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        clean = (torch.cat(means) - centre.to(self.device)) / scale.to(self.device)
        return FlowBatch(clean, batch.noise, batch.sigma, batch.condition_frames, torch.cat(prompts))

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

    def __init__(self, config: Any, prepared: Any, folder: Path, device: torch.device):
        context = RunContext(config, RunFolder(folder), Processes(device.type, 1))
        model, _ = load_transformer(prepared.model, dtype_of(config))
        parameters = adapters.inject(model, config.adapter, config.seed)
        model.to(device).train()
        trainable = sum(p.numel() for p in parameters.values())
        cost = estimate_cost(config, model.num_parameters() - trainable, dict(model.config))
        source = SampleSource(config, prepared.dataset.train, prepared.cache, latent_statistics(prepared.model))
        order = sample_order(len(prepared.dataset.train), config)
        adapted = AdaptedModel(model, parameters, config, device, cost.checkpointing)
        meter = SpeedMeter(cost.sample_flops, device)
        self.trainer = Trainer(context, adapted, order, source, None, meter, lambda *row: None)
        self.trainer.start_batches()
        self.losses: list[float] = []

    def step(self) -> None:
        trainer, pending = self.trainer, self.trainer.log.pending
        pending.append(trainer.train_step(StopRequest()))
        trainer.step += 1
        while len(pending) > trainer.log.lag:
            self.losses.append(pending.popleft().read(str)[0])


def variants(model: str, kind: str, args: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], Any]:
    """What is timed, by name."""
    hardware = ["hardware=1xh100"] if args.device == "cuda" else ["hardware=cpu"]
    size = [f"training.global_batch_size={args.batch}", f"hardware.samples_per_forward={args.batch}"]
    words = [*COMMON, *size, *MODELS[model], *hardware, f"adapter={kind}", *args.override]
    config = compose_config([*words, "hardware.compile=false", "hardware.checkpointing=none"])
    device = torch.device("cuda:0" if args.device == "cuda" else "cpu")
    record = RunFolder(folder / f"{model}-{kind}")
    record.path.mkdir(parents=True)
    prepared = prepare(RunContext(config, record, Processes(args.device, 1)))
    encoders = Encoders(prepared.model, device, dtype_of(config), config.model.prompt_tokens)
    fits = model != "2b"  # without checkpointing the reference does not fit any card at this size
    found: dict[str, Any] = {"reference": lambda: Reference(config, prepared, encoders, device, True)}
    if fits:
        found["reference, no checkpointing"] = lambda: Reference(config, prepared, encoders, device, False)
    found["reference, cached"] = lambda: Reference(config, prepared, None, device, not fits)
    for policy in args.checkpointing.split(","):
        for compiled in (False, True) if args.compile else (False,):
            own = compose_config([*words, f"hardware.compile={compiled}", f"hardware.checkpointing={policy}"])
            label = "ours" + (", compiled" if compiled else "") + (f", {policy}" if policy != "none" else "")
            found[label] = lambda own=own: Ours(own, prepared, record.path, device)
    return found, config


def measure(model: str, kind: str, args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """One model and adapter: rows for the table. On a GPU each variant has the memory for itself, so that its peak can be read."""
    makers, config = variants(model, kind, args, folder)
    limit = 2e-2 if config.hardware.mixed_precision == "bf16" else 1e-4
    losses: dict[str, list[float]] = {}
    peaks: dict[str, float] = {}
    seconds: dict[str, list[float]] = {}
    if args.device == "cuda":
        for name, make in makers.items():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            variant = make()
            seconds |= interleaved({name: variant.step}, args.repeats, "cuda", args.warm_up)
            losses[name], peaks[name] = variant.losses, torch.cuda.max_memory_allocated() / 2**30
            del variant
    else:
        made = {name: make() for name, make in makers.items()}
        seconds = interleaved({name: variant.step for name, variant in made.items()}, args.repeats, "cpu", args.warm_up)
        for name, variant in made.items():
            losses[name] = variant.losses
    rows = []
    for name, each in seconds.items():
        row: dict[str, Any] = {"model": model, "adapter": kind, "variant": name, "seconds": each}
        row["samples_per_second"] = [args.batch / duration for duration in each]
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
    count = min(len(losses), len(expected))
    first, second = torch.tensor(losses[:count]), torch.tensor(expected[:count])
    return float(((first - second).abs() / second.abs()).max())


def main() -> None:
    """Measure, print the table, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="tabletop,mid", help="of " + ", ".join(MODELS))
    parser.add_argument("--kinds", default="lora,dora")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--batch", type=int, default=1, help="samples of a step, in one forward pass, for all rows")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="also compiled")
    parser.add_argument(
        "--checkpointing", default="none", help="policies, by commas; auto on a GPU plans with its memory"
    )
    parser.add_argument("--override", nargs="*", default=[], help="any further configuration")
    parser.add_argument("--name", default=None, help="of the result files")
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for model in args.models.split(","):
            for kind in args.kinds.split(","):
                rows += measure(model, kind, args, Path(folder))
    text = f"{machine_line(args.device)}; batch {args.batch}, rank 32, {args.repeats} steps of each in turn: median (lowest to highest).\n\n{table(rows)}"
    write(
        args.name or f"train_step_{args.device}", f"Training step on {device_name(args.device)}", text, rows, args.out
    )


if __name__ == "__main__":
    main()
