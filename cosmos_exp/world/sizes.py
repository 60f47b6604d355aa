"""CosmosTransformer3DModel's linear layers, sizes and costs by arithmetic alone; no torch.

So a wrong `adapter.target_modules` is told in a blink, and a plan can be printed on any machine. A test holds the
names and shapes against the real class on the meta device."""

from __future__ import annotations


def latent_shape(z_dim: int, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
    """(channels, frames, rows, columns) of a clip's latent at the VAE's 4x8x8 compression."""
    return z_dim, (num_frames - 1) // 4 + 1, height // 8, width // 8


def num_tokens(shape: tuple[int, int, int, int]) -> int:
    """Tokens of a latent under 1x2x2 patches."""
    return shape[1] * (shape[2] // 2) * (shape[3] // 2)
