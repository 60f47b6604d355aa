"""What the header of an adapter file may hold. A file may come from someone else, so everything in it is checked."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from cosmos_exp.config.layers import is_quick, pattern_matches
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject
from cosmos_exp.text import one_line

BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}  # of one value, by safetensors' name of its type
MOST_SCALE = 1e4  # of alpha / rank (or alpha / sqrt(rank)): usual values lie between 0.1 and 100
# How peft may initialise the layers before the file's values replace it. Others (pissa, olora, eva …) change the base.
_INITIAL = (True, False, None, "gaussian", "orthogonal")  # those that leave the base as it is


def check_entries(file: Path, entries: object, data_bytes: int) -> None:
    """Check the table of tensors in a safetensors header.

    Args:
        entries: the header as JSON.
        data_bytes: the size of the data behind the header.

    Raises:
        UserError: it names the file and the first wrong entry.
    """
    if not isinstance(entries, dict):
        raise UserError(f"{file}: its header is no JSON object. {_AGAIN}")
    metadata = entries.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise UserError(f"{file}: __metadata__ in its header must map names to text. {_AGAIN}")
    for name, entry in entries.items():
        if name == "__metadata__":
            continue
        problem = _entry_problem(entry, data_bytes)
        if problem or one_line(name) != name:
            raise UserError(
                f"{file}: tensor {one_line(name)[:80]}: {problem or 'its name holds control characters'}. {_AGAIN}"
            )


_AGAIN = "Copy the file again, or make it again."


def _entry_problem(entry: object, data_bytes: int) -> str | None:
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= set(entry):
        return "has no dtype, shape and data_offsets"
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in BYTES:
        return f"has the type {one_line(entry['dtype'])[:20]}; known are {', '.join(BYTES)}"
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _counts(shape) or not _counts(offsets) or len(offsets) != 2:
        return "its shape and data_offsets must be lists of whole numbers"
    first, last = offsets
    if not first <= last <= data_bytes:
        return f"its data end at byte {last} of {data_bytes}: the file is cut short"
    if last - first != math.prod(shape) * BYTES[entry["dtype"]]:
        return f"has {last - first} bytes for the shape {shape}"
    return None


def _counts(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in values)


def check_settings(file: Path, peft: object, record: object) -> None:
    """Check peft's configuration in the metadata (None if there is none), and our record of the training.

    Raises:
        UserError: it names the file and the key: alpha is no positive number, a rank no whole number …
    """
    if not isinstance(record, dict):
        raise UserError(f"{file}: the record of its training is no JSON object. Make the file again.")
    if not isinstance(record.get("fingerprints", {}), dict):
        raise UserError(f"{file}: fingerprints in the record of its training is no JSON object. Make the file again.")
    if "truncated" in record and not _is_cut(record["truncated"]):
        raise UserError(
            f"{file}: truncated in the record of its training needs from.sha256, kept_energy, and rank or energy. Make the "
            "file again."
        )
    if peft is None:
        return
    if not isinstance(peft, dict):
        raise UserError(f"{file}: peft's configuration in it is no JSON object. Make the file again.")
    for key in ("lora_alpha", "r"):
        if key not in peft:
            raise UserError(f"{file}: records no {key}. Make the file again, or remove its metadata and give --alpha.")
    problems = [*_number_problems(peft), *_other_problems(peft)]
    if problems:
        raise UserError(f"{file}: {'; '.join(problems)}. Make the file again with values that a run accepts.")


def _is_cut(cut: object) -> bool:
    """Whether a record says what an adapter was truncated from and how."""
    source = cut.get("from") if isinstance(cut, dict) else None
    if not isinstance(cut, dict) or not isinstance(source, dict) or not isinstance(source.get("sha256"), str):
        return False
    how = cut["rank"] if "rank" in cut else cut.get("energy")
    values = (how, cut.get("kept_energy"))
    return all(is_number(v) and abs(v) <= sys.float_info.max for v in values if v is not None) and None not in values


def _number_problems(peft: JsonObject) -> list[str]:
    found = []
    alphas, ranks = {"lora_alpha": peft["lora_alpha"]}, {"r": peft["r"]}
    for key, named in (("alpha_pattern", alphas), ("rank_pattern", ranks)):
        pattern = peft.get(key) or {}
        if not isinstance(pattern, dict):
            found.append(f"{key} must map layers to numbers, not be {_short(pattern)}")
        else:
            named.update({f"{key}.{one_line(layer)[:60]}": value for layer, value in pattern.items()})
            found += [
                f"{key}.{one_line(k)[:60]}: is no regular expression, or one that can take very long"
                for k in pattern
                if not _is_pattern(k)
            ]
    for name, value in alphas.items():
        if not is_number(value) or not 0 < value <= sys.float_info.max:
            found.append(f"{name}={_short(value)}: must be a number greater than 0")
    for name, value in ranks.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            found.append(f"{name}={_short(value)}: must be a whole number of at least 1")
    return found


def _is_pattern(text: str) -> bool:
    try:
        pattern_matches(text, "")
    except (re.error, RecursionError, OverflowError):
        return False
    return is_quick(text)


def _other_problems(peft: JsonObject) -> list[str]:
    found = [
        f"{key}={_short(peft[key])}: must be true or false"
        for key in ("use_dora", "use_rslora", "lora_bias")
        if not isinstance(peft.get(key, False), (bool, type(None)))
    ]
    targets = peft.get("target_modules")
    if not isinstance(targets, (str, type(None))) and not _texts(targets):
        found.append(f"target_modules={_short(targets)}: must be names of layers")
    if not any(peft.get("init_lora_weights", True) is v or peft["init_lora_weights"] == v for v in _INITIAL):
        found.append(f"init_lora_weights={_short(peft['init_lora_weights'])}: would change the base's weights")
    return found


def check_scales(file: Path, scales: Mapping[str, float]) -> None:
    """Check the factors of the updates, by layer.

    Raises:
        UserError: one is not between 0 and `MOST_SCALE`.
    """
    for layer, scale in scales.items():
        if not 0 < scale <= MOST_SCALE:
            raise UserError(
                f"{file}: alpha gives {layer} the scale {scale:.3g}; it must lie above 0 and be at most {MOST_SCALE:g}. "
                "Make the file again with another alpha."
            )


def is_number(value: object) -> bool:
    """Whether a JSON value is a number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _texts(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(v, str) for v in values)


def _short(value: object) -> str:
    return repr(one_line(value))[:40] if isinstance(value, str) else one_line(value)[:40]
