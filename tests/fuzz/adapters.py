"""Adapter files with changed bytes, headers and metadata: refused by a clear error, or loaded as what they are."""

from __future__ import annotations

import copy
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from corpus.adapters import good, joined, parts
from hypothesis import strategies as st

from cosmos_exp.config.adapter_file import read_adapter, tensors_of
from cosmos_exp.config.schema import Model
from cosmos_exp.errors import UserError
from fuzz import Property, answer, check_named
from fuzz.values import JSON, NUMBERS, TEXTS, TRICKS, File, changed, spoiled


@cache
def model() -> Model:
    from cosmos_exp.config.composing import compose_config

    return compose_config([]).model


def adapter(content: bytes) -> None:
    """`adapter info`, and the checks before anything is made with the file."""
    import safetensors.torch

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "theirs.safetensors"
        file.write_bytes(content)
        code, text = answer(["adapter", "info", file])
        assert code in (0, 2), code
        try:
            theirs = read_adapter(file, model=model())
        except UserError as error:
            check_named(file, error)
            return
        assert code == 0, f"refused by info alone: {text}"
        read = tensors_of(theirs.layers)
        true = {k.removeprefix("transformer."): v for k, v in safetensors.torch.load_file(file).items()}
        assert set(true) == set(read)
        for name, values in read.items():
            assert np.array_equal(np.asarray(values, np.float64), true[name].double().numpy()), name
        assert all(0 < s < np.inf for s in theirs.scales.values())


@st.composite
def headers(draw: Any) -> File:
    """The good file with a changed table of tensors: other names, types, shapes, offsets, entries fewer or more."""
    header, data = parts(good())
    header = copy.deepcopy(header)
    names = sorted(k for k in header if k != "__metadata__")
    for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)):
        how = draw(st.sampled_from(("entry", "shape", "dtype", "offsets", "name", "remove", "swap")))
        entry = header[name]
        if how == "entry":
            header[name] = draw(changed(entry, most=2))
        elif how == "shape":
            shape = entry["shape"]
            entry["shape"] = draw(
                st.sampled_from((shape[::-1], [*shape, 1], [1, *shape], [shape[0] * shape[1]], [], [0], shape[:1]))
            )
        elif how == "dtype":
            entry["dtype"] = draw(st.sampled_from(("F16", "BF16", "F64", "I32", "BOOL", "F8_E4M3", "", 3)))
        elif how == "offsets":
            entry["data_offsets"] = [v + draw(st.integers(-8, 8)) for v in entry["data_offsets"]]
        elif how == "remove":
            header.pop(name)
        elif how == "swap":
            other = draw(st.sampled_from(names))
            if other in header:
                header[name], header[other] = header[other], header[name]
        else:
            header[
                draw(
                    st.one_of(
                        TEXTS,
                        st.sampled_from(
                            (name.replace("lora_A", "lora_C"), name.removeprefix("transformer."), name + ".x")
                        ),
                    )
                )
            ] = header.pop(name)
    return File(joined(header, data))


@st.composite
def metadata(draw: Any) -> File:
    """The good file with changed metadata: peft's configuration and the record of the training."""
    import json

    header, data = parts(good())
    header = copy.deepcopy(header)
    packed = {k: json.loads(v) for k, v in header["__metadata__"].items() if v.startswith("{")}
    name = draw(st.sampled_from(sorted(packed)))
    if draw(st.booleans()):
        packed[name] = draw(changed(packed[name]))
    else:
        keys = [
            *packed[name],
            "transformer.alpha_pattern",
            "transformer.rank_pattern",
            "transformer.lora_alpha",
            "fingerprints",
            "base_model",
            "truncated",
        ]
        values = st.one_of(
            NUMBERS,
            JSON,
            st.dictionaries(st.sampled_from(("to_q", "to_v", ".*", "(", "[", *TRICKS)), NUMBERS, max_size=2),
        )
        packed[name][draw(st.sampled_from(sorted(keys)))] = draw(values)
    header["__metadata__"] |= {k: json.dumps(v) for k, v in packed.items()}
    if draw(st.integers(0, 5)) == 0:
        header["__metadata__"] = draw(changed(header["__metadata__"]))
    return File(joined(header, data))


PROPERTIES = (Property("adapter", adapter, st.one_of(headers(), metadata(), st.deferred(lambda: spoiled(good()))), 60),)
