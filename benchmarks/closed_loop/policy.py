"""The tiny policy of the closed loop: first frame and instruction to the trajectories of both hands.

Behaviour cloning with a fixed front end, as policies have a pretrained one: the words give the two colours and the hand, the colours
give two places in the first frame (the finder of judge=rules). What is learned from demonstrations is where the hands go, and when
they open and close.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.idm.actions import mirrored
from cosmos_exp.tabletop.judge import parse_instruction
from cosmos_exp.tabletop.observation import MAX_REACH, color_masks, horizon, largest, rest_masks
from cosmos_exp.tabletop.scene import Scene

INPUTS = 5  # column and row of the object and of the container, and the hand


# What was chosen on other scenes and with real clips only.
STEPS, BATCH, LEARNING_RATE, WEIGHT_DECAY, WIDTH = 800, 64, 3e-3, 1e-2, 64
JITTER = 0.02  # standard deviation of the noise on the places; half the picture is 1


@dataclass(frozen=True)
class Demonstrations:
    """N demonstrations. inputs: float32 (N, INPUTS), see `look`. actions: float32 (N, T, A)."""

    inputs: torch.Tensor
    actions: torch.Tensor

    def __add__(self, other: Demonstrations) -> Demonstrations:
        return Demonstrations(torch.cat([self.inputs, other.inputs]), torch.cat([self.actions, other.actions]))

    def __getitem__(self, rows: list[int]) -> Demonstrations:
        return Demonstrations(self.inputs[rows], self.actions[rows])

    def __len__(self) -> int:
        return len(self.inputs)

    def mirrored(self) -> Demonstrations:
        """The same in a mirror: columns and x are reversed, the hands and their words change places."""
        flip = torch.tensor([-1.0, 1.0, -1.0, 1.0, -1.0])
        return Demonstrations(self.inputs * flip, torch.from_numpy(mirrored(self.actions.numpy())))


def look(frame: np.ndarray, prompt: str) -> list[float]:
    """The front end: where the named colours are, columns and rows in [-1, 1], and -1 for the left or 1 for the right hand.

    An object that is not visible is taken to be at the middle of the picture.

    Args:
        frame: the first frame, uint8 (H, W, 3).

    Raises:
        ValueError: the text is no instruction that names a hand.
    """
    wanted = parse_instruction(prompt)
    if wanted is None or wanted.hand is None:
        raise ValueError(f"{prompt!r}: no instruction that names a hand")
    (masks,) = color_masks(frame, (MAX_REACH,))
    rest, top = rest_masks("robot", frame.shape[:2]), horizon(frame)
    hands = cv2.dilate((rest["left"] | rest["right"]).astype(np.uint8), np.ones((5, 5))) > 0
    hands[:top] = True
    height, width = frame.shape[:2]
    places = []
    for color in (wanted.object, wanted.container):
        part = largest(masks[color] & ~hands)
        if part is None:
            places += [0.0, 0.0]
        else:
            x, y = part[1]
            places += [2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1]
    return [*places, -1.0 if wanted.hand == "left" else 1.0]


def demonstrations(scenes: list[Scene], actions: np.ndarray) -> Demonstrations:
    """Demonstrations of scenes, each with its own first frame and instruction; actions (N, T, A)."""
    frames = {}  # both hands of a scene have the same first frame
    inputs = []
    for scene in scenes:
        if scene.seed not in frames:
            frames[scene.seed] = replace(scene, num_frames=1).clip().frames[0]
        inputs.append(look(frames[scene.seed], scene.prompt))
    return Demonstrations(torch.tensor(inputs), torch.from_numpy(actions).float())


class Policy(nn.Module):
    """Inputs (N, INPUTS) to actions (N, T, A). A linear part beside the hidden layers: most of a trajectory is linear in them."""

    def __init__(self, mean: torch.Tensor, scale: torch.Tensor):
        super().__init__()
        self.mean, self.scale = nn.Buffer(mean), nn.Buffer(scale)
        self.hidden = nn.Sequential(nn.Linear(INPUTS, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU())
        self.out = nn.Linear(WIDTH + INPUTS, mean.numel())

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        found = self.out(torch.cat([self.hidden(inputs), inputs], dim=1))
        return found.view(len(inputs), *self.mean.shape) * self.scale + self.mean


def train_policy(shown: Demonstrations, seed: int) -> Policy:
    """The policy after a fixed number of steps on `shown`; `seed` draws the weights, the order and the jitter."""
    torch.manual_seed(seed)
    data = shown + shown.mirrored()
    scale = data.actions.flatten(0, 1).std(0) + 1e-3
    mean = data.actions.mean(0)
    model = Policy(mean, scale.expand_as(mean).contiguous())
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS, pct_start=0.1)
    spread = JITTER * torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0])
    for _ in range(STEPS):
        rows = torch.randint(len(data), (BATCH,))
        inputs = data.inputs[rows] + spread * torch.randn(BATCH, INPUTS)
        error = (model(inputs) - data.actions[rows]) / model.scale
        loss = functional.smooth_l1_loss(error, torch.zeros_like(error), beta=0.1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def act(policy: Policy, seen: Demonstrations) -> np.ndarray:
    """The policy's trajectories (N, T, A) for the inputs of `seen`."""
    return policy(seen.inputs).numpy()
