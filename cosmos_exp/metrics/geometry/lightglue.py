"""SuperPoint keypoints (DeTone 2018) and LightGlue matches (Lindenberger 2023) through transformers, as in the cookbook."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from cosmos_exp.config.schema import Sampson
from cosmos_exp.hub import ensure_folder
from cosmos_exp.metrics.geometry.matching import Features, Matches

LONG_SIDE, THRESHOLD = 1024, 0.0005  # of the frame that SuperPoint sees, pixels; of the score of a keypoint


class _Found(nn.Module):
    """Replaces LightGlue's detector and returns keypoints that were found before."""

    def __init__(self) -> None:
        super().__init__()
        self.output: tuple[torch.Tensor, ...] = ()

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.output


class LightGlueMatcher:
    """Works in batches, on the GPU if there is one. Keypoints are found once per frame, not once per pair.

    As cvg/LightGlue, which the cookbook uses, it detects keypoints in the frame resized to a long side of 1,024 pixels, with a
    threshold of 0.0005, and maps them back to the frame's pixels.

    Args:
        threads: not used; PyTorch manages its own.

    Raises:
        UserError: the weights are not on this machine and cannot be downloaded.
    """

    def __init__(self, settings: Sampson, threads: int = 1):
        from transformers import LightGlueForKeypointMatching
        from transformers.utils import logging

        logging.disable_progress_bar()  # it would draw without a terminal, too

        folder = ensure_folder(settings.matcher_source, settings.matcher_revision, "sampson.matcher_source")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.batch = settings.batch_frames
        model = LightGlueForKeypointMatching.from_pretrained(folder, local_files_only=True)
        self.model = model.requires_grad_(False).eval().to(self.device)
        self.detector = self.model.keypoint_detector
        decoder = self.detector.keypoint_decoder
        decoder.max_keypoints, decoder.keypoint_threshold = settings.max_keypoints, THRESHOLD
        self.detected = _Found()
        self.model.keypoint_detector = self.detected

    @torch.no_grad()
    def features(self, frames: Sequence[np.ndarray]) -> list[Features]:
        """Points in pixels, and descriptors float32 (N, 256)."""
        out = []
        for first in range(0, len(frames), self.batch):
            grey = torch.from_numpy(np.stack(frames[first : first + self.batch])).to(self.device)
            height, width = grey.shape[1:]
            longer = max(height, width)
            shown = [height * LONG_SIDE // longer, width * LONG_SIDE // longer]
            pixels = functional.interpolate((grey.float() / 255)[:, None], shown, mode="bilinear", antialias=True)
            output = self.detector(pixels.expand(-1, 3, -1, -1))
            size = torch.tensor(shown[::-1], device=self.device)
            scales = size / torch.tensor([width, height], device=self.device)
            for points, descriptors, mask in zip(output.keypoints, output.descriptors, output.mask, strict=True):
                kept = mask.bool()
                at = (points[kept] * size + 0.5) / scales - 0.5  # pixel centres are at integers
                out.append(Features(at.double().cpu().numpy(), descriptors[kept].cpu()))
        return out

    @torch.no_grad()
    def match(self, pairs: Sequence[tuple[Features, Features]], size: tuple[int, int]) -> list[Matches]:
        """LightGlue's matches above its own threshold."""
        out: list[Matches] = [np.zeros((0, 2), dtype=np.int64)] * len(pairs)
        useful = [i for i, (a, b) in enumerate(pairs) if len(a.points) and len(b.points)]
        for first in range(0, len(useful), self.batch):
            chosen = useful[first : first + self.batch]
            partners = self._partners([pairs[i] for i in chosen], size)
            for i, partner in zip(chosen, partners, strict=True):
                index = np.flatnonzero(partner >= 0)
                out[i] = np.stack([index, partner[index]], axis=1)
        return out

    def _partners(self, pairs: list[tuple[Features, Features]], size: tuple[int, int]) -> np.ndarray:
        """For each point of each pair's first frame: the index of its match in the second frame, -1 for none, (B, N)."""
        height, width = size
        relative, descriptors, present = [], [], []
        for frame in itertools.chain.from_iterable(pairs):
            relative.append(torch.from_numpy(frame.points / [width, height]).float())
            descriptors.append(torch.as_tensor(frame.descriptors))
            present.append(torch.ones(len(frame.points), dtype=torch.int))
        points = pad_sequence(relative, batch_first=True).to(self.device)
        mask = pad_sequence(present, batch_first=True).to(self.device)
        self.detected.output = (points, mask.float(), pad_sequence(descriptors, batch_first=True).to(self.device), mask)
        blank = torch.zeros(1, 1, 1, height, width, device=self.device).expand(len(pairs), 2, 1, -1, -1)
        matches = self.model(blank).matches.reshape(-1, 2, points.shape[1])  # 2 B rows or (B, 2): the class has both
        return matches[:, 0].cpu().numpy()
