"""Truncated, patterned and merged adapters in plain diffusers and peft."""

import pytest
import torch
from conftest import REST, TINY, move
from diffusers import AutoencoderKLWan, Cosmos2_5_PredictBasePipeline, CosmosTransformer3DModel, UniPCMultistepScheduler
from peft.tuners.lora import LoraLayer
from peft.utils.other import get_pattern_key

from cosmos_exp.config.adapter_file import read_adapter
from cosmos_exp.config.layers import adapted_layers, layer_ranks, linear_layers, pattern_matches, trainable_parameters
from cosmos_exp.config.schema import Adapter
from cosmos_exp.errors import UserError
from cosmos_exp.world import adapter as adapters
from cosmos_exp.world.adapter_merging import merge_adapter
from cosmos_exp.world.adapter_truncation import truncate_adapter
from cosmos_exp.world.guardrail import GuardrailOff
from cosmos_exp.world.model_folder import COMPONENTS, ModelFolder

KINDS = {
    "lora": {"alpha": 16.0},
    "rslora": {"scaling": "rslora"},
    "dora": {"kind": "dora", "alpha": 16.0},
    "bias": {"bias": True, "init": "kaiming", "alpha": 4.0},
    "patterns": {"rank_pattern": {"to_q": 4, "ff.net.2": 6}, "alpha_pattern": {"to_q": 2.0}},
}


def model_folder(folder, seed=0):
    """A model folder of diffusers' format with a random transformer of two small blocks."""
    torch.manual_seed(seed)
    transformer = CosmosTransformer3DModel(**TINY, **REST)
    sizes = {"base_dim": 4, "z_dim": 4, "dim_mult": [1, 1], "num_res_blocks": 1, "temperal_downsample": [False]}
    vae = AutoencoderKLWan(**sizes, latents_mean=[0.0] * 4, latents_std=[1.0] * 4)
    parts = (None, None, transformer, vae, UniPCMultistepScheduler(), GuardrailOff())
    Cosmos2_5_PredictBasePipeline(*parts).save_pretrained(folder)
    for name in COMPONENTS:
        (folder / name).mkdir(exist_ok=True)
        (folder / name / f"{name}.txt").write_text(name)
    return ModelFolder(folder, folder / "cache")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("base"))


def plain(folder, dtype=torch.float32):
    return CosmosTransformer3DModel.from_pretrained(folder / "transformer", torch_dtype=dtype).eval()


@torch.no_grad()
def predict(transformer):
    g = torch.Generator().manual_seed(0)
    x, text = torch.randn(1, 4, 2, 8, 8, generator=g), torch.randn(1, 5, 32, generator=g)
    mask, padding = torch.ones(1, 1, 2, 8, 8), torch.zeros(1, 1, 8, 8)
    args = {"hidden_states": x, "encoder_hidden_states": text, "padding_mask": padding, "condition_mask": mask}
    return transformer(timestep=torch.tensor([0.6]), **args, return_dict=False)[0]


def trained(base, directory, **settings):
    """The file of an adapter that has moved away from its start, its settings, and the transformer that has it."""
    adapter = Adapter(**{"rank": 8, "alpha": 8.0, **settings})
    transformer = plain(base.path).requires_grad_(False)
    move(adapters.inject(transformer, adapter, 0), 0.05)
    record = {"base_model": str(base.path), "fingerprints": base.fingerprints()}
    return adapters.save_adapter(transformer, directory, record), adapter, transformer


def pipeline(folder):
    """The pipeline of plain diffusers in a model folder, without the text encoder."""
    return Cosmos2_5_PredictBasePipeline.from_pretrained(
        folder, text_encoder=None, tokenizer=None, safety_checker=GuardrailOff()
    )


def peft_layers(transformer):
    return {n: m for n, m in transformer.named_modules() if isinstance(m, LoraLayer)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [{"rank": 3}, {"energy": 1.0}], ids=str)
def test_a_truncated_adapter_loads_at_the_right_scale(kind, cut, base, tmp_path):
    file, adapter, transformer = trained(base, tmp_path / "a", **KINDS[kind])
    cut_file = truncate_adapter(file, tmp_path / "b", **cut)
    ours = plain(base.path)
    adapters.load_adapter(ours, cut_file)
    theirs = pipeline(base.path)
    theirs.load_lora_weights(str(tmp_path / "b"))
    theirs = theirs.transformer
    header, full = read_adapter(cut_file), peft_layers(transformer)
    layers = adapted_layers(TINY, adapter.target_modules)
    count = sum(p.numel() for n, p in transformer.named_parameters() if "lora_" in n)
    assert trainable_parameters(layers, adapter.kind, layer_ranks(layers, adapter), adapter.bias) == count
    for name, layer in peft_layers(theirs).items():
        key, whole = next(iter(layer.scaling)), full[name]
        assert layer.r[key] == header.ranks[name]
        assert (layer.scaling[key], header.scales[name]) == pytest.approx((whole.scaling["default"],) * 2)
    velocity, expected = predict(theirs), predict(transformer)
    assert (velocity - predict(ours)).abs().max() < 1e-5
    assert ((velocity - expected).abs().max() < 1e-5) == (cut.get("energy") == 1.0)


def test_patterns_select_the_layers_that_peft_selects():
    names = [*linear_layers(TINY), "proj_out.extra", "a.proj_out", "xto_q"]
    blocks = r"transformer_blocks\.[0]\..*"
    for pattern in ("to_q", "attn1.to_q", "^proj_out", "proj_out", blocks, "ff.net.2", "o_q", "to_(q|k)"):
        expected = [n for n in names if get_pattern_key([pattern], n) == pattern]
        assert [n for n in names if n == pattern or pattern_matches(pattern, n)] == expected


def test_a_merged_bf16_model_is_rounded_once_and_says_what_that_costs(base, tmp_path):
    file, _, transformer = trained(base, tmp_path / "a", **KINDS["dora"])
    merge_adapter(file, base, tmp_path / "exact")
    assert (predict(pipeline(tmp_path / "exact").transformer.eval()) - predict(transformer)).abs().max() < 1e-5
    half = merge_adapter(file, base, tmp_path / "half", torch.bfloat16)
    exact, rounded = (plain(tmp_path / name).state_dict() for name in ("exact", "half"))
    for name, value in exact.items():
        assert torch.equal(rounded[name], value.bfloat16().float())
    assert 0 < half["rounding"] < 0.1  # of the adapter's own change
    # A bf16 base keeps its precision, and --dtype float32 is exact on it.
    bf16 = ModelFolder(tmp_path / "half", tmp_path / "cache")
    again, _, _ = trained(bf16, tmp_path / "c")
    assert merge_adapter(again, bf16, tmp_path / "d")["dtype"] == "bfloat16"
    assert merge_adapter(again, bf16, tmp_path / "e", torch.float32)["rounding"] == 0


def test_what_cannot_be_merged_is_refused(base, tmp_path, answered):
    file, _, _ = trained(base, tmp_path / "a")
    other, out = model_folder(tmp_path / "other", seed=1), tmp_path / "out"
    answered(["adapter", "merge", file, "--model", other.path, "--out", out], 2, other.fingerprint("transformer"))
    biased, _, _ = trained(base, tmp_path / "b", **KINDS["bias"])
    with pytest.raises(UserError, match=r"has biases on 20 layers .*to_k"):
        merge_adapter(biased, base, out)
    assert not out.exists()
    answered(["adapter", "merge", file, "--out", out], 0)  # the base is in the record
    assert (out / "vae").is_dir()
    answered(["adapter", "merge", file, "--out", out], 2, "exists already")
