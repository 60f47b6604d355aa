"""From sample numbers to the tensors of a forward pass, prepared ahead of time by one thread.

What is random about a sample (window, sigma, conditioning frames, text dropout, noise) follows from the seed and its
number alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch

from cosmos_exp.config.schema import Config, Training
from cosmos_exp.data.cache import RunCache
from cosmos_exp.data.clips import CheckedClip, frames_needed, load_window, window_starts
from cosmos_exp.rng import generator, noise
from cosmos_exp.world.encoders import Encoders
from cosmos_exp.world.rectified_flow import FlowBatch

PROMPTS_IN_MEMORY = 64  # 1 MB each at the 2B size

Work = TypeVar("Work")


@dataclass(frozen=True)
class SampleDraws:
    """The random choices for one training sample.

    number: the sample's. window: in [0, 1), selects a window of the clip. sigma: noise level in (0, 1).
    condition_frames: number of conditioning latent frames. drop_text: train on the zero embedding.
    """

    number: int
    window: float
    sigma: float
    condition_frames: int
    drop_text: bool


def sample_draws(seed: int, number: int, training: Training) -> SampleDraws:
    """Draws of sample `number`: sigma = s u / (1 + (s - 1) u), u = sigmoid(N(0, sigma_std)), s = sigma_shift."""
    u = 1.0 / (1.0 + np.exp(-training.sigma_std * generator(seed, "sigma", number).standard_normal()))
    shift = training.sigma_shift
    counts = sorted(training.condition_frames)
    bounds = np.cumsum([training.condition_frames[c] for c in counts])
    pick = int(np.searchsorted(bounds, generator(seed, "condition", number).uniform() * bounds[-1], side="right"))
    return SampleDraws(
        number,
        window=float(generator(seed, "window", number).uniform()),
        sigma=float(shift * u / (1 + (shift - 1) * u)),
        condition_frames=int(counts[min(pick, len(counts) - 1)]),
        drop_text=bool(generator(seed, "text", number).uniform() < training.text_dropout),
    )


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
        encode = encoders.encode_prompt if encoders else cache.read
        self.prompt = lru_cache(maxsize=PROMPTS_IN_MEMORY)(encode)

    def latent(self, checked: CheckedClip, window: float) -> torch.Tensor:
        """Normalised latent (C, T, H, W) fp32 of the window that `window` in [0, 1) selects."""
        if self.encoders:
            data = self.config.data
            num_starts = checked.stop - checked.start - frames_needed(data, checked.info) + 1
            mean = self.encoders.encode_video(load_window(checked, data, int(window * num_starts)))
        else:
            starts = self.starts[checked.clip.name]
            mean = self.cache.read((checked, starts[int(window * len(starts))]))
        return (mean.float() - self.mean) / self.std

    def batch(self, samples: Sequence[tuple[int, int]], device: torch.device | str = "cpu") -> FlowBatch:
        """The tensors of some samples, given as (sample number, video index)."""
        rows = []
        for number, video in samples:
            draws = sample_draws(self.config.seed, number, self.config.training)
            rows.append(self._sample(draws, self.clips[video], "noise"))
        return collate(rows).to(torch.device(device))

    def fixed(self, index: int, sigma: float, number: int, device: torch.device) -> FlowBatch:
        """A clip's first window at a given sigma, with text, one conditioning frame, and noise number `number`."""
        draws = SampleDraws(number, window=0.0, sigma=sigma, condition_frames=1, drop_text=False)
        return collate([self._sample(draws, self.clips[index], "validation")]).to(device)

    def _sample(self, draws: SampleDraws, checked: CheckedClip, purpose: str) -> FlowBatch:
        """One sample, without the batch dimension. `purpose` selects the stream of its noise."""
        clean = self.latent(checked, draws.window)
        return FlowBatch(
            clean=clean,
            noise=torch.from_numpy(noise(self.config.seed, draws.number, tuple(clean.shape), purpose)),
            sigma=torch.tensor(draws.sigma, dtype=torch.float32),
            condition_frames=torch.tensor(draws.condition_frames),
            prompt=self.prompt(None if draws.drop_text else checked.clip.prompt),
        )


def collate(samples: Sequence[FlowBatch]) -> FlowBatch:
    """One batch of samples that have no batch dimension yet."""
    columns = {}
    for field in fields(FlowBatch):
        columns[field.name] = torch.stack([getattr(sample, field.name) for sample in samples])
    return FlowBatch(**columns)


def prefetch(
    make: Callable[[Work], FlowBatch], work: Iterable[Work], device: torch.device, ahead: int = 2
) -> Generator[tuple[Work, FlowBatch], None, None]:
    """Yield (work, batch) for each piece of work, in order; `ahead` batches are prepared while one is used.

    Args:
        make: makes a batch on the CPU from one piece of work.
        work: pieces of work; drawn only as far as needed.
        device: where batches go; copies to a GPU are asynchronous.
        ahead: 0 makes each batch when it is asked for, in the caller's thread.
    """
    if ahead == 0:
        for piece in work:
            yield piece, make(piece).to(device)
        return

    def prepare(piece: Work) -> FlowBatch:
        batch = make(piece)
        return batch.pin() if device.type == "cuda" else batch

    pool = ThreadPoolExecutor(1, "prefetch")
    waiting: deque[tuple[Work, Future[FlowBatch]]] = deque()
    try:
        for piece in work:
            waiting.append((piece, pool.submit(prepare, piece)))
            if len(waiting) > ahead:
                ready, future = waiting.popleft()
                yield ready, future.result().to(device)
        for ready, future in waiting:
            yield ready, future.result().to(device)
    finally:  # cancel what has not begun and wait for the rest
        pool.shutdown(wait=True, cancel_futures=True)
