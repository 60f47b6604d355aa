"""From sample numbers to the tensors of a forward pass; every draw follows from the seed and the number alone."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from cosmos_exp.data.cache import RunCache
from cosmos_exp.data.clips import CheckedClip, frames_needed
from cosmos_exp.data.windows import load_window, window_starts
from cosmos_exp.rng import noise
from cosmos_exp.training.draws import SampleDraws, sample_draws
from cosmos_exp.world.rectified_flow import FlowBatch

PROMPTS_KEPT = 64  # of 1 MB each in memory, however many a data set has


class SampleSource:
    """Makes batches from cached latents and prompts, or encodes on the fly with `encoders`."""

    def __init__(self, config: Any, clips: list[CheckedClip], cache: RunCache, statistics: tuple, encoders: Any = None):
        self.config, self.clips, self.cache, self.encoders = config, clips, cache, encoders
        self.mean, self.std = statistics
        self.starts = {c.clip.name: window_starts(c, config.data, config.seed) for c in clips}
        self.prompt = lru_cache(maxsize=PROMPTS_KEPT)(self._prompt)

    def _prompt(self, text: str | None) -> torch.Tensor:
        return self.encoders.encode_prompt(text) if self.encoders else self.cache.prompt(text)

    def latent(self, checked: CheckedClip, window: float) -> torch.Tensor:
        """Normalised latent (C, T, H, W) fp32 of the window that `window` in [0, 1) picks."""
        if self.encoders:
            data = self.config.data
            room = checked.stop - checked.start - frames_needed(data, checked.info) + 1
            mean = self.encoders.encode_video(load_window(checked, data, int(window * room)))
        else:
            starts = self.starts[checked.clip.name]
            mean = self.cache.latent(checked, starts[int(window * len(starts))])
        return (mean.float() - self.mean) / self.std

    def batch(self, samples: list[tuple[int, int]], device: torch.device | str = "cpu") -> FlowBatch:
        """The tensors of some (sample number, video index)."""
        config, rows = self.config, []
        for number, video in samples:
            draws = sample_draws(config.seed, number, config.training)
            clean = self.latent(self.clips[video], draws.window)
            rows.append((draws, clean, self.clips[video].clip.prompt, noise(config.seed, number, tuple(clean.shape))))
        return self._stack(rows, device)

    def fixed(self, index: int, sigma: float, number: int, device: torch.device) -> FlowBatch:
        """A clip's first window at a given sigma, with text, one frame given, and noise number `number`."""
        draws = SampleDraws(number, 0.0, sigma, 1, False)
        clean = self.latent(self.clips[index], 0.0)
        fixed_noise = noise(self.config.seed, number, tuple(clean.shape), "validation")
        return self._stack([(draws, clean, self.clips[index].clip.prompt, fixed_noise)], device)

    def _stack(self, rows: list[tuple], device: torch.device | str) -> FlowBatch:
        draws = [r[0] for r in rows]
        return FlowBatch(
            clean=torch.stack([r[1] for r in rows]),
            noise=torch.stack([torch.from_numpy(r[3]) for r in rows]),
            sigma=torch.tensor([d.sigma for d in draws], dtype=torch.float32),
            condition_frames=torch.tensor([d.condition_frames for d in draws]),
            prompt=torch.stack([self.prompt(None if d.drop_text else text) for d, _, text, _ in rows]),
        ).to(torch.device(device))
