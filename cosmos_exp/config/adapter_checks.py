"""Is an adapter file fit for use? The checks that a run makes of its own adapter, on a file of anybody. No torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cosmos_exp.config.adapter_format import check_scales
from cosmos_exp.config.adapter_header import AdapterHeader, read_header, read_tensors
from cosmos_exp.config.layers import adapted_layers, linear_layers, transformer_config
from cosmos_exp.config.schema import Model
from cosmos_exp.errors import UserError


def check_adapter(file: Path, model: Model | None = None, alpha: float | None = None) -> AdapterHeader:
    """Check an adapter file before anything is computed with it.

    Args:
        model: the model that it is for; None: that is not checked.
        alpha: for files without metadata.

    Returns:
        its header.

    Raises:
        UserError: the header is broken, alpha or a rank is no usable number, a value is NaN or infinite, or layers are
            missing or of another model.
    """
    header = read_header(file, alpha)
    check_scales(file, header.scales)
    for name, values in read_tensors(file).items():
        bad = values.size - int(np.isfinite(values).sum())
        if bad:
            raise UserError(
                f"{file}: {name} has {bad} of {values.size} values that are NaN or infinite. Its training failed, or the file is "
                "damaged. Use another adapter."
            )
    if model is not None:
        check_layers(header, model)
    return header


def check_layers(header: AdapterHeader, model: Model) -> None:
    """Check that the file has the layers that it says, and that they are those of the model.

    Raises:
        UserError: layers are missing in the file, or the model does not have them at this size.
    """
    config, own = transformer_config(model), header.layers
    known = linear_layers(config)
    wrong = [n for n, size in own.items() if known.get(n) != size]
    if wrong:
        has = f"{known[wrong[0]]}" if wrong[0] in known else "no such layer"
        raise UserError(
            f"{header.file}: was trained on another model: {wrong[0]} has (in, out) {own[wrong[0]]} in the file; "
            f"model={model.name} has {has}. Choose the model that it was trained on."
        )
    targets = (header.peft or {}).get("target_modules")
    chosen = any((header.peft or {}).get(k) is not None for k in ("exclude_modules", "layers_to_transform"))
    if not isinstance(targets, list) or chosen:
        return
    missing = sorted(set(adapted_layers(config, targets)) - set(own))
    if missing:
        raise UserError(
            f"{header.file}: holds {len(own)} of {len(own) + len(missing)} layers that it says it adapts; {missing[0]} is "
            "missing. Copy the file again, or make it again."
        )
