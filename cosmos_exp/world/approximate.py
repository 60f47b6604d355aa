"""Options that save memory and change numbers. Off by default; a run that uses one records it."""

from __future__ import annotations

from torch import nn

from cosmos_exp.errors import UserError


def shrink_base(transformer: nn.Module) -> None:
    """Store the frozen linear weights of the blocks in 8-bit floating point, one scale per row; products stay bf16.

    Raises:
        UserError: torchao is not installed.
    """
    try:
        from torchao.quantization import Float8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise UserError(
            "approximate.fp8_base=true requires torchao: run pip install 'cosmos-exp[approximate]', or set it to false"
        ) from error

    def frozen_block_layer(module: nn.Module, name: str) -> bool:
        inside = "transformer_blocks." in name and ".norm" not in name and "lora_" not in name
        return inside and isinstance(module, nn.Linear) and not module.weight.requires_grad

    quantize_(transformer, Float8WeightOnlyConfig(), filter_fn=frozen_block_layer)
