"""What must hold before and after training. A check that fails stops the run and says which."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from cosmos_exp.config.layers import adapted_layers
from cosmos_exp.errors import RunError
from cosmos_exp.world.adapter import expected_names, set_enabled

# Relative difference of two velocities that rounding alone explains (DoRA divides by a norm and multiplies it back).
ROUNDING = {"no": 1e-4, "bf16": 5e-2}


def check_trainable(transformer: nn.Module, parameters: dict[str, nn.Parameter], adapter: Any) -> None:
    """The trainable set is exactly the expected one.

    Raises:
        RunError: names what is too much or missing.
    """
    layers = adapted_layers(dict(transformer.config), adapter.target_modules)
    expected = expected_names(layers, adapter)
    for words, names in (("missing", expected - set(parameters)), ("not expected", set(parameters) - expected)):
        if names:
            raise RunError(f"check failed: trainable parameters {words}: {len(names)}, e.g. {sorted(names)[0]}")


@torch.no_grad()
def velocity_change(transformer: nn.Module, predict: Callable[[], torch.Tensor]) -> tuple[float, float]:
    """How far the adapter moves the velocity: largest difference, and that over the velocity's own size."""
    was_training = transformer.training
    transformer.eval()
    set_enabled(transformer, False)
    base = predict().float()
    set_enabled(transformer, True)
    change = (predict().float() - base).abs().max().item()
    transformer.train(was_training)
    return change, change / max(base.abs().max().item(), 1e-12)


def check_untouched(transformer: nn.Module, predict: Callable[[], torch.Tensor], precision: str) -> float:
    """A fresh adapter leaves the velocity as it was. Returns the relative change.

    Raises:
        RunError: it does not.
    """
    change, relative = velocity_change(transformer, predict)
    if not relative <= ROUNDING[precision]:
        raise RunError(
            f"check failed: the untouched adapter changes the velocity by {change:.3g} ({relative:.2g} of its size)"
        )
    return relative


def check_learned(transformer: nn.Module, predict: Callable[[], torch.Tensor]) -> float:
    """The trained adapter changes the velocity. Returns the relative change.

    Raises:
        RunError: it does not, or gives something that is not a number.
    """
    _, relative = velocity_change(transformer, predict)
    if not relative > 0:
        raise RunError("check failed: the trained adapter does not change the velocity; nothing was learned")
    return relative


def check_first_loss(loss: float, limit: float | None) -> None:
    """The first loss is that of a base that was really loaded.

    Raises:
        RunError: it is above model.max_first_loss.
    """
    if limit is not None and loss > limit:
        raise RunError(
            f"check failed: the first loss is {loss:.3f}, above model.max_first_loss={limit}; "
            "a healthy base starts near 0.03 to 0.3. Was the right model loaded?"
        )
