"""Stage `transformer`: train the base model with flow matching on human clips."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import CosmosTransformer3DModel
from torch import nn
from tqdm import tqdm
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

from benchmarks.pretraining.latents import Embed, LatentClips, training_shards
from benchmarks.pretraining.recipe import CONDITION_TIMESTEP, PIXELS, SEED, Recipe, save_state, shipped_settings
from cosmos_exp.files import append_json_line
from cosmos_exp.tabletop.build import build_transformer
from cosmos_exp.world.encoders import embed_prompt
from cosmos_exp.world.fast_forward import PerFrameForward, run_block
from cosmos_exp.world.rectified_flow import FlowBatch, flow_loss

VALIDATION_SIGMAS = (0.3, 0.6, 0.8, 0.95)
WARMUP_STEPS = 200
LOWEST_COOLDOWN = 0.02  # fraction of the learning rate at the end of the cooldown
CHECKPOINT_SECONDS = 120
EMA = 0.998  # decay per step of the averaged weights


def transformer_stage(recipe: Recipe) -> None:
    """Train the base for --minutes, up to --steps in total. Resumes from its checkpoint."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    training = BaseTraining(recipe, new_transformer(), prompt_embedder(recipe.frozen), device)
    training.resume()
    now = time.perf_counter
    begin, end, saved = now() - training.seconds, now() + recipe.minutes * 60, now()
    losses = []
    bar = tqdm(desc="base", unit="step", initial=training.step, disable=None)
    while training.step < recipe.steps and now() < end:
        losses.append(training.train_step(_lr_at(recipe, training.step, end - now())))
        bar.update(1)
        training.seconds = now() - begin
        if training.step % recipe.every == 0:
            mean = float(np.mean(losses))
            training.log(mean)
            bar.set_postfix(loss=f"{mean:.4f}")
            losses = []
            training.add_new_shards()
        if now() - saved > CHECKPOINT_SECONDS:
            saved = now()
            training.checkpoint()
    training.checkpoint()


def _lr_at(recipe: Recipe, step: int, seconds_left: float) -> float:
    """Linear warm-up over steps, then constant, then a linear cooldown over the last --cooldown minutes."""
    cooldown = min(1.0, seconds_left / (recipe.cooldown * 60)) if recipe.cooldown else 1.0
    return recipe.rate * min(1.0, (step + 1) / WARMUP_STEPS) * max(cooldown, LOWEST_COOLDOWN)


class BaseTraining:
    """Flow matching on human clips with an exponential moving average of the weights.

    The random numbers of a step depend only on its index, so a resumed training equals an uninterrupted one.
    """

    def __init__(self, recipe: Recipe, model: nn.Module, embed: Embed, device: torch.device):
        self.recipe, self.model, self.device, self.embed = recipe, model.to(device), device, embed
        self.ema = _copies(model)
        self.optimizers = _optimizers(model)
        self.forward = block_forward(recipe, model)
        self.step, self.seconds = 0, 0.0
        self.validation = LatentClips([recipe.clip_folder / "validation.npz"], embed)
        self.shards = training_shards(recipe)
        self.clips = LatentClips(self.shards, embed)

    def add_new_shards(self) -> None:
        """Load the shards again if more have been rendered."""
        shards = training_shards(self.recipe)
        if len(shards) != len(self.shards):
            self.shards, self.clips = shards, LatentClips(shards, self.embed)

    def resume(self) -> None:
        """Restore the state from the checkpoint, if there is one; else take the weights of --initial."""
        if not self.recipe.transformer_checkpoint.is_file():
            if self.recipe.initial:
                shipped = CosmosTransformer3DModel.from_pretrained(self.recipe.initial / "transformer")
                self.model.load_state_dict(shipped.state_dict())
                self.ema = _copies(self.model)
            return
        state = torch.load(self.recipe.transformer_checkpoint, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.ema = state["ema"]
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.seconds = state["step"], state["seconds"]

    def checkpoint(self) -> None:
        """Write weights, moving average, optimizer states and counters."""
        state = {
            "model": self.model.state_dict(),
            "ema": self.ema,
            "step": self.step,
            "seconds": self.seconds,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        save_state(self.recipe.transformer_checkpoint, state)

    def log(self, loss: float) -> None:
        """Append the mean training loss since the last row and the validation losses to work/transformer.jsonl."""
        row = {
            "step": self.step,
            "seconds": round(self.seconds, 1),
            "clips": len(self.clips.latents),
            "loss": loss,
            **self.validate(),
        }
        append_json_line(self.recipe.work / "transformer.jsonl", row)

    def batch(self) -> FlowBatch:
        """The batch of the current step, on the device. Prompts are dropped with probability 0.1."""
        rng = np.random.RandomState(np.random.MT19937(np.random.SeedSequence((self.step, 0xBA5E))))
        size = self.recipe.batch
        pick = torch.from_numpy(rng.randint(len(self.clips.latents), size=size))
        clean = self.clips.latents[pick].float()
        sigma = _sigmas(rng, size, self.recipe.sigma_shift, self.recipe.sigma_std)
        prompt = self.clips.embeddings[self.clips.prompt[pick]].clone()
        prompt[torch.from_numpy(rng.uniform(size=size) < 0.1)] = 0.0
        frames = torch.from_numpy(np.where(rng.uniform(size=size) < 0.8, 1, 2))
        noise = torch.from_numpy(rng.standard_normal(clean.shape).astype(np.float32))
        return FlowBatch(clean, noise, sigma, frames, prompt).to(self.device)

    def loss(self, batch: FlowBatch) -> torch.Tensor:
        """Flow-matching loss (B,), with --bf16 under autocast."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16):
            return flow_loss(self.forward, batch, CONDITION_TIMESTEP, PIXELS)

    def train_step(self, lr: float) -> float:
        """One optimizer step at learning rate `lr`; returns its loss."""
        loss = self.loss(self.batch()).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        decay = min(EMA, 1 - 1 / (self.step / 8 + 1))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.values()), list(self.model.parameters()), 1 - decay)
        return loss.item()

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Loss of the averaged weights on held-out human clips, at fixed noise levels and with fixed noise."""
        trained = _copies(self.model)
        self.model.load_state_dict(self.ema, strict=False)
        clean, losses = self.validation.latents.float(), {}
        size = len(clean)
        noise = torch.from_numpy(np.random.RandomState(0).standard_normal(clean.shape).astype(np.float32))
        prompt = self.validation.embeddings[self.validation.prompt]
        for sigma in VALIDATION_SIGMAS:
            sigmas, frames = torch.full((size,), sigma), torch.ones(size).long()
            batch = FlowBatch(clean, noise, sigmas, frames, prompt).to(self.device)
            losses[f"validation_{sigma:g}"] = self.loss(batch).mean().item()
        self.model.load_state_dict(trained, strict=False)
        return losses


def _copies(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def _optimizers(model: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of attention and feed-forward layers, AdamW for the other parameters."""
    matrices, rest = [], []
    for name, parameter in model.named_parameters():
        in_block = name.startswith("transformer_blocks") and (".attn" in name or ".ff." in name)
        (matrices if in_block and parameter.ndim == 2 else rest).append(parameter)
    # The learning rate is set at every step.
    return [torch.optim.AdamW(rest, lr=1.0, betas=(0.9, 0.95), weight_decay=0.0), Muon(matrices)]


class Muon(torch.optim.Optimizer):
    """Muon with the update's size of AdamW, in fp32 (Jordan et al. 2024; Liu et al. 2025, arXiv 2502.16982).

    torch.optim.Muon multiplies in bf16, which takes 18 s a step on a CPU without avx512_bf16; this takes 0.4 s.
    """

    def __init__(self, matrices: list[nn.Parameter], momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(matrices, {"lr": 1.0, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        """Move each matrix by its orthogonalised momentum (Nesterov)."""
        for group in self.param_groups:
            for matrix in group["params"]:
                average = self.state[matrix].setdefault("momentum_buffer", torch.zeros_like(matrix))
                average.lerp_(matrix.grad, 1 - group["momentum"])
                update = orthogonalised(matrix.grad.lerp(average, group["momentum"]))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-0.2 * math.sqrt(max(matrix.shape)) * group["lr"])


def orthogonalised(update: torch.Tensor) -> torch.Tensor:
    """A matrix whose singular values are near 1, with the singular vectors of `update`: five Newton-Schulz steps."""
    wide = update.T if update.shape[0] > update.shape[1] else update
    x = wide / wide.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315) @ x
    return x.T if update.shape[0] > update.shape[1] else x


def _sigmas(rng: np.random.RandomState, size: int, shift: float, std: float) -> torch.Tensor:
    """Noise levels (size,): logit-normal with standard deviation `std`, shifted towards 1.

    They are stratified over the quantiles, so that each batch covers all noise levels.
    """
    u = torch.from_numpy((rng.permutation(size) + rng.uniform(size=size)) / size).float().clamp(1e-4, 1 - 1e-4)
    u = torch.sigmoid(torch.erfinv(2 * u - 1) * math.sqrt(2) * std)
    return shift * u / (1 + (shift - 1) * u)


def new_transformer() -> nn.Module:
    """The transformer in the size of the shipped one, initialised from SEED."""
    torch.manual_seed(SEED)
    return build_transformer(shipped_settings())


def block_forward(recipe: Recipe, model: nn.Module) -> PerFrameForward:
    """The forward pass, with compiled blocks unless --no-compile."""
    return PerFrameForward(model, torch.compile(run_block) if recipe.compile else run_block)


def prompt_embedder(folder: Path) -> Embed:
    """The text encoder of a diffusers folder: prompt -> embedding (tokens, channels) before the projection."""
    text_encoder = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "text_encoder").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")

    @torch.no_grad()
    def embed(prompt: str) -> torch.Tensor:
        return embed_prompt(tokenizer, text_encoder, prompt, 64, torch.float32)[0]

    return embed
