"""Write adapter files whose bytes depend on their content alone. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from cosmos_exp.config.adapter_header import LORA_METADATA_KEY, OWN_METADATA_KEY, PREFIX, Array
from cosmos_exp.files import JsonObject, atomic_path
from cosmos_exp.run_folder import ADAPTER_FILE


def write_adapter(directory: Path, tensors: Mapping[str, Array], peft: JsonObject, record: JsonObject) -> Path:
    """Write an adapter file atomically, as `save_adapter` writes it.

    Args:
        directory: gets the file `ADAPTER_FILE`.
        tensors: by peft's name without the prefix; stored in fp32.
        peft: peft's configuration.
        record: what it was trained on and made from.

    Returns:
        the file.
    """
    target = directory / ADAPTER_FILE
    named = {f"{PREFIX}{k}": np.ascontiguousarray(v, np.float32) for k, v in tensors.items()}
    packed = {f"{PREFIX}{k}": v for k, v in peft.items()}
    metadata = {
        "format": "pt",
        LORA_METADATA_KEY: json.dumps(packed),
        OWN_METADATA_KEY: json.dumps(record, default=str),
    }
    with atomic_path(target) as temporary:
        save_file(named, temporary, metadata)
        sort_header(temporary)
    return target


def sort_header(file: Path) -> None:
    """Sort the metadata, so that the same adapter gives the same bytes.

    safetensors writes the metadata, and peft the set of target modules, in arbitrary order. The format of a file: the
    header's length (eight bytes, little endian), the header (JSON, padded with spaces to a multiple of eight), the data.
    """
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    peft = json.loads(header["__metadata__"][LORA_METADATA_KEY])
    peft = {k: sorted(v) if isinstance(v, list) and all(isinstance(x, str) for x in v) else v for k, v in peft.items()}
    header["__metadata__"] = dict(
        sorted({**header["__metadata__"], LORA_METADATA_KEY: json.dumps(peft, sort_keys=True)}.items())
    )
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])
