"""The optimizer step: clip the gradient, AdamW, and the average of the adapter (power EMA)."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from cosmos_exp.config.schema import Training
from cosmos_exp.errors import UserError
from cosmos_exp.training.checkpoints import State


class AdapterOptimizer:
    """AdamW over the adapter's parameters, with gradient clipping and, if `training.ema_power` is set, a power EMA.

    Args:
        parameters: the adapter's, by name, fp32.
        eight_bit: keep AdamW's moments in 8 bits (torchao).
    """

    def __init__(self, parameters: dict[str, nn.Parameter], training: Training, eight_bit: bool = False):
        self.parameters, self.training = parameters, training
        self.adamw = make_adamw(list(parameters.values()), training, eight_bit)
        self.average: dict[str, torch.Tensor] = {}  # empty without training.ema_power
        if training.ema_power is not None:
            for name, parameter in parameters.items():
                self.average[name] = parameter.detach().clone()

    def step(self, lr: float, step: int) -> torch.Tensor:
        """Take optimizer step `step` (from 0) and clear the gradients.

        Returns:
            the gradient's norm before clipping, on the device. A non-finite norm is reported when it is read.
        """
        parameters = list(self.parameters.values())
        if self.training.zero_nonfinite_grads:
            for parameter in parameters:
                if parameter.grad is not None:
                    torch.nan_to_num_(parameter.grad, nan=0.0, posinf=0.0, neginf=0.0)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.training.max_grad_norm)
        for group in self.adamw.param_groups:
            group["lr"] = lr
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        if self.training.ema_power is not None:
            beta = power_ema_beta(self.training.ema_power, step)
            for name, average in self.average.items():
                average.lerp_(self.parameters[name].detach(), 1 - beta)
        return norm

    def use_average(self) -> None:
        """Replace the parameters by their average, if there is one."""
        for name, value in self.average.items():
            self.parameters[name].data.copy_(value)

    def state_dict(self) -> State:
        """Parameters, AdamW's state and the average (empty: none), on the CPU."""
        return {
            "adapter": {name: value.detach().cpu() for name, value in self.parameters.items()},
            "optimizer": self.adamw.state_dict(),
            "ema": {name: value.cpu() for name, value in self.average.items()},
        }

    def load_state_dict(self, state: State, device: torch.device) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: the state is of other parameters.
        """
        self._check_shapes(state["adapter"])
        for name, value in state["adapter"].items():
            self.parameters[name].data.copy_(value)
        self.adamw.load_state_dict(state["optimizer"])
        if self.average and state["ema"]:
            self._check_shapes(state["ema"])
            for name, value in state["ema"].items():
                self.average[name] = value.to(device)

    def _check_shapes(self, tensors: dict[str, torch.Tensor]) -> None:
        for name in sorted(self.parameters.keys() | tensors.keys()):
            if name not in self.parameters or name not in tensors or self.parameters[name].shape != tensors[name].shape:
                raise ValueError(f"it belongs to another adapter: {name} differs")


def make_adamw(parameters: list[nn.Parameter], training: Training, eight_bit: bool) -> torch.optim.Optimizer:
    """AdamW in one fused kernel, or with moments in 8 bits.

    Raises:
        UserError: torchao is required and not installed.
    """
    lr, weight_decay = training.learning_rate, training.weight_decay
    if not eight_bit:
        return torch.optim.AdamW(parameters, fused=True, lr=lr, weight_decay=weight_decay)
    try:
        from torchao.optim import AdamW8bit
    except ImportError as error:
        raise UserError(
            "approximate.adamw_8bit=true: torchao is not installed. Run `pip install 'cosmos-exp[approximate]'`, or set "
            "approximate.adamw_8bit=false."
        ) from error
    return AdamW8bit(parameters, lr=lr, weight_decay=weight_decay)


def power_ema_exponent(power: float) -> float:
    """gamma of the power EMA of relative width `power` (Karras et al. 2024, arXiv:2312.02696, eq. 126)."""
    return float(np.roots([1, 7, 16 - power**-2, 12 - power**-2]).real.max())


def power_ema_beta(power: float, step: int) -> float:
    """Decay of the power EMA at optimizer step `step` (from 0): beta = (1 - 1/t)^(gamma + 1) with t = step + 1."""
    return float((1 - 1 / (step + 1)) ** (power_ema_exponent(power) + 1))
