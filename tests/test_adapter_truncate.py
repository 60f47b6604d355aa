"""Adapters cut to a lower rank, against dense singular value decompositions; no torch, no model."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from cosmos_exp.config.adapter_file import find_adapter, read_adapter, tensors_of, write_adapter
from cosmos_exp.config.layers import layer_scale
from cosmos_exp.config.schema import Adapter
from cosmos_exp.errors import UserError
from cosmos_exp.files import file_sha256
from cosmos_exp.report.adapter_info import layer_spectra, update_spectra
from cosmos_exp.statistics.low_rank import effective_rank, kept_energy, product_svd, rank_for_energy, split_evenly
from cosmos_exp.world.adapter_truncation import truncate_adapter, truncate_to_energy

SIZES = {"attn1.to_q": (24, 20), "attn2.to_k": (24, 16), "ff.net.2": (12, 40)}  # out, in
LAYERS = {f"transformer_blocks.{i}.{n}": s for i in range(2) for n, s in SIZES.items()}
KINDS = {
    "lora": ({"lora_alpha": 8}, 1.0),
    "scaled": ({"lora_alpha": 20}, 2.5),
    "rslora": ({"lora_alpha": 8, "use_rslora": True}, 8 / 8**0.5),
    "dora": ({"lora_alpha": 16, "use_dora": True}, 2.0),
}


def adapter(folder, kind="lora", ranks=None, **peft):
    """An adapter file with random factors whose singular values fall, and the dense updates s B A."""
    rng = np.random.default_rng(0)
    settings, scale = KINDS[kind]
    tensors, updates = {}, {}
    for name, (size_out, size_in) in LAYERS.items():
        rank = (ranks or {}).get(name, 8)
        fall = 0.6 ** np.arange(rank)
        b, a = rng.normal(size=(size_out, rank)) * fall, rng.normal(size=(rank, size_in))
        b, a = b.astype(np.float32), a.astype(np.float32)
        tensors |= {f"{name}.lora_B.weight": b, f"{name}.lora_A.weight": a}
        updates[name] = scale * b.astype(np.float64) @ a.astype(np.float64)
        if kind == "dora":
            tensors[f"{name}.lora_magnitude_vector"] = rng.normal(size=size_out).astype(np.float32)
        if kind == "lora":
            tensors[f"{name}.lora_B.bias"] = rng.normal(size=size_out).astype(np.float32)
    record = {
        "base_model": "tabletop",
        "fingerprints": {"transformer": "ab"},
        "config_hash": "cd",
        "adapter": {"rank": 8},
    }
    config = {"r": 8, "target_modules": list(SIZES), "rank_pattern": {}, "alpha_pattern": {}, **settings, **peft}
    return write_adapter(folder, tensors, config, record), updates


def dense_updates(file):
    """s B A of every layer, with the scale that peft gives to the file's metadata."""
    peft, layers = read_adapter(file).peft, read_adapter(file).layers
    settings = Adapter(
        rank=peft["r"],
        alpha=peft["lora_alpha"],
        scaling="rslora" if peft.get("use_rslora") else "standard",
        rank_pattern=peft["rank_pattern"],
        alpha_pattern=peft["alpha_pattern"],
    )
    found = {}
    for name in LAYERS:
        found[name] = (
            layer_scale(settings, name) * layers[name].b.astype(np.float64) @ layers[name].a.astype(np.float64)
        )
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_full_rank_gives_the_same_adapter(kind, tmp_path):
    file, updates = adapter(tmp_path / "a", kind)
    for name, update in dense_updates(truncate_adapter(file, tmp_path / "b", 8)).items():
        assert np.linalg.norm(update - updates[name]) < 1e-6 * np.linalg.norm(updates[name])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rank", [1, 3, 7])
def test_a_lower_rank_is_the_best_one(kind, rank, tmp_path):
    """Eckart and Young: the error is the root of the sum of the squared singular values that are left out."""
    file, updates = adapter(tmp_path / "a", kind)
    cut = truncate_adapter(file, tmp_path / "b", rank)
    assert set(read_adapter(cut).ranks.values()) == {rank}
    left, total = 0.0, 0.0
    for name, update in dense_updates(cut).items():
        u, values, vt = np.linalg.svd(updates[name])
        best = u[:, :rank] * values[:rank] @ vt[:rank]
        norm = np.linalg.norm(updates[name])
        assert np.linalg.norm(update - best) < 1e-6 * norm
        error = np.sqrt(np.square(values[rank:]).sum())
        assert np.linalg.norm(update - updates[name]) == pytest.approx(error, abs=1e-6 * norm)
        left, total = left + error**2, total + norm**2
    kept = read_adapter(cut).record["truncated"]["kept_energy"]
    assert kept == pytest.approx(1 - left / total, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_scale_is_kept_and_the_factors_share_the_size(kind, tmp_path):
    file, _ = adapter(tmp_path / "a", kind)
    cut = truncate_adapter(file, tmp_path / "b", 4)
    header, peft = read_adapter(cut), read_adapter(cut).peft
    assert list(header.scales.values()) == pytest.approx([KINDS[kind][1]] * len(LAYERS))
    assert peft["r"] == 4
    assert peft["rank_pattern"] == peft["alpha_pattern"] == {}
    assert peft.get("use_rslora", False) == (kind == "rslora")
    before, after = tensors_of(read_adapter(file).layers), tensors_of(read_adapter(cut).layers)
    for name in LAYERS:
        b, a = (after[f"{name}.lora_{x}.weight"] for x in "BA")
        assert np.linalg.norm(b, axis=0) == pytest.approx(np.linalg.norm(a, axis=1), rel=1e-5)
    rest = [k for k in before if "lora_A" not in k and not k.endswith("lora_B.weight")]
    assert len(rest) == (len(LAYERS) if kind in ("lora", "dora") else 0)  # biases; magnitudes
    for key in rest:
        assert np.array_equal(before[key], after[key])


@pytest.mark.parametrize("energy", [0.5, 0.9, 0.99])
def test_energy_chooses_each_layers_smallest_rank(energy, tmp_path):
    file, updates = adapter(tmp_path / "a", "rslora")
    cut = truncate_to_energy(file, tmp_path / "b", energy)
    ranks = read_adapter(cut).ranks
    for name, update in updates.items():
        kept = np.cumsum(np.square(np.linalg.svd(update, compute_uv=False)))
        assert ranks[name] == 1 + int((kept / kept[-1] < energy).sum())
        error = np.linalg.norm(dense_updates(cut)[name] - update) ** 2
        assert error <= (1 - energy) * np.linalg.norm(update) ** 2 * (1 + 1e-5)
    record = read_adapter(cut).record["truncated"]
    assert record["energy"] == energy
    assert record["kept_energy"] >= energy


def test_energies_of_one_keep_all_that_is_there(tmp_path):
    b, a = np.ones((6, 4)), np.ones((4, 5))  # rank 1
    values = product_svd(b, a)[1]
    assert values == pytest.approx([4 * 30**0.5, 0, 0, 0], abs=1e-12)
    assert rank_for_energy(values, 1 - 1e-9) == 1
    assert kept_energy(np.zeros(3), 1) == 1  # an untrained adapter: nothing is lost
    assert rank_for_energy(np.zeros(3), 1.0) == 1


def test_ranks_above_a_layers_size_are_filled_with_zeros():
    rng = np.random.default_rng(1)
    b, a = rng.normal(size=(3, 5)), rng.normal(size=(5, 7))  # out is below the rank
    u, values, vt = product_svd(b, a)
    assert len(values) == 3
    wide_b, wide_a = split_evenly(u, values, vt, 5)
    assert (wide_b.shape, wide_a.shape) == ((3, 5), (5, 7))
    np.testing.assert_allclose(wide_b @ wide_a, b @ a, atol=1e-12)


def test_a_source_with_patterns(tmp_path):
    first = next(iter(LAYERS))
    file, updates = adapter(
        tmp_path / "a", "lora", {first: 5}, rank_pattern={f"^{first}": 5}, alpha_pattern={f"^{first}": 5}
    )
    for name, update in dense_updates(truncate_adapter(file, tmp_path / "b", 5)).items():
        values = np.linalg.svd(updates[name], compute_uv=False)
        error = np.sqrt(np.square(values[5:]).sum())
        assert np.linalg.norm(update - updates[name]) == pytest.approx(error, abs=1e-6 * values[0])
    with pytest.raises(UserError, match=r"--rank 6: .* has rank 5 at transformer_blocks.0.attn1.to_q"):
        truncate_adapter(file, tmp_path / "c", 6)
    spectra = update_spectra(file)  # ranks 5 and 8 in one kind of layer
    assert spectra["attn1.to_q"].shape == (2, 8)
    assert (spectra["attn1.to_q"][0, 5:] == 0).all()


def test_the_record_says_from_what_it_came(tmp_path):
    file, _ = adapter(tmp_path / "a")
    once = truncate_adapter(file, tmp_path / "b", 6, {"seed": 3})
    record = read_adapter(once).record
    assert record["truncated"]["from"] == {"sha256": file_sha256(file), "record": read_adapter(file).record}
    assert record["truncated"]["rank"] == 6
    assert (record["base_model"], record["fingerprints"], record["seed"]) == ("tabletop", {"transformer": "ab"}, 3)
    assert "adapter" not in record  # rank 8 was its training's, not its own
    twice = read_adapter(truncate_adapter(once, tmp_path / "c", 2)).record
    assert twice["truncated"]["from"] == {"sha256": file_sha256(once), "record": record}


def test_the_same_bytes_every_time(tmp_path):
    file, _ = adapter(tmp_path / "a", "dora")
    again, _ = adapter(tmp_path / "a2", "dora")
    assert file.read_bytes() == again.read_bytes()
    files = [truncate_to_energy(f, tmp_path / n, 0.9) for f, n in ((file, "b"), (file, "c"), (again, "d"))]
    assert len({f.read_bytes() for f in files}) == 1


def test_errors_name_the_option_and_the_file(tmp_path, cli, capsys):
    file, _ = adapter(tmp_path / "a")
    for rank, words in ((9, "has rank 8 at .*Choose at most that"), (0, "must be at least 1")):
        with pytest.raises(UserError, match=words):
            truncate_adapter(file, tmp_path / "b", rank)
    with pytest.raises(UserError, match="folder of the adapter itself"):
        truncate_adapter(file, tmp_path / "a", 4)
    (tmp_path / "x.safetensors").write_text("no adapter, but long enough to have a header's length")
    for words, said in {
        ("truncate", file): "--rank 2,4,8",
        ("truncate", file, "--rank", "4,9"): "has rank 8",
        ("truncate", file, "--rank", "two"): "--rank: invalid integers value",
        ("truncate", file, "--energy", "1.5"): "greater than 0 and at most 1",
        ("truncate", file, "--rank", "4", "--alpha", "3"): "records alpha 8",
        ("truncate", tmp_path / "none", "--rank", "4"): "no adapter found",
        ("info", tmp_path / "x.safetensors"): "cannot be read as an adapter",
    }.items():
        assert cli("adapter", *words) == 2
        assert said in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "x.safetensors"]  # nothing was written


def test_a_file_without_metadata_has_the_alpha_that_is_given(tmp_path, cli, capsys):
    from safetensors.numpy import save_file

    file, updates = adapter(tmp_path / "a")
    bare = tmp_path / "theirs.safetensors"
    save_file({f"transformer.{k}": v for k, v in tensors_of(read_adapter(file).layers).items()}, bare)
    assert cli("adapter", "truncate", bare, "--rank", "8") == 0
    assert "does not record alpha; assumed alpha = rank" in capsys.readouterr().out
    assert cli("adapter", "truncate", bare, "--rank", "8", "--alpha", "16", "--out", tmp_path / "out") == 0
    for folder, factor in ((tmp_path / "theirs-r8", 1), (tmp_path / "out" / "theirs-r8", 2)):
        for name, update in dense_updates(find_adapter(folder)).items():
            np.testing.assert_allclose(update, factor * updates[name], atol=1e-5)


def test_bfloat16_is_read_without_torch(tmp_path):
    """1.5 is 0x3FC0 in bfloat16, -2 is 0xC000, 0.15625 is 0x3E20."""
    names = {"x.lora_A.weight": [2, 1], "x.lora_B.weight": [1, 2]}
    header = {
        k: {"dtype": "BF16", "shape": s, "data_offsets": [4 * i, 4 * i + 4]} for i, (k, s) in enumerate(names.items())
    }
    text = json.dumps(header).encode()
    data = np.array([0x3FC0, 0xC000, 0x3E20, 0x3FC0], np.uint16).tobytes()
    (tmp_path / "f.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    layer = read_adapter(tmp_path / "f.safetensors").layers["x"]
    assert layer.a.tolist() == [[1.5], [-2.0]]
    assert layer.b.tolist() == [[0.15625, 1.5]]


def test_info(tmp_path, cli, capsys):
    file, updates = adapter(tmp_path / "run" / "adapter", "dora")
    assert cli("adapter", "truncate", tmp_path / "run", "--rank", "2,4", "--energy", "0.9") == 0
    assert {p.name for p in (tmp_path / "run").iterdir()} == {"adapter", "adapter-r2", "adapter-r4", "adapter-e0.9"}
    capsys.readouterr()
    assert cli("adapter", "info", file, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["ranks"], found["alphas"], found["scales"]) == ("dora", [8], [16.0], [2.0])
    assert found["parameters"] == sum(8 * (o + i) + o for o, i in LAYERS.values())
    assert found["record"]["base_model"] == "tabletop"
    dense = {n: np.linalg.svd(u, compute_uv=False)[:8] for n, u in updates.items()}
    for name, values in dense.items():
        np.testing.assert_allclose(found["by_layer"][name]["singular_values"], values, rtol=1e-6)
        np.testing.assert_allclose(layer_spectra(file)[name], values, rtol=1e-6)
    squares = np.stack([np.square(v) for v in dense.values()])
    row = found["spectrum"]["all layers"]
    assert row["norm"] == pytest.approx(np.sqrt(squares.sum()))
    assert row["energy_at_rank"] == pytest.approx({str(k): squares[:, :k].sum() / squares.sum() for k in (1, 2, 4, 8)})
    assert row["effective_rank"] == pytest.approx(np.mean([effective_rank(v) for v in dense.values()]))
    assert cli("adapter", "info", tmp_path / "run" / "adapter-e0.9") == 0
    text = capsys.readouterr().out
    for words in ('kind             "dora"', "scales           2.0", "tabletop", '"energy": 0.9', "attn2.to_k"):
        assert words in text


def test_truncating_and_describing_load_no_torch():
    import subprocess

    code = (
        "import sys, cosmos_exp.world.adapter_truncation, cosmos_exp.report.adapter_info, cosmos_exp.cli.adapter\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, check=False).returncode == 0
