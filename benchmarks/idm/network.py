"""The network: keypoints of each frame by spatial softmax, and convolutions over time."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

KEYPOINTS, CHANNELS, WIDTH = 24, 32, 96
MARKS = 4  # the first keypoints are trained to follow known points of the picture, see `clips.marks`


class InverseDynamics(nn.Module):
    """Video (B, T, 3, H, W), RGB in [0, 1], to actions (B, T, A) in metres (openings: 0 to 1).

    Each frame is seen beside the first one, so that what has moved stands out. Spatial softmax turns feature maps into
    image coordinates (Levine, Finn et al., 2016), which small networks learn from few clips.

    Args:
        mean, scale: (A,), of the actions of training clips.
    """

    def __init__(self, mean: torch.Tensor, scale: torch.Tensor):
        super().__init__()
        self.mean = nn.Buffer(mean.float())
        self.scale = nn.Buffer(scale.float())
        self.entry = nn.Conv2d(6, 16, 3, stride=2, padding=1)
        self.down = nn.Conv2d(16, CHANNELS, 3, stride=2, padding=1)
        self.refine = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.wide = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=2, dilation=2)
        self.wider = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=4, dilation=4)
        self.maps = nn.Conv2d(CHANNELS, KEYPOINTS, 1)
        self.join = nn.Conv1d(3 * KEYPOINTS + CHANNELS, WIDTH, 1)
        self.near = nn.Conv1d(WIDTH, WIDTH, 3, padding=1)
        self.far = nn.Conv1d(WIDTH, WIDTH, 3, padding=2, dilation=2)
        self.out = nn.Conv1d(WIDTH, len(mean), 1)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return self.over_time(self.points(video))

    @torch.jit.export
    def points(self, video: torch.Tensor) -> torch.Tensor:
        """What each frame shows, (B, T, 3 KEYPOINTS + CHANNELS): columns, rows and responses of the keypoints, mean features."""
        both = torch.cat([video - 0.5, video - video[:, :1]], dim=2).flatten(0, 1)
        x = functional.silu(self.entry(both))
        x = functional.silu(self.down(x))
        x = x + functional.silu(self.refine(x))
        x = x + functional.silu(self.wide(x))
        x = x + functional.silu(self.wider(x))
        seen = torch.cat([self.keypoints(self.maps(x)), x.float().mean((2, 3))], dim=1)
        return seen.view(video.shape[0], video.shape[1], -1)

    @torch.jit.export
    def over_time(self, points: torch.Tensor) -> torch.Tensor:
        """The actions (B, T, A) from what the frames show."""
        t = functional.silu(self.join(points.transpose(1, 2)))
        t = t + functional.silu(self.near(t))
        t = t + functional.silu(self.far(t))
        return self.out(t).transpose(1, 2) * self.scale + self.mean

    def keypoints(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps (N, K, h, w) to (N, 3 K): the mean column and row under the softmax in [-1, 1], and the mean response."""
        count, kinds, rows, columns = maps.shape
        flat = maps.float().flatten(2)
        share = torch.softmax(flat, dim=2).view(count, kinds, rows, columns)
        x = (share.sum(2) * torch.linspace(-1.0, 1.0, columns, device=maps.device)).sum(2)
        y = (share.sum(3) * torch.linspace(-1.0, 1.0, rows, device=maps.device)).sum(2)
        strength = torch.tanh((share.flatten(2) * flat).sum(2) / 8)
        return torch.cat([x, y, strength], dim=1)
