"""Adapters cut to a lower rank, against dense singular value decompositions; no model."""

import json

import numpy as np
import pytest

from cosmos_exp.config.adapter_file import read_adapter, tensors_of, write_adapter
from cosmos_exp.experiment.generate import find_adapters
from cosmos_exp.files import file_sha256
from cosmos_exp.statistics.low_rank import effective_rank, kept_energy, product_svd, rank_for_energy
from cosmos_exp.world.adapter_truncation import truncate_adapter

SIZES = {"attn1.to_q": (24, 20), "attn2.to_k": (24, 16), "ff.net.2": (12, 40)}  # out, in
LAYERS = {f"transformer_blocks.{i}.{n}": s for i in range(2) for n, s in SIZES.items()}
KINDS = {
    "lora": ({"lora_alpha": 20}, 2.5),
    "rslora": ({"lora_alpha": 8, "use_rslora": True}, 8 / 8**0.5),
    "dora": ({"lora_alpha": 16, "use_dora": True}, 2.0),
}


def adapter(folder, kind="lora"):
    """An adapter file with random factors whose singular values fall, and the dense updates s B A."""
    rng = np.random.default_rng(0)
    settings, scale = KINDS[kind]
    tensors, updates = {}, {}
    for name, (size_out, size_in) in LAYERS.items():
        b, a = rng.normal(size=(size_out, 8)) * 0.6 ** np.arange(8), rng.normal(size=(8, size_in))
        b, a = b.astype(np.float32), a.astype(np.float32)
        tensors |= {f"{name}.lora_B.weight": b, f"{name}.lora_A.weight": a}
        updates[name] = scale * b.astype(np.float64) @ a.astype(np.float64)
        rest = {"dora": ".lora_magnitude_vector", "lora": ".lora_B.bias"}.get(kind)
        if rest:
            tensors[name + rest] = rng.normal(size=size_out).astype(np.float32)
    record = {"base_model": "tabletop", "fingerprints": {"transformer": "ab"}, "config_hash": "cd", "adapter": {}}
    config = {"r": 8, "target_modules": list(SIZES), "rank_pattern": {}, "alpha_pattern": {}, **settings}
    return write_adapter(folder, tensors, config, record), updates


def dense_updates(file):
    """s B A of every layer; that s is peft's is shown in test_adapter_tools.py."""
    header = read_adapter(file)
    return {n: header.scales[n] * layer.b.astype(float) @ layer.a.astype(float) for n, layer in header.layers.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rank", [1, 3])
def test_a_lower_rank_is_the_best_one_at_the_same_scale(kind, rank, tmp_path):
    """Eckart and Young: the error is the root of the sum of the squared singular values that are left out."""
    file, updates = adapter(tmp_path / "a", kind)
    cut = truncate_adapter(file, tmp_path / "b", rank)
    header, before = read_adapter(cut), tensors_of(read_adapter(file).layers)
    after, left, total = tensors_of(header.layers), 0.0, 0.0
    for name, update in dense_updates(cut).items():
        u, values, vt = np.linalg.svd(updates[name])
        norm, error = np.linalg.norm(updates[name]), np.sqrt(np.square(values[rank:]).sum())
        assert np.linalg.norm(update - u[:, :rank] * values[:rank] @ vt[:rank]) < 1e-6 * norm
        assert np.linalg.norm(update - updates[name]) == pytest.approx(error, abs=1e-6 * norm)
        left, total = left + error**2, total + norm**2
        b, a = (after[f"{name}.lora_{x}.weight"] for x in "BA")  # the factors share the size
        assert np.linalg.norm(b, axis=0) == pytest.approx(np.linalg.norm(a, axis=1), rel=1e-5)
    assert header.record["truncated"]["kept_energy"] == pytest.approx(1 - left / total, abs=1e-9)
    assert header.record["truncated"]["from"] == {"sha256": file_sha256(file), "record": read_adapter(file).record}
    assert "adapter" not in header.record  # the settings of its training, not its own
    assert truncate_adapter(file, tmp_path / "c", rank).read_bytes() == cut.read_bytes()
    for key in before:  # biases and magnitudes
        assert key.endswith((".lora_A.weight", ".lora_B.weight")) or np.array_equal(before[key], after[key])


@pytest.mark.parametrize("energy", [0.5, 0.99])
def test_energy_chooses_each_layers_smallest_rank(energy, tmp_path):
    file, updates = adapter(tmp_path / "a", "rslora")
    cut = truncate_adapter(file, tmp_path / "b", energy=energy)
    for name, update in updates.items():
        kept = np.cumsum(np.square(np.linalg.svd(update, compute_uv=False)))
        assert read_adapter(cut).ranks[name] == 1 + int((kept / kept[-1] < energy).sum())
    assert read_adapter(cut).record["truncated"]["kept_energy"] >= energy


def test_products_of_deficient_rank():
    values = product_svd(np.ones((6, 4)), np.ones((4, 5)))[1]  # rank 1
    assert values == pytest.approx([4 * 30**0.5, 0, 0, 0], abs=1e-12)
    assert rank_for_energy(values, 1 - 1e-9) == 1
    assert effective_rank(np.ones(3)) == pytest.approx(3)
    untrained = np.zeros(3)  # nothing is lost
    assert kept_energy(untrained, 1) == rank_for_energy(untrained, 1.0) == 1


def test_errors_name_the_option_and_the_file(tmp_path, answered):
    file, _ = adapter(tmp_path / "a")
    for words, said in {
        (file,): "--rank 2,4,8",
        (file, "--rank", "4,9"): "has rank 8 at ",
        (file, "--energy", "1.5"): "greater than 0 and at most 1",
        (file, "--rank", "4", "--alpha", "3"): "alpha 20 by metadata lora_adapter_metadata and 3 by --alpha",
        (tmp_path / "none", "--rank", "4"): "no adapter found",
    }.items():
        answered(["adapter", "truncate", *words], 2, said)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]  # nothing was written


def test_info(tmp_path, answered):
    run = tmp_path / "run"
    file, updates = adapter(run / "adapter", "dora")
    answered(["adapter", "truncate", run, "--rank", "2,4", "--energy", "0.9"], 0)
    assert list(find_adapters([[str(run), str(run / "adapter-r2")]])) == [
        "run",
        "run-r2",
    ]  # names of their videos' folders
    info = json.loads(answered(["adapter", "info", file, "--json"], 0))
    assert (info["kind"], info["ranks"], info["alphas"], info["scales"]) == ("dora", [8], [16.0], [2.0])
    assert info["parameters"] == sum(8 * (o + i) + o for o, i in LAYERS.values())
    squares = np.square([np.linalg.svd(update, compute_uv=False)[:8] for update in updates.values()])
    row = info["spectrum"]["all layers"]
    assert row["norm"] == pytest.approx(np.sqrt(squares.sum()))
    assert row["energy_at_rank"] == pytest.approx({str(k): squares[:, :k].sum() / squares.sum() for k in (1, 2, 4, 8)})
    answered(["adapter", "info", run / "adapter-e0.9"], 0, '"energy": 0.9')
