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
    layers, trained = adapted_layers(dict(transformer.config), adapter.target_modules), set(parameters)
    if adapter.kind == "full":
        expected = {name for name, _ in transformer.named_parameters()}
    elif adapter.kind == "peft":  # its names are its own: each adapted layer has some, and nothing else
        expected = {name for name in trained if name.startswith(tuple(f"{layer}." for layer in layers))}
        expected |= {layer for layer in layers if not any(name.startswith(f"{layer}.") for name in trained)}
    else:
        expected = expected_names(layers, adapter)
    for words, names in (("missing", expected - trained), ("not expected", trained - expected)):
        if names:
            raise RunError(f"check failed: trainable parameters {words}: {len(names)}, e.g. {sorted(names)[0]}")


def velocity_change(velocity: torch.Tensor, base: torch.Tensor) -> float:
    """The largest difference of two velocities, relative to the largest value of the second."""
    change = (velocity.float() - base.float()).abs().max().item()
    return change / max(base.float().abs().max().item(), 1e-12)


@torch.no_grad()
def check_untouched(
    transformer: CosmosTransformer3DModel, predict: Callable[[], torch.Tensor], precision: str
) -> float:
    """Check that a fresh adapter does not change the velocity. Returns the relative change.

    Raises:
        RunError: it does.
    """
    was_training = transformer.training
    transformer.eval()
    transformer.disable_adapters()
    base = predict()
    transformer.enable_adapters()
    relative = velocity_change(predict(), base)
    transformer.train(was_training)
    if not relative <= ROUNDING[precision]:
        raise RunError(f"check failed: the untrained adapter changes the velocity by {relative:.2g} of its size")
    return relative


def check_learned(velocity: torch.Tensor, untrained: torch.Tensor) -> float:
    """Check that the training has changed the velocity. Returns the relative change.

    Raises:
        RunError: it has not, or the velocity is not finite.
    """
    relative = velocity_change(velocity, untrained)
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
