"""SuperPoint keypoints (DeTone 2018) and LightGlue matches (Lindenberger 2023) through transformers, as in the cookbook."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from cosmos_exp.config.schema import Sampson as SampsonSettings
from cosmos_exp.hub import ensure_folder
from cosmos_exp.metrics.geometry.matching import Features, Matches


class _Found(nn.Module):
    """Replaces LightGlue's detector and returns keypoints that were found before."""

    def __init__(self) -> None:
        super().__init__()
        self.output: tuple[torch.Tensor, ...] = ()

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.output


class LightGlueMatcher:
    """Works in batches, on the GPU if there is one. Keypoints are found once per frame, not once per pair."""

    def __init__(self, settings: SampsonSettings):
        from transformers import LightGlueForKeypointMatching
        from transformers.utils import logging

        logging.disable_progress_bar()  # it would draw without a terminal, too

        folder = ensure_folder(settings.matcher_source, settings.matcher_revision, "sampson.matcher_source")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.batch = settings.batch_frames
        model = LightGlueForKeypointMatching.from_pretrained(folder, local_files_only=True)
        self.model = model.requires_grad_(False).eval().to(self.device)
        self.detector = self.model.keypoint_detector
        self.detector.config.max_keypoints = settings.max_keypoints
        self.detector.keypoint_decoder.max_keypoints = settings.max_keypoints
        self.found = _Found()
        self.model.keypoint_detector = self.found

    @classmethod
    def from_settings(cls, settings: SampsonSettings, threads: int) -> LightGlueMatcher:
        """The matcher of `sampson.matcher=superpoint_lightglue`; PyTorch manages its own threads."""
        return cls(settings)

    @torch.no_grad()
    def features(self, frames: Sequence[np.ndarray]) -> list[Features]:
        """Points in pixels, and descriptors float32 (N, 256)."""
        out = []
        for first in range(0, len(frames), self.batch):
            grey = torch.from_numpy(np.stack(frames[first : first + self.batch])).to(self.device)
            pixels = (grey.float() / 255)[:, None].expand(-1, 3, -1, -1)
            found = self.detector(pixels)
            size = torch.tensor([grey.shape[2], grey.shape[1]], device=self.device)
            for points, descriptors, mask in zip(found.keypoints, found.descriptors, found.mask, strict=True):
                kept = mask.bool()
                out.append(Features((points[kept] * size).double().cpu().numpy(), descriptors[kept].cpu()))
        return out

    @torch.no_grad()
    def match(self, pairs: Sequence[tuple[Features, Features]], size: tuple[int, int]) -> list[Matches]:
        """LightGlue's matches above its own threshold."""
        out: list[Matches] = [np.zeros((0, 2), dtype=np.int64)] * len(pairs)
        useful = [i for i, (a, b) in enumerate(pairs) if len(a.points) and len(b.points)]
        for first in range(0, len(useful), self.batch):
            chosen = useful[first : first + self.batch]
            matches = self._matches([f for i in chosen for f in pairs[i]], size)
            for i, found in zip(chosen, matches, strict=True):
                index = np.flatnonzero(found >= 0)
                out[i] = np.stack([index, found[index]], axis=1)
        return out

    def _matches(self, frames: list[Features], size: tuple[int, int]) -> list[np.ndarray]:
        """For each point of each pair's first frame: the index of its match in the second frame, -1 for none.

        Args:
            frames: first and second frame of each pair in turn.
        """
        longest = max(len(f.points) for f in frames)
        height, width = size
        points = torch.zeros(len(frames), longest, 2)
        descriptors = torch.zeros(len(frames), longest, frames[0].descriptors.shape[1])
        mask = torch.zeros(len(frames), longest, dtype=torch.int)
        for k, frame in enumerate(frames):
            count = len(frame.points)
            points[k, :count] = torch.from_numpy(frame.points / [width, height])
            descriptors[k, :count], mask[k, :count] = torch.as_tensor(frame.descriptors), 1
        self.found.output = tuple(t.to(self.device) for t in (points, mask.float(), descriptors, mask))
        blank = torch.zeros(1, 1, 1, height, width, device=self.device).expand(len(frames) // 2, 2, 1, -1, -1)
        found = self.model(blank).matches.reshape(-1, 2, longest)  # 2 B rows or (B, 2): the class has both
        return list(found[:, 0].cpu().numpy())
