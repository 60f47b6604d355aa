"""Pixels of decoded video as the autoencoder takes them."""

from __future__ import annotations

import numpy as np
import torch


def to_unit_range(frames: np.ndarray, device: torch.device | None = None) -> torch.Tensor:
    """Video as a tensor in [-1, 1].

    Args:
        frames: uint8 (T, H, W, 3) RGB.
        device: where the result is computed; None: on the CPU.

    Returns:
        fp32 (3, T, H, W).
    """
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)
    if device is not None:
        video = video.to(device)
    return video.float().div(127.5).sub(1.0)
