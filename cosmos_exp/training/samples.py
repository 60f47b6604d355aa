"""From sample numbers to the tensors of a forward pass. Every draw follows from the seed and the number alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from cosmos_exp.config.schema import Config
from cosmos_exp.data.cache import RunCache
from cosmos_exp.data.clips import CheckedClip, frames_needed
from cosmos_exp.data.windows import load_window, window_starts
from cosmos_exp.rng import noise
from cosmos_exp.training.draws import SampleDraws, sample_draws
from cosmos_exp.world.encoders import Encoders
from cosmos_exp.world.rectified_flow import FlowBatch

PROMPTS_IN_MEMORY = 64  # 1 MB each at the 2B size


@dataclass(frozen=True)
class _Row:
    draws: SampleDraws
    clean: torch.Tensor
    prompt: str
    noise: np.ndarray


class SampleSource:
    """Makes batches from cached latents and prompts, or encodes on the fly with `encoders`.

    Args:
        statistics: latents_mean and latents_std of the VAE, each (C, 1, 1, 1), fp32.
    """

    def __init__(
        self,
        config: Config,
        clips: list[CheckedClip],
        cache: RunCache,
        statistics: tuple[torch.Tensor, torch.Tensor],
        encoders: Encoders | None = None,
    ):
        self.config, self.clips, self.cache, self.encoders = config, clips, cache, encoders
        self.mean, self.std = statistics
        self.starts = {c.clip.name: window_starts(c, config.data, config.seed) for c in clips}
        self.prompt = lru_cache(maxsize=PROMPTS_IN_MEMORY)(self._prompt)

    def _prompt(self, text: str | None) -> torch.Tensor:
        return self.encoders.encode_prompt(text) if self.encoders else self.cache.prompt(text)

    def latent(self, checked: CheckedClip, window: float) -> torch.Tensor:
        """Normalised latent (C, T, H, W) fp32 of the window that `window` in [0, 1) selects."""
        if self.encoders:
            data = self.config.data
            num_starts = checked.stop - checked.start - frames_needed(data, checked.info) + 1
            mean = self.encoders.encode_video(load_window(checked, data, int(window * num_starts)))
        else:
            starts = self.starts[checked.clip.name]
            mean = self.cache.latent(checked, starts[int(window * len(starts))])
        return (mean.float() - self.mean) / self.std

    def batch(self, samples: Sequence[tuple[int, int]], device: torch.device | str = "cpu") -> FlowBatch:
        """The tensors of some samples, given as (sample number, video index)."""
        config, rows = self.config, []
        for number, video in samples:
            draws = sample_draws(config.seed, number, config.training)
            clean = self.latent(self.clips[video], draws.window)
            sample_noise = noise(config.seed, number, tuple(clean.shape))
            rows.append(_Row(draws, clean, self.clips[video].clip.prompt, sample_noise))
        return self._stack(rows, device)

    def fixed(self, index: int, sigma: float, number: int, device: torch.device) -> FlowBatch:
        """A clip's first window at a given sigma, with text, one conditioning frame, and noise number `number`."""
        draws = SampleDraws(number, window=0.0, sigma=sigma, condition_frames=1, drop_text=False)
        clean = self.latent(self.clips[index], 0.0)
        fixed_noise = noise(self.config.seed, number, tuple(clean.shape), "validation")
        return self._stack([_Row(draws, clean, self.clips[index].clip.prompt, fixed_noise)], device)

    def _stack(self, rows: list[_Row], device: torch.device | str) -> FlowBatch:
        return FlowBatch(
            clean=torch.stack([r.clean for r in rows]),
            noise=torch.stack([torch.from_numpy(r.noise) for r in rows]),
            sigma=torch.tensor([r.draws.sigma for r in rows], dtype=torch.float32),
            condition_frames=torch.tensor([r.draws.condition_frames for r in rows]),
            prompt=torch.stack([self.prompt(None if r.draws.drop_text else r.prompt) for r in rows]),
        ).to(torch.device(device))
