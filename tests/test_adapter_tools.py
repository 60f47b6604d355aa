"""Truncated, patterned and merged adapters in plain diffusers and peft."""

import json

import pytest
import torch
from conftest import REST, TINY
from diffusers import AutoencoderKLWan, Cosmos2_5_PredictBasePipeline, CosmosTransformer3DModel, UniPCMultistepScheduler
from peft.tuners.lora import LoraLayer
from peft.utils.other import get_pattern_key

from cosmos_exp.config.adapter_file import read_adapter
from cosmos_exp.config.layers import (
    adapted_layers,
    layer_ranks,
    layer_scale,
    linear_layers,
    pattern_matches,
    trainable_parameters,
)
from cosmos_exp.config.schema import Adapter
from cosmos_exp.errors import UserError
from cosmos_exp.world import adapter as adapters
from cosmos_exp.world.adapter import load_adapter, save_adapter
from cosmos_exp.world.adapter_merging import merge_adapter
from cosmos_exp.world.adapter_truncation import truncate_adapter, truncate_to_energy
from cosmos_exp.world.guardrail import GuardrailOff
from cosmos_exp.world.hardware import training_flops
from cosmos_exp.world.model_folder import COMPONENTS, ModelFolder

KINDS = {
    "lora": {"alpha": 16.0},
    "rslora": {"scaling": "rslora"},
    "dora": {"kind": "dora", "alpha": 16.0},
    "bias": {"bias": True, "init": "kaiming", "alpha": 4.0},
    "patterns": {"rank_pattern": {"to_q": 4, "ff.net.2": 6}, "alpha_pattern": {"to_q": 2.0}},
}
MERGEABLE = [k for k in KINDS if k != "bias"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A model folder of diffusers' format with a random transformer of two small blocks."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    CosmosTransformer3DModel(**TINY, **REST).save_pretrained(folder / "transformer")
    AutoencoderKLWan(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    ).save_pretrained(folder / "vae")
    UniPCMultistepScheduler().save_pretrained(folder / "scheduler")
    classes = {"transformer": "CosmosTransformer3DModel", "vae": "AutoencoderKLWan"}
    classes |= {"scheduler": "UniPCMultistepScheduler"}
    index = {"_class_name": "Cosmos2_5_PredictBasePipeline", **{k: ["diffusers", v] for k, v in classes.items()}}
    (folder / "model_index.json").write_text(json.dumps(index))
    for name in COMPONENTS:
        (folder / name).mkdir(exist_ok=True)
        (folder / name / f"{name}.txt").write_text(name)
    return ModelFolder(folder, folder / "cache")


def plain(folder, dtype=torch.float32):
    return CosmosTransformer3DModel.from_pretrained(folder / "transformer", torch_dtype=dtype).eval()


@torch.no_grad()
def predict(transformer):
    g = torch.Generator().manual_seed(0)
    x, text = torch.randn(1, 4, 2, 8, 8, generator=g), torch.randn(1, 5, 32, generator=g)
    mask, padding = torch.ones(1, 1, 2, 8, 8), torch.zeros(1, 1, 8, 8)
    dtype = next(transformer.parameters()).dtype
    args = {"hidden_states": x, "encoder_hidden_states": text, "padding_mask": padding, "condition_mask": mask}
    return transformer(timestep=torch.tensor([0.6]), **{k: v.to(dtype) for k, v in args.items()}, return_dict=False)[0]


def trained(base, directory, **settings):
    """The file of an adapter that has moved away from its start, its settings, and the transformer that has it."""
    adapter = Adapter(**{"rank": 8, "alpha": 8.0, **settings})
    transformer = plain(base.path).requires_grad_(False)
    parameters = adapters.inject(transformer, adapter, 0)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in parameters.values():
            p += 0.05 * torch.randn(p.shape, generator=g)
    record = {"base_model": str(base.path), "fingerprints": base.fingerprints()}
    return save_adapter(transformer, directory, record), adapter, transformer


def pipeline(folder):
    """The pipeline of plain diffusers in a model folder, without the text encoder."""
    return Cosmos2_5_PredictBasePipeline.from_pretrained(
        folder, text_encoder=None, tokenizer=None, safety_checker=GuardrailOff()
    )


def in_plain_diffusers(base, directory):
    """The transformer of a pipeline that has loaded the adapter with diffusers alone."""
    pipe = pipeline(base.path)
    pipe.load_lora_weights(str(directory))
    return pipe.transformer


def peft_layers(transformer):
    return {n: m for n, m in transformer.named_modules() if isinstance(m, LoraLayer)}


@pytest.mark.parametrize("kind", KINDS)
def test_full_rank_in_plain_diffusers_gives_the_same_velocity(kind, base, tmp_path):
    file, _, transformer = trained(base, tmp_path / "a", **KINDS[kind])
    expected = predict(transformer)
    energy = truncate_to_energy(file, tmp_path / "b", 1.0)  # all ranks, also where they differ
    assert (predict(in_plain_diffusers(base, energy.parent)) - expected).abs().max() < 1e-5
    assert (predict(plain(base.path)) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", ["rank", "energy"])
def test_a_truncated_adapter_loads_at_the_right_scale(kind, cut, base, tmp_path):
    file, adapter, transformer = trained(base, tmp_path / "a", **KINDS[kind])
    cut_file = (
        truncate_adapter(file, tmp_path / "b", 3) if cut == "rank" else truncate_to_energy(file, tmp_path / "b", 0.7)
    )
    ours = plain(base.path)
    load_adapter(ours, cut_file)
    theirs = in_plain_diffusers(base, tmp_path / "b")
    ranks = read_adapter(cut_file).ranks
    assert len(set(ranks.values())) == 1 or cut == "energy"
    full = peft_layers(transformer)
    for name, layer in peft_layers(theirs).items():
        key = next(iter(layer.scaling))
        assert layer.r[key] == ranks[name]
        assert layer.scaling[key] == pytest.approx(layer_scale(adapter, name))
        a, b = layer.lora_A[key].weight, layer.lora_B[key].weight
        update = layer.scaling[key] * b.double() @ a.double()
        u, s, vt = torch.linalg.svd(
            full[name].scaling["default"]
            * full[name].lora_B["default"].weight.double()
            @ full[name].lora_A["default"].weight.double()
        )
        k = ranks[name]
        assert torch.allclose(update, u[:, :k] * s[:k] @ vt[:k], atol=1e-6 * s[0].item() + 1e-7)
        if kind == "dora":
            lengths = [m.lora_magnitude_vector[n].weight for m, n in ((layer, key), (full[name], "default"))]
            assert torch.equal(*lengths)
    assert (predict(theirs) - predict(ours)).abs().max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_scales_and_counts_are_those_of_peft(kind, base, tmp_path):
    file, adapter, transformer = trained(base, tmp_path / "a", **KINDS[kind])
    layers = adapted_layers(TINY, adapter.target_modules)
    ranks = layer_ranks(layers, adapter)
    found = peft_layers(transformer)
    assert set(found) == set(layers)
    header = read_adapter(file)
    for name, layer in found.items():
        assert layer.r["default"] == ranks[name] == header.ranks[name]
        assert layer.scaling["default"] == pytest.approx(layer_scale(adapter, name))
        assert header.scales[name] == pytest.approx(layer.scaling["default"])
    count = sum(p.numel() for n, p in transformer.named_parameters() if "lora_" in n)
    assert trainable_parameters(layers, adapter.kind, ranks, adapter.bias) == count
    assert (predict(in_plain_diffusers(base, tmp_path / "a")) - predict(transformer)).abs().max() < 1e-5


def test_patterns_select_the_layers_that_peft_selects():
    names = [*linear_layers(TINY), "proj_out.extra", "a.proj_out", "xto_q"]
    patterns = [
        "to_q",
        "attn1.to_q",
        "^proj_out",
        "proj_out",
        r"transformer_blocks\.[0]\..*",
        "ff.net.2",
        "o_q",
        "to_(q|k)",
    ]
    for pattern in patterns:
        expected = [n for n in names if get_pattern_key([pattern], n) == pattern]
        assert [n for n in names if n == pattern or pattern_matches(pattern, n)] == expected


def test_the_work_of_an_adapter_is_the_sum_over_its_layers_ranks():
    layers = adapted_layers(TINY, ["to_q", "ff.net.2"])
    flops = lambda rank: training_flops(TINY, (4, 2, 8, 8), 5, layers, rank)  # noqa: E731
    ranks = {n: 4 if n.endswith("to_q") else 6 for n in layers}
    tokens = 2 * 4 * 4
    # Three products of A and of B for every token, two operations each; attn2.to_q sees the video's tokens.
    assert flops(ranks) - flops(0) == sum(6 * tokens * ranks[n] * (i + o) for n, (i, o) in layers.items())
    assert flops(dict.fromkeys(layers, 8)) == flops(8)


@pytest.mark.parametrize("kind", MERGEABLE)
def test_a_merged_folder_gives_the_adapters_velocity_without_peft(kind, base, tmp_path):
    file, _, transformer = trained(base, tmp_path / "a", **KINDS[kind])
    merged = merge_adapter(file, base, tmp_path / "out")
    assert (merged.layers, merged.dtypes, merged.rounding) == (20, ("float32",), 0.0)
    _, info = CosmosTransformer3DModel.from_pretrained(tmp_path / "out" / "transformer", output_loading_info=True)
    loaded = pipeline(tmp_path / "out").transformer
    assert not peft_layers(loaded)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert (predict(loaded.eval()) - predict(transformer)).abs().max() < 1e-5
    assert (predict(plain(base.path)) - predict(transformer)).abs().max() > 1e-3
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(
        [*COMPONENTS, "model_index.json", "merged_adapter.json"]
    )
    assert (tmp_path / "out" / "vae" / "vae.txt").read_text() == "vae"
    assert json.loads((tmp_path / "out" / "merged_adapter.json").read_text())["adapter"]["record"]["fingerprints"]


def test_a_merged_bf16_model_is_rounded_once_and_says_what_that_costs(base, tmp_path):
    file, _, _ = trained(base, tmp_path / "a", **KINDS["dora"])
    exact = merge_adapter(file, base, tmp_path / "exact")
    half = merge_adapter(file, base, tmp_path / "half", torch.bfloat16)
    first, second = (plain(tmp_path / n, None).state_dict() for n in ("exact", "half"))
    layers = peft_layers(trained(base, tmp_path / "b", **KINDS["dora"])[2])
    lost = changed = 0.0
    weights = plain(base.path).state_dict()
    for name in layers:
        key = f"{name}.weight"
        rounded = second[key].double()
        lost += (rounded - first[key].double()).square().sum().item()
        changed += (first[key].double() - weights[key].double()).square().sum().item()
    stored = CosmosTransformer3DModel.from_pretrained(tmp_path / "half" / "transformer", torch_dtype="auto")
    for name, value in stored.state_dict().items():
        assert torch.equal(value.bfloat16(), first[name].bfloat16())
    assert half.dtypes == ("bfloat16",)
    assert exact.rounding == 0
    assert half.rounding == pytest.approx((lost / changed) ** 0.5, rel=1e-3)
    # A bf16 base keeps its precision, and --dtype float32 is exact on it.
    bf16 = ModelFolder(tmp_path / "half", tmp_path / "cache")
    own, _, _ = trained(bf16, tmp_path / "c")
    assert merge_adapter(own, bf16, tmp_path / "d").dtypes == ("bfloat16",)
    assert merge_adapter(own, bf16, tmp_path / "e", torch.float32).rounding == 0


def test_what_cannot_be_merged_is_refused(base, tmp_path, cli, capsys):
    file, _, _ = trained(base, tmp_path / "a")
    other = tmp_path / "other"
    torch.manual_seed(1)
    CosmosTransformer3DModel(**TINY, **REST).save_pretrained(other / "transformer")
    for name in COMPONENTS:
        (other / name).mkdir(exist_ok=True)
    wrong = ModelFolder(other, tmp_path)
    own = [m.fingerprint("transformer") for m in (base, wrong)]
    with pytest.raises(UserError, match=rf"(?s){own[0]}.*{own[1]}"):
        merge_adapter(file, wrong, tmp_path / "out")
    biased, _, _ = trained(base, tmp_path / "b", **KINDS["bias"])
    with pytest.raises(UserError, match=r"has biases on 20 layers .*to_k"):
        merge_adapter(biased, base, tmp_path / "out")
    assert cli("adapter", "merge", file, "--model", other, "--out", tmp_path / "out") == 2
    assert own[1] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert cli("adapter", "merge", file, "--out", tmp_path / "out", "--link") == 0  # the base is in the record
    assert "20 layers merged, float32" in capsys.readouterr().out
    assert (tmp_path / "out" / "vae").is_symlink()
    assert cli("adapter", "merge", file, "--out", tmp_path / "out") == 2
    assert "exists already" in capsys.readouterr().err
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".tmp-")]


def test_videos_of_a_runs_truncated_adapters_have_folders_of_their_own(base, tmp_path):
    from cosmos_exp.experiment.generate import find_adapters

    file, _, _ = trained(base, tmp_path / "lora-r8" / "adapter")
    truncate_adapter(file, tmp_path / "lora-r8" / "adapter-r2", 2)
    truncate_adapter(file, tmp_path / "cut", 2)
    found = find_adapters([str(tmp_path / n) for n in ("lora-r8", "lora-r8/adapter-r2", "cut")])
    assert list(found) == ["lora-r8", "lora-r8-r2", "cut"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "adapter.rank_pattern={to_z:4}",
            r"adapter\.rank_pattern: to_z matches no adapted layer; did you mean to_\w\?",
        ),
        ("adapter.alpha_pattern={proj_out:4}", "matches no adapted layer"),  # a layer, but not an adapted one
        ("adapter.rank_pattern={to_q:0}", "adapter.rank_pattern.to_q=0: Input should be greater than 0"),
        (
            "adapter.rank_pattern={to_q:4,attn1.to_q:8}",
            "attn1.to_q and to_q both match transformer_blocks.0.attn1.to_q",
        ),
        ("adapter.rank_pattern={to_q:many}", "should be a valid integer"),
    ],
)
def test_a_pattern_that_means_nothing_is_an_error(override, words):
    from cosmos_exp.config.composing import compose_config

    with pytest.raises(UserError, match=words):
        compose_config([override])


def test_patterns_in_the_configuration(tmp_path):
    from cosmos_exp.config.composing import compose_config
    from cosmos_exp.config.hashing import stage_hash
    from cosmos_exp.config.record import load_config, save_config
    from cosmos_exp.experiment.cost import estimate_cost
    from cosmos_exp.sweep.runs import run_name

    plain_config = compose_config(["rank=8"])
    config = compose_config(
        ["rank=8", "adapter.rank_pattern={to_q:4,ff.net.2:16}", "adapter.alpha_pattern={ff.net.2:16}"]
    )
    assert config.adapter.rank_pattern == {"to_q": 4, "ff.net.2": 16}
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml").adapter == config.adapter
    assert stage_hash(config) != stage_hash(plain_config)
    assert run_name(plain_config, {}) == "lora-r8"
    assert run_name(config, {"adapter.rank_pattern": "x"}) == "lora-r8-to_q-r4-ff.net.2-r16-ff.net.2-a16"
    assert estimate_cost(config).trainable != estimate_cost(plain_config).trainable
