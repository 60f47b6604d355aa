"""Sizes of latents: arithmetic, no torch."""

from __future__ import annotations

LatentShape = tuple[int, int, int, int]  # channels, frames, rows, columns


def latent_shape(z_dim: int, num_frames: int, height: int, width: int) -> LatentShape:
    """Shape of a clip's latent at the VAE's compression: 4x in time, 8x8 in space.

    Args:
        num_frames: 4k + 1.
        height, width: pixels.
    """
    return z_dim, (num_frames - 1) // 4 + 1, height // 8, width // 8


def num_tokens(shape: LatentShape) -> int:
    """Transformer tokens of a latent: patches of 1x2x2."""
    return shape[1] * (shape[2] // 2) * (shape[3] // 2)
