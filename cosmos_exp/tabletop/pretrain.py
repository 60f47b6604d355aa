"""How the embedded world's weights came to be, from nothing to the shipped folder, in stretches of any length.

    python -m cosmos_exp.tabletop.pretrain --minutes 120             # all stages; again = goes on
    python -m cosmos_exp.tabletop.pretrain --stage export            # write the weights that there are

Stages: `code` fits the linear code on both looks, `clips` renders human clips into latents, `transformer` trains the base
on the human look alone, `decoder` trains the autoencoder's sharpening network on both looks (it sees the base's errors, so
it comes after; delete decoder.pt to do it again), `export` writes the diffusers folder with its model card. Each resumes
from its files under --work; curves are in --work/*.jsonl. Some 9,000 clips are needed: with 2,000 the base learned them by
heart within 6,000 steps (docs/log.md).
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from cosmos_exp.files import append_json_line
from cosmos_exp.tabletop.build import build, build_transformer, export, shipped_keys
from cosmos_exp.tabletop.scene import LOOKS, Scene
from cosmos_exp.world.fast_forward import PerFrameForward, run_block
from cosmos_exp.world.linear_autoencoder import LinearVideoAutoencoder, fit_linear_code
from cosmos_exp.world.rectified_flow import FlowBatch, condition_indicator, flow_loss, noised, velocity

# Seeds no data set uses: training data start at 1,000,000, test scenes at 2,000,000.
CODE_SEEDS, CLIP_SEEDS, VALIDATION_SEEDS, DECODER_SEEDS = 10_000_000, 20_000_000, 30_000_000, 40_000_000
CONDITION_TIMESTEP = 0.0001
VALIDATION_SIGMAS = (0.3, 0.6, 0.8, 0.95)


def to_video(frames: np.ndarray) -> torch.Tensor:
    """uint8 (T, H, W, 3) to (3, T, H, W) in [-1, 1]."""
    return torch.from_numpy(frames).permute(3, 0, 1, 2).float().div(127.5).sub(1.0)


def save(path: Path, value: Any) -> None:
    """torch.save that leaves either the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


# --- the code and the clips -------------------------------------------------------------------------------------
def code_stage(args: argparse.Namespace) -> None:
    """Fit the linear code on some clips of each look."""
    if (args.work / "vae" / "config.json").is_file():
        return
    videos = [
        to_video(Scene.sample(CODE_SEEDS + i, look).clip().frames)
        for i in tqdm(range(args.code_clips), desc="rendering for the code", unit="pair", disable=None)
        for look in LOOKS
    ]
    fit_linear_code(videos, args.z_dim, hidden=args.decoder_width).save_pretrained(args.work / "vae")


def load_vae(work: Path) -> LinearVideoAutoencoder:
    return LinearVideoAutoencoder.from_pretrained(work / "vae").requires_grad_(False).eval()


def normalise(vae: LinearVideoAutoencoder, latents: torch.Tensor) -> torch.Tensor:
    return (latents - vae.latent_mean) / vae.latent_scale


def denormalise(vae: LinearVideoAutoencoder, latents: torch.Tensor) -> torch.Tensor:
    return latents * vae.latent_scale + vae.latent_mean


def unit_latents(vae: LinearVideoAutoencoder, frames: np.ndarray) -> torch.Tensor:
    """Normalised latents (z, t, h, w) of uint8 frames (T, H, W, 3)."""
    return normalise(vae, vae.encode(to_video(frames)[None]).latent_dist.mean)[0]


def make_shard(work: Path, first_seed: int, path: Path, size: int, look: str = "human") -> Path:
    """Render `size` clips and keep their normalised latents (size, z, T, h, w) in fp16 with their prompts."""
    if path.is_file():
        return path
    torch.set_num_threads(1)
    vae, latents, prompts = load_vae(work), [], []
    for seed in range(first_seed, first_seed + size):
        clip = Scene.sample(seed, look).clip()
        with torch.no_grad():
            latents.append(unit_latents(vae, clip.frames).half().numpy())
        prompts.append(clip.prompt)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez(part, latents=np.stack(latents), prompts=np.array(prompts))
    os.replace(part, path)
    return path


def clips_stage(args: argparse.Namespace) -> None:
    """Render human clips into latents, a shard at a time; shards that are there are kept."""
    size = args.shard
    tasks = [(args.work, VALIDATION_SEEDS, args.work / "clips" / "validation.npz", size)]
    tasks += [
        (args.work, CLIP_SEEDS + k * size, args.work / "clips" / f"human_{k:05d}.npz", size)
        for k in range(math.ceil(args.clips / size))
    ]
    tasks = [t for t in tasks if not t[2].is_file()]
    bar = tqdm(total=len(tasks), desc=f"rendering {args.clips} human clips", unit="shard", disable=None)
    with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
        for result in [pool.apply_async(make_shard, task) for task in tasks]:
            result.get()
            bar.update(1)


class Clips:
    """All shards there are: latents (N, z, T, h, w) fp16 and prompt numbers, with each prompt's embedding once."""

    def __init__(self, files: list[Path], embed: Any):
        shards = [np.load(f) for f in files]
        self.latents = torch.from_numpy(np.concatenate([s["latents"] for s in shards]))
        prompts = [str(p) for s in shards for p in s["prompts"]]
        unique = sorted(set(prompts))
        self.table = torch.stack([embed(p) for p in unique])
        self.number = torch.tensor([unique.index(p) for p in prompts])


# --- the transformer --------------------------------------------------------------------------------------------
class BaseTraining:
    """Flow matching on the human look, with running average of the weights; everything follows from the step."""

    def __init__(self, args: argparse.Namespace, model: nn.Module, embed: Any, device: torch.device):
        self.args, self.model, self.device, self.embed = args, model.to(device), device, embed
        self.ema = {n: p.detach().clone() for n, p in model.named_parameters()}
        matrices = [
            p
            for n, p in model.named_parameters()
            if n.startswith("transformer_blocks") and (".attn" in n or ".ff." in n) and p.ndim == 2
        ]
        chosen = {id(p) for p in matrices} if args.muon else set()
        rest = [p for p in model.parameters() if id(p) not in chosen]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(rest, lr=1.0, betas=(0.9, 0.95), weight_decay=0.0)
        ]
        if args.muon:
            self.optimizers.append(
                torch.optim.Muon(matrices, lr=1.0, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
            )
        block = torch.compile(run_block) if args.compile else run_block
        self.forward = PerFrameForward(model, block)
        self.step, self.seconds, self.file = 0, 0.0, args.work / "transformer.pt"
        self.validation = Clips([args.work / "clips" / "validation.npz"], embed)
        self.clips = self.rescan()

    def rescan(self) -> Clips:
        """Take up the shards that are there now."""
        self.files = sorted((self.args.work / "clips").glob("human_*.npz"))
        return Clips(self.files, self.embed)

    def resume(self) -> None:
        if self.file.is_file():
            state = torch.load(self.file, map_location=self.device, weights_only=True)
            self.model.load_state_dict(state["model"])
            for name, value in state["ema"].items():
                self.ema[name].copy_(value)
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.step, self.seconds = state["step"], state["seconds"]

    def checkpoint(self) -> None:
        save(
            self.file,
            {
                "model": self.model.state_dict(),
                "ema": self.ema,
                "step": self.step,
                "seconds": self.seconds,
                "optimizers": [o.state_dict() for o in self.optimizers],
            },
        )

    def batch(self) -> FlowBatch:
        rng = np.random.RandomState(np.random.MT19937(np.random.SeedSequence((self.step, 0xBA5E))))
        size = self.args.batch
        pick = torch.from_numpy(rng.randint(len(self.clips.latents), size=size))
        clean = self.clips.latents[pick].float()
        # Spread over the quantiles, so that each batch sees every noise level.
        u = torch.from_numpy((rng.permutation(size) + rng.uniform(size=size)) / size).float().clamp(1e-4, 1 - 1e-4)
        u = torch.sigmoid(torch.erfinv(2 * u - 1) * math.sqrt(2) * 1.2)
        sigma = self.args.sigma_shift * u / (1 + (self.args.sigma_shift - 1) * u)
        prompt = self.clips.table[self.clips.number[pick]].clone()
        prompt[torch.from_numpy(rng.uniform(size=size) < 0.1)] = 0.0
        frames = torch.from_numpy(np.where(rng.uniform(size=size) < 0.8, 1, 2))
        noise = torch.from_numpy(rng.standard_normal(clean.shape).astype(np.float32))
        return FlowBatch(*(x.to(self.device) for x in (clean, noise, sigma, frames, prompt)))

    def loss(self, batch: FlowBatch) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16):
            return flow_loss(self.forward, batch, CONDITION_TIMESTEP, (96, 160))

    def train_step(self, rate: float) -> float:
        loss = self.loss(self.batch()).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        decay = min(self.args.ema, 1 - 1 / (self.step / 8 + 1))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.values()), [p.detach() for p in self.model.parameters()], 1 - decay)
        return loss.item()

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Loss of the averaged weights on held-out human clips at fixed noise levels and noise."""
        own = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        self.put(self.ema)
        clean, losses = self.validation.latents.float(), {}
        noise = torch.from_numpy(np.random.RandomState(0).standard_normal(clean.shape).astype(np.float32))
        for sigma in VALIDATION_SIGMAS:
            size = len(clean)
            rows = (
                clean,
                noise,
                torch.full((size,), sigma),
                torch.ones(size).long(),
                self.validation.table[self.validation.number],
            )
            losses[f"validation_{sigma:g}"] = self.loss(FlowBatch(*(r.to(self.device) for r in rows))).mean().item()
        self.put(own)
        return losses

    def put(self, values: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(values[name])


def transformer_stage(args: argparse.Namespace, folder: Path) -> None:
    """Train the base until --steps or --minutes have passed, whichever is first; a checkpoint every two minutes."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    training = BaseTraining(args, new_transformer(args), prompt_embedder(folder), device)
    training.resume()
    start, saved, losses = time.perf_counter(), time.perf_counter(), []
    offset, bar = training.seconds, tqdm(desc="base", unit="step", initial=training.step, disable=None)
    while training.step < args.steps and time.perf_counter() - start < args.minutes * 60:
        left = args.minutes * 60 - (time.perf_counter() - start)
        cool = min(1.0, left / (args.cooldown * 60)) if args.cooldown else 1.0
        losses.append(training.train_step(args.rate * min(1.0, (training.step + 1) / 200) * max(cool, 0.02)))
        bar.update(1)
        if training.step % args.every == 0:
            training.seconds = offset + time.perf_counter() - start
            row = {
                "step": training.step,
                "seconds": round(training.seconds, 1),
                "clips": len(training.clips.latents),
                "loss": float(np.mean(losses)),
                **training.validate(),
            }
            append_json_line(args.work / "transformer.jsonl", row)
            bar.set_postfix(loss=f"{row['loss']:.4f}")
            losses = []
            if len(list((args.work / "clips").glob("human_*.npz"))) != len(training.files):
                training.clips = training.rescan()
        if time.perf_counter() - saved > 120:
            training.seconds, saved = offset + time.perf_counter() - start, time.perf_counter()
            training.checkpoint()
    training.seconds = offset + time.perf_counter() - start
    training.checkpoint()


def new_transformer(args: argparse.Namespace) -> nn.Module:
    torch.manual_seed(args.seed)
    return build_transformer(shipped_keys(args.z_dim))


def prompt_embedder(folder: Path) -> Any:
    """A function from a prompt to its unprojected embedding (tokens, channels), from the folder's frozen encoder."""
    from diffusers import Cosmos2_5_PredictBasePipeline
    from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

    text_encoder = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "text_encoder").eval()
    holder = SimpleNamespace(tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"), text_encoder=text_encoder)

    @torch.no_grad()
    def embed(prompt: str) -> torch.Tensor:
        return Cosmos2_5_PredictBasePipeline._get_prompt_embeds(
            holder, prompt, max_sequence_length=64, device="cpu", dtype=torch.float32
        )[0]

    return embed


# --- the decoder ------------------------------------------------------------------------------------------------
def decoder_stage(args: argparse.Namespace, folder: Path) -> None:
    """Train the decoder's network on both looks, from true latents and from what the base makes of them.

    A generator's latents are never exact; a decoder that has seen wrong ones draws them without ghosts and grain.
    """
    vae = LinearVideoAutoencoder.from_pretrained(args.work / "vae")
    vae.requires_grad_(False)
    vae.refiner.requires_grad_(True)
    optimizer = torch.optim.AdamW(vae.refiner.parameters(), lr=1e-3, weight_decay=0.0)
    file, step, seconds = args.work / "decoder.pt", 0, 0.0
    if file.is_file():
        state = torch.load(file, weights_only=True)
        vae.refiner.load_state_dict(state["refiner"])
        optimizer.load_state_dict(state["optimizer"])
        step, seconds = state["step"], state["seconds"]
    if step >= args.decoder_steps:
        return
    videos = decoder_clips(args)
    versions = decoder_latents(args, folder, vae, videos)
    start, losses, generator = time.perf_counter(), [], torch.Generator().manual_seed(step)
    bar = tqdm(total=args.decoder_steps, initial=step, desc="decoder", unit="step", disable=None)
    while step < args.decoder_steps:
        pick = torch.randint(len(videos), (4,), generator=generator)
        version = torch.randint(len(versions), (4,), generator=generator)
        video = torch.stack([to_video(np.array(videos[int(i)])) for i in pick])
        latents = versions[version, pick].float()
        level = args.decoder_noise * torch.rand(len(latents), 1, 1, 1, 1, generator=generator)
        latents = denormalise(vae, latents + level * torch.randn(latents.shape, generator=generator))
        with torch.autocast("cpu", torch.bfloat16):
            wrong = vae.decode_unclamped(latents).float() - video
        loss = wrong.square().mean() + 0.02 * wrong.abs().mean()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(
                1.0, (step + 1) / 100, max(0.02, (args.decoder_steps - step) / (0.5 * args.decoder_steps))
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        losses.append(wrong.detach().square().mean().item())
        bar.update(1)
        if step % 50 == 0 or step == args.decoder_steps:
            spent = seconds + time.perf_counter() - start
            row = {"step": step, "seconds": round(spent, 1), "psnr": 10 * math.log10(4 / np.mean(losses))}
            append_json_line(args.work / "decoder.jsonl", row)
            save(
                file,
                {
                    "refiner": vae.refiner.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step,
                    "seconds": spent,
                },
            )
            losses = []


@torch.no_grad()
def decoder_latents(
    args: argparse.Namespace, folder: Path, vae: LinearVideoAutoencoder, videos: list[np.ndarray]
) -> torch.Tensor:
    """(versions, clips, z, T, h, w) in fp16: each clip's own normalised latents, then the base's from every start.

    A start is the clip's latents with noise up to a sigma from which the base still finds the same motion: it denoises
    them in steps, and its errors are what the decoder is to mend. Robot clips start lower: from higher up, the base,
    which knows human hands only, would paint them over.
    """
    model = new_transformer(args)
    trained = torch.load(args.work / "transformer.pt", map_location="cpu", weights_only=True)["ema"]
    model.load_state_dict(trained, strict=False)
    forward = PerFrameForward(model, torch.compile(run_block) if args.compile else run_block)
    embed = prompt_embedder(folder)
    scenes = decoder_scenes(args)
    own = torch.stack([unit_latents(vae, np.array(v)) for v in videos])
    versions, generator = [own.half()], torch.Generator().manual_seed(args.seed)
    for starts in ({"human": 0.5, "robot": 0.3}, {"human": 0.75, "robot": 0.5}):
        made = []
        for k in tqdm(range(0, len(own), 10), desc=f"the base from sigma {starts}", unit="batch", disable=None):
            rows = slice(k, k + 10)
            start = torch.tensor([starts[look] for _, look in scenes[rows]])
            prompts = torch.stack([embed(Scene.sample(s, look).prompt) for s, look in scenes[rows]])
            made.append(regenerate(forward, own[rows], prompts, start, generator).half())
        versions.append(torch.cat(made))
    return torch.stack(versions)


def regenerate(
    forward: Any,
    clean: torch.Tensor,
    prompts: torch.Tensor,
    start: torch.Tensor,
    generator: torch.Generator,
    steps: int = 8,
) -> torch.Tensor:
    """Noise `clean` (B, z, T, h, w) to `start` (B,) and let the model denoise it in Euler steps; frame 0 is given."""
    given, width = torch.ones(len(clean)).long(), start.view(-1, 1, 1, 1, 1) / steps
    noise = torch.randn(clean.shape, generator=generator)
    x = noised(clean, noise, start, condition_indicator(given, clean.shape[2]))
    for i in range(steps):
        # x stands for both ends of the mixture, which leaves it as it is.
        batch = FlowBatch(x, x, start * (1 - i / steps), given, prompts)
        with torch.autocast("cpu", torch.bfloat16):
            v, indicator = velocity(forward, batch, CONDITION_TIMESTEP, (96, 160))
        x = x - (1 - indicator) * width * v.float()
    return x


def decoder_scenes(args: argparse.Namespace) -> list[tuple[int, str]]:
    """Seed and look of every clip for the decoder."""
    return [(DECODER_SEEDS + i, look) for i in range(args.decoder_clips) for look in LOOKS]


def decoder_clips(args: argparse.Namespace) -> list[np.ndarray]:
    """Clips of both looks as uint8 (T, H, W, 3), rendered once."""
    file = args.work / "decoder_clips.npy"
    if not file.is_file():
        scenes = tqdm(decoder_scenes(args), desc="rendering for the decoder", unit="clip", disable=None)
        frames = [Scene.sample(seed, look).clip().frames for seed, look in scenes]
        np.save(file, np.stack(frames))
    return list(np.load(file, mmap_mode="r"))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--work", type=Path, default=Path.home() / ".cache" / "cosmos_exp" / "pretrain", help="where it goes on"
    )
    p.add_argument("--out", type=Path, default=Path(__file__).parent / "weights", help="where export writes")
    p.add_argument("--stage", default="all", choices=("all", "code", "clips", "transformer", "decoder", "export"))
    p.add_argument("--minutes", type=float, default=120, help="for the transformer, this time")
    p.add_argument("--cooldown", type=float, default=0, help="of these, the last minutes in which the rate falls")
    p.add_argument("--steps", type=int, default=10**9, help="transformer steps at most, in all")
    p.add_argument("--clips", type=int, default=9000, help="human clips to render")
    p.add_argument("--shard", type=int, default=50, help="clips a file, and clips for validation")
    p.add_argument("--code-clips", type=int, default=60, help="clips of each look that the code is fitted on")
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--rate", type=float, default=1e-3, help="learning rate")
    p.add_argument("--ema", type=float, default=0.998, help="decay of the averaged weights, a step")
    p.add_argument("--sigma-shift", type=float, default=3.0)
    p.add_argument("--muon", action=argparse.BooleanOptionalAction, default=True)
    p.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    p.add_argument("--every", type=int, default=100, help="steps between validations")
    p.add_argument("--decoder-steps", type=int, default=4000)
    p.add_argument("--decoder-noise", type=float, default=0.1, help="largest standard deviation of noise on top")
    p.add_argument("--decoder-width", type=int, default=128, help="channels of its network")
    p.add_argument("--decoder-clips", type=int, default=150, help="of each look")
    p.add_argument("--z-dim", type=int, default=32, help="latent channels")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--workers", type=int, default=2, help="processes that render")
    return p


def main(words: list[str] | None = None) -> None:
    """Run the stages that are asked for, in order."""
    args = parser().parse_args(words)
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    frozen = args.work / "frozen"  # text encoder, tokenizer, scheduler
    if not (frozen / "scheduler").is_dir():
        build(frozen, shipped_keys(args.z_dim))
    stages = {
        "code": lambda: code_stage(args),
        "clips": lambda: clips_stage(args),
        "transformer": lambda: transformer_stage(args, frozen),
        "decoder": lambda: decoder_stage(args, frozen),
        "export": lambda: export(args.work, args.out),
    }
    for name, stage in stages.items():
        if args.stage in ("all", name):
            stage()


if __name__ == "__main__":
    main()
