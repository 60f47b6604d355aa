"""The embedded world's video autoencoder: a linear code of 4x8x8 patches, and a small network that refines the decoding.

It has the interface, causality and compression of AutoencoderKLWan (first frame alone, then groups of four frames, 8x8
pixels) and replaces it in the tabletop model only: on two CPU cores, training a Wan VAE of this size takes a day to reach
the sharpness that a linear code has after a minute. `tests/` cover the real class.

Code: z numbers per patch, the leading directions of the patches' covariance (PCA). The first frame has its own code. Its
leading numbers equal those of the group code that describe a patch without motion; the others describe finer detail.
"""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

GROUP, PATCH = 4, 8


class Refiner(nn.Module):
    """Residual network on the latent grid. It predicts a patch's detail from its neighbours in space and time and from
    the first frame at the same position."""

    def __init__(self, z_dim: int, hidden: int, blocks: int):
        super().__init__()
        self.entry = nn.Conv3d(2 * z_dim, hidden, (1, 3, 3), padding=(0, 1, 1))
        self.space = nn.ModuleList(nn.Conv3d(hidden, hidden, (1, 3, 3), padding=(0, 1, 1)) for _ in range(blocks))
        self.time = nn.ModuleList(nn.Conv3d(hidden, hidden, (2, 1, 1)) for _ in range(blocks))
        self.out = nn.Conv3d(hidden, 3 * GROUP * PATCH * PATCH, 1)
        nn.init.zeros_(self.out.weight)
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, z, T, h, w) to (B, 768, T, h, w); causal in time, as the Wan VAE."""
        first = latents[:, :, :1].expand_as(latents)
        x = nn.functional.silu(self.entry(torch.cat([latents, first], dim=1)))
        for space, time in zip(self.space, self.time, strict=True):
            past = nn.functional.pad(x, (0, 0, 0, 0, 1, 0), mode="replicate")
            x = x + nn.functional.silu(space(nn.functional.silu(time(past))))
        return self.out(x)


class LinearVideoAutoencoder(ModelMixin, ConfigMixin):
    """Video (B, 3, 1 + 4k, 8h, 8w) in [-1, 1] to latents (B, z, 1 + k, h, w) and back."""

    @register_to_config
    def __init__(
        self,
        z_dim: int = 32,
        hidden: int = 128,
        blocks: int = 3,
        latents_mean: list[float] | None = None,
        latents_std: list[float] | None = None,
        scale_factor_temporal: int = 4,
        scale_factor_spatial: int = 8,
    ):
        super().__init__()
        group, frame = 3 * GROUP * PATCH * PATCH, 3 * PATCH * PATCH
        self.group_mean, self.group_basis = nn.Parameter(torch.zeros(group)), nn.Parameter(torch.zeros(group, z_dim))
        self.frame_mean, self.frame_basis = nn.Parameter(torch.zeros(frame)), nn.Parameter(torch.zeros(frame, z_dim))
        self.frame_decoder = nn.Parameter(torch.zeros(z_dim, frame))
        self.refiner = Refiner(z_dim, hidden, blocks)
        # diffusers' spelling; the pipeline counts 4x in time, 8x in space.
        self.temperal_downsample = [True, True, False]

    def patches(self, video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The first frame's patches (B, 1, h, w, 192) and the groups' (B, k, h, w, 768)."""
        frames, height, width = video.shape[2:]
        if (frames - 1) % GROUP or height % PATCH or width % PATCH:
            raise ValueError(f"{frames} frames of {height}x{width}: requires 1 + 4k frames, sides divisible by {PATCH}")
        return _patches(video[:, :, :1], 1), _patches(video[:, :, 1:], GROUP)

    def encode(
        self, video: torch.Tensor, return_dict: bool = True
    ) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        """Latents as a distribution of (almost) zero variance; `latent_dist.mean` is the code."""
        first, rest = self.patches(video)
        a = (first - self.frame_mean) @ self.frame_basis
        b = (rest - self.group_mean) @ self.group_basis
        code = torch.cat([a, b], dim=1).permute(0, 4, 1, 2, 3)
        posterior = DiagonalGaussianDistribution(torch.cat([code, torch.full_like(code, -30.0)], dim=1))
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def decode_linear(self, latents: torch.Tensor, correction: torch.Tensor | None = None) -> torch.Tensor:
        """Latents (B, z, T, h, w) to video (B, 3, 1 + 4k, 8h, 8w); `correction` (B, 768, T, h, w) is added to the patches."""
        code = latents.permute(0, 2, 3, 4, 1)
        rest = code[:, 1:] @ self.group_basis.T + self.group_mean
        first = code[:, :1] @ self.frame_decoder + self.frame_mean
        if correction is not None:
            extra = correction.permute(0, 2, 3, 4, 1)
            rest, first = rest + extra[:, 1:], first + extra[:, :1, ..., : first.shape[-1]]
        return torch.cat([_video(first, 1), _video(rest, GROUP)], dim=2)

    def decode_unclamped(self, latents: torch.Tensor) -> torch.Tensor:
        """As `decode`, without clamping: the gradient is non-zero everywhere."""
        # The network's input is scaled to unit size.
        scale = self.latent_scale.to(latents)
        return self.decode_linear(latents, self.refiner(latents / scale))

    @property
    def latent_scale(self) -> torch.Tensor:
        """latents_std as (1, z, 1, 1, 1)."""
        std = self.config.latents_std or [1.0] * self.config.z_dim
        return torch.tensor(std).view(1, -1, 1, 1, 1)

    def decode(self, latents: torch.Tensor, return_dict: bool = True) -> DecoderOutput | tuple[torch.Tensor]:
        """Latents (B, z, T, h, w) to video (B, 3, 1 + 4k, 8h, 8w) in [-1, 1]."""
        video = self.decode_unclamped(latents).clamp(-1, 1)
        return DecoderOutput(sample=video) if return_dict else (video,)


def _patches(video: torch.Tensor, group: int) -> torch.Tensor:
    """Video (B, 3, k group, 8h, 8w) as patches (B, k, h, w, 3 group 64)."""
    _, _, frames, height, width = video.shape
    parts = video.unflatten(4, (width // PATCH, PATCH)).unflatten(3, (height // PATCH, PATCH))
    return parts.unflatten(2, (frames // group, group)).permute(0, 2, 4, 6, 3, 5, 7, 1).flatten(4)


def _video(patches: torch.Tensor, group: int) -> torch.Tensor:
    """The inverse of `_patches`."""
    parts = patches.unflatten(4, (group, PATCH, PATCH, 3)).permute(0, 7, 1, 4, 2, 5, 3, 6)
    return parts.flatten(6).flatten(4, 5).flatten(2, 3)
