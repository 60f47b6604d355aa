"""What an optimizer step leaves behind: figures on the device, read when they are there, so that nobody waits for them."""

from __future__ import annotations

from typing import Any

import torch

from cosmos_exp.errors import UserError


def make_optimizer(parameters: list[torch.nn.Parameter], training: Any, eight_bit: bool) -> torch.optim.Optimizer:
    """AdamW in one fused kernel, or with moments in 8 bits.

    Raises:
        UserError: torchao is asked for and not installed.
    """
    words = {"lr": training.learning_rate, "weight_decay": training.weight_decay}
    if not eight_bit:
        return torch.optim.AdamW(parameters, fused=True, **words)
    try:
        from torchao.optim import AdamW8bit
    except ImportError as error:
        raise UserError(
            "approximate.adamw_8bit=true needs torchao: pip install 'cosmos-exp[approximate]', or leave it off"
        ) from error
    return AdamW8bit(parameters, **words)
