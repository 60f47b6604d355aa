"""Adapter files of anybody, through `adapter info` and `generate`: refused by name before anything is computed."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from cosmos_exp.config.adapter_file import find_adapter, read_adapter, split_name, write_adapter
from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.layers import adapted_layers, transformer_config

TARGETS = ["to_q", "to_v"]


@pytest.fixture
def good(tmp_path):
    """An adapter of the embedded model, as a run writes it."""
    tensors = {}
    for name, (inside, outside) in adapted_layers(transformer_config(compose_config([]).model), TARGETS).items():
        tensors[f"{name}.lora_A.weight"] = np.ones((2, inside), np.float32)
        tensors[f"{name}.lora_B.weight"] = np.ones((outside, 2), np.float32)
    peft = {"peft_type": "LORA", "r": 2, "lora_alpha": 4.0, "target_modules": TARGETS, "use_dora": False}
    return write_adapter(tmp_path, tensors, peft, {"base_model": "[/red]\x1b[2J"})


def peft(**entries):
    """Other entries in peft's configuration."""

    def change(tensors, metadata):
        packed = json.loads(metadata["lora_adapter_metadata"])
        packed |= {f"transformer.{key}": value for key, value in entries.items()}
        metadata["lora_adapter_metadata"] = json.dumps(packed)

    return change


def nan(tensors, metadata):
    tensors[next(name for name in tensors if "lora_B" in name)][0, 0] = np.nan


def renamed(old, new):
    """Other names of tensors."""

    def change(tensors, metadata):
        for name in list(tensors):
            tensors[name.replace(old, new)] = tensors.pop(name)

    return change


def extra(name, *shape):
    """A further tensor."""
    return lambda tensors, metadata: tensors.update({name: np.ones(shape, np.float32)})


def fewer(tensors, metadata):
    for name in list(tensors)[6:]:
        del tensors[name]


CASES = [
    (nan, "NaN or infinite"),
    (peft(lora_alpha="abc"), "lora_alpha=abc"),
    (peft(lora_alpha=1e30), "the scale 5e+29; it must be above 0 and at most 10000"),
    (peft(alpha_pattern={"(": 4}), "not a regular expression"),
    (peft(r="\x1b[2J"), "r=\\x1b[2J"),
    (peft(init_lora_weights="pissa"), "init_lora_weights=pissa"),
    (lambda tensors, metadata: metadata.update(lora_adapter_metadata="{"), "in its metadata: Invalid JSON"),
    (fewer, "of 20 layers that it says it adapts"),
    (renamed("transformer_blocks.0.", "transformer_blocks.99."), "was trained on another model"),
    (extra("transformer.transformer_blocks.0.attn1.norm_q.weight", 64), "norm_q.weight is no tensor of a LoRA or DoRA"),
    (extra("transformer.transformer_blocks.0.attn1.to_q.lora_down.weight", 2, 256), "has its a twice"),
    (extra("transformer.transformer_blocks.0.attn1.to_q.dora_scale", 1, 256), "a DoRA magnitude of (1, 256)"),
    (
        extra("transformer.transformer_blocks.0.attn1.to_q.alpha", 1),
        "alpha 4 by metadata lora_adapter_metadata and 1 by .alpha",
    ),
    (lambda tensors, metadata: tensors.clear(), "has no lora_A tensors"),
    (peft(r=64), "has rank 2, and lora_adapter_metadata says 64"),
    (peft(use_dora=True), "says DoRA, and the file has no magnitudes"),
]


@pytest.mark.parametrize(("change", "said"), CASES, ids=[case[1][:40] for case in CASES])
def test_a_bad_adapter_is_refused_before_a_video_is_made(change, said, good, tmp_path, answered):
    tensors = load_file(good)
    with safe_open(good, "np") as file:
        metadata = file.metadata()
    change(tensors, metadata)
    save_file(tensors, tmp_path / "bad.safetensors", metadata)
    (tmp_path / "a.txt").write_text("Lift the cup.")
    (tmp_path / "a.png").touch()
    words = ["--adapter", good, tmp_path / "bad.safetensors", "--prompts", tmp_path, "--out", tmp_path / "out"]
    answered(["generate", *words], 2, "bad.safetensors", said)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", [lambda raw: raw[:-100], lambda raw: b"", lambda raw: b"x" * 500])
def test_a_damaged_file_is_refused_by_every_command(change, good, tmp_path, answered):
    good.write_bytes(change(good.read_bytes()))
    for words in (["info"], ["truncate", "--rank", "1"], ["merge", "--out", tmp_path / "out"]):
        answered(["adapter", *words, good], 2, str(good), "cannot be read as an adapter", "Copy it again")


def test_the_record_of_a_good_adapter_is_shown_without_escapes(good, answered):
    answered(["adapter", "info", good], 0, "[/red]\\u001b[2J")
    assert set(read_adapter(good, model=compose_config([]).model).ranks.values()) == {2}


def test_an_adapter_may_have_a_name_of_its_own():
    assert split_name("base_model.model.x.lora_A.default_0.weight") == ("x", ".lora_A.weight")


def their_names(name):
    """The spelling of kohya's scripts in a compiled model."""
    for ours, theirs in (
        ("transformer.", "diffusion_model._orig_mod."),
        ("lora_A", "lora_down"),
        ("lora_B", "lora_up"),
    ):
        name = name.replace(ours, theirs, 1)
    return name.replace("lora_magnitude_vector", "dora_scale")


@pytest.mark.parametrize("place", ["header", "adapter_config.json", ".alpha"])
def test_an_adapter_in_another_spelling_is_the_same_adapter(place, good, tmp_path):
    """DoRA of rank 2 with alpha 4, wherever a trainer writes them."""
    tensors, metadata, file = load_file(good), {}, tmp_path / "theirs" / "adapter_model.safetensors"
    for name in [name for name in tensors if "lora_B.weight" in name]:
        layer, outside = name.removesuffix(".lora_B.weight"), len(tensors[name])
        tensors[f"{layer}.lora_magnitude_vector"] = np.arange(outside, dtype=np.float32)
        if place == ".alpha":
            tensors[f"{layer}.alpha"] = np.float32([4.0])
    if place == ".alpha":  # and one layer has another rank
        tensors[f"{layer}.lora_A.weight"] = tensors[f"{layer}.lora_A.weight"][:1]
        tensors[f"{layer}.lora_B.weight"] = tensors[f"{layer}.lora_B.weight"][:, :1]
    file.parent.mkdir()
    if place == "header":
        metadata["ss_network_alpha"] = "4.0"
    if place == "adapter_config.json":
        (file.parent / "adapter_config.json").write_text(
            '{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_dora": true}'
        )
    columns = {
        their_names(name): v[:, None] if v.ndim == 1 and "alpha" not in name else v for name, v in tensors.items()
    }
    save_file(columns, file, metadata)
    adapter = read_adapter(find_adapter(file.parent), model=compose_config([]).model)
    assert (adapter.kind, adapter.alpha_recorded) == ("dora", True)
    scales = sorted(set(adapter.scales.values()))
    assert scales == ([2.0, 4.0] if place == ".alpha" else [2.0])
    for name, layer in adapter.layers.items():
        assert np.array_equal(layer.a, tensors[f"transformer.{name}.lora_A.weight"])
        assert np.array_equal(layer.magnitude, np.arange(len(layer.b)))
