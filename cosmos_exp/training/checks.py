"""What must hold before and after training. A failed check stops the run and names itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import CosmosTransformer3DModel
from torch import nn

from cosmos_exp.config.layers import adapted_layers
from cosmos_exp.config.schema import Adapter
from cosmos_exp.errors import RunError
from cosmos_exp.world.adapter import expected_names

# Relative difference of two velocities that rounding alone explains (DoRA divides by a norm and multiplies by it).
ROUNDING = {"no": 1e-4, "bf16": 5e-2}


def check_trainable(
    transformer: CosmosTransformer3DModel, parameters: dict[str, nn.Parameter], adapter: Adapter
) -> None:
    """Check that the trainable parameters are exactly the expected ones.

    Raises:
        RunError: parameters are missing or unexpected.
    """
    layers = adapted_layers(dict(transformer.config), adapter.target_modules)
    expected = expected_names(layers, adapter)
    for words, names in (("missing", expected - set(parameters)), ("not expected", set(parameters) - expected)):
        if names:
            raise RunError(f"check failed: trainable parameters {words}: {len(names)}, e.g. {sorted(names)[0]}")


@torch.no_grad()
def velocity_change(transformer: CosmosTransformer3DModel, predict: Callable[[], torch.Tensor]) -> float:
    """The largest difference of the velocity with and without the adapter, relative to the velocity's largest value."""
    was_training = transformer.training
    transformer.eval()
    transformer.disable_adapters()
    base = predict().float()
    transformer.enable_adapters()
    change = (predict().float() - base).abs().max().item()
    transformer.train(was_training)
    return change / max(base.abs().max().item(), 1e-12)


def check_untouched(
    transformer: CosmosTransformer3DModel, predict: Callable[[], torch.Tensor], precision: str
) -> float:
    """Check that a fresh adapter does not change the velocity. Returns the relative change.

    Raises:
        RunError: it does.
    """
    relative = velocity_change(transformer, predict)
    if not relative <= ROUNDING[precision]:
        raise RunError(f"check failed: the untrained adapter changes the velocity by {relative:.2g} of its size")
    return relative


def check_learned(transformer: CosmosTransformer3DModel, predict: Callable[[], torch.Tensor]) -> float:
    """Check that the trained adapter changes the velocity. Returns the relative change.

    Raises:
        RunError: it does not, or the velocity is not finite.
    """
    relative = velocity_change(transformer, predict)
    if not relative > 0:
        raise RunError("check failed: the trained adapter does not change the velocity; nothing was learned")
    return relative


def check_first_loss(loss: float, limit: float | None) -> None:
    """Check that the first loss is that of a base model that was loaded correctly.

    Raises:
        RunError: it is above model.max_first_loss.
    """
    if limit is not None and loss > limit:
        raise RunError(
            f"check failed: the first loss is {loss:.3f}, above model.max_first_loss={limit}. "
            "A healthy base starts near 0.03 to 0.3. Was the right model loaded?"
        )
