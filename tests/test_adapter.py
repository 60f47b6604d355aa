"""An adapter file means at inference what it meant in training: shown with plain diffusers, not with our loader."""

import json

import pytest
import torch
from conftest import WAN
from diffusers import AutoencoderKLWan, Cosmos2_5_PredictBasePipeline, CosmosTransformer3DModel, UniPCMultistepScheduler
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from cosmos_exp.config.adapter_file import read_adapter
from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.schema import Adapter
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.files import file_sha256
from cosmos_exp.training.checks import check_learned, check_trainable, check_untouched
from cosmos_exp.world import adapter as adapters
from cosmos_exp.world.fast_forward import fast_forward
from cosmos_exp.world.guardrail import GuardrailOff
from cosmos_exp.world.loading import check_loaded, load_transformer
from cosmos_exp.world.model_folder import ensure_model
from cosmos_exp.world.rectified_flow import FlowBatch, velocity

KINDS = {
    "lora": (["adapter=lora"], 2.0),
    "dora": (["adapter=dora"], 2.0),
    "rslora": (["adapter.scaling=rslora"], 16 / 8**0.5),
    "bias": (["adapter.bias=true", "adapter.init=kaiming"], 2.0),
}


@pytest.fixture(scope="module")
def folder(small_config):
    config = small_config(*WAN)
    return ensure_model(config.model, cache_root(config))


def batch():
    g = torch.Generator().manual_seed(0)
    draw = lambda *s: torch.randn(*s, generator=g)  # noqa: E731
    return FlowBatch(
        draw(1, 16, 5, 12, 20), draw(1, 16, 5, 12, 20), torch.tensor([0.6]), torch.tensor([1]), draw(1, 64, 256)
    )


@torch.no_grad()
def predict(transformer):
    return velocity(transformer, batch(), 0.0001, (96, 160))[0]


def trained(folder, config):
    """A transformer whose adapter has moved away from its start, as after training."""
    transformer, _ = load_transformer(folder, torch.float32)
    parameters = adapters.inject(transformer, config.adapter, 0)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in parameters.values():
            p += 0.02 * torch.randn(p.shape, generator=g)
    return transformer, parameters


@pytest.mark.parametrize("kind", KINDS)
def test_plain_diffusers_restores_scale_and_velocity(kind, folder, small_config, tmp_path):
    overrides, scale = KINDS[kind]
    config = small_config("rank=8", "alpha=16", *overrides)
    transformer, _ = trained(folder, config)
    expected = predict(transformer)
    adapters.save_adapter(transformer, tmp_path, {"base_model": "tabletop"})

    plain = CosmosTransformer3DModel.from_pretrained(folder.path / "transformer")
    plain.crossattn_proj = torch.nn.Identity()  # the batch's prompt is projected already
    pipe = Cosmos2_5_PredictBasePipeline(
        text_encoder=None,
        tokenizer=None,
        transformer=plain,
        scheduler=UniPCMultistepScheduler(),
        vae=AutoencoderKLWan.from_pretrained(folder.path / "vae"),
        safety_checker=GuardrailOff(),
    )
    without = predict(plain)
    pipe.load_lora_weights(str(tmp_path))
    layers = [m for m in plain.modules() if isinstance(m, LoraLayer)]
    assert len(layers) == 50
    assert {round(s, 6) for m in layers for s in m.scaling.values()} == {round(scale, 6)}
    assert (predict(plain) - expected).abs().max() < 1e-5
    assert (without - expected).abs().max() > 1e-3


def test_a_file_records_what_it_was_trained_on(folder, small_config, tmp_path):
    transformer, _ = trained(folder, small_config("rank=8", "alpha=16", "adapter=dora"))
    file = adapters.save_adapter(transformer, tmp_path, {"base_model": "tabletop", "data_fingerprint": "abc"})
    read = read_adapter(file)
    assert (read.peft["r"], read.peft["lora_alpha"], read.kind) == (8, 16, "dora")
    assert read.record == {"base_model": "tabletop", "data_fingerprint": "abc"}


def test_a_file_without_metadata_is_loaded_with_a_warning(folder, small_config, tmp_path):
    transformer, _ = trained(folder, small_config("rank=8", "alpha=16"))
    expected = predict(transformer)
    file = adapters.save_adapter(transformer, tmp_path, {})
    save_file(load_file(file), file)  # as the reference writes it: no metadata
    fresh = lambda: load_transformer(folder, torch.float32)[0]  # noqa: E731
    with pytest.warns(UserWarning, match="assumed alpha = rank = 8"):
        adapters.load_adapter(assumed := fresh(), tmp_path)
    assert (predict(assumed) - expected).abs().max() > 1e-3
    adapters.load_adapter(known := fresh(), tmp_path, alpha=16)
    assert (predict(known) - expected).abs().max() < 1e-5


def test_alpha_that_contradicts_the_file_is_an_error(folder, small_config, tmp_path):
    transformer, _ = trained(folder, small_config("rank=8", "alpha=16"))
    adapters.save_adapter(transformer, tmp_path, {})
    with pytest.raises(UserError, match="16"):
        adapters.load_adapter(load_transformer(folder, torch.float32)[0], tmp_path, alpha=8)


@pytest.mark.parametrize("kind", KINDS)
def test_merged_is_unmerged_and_removal_restores_the_base(kind, folder, small_config, tmp_path):
    config = small_config("rank=8", "alpha=16", *KINDS[kind][0])
    transformer, _ = trained(folder, config)
    expected = predict(transformer)
    adapters.save_adapter(transformer, tmp_path, {})
    model, _ = load_transformer(folder, torch.float32)
    base = predict(model)
    for _ in range(2):  # several adapters one after another
        adapters.load_adapter(model, tmp_path)
        original = adapters.merge(model, keep_original=True)
        assert (predict(model) - expected).abs().max() < 1e-5
        adapters.remove(model, original)
        assert torch.equal(predict(model), base)


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_adapter_changes_nothing_and_a_trained_one_something(kind, folder, small_config):
    config = small_config("rank=8", "alpha=16", *KINDS[kind][0])
    transformer, _ = load_transformer(folder, torch.float32)
    parameters = adapters.inject(transformer, config.adapter, 0)
    check_trainable(transformer, parameters, config.adapter)
    check_untouched(transformer, lambda: predict(transformer), "no")
    if kind != "dora":  # dividing by a norm and multiplying it back leaves rounding there
        with pytest.raises(RunError, match="does not change"):
            check_learned(transformer, lambda: predict(transformer))
    moved, moved_parameters = trained(folder, config)
    assert check_learned(moved, lambda: predict(moved)) > 1e-3
    with pytest.raises(RunError, match="untrained"):
        check_untouched(moved, lambda: predict(moved), "no")
    moved_parameters.pop(next(iter(moved_parameters)))
    with pytest.raises(RunError, match="missing"):
        check_trainable(moved, moved_parameters, config.adapter)


def test_a_fresh_dora_leaves_a_bf16_base_as_it_is(folder, small_config):
    """peft's magnitudes, computed in bf16, change the output by a part in a thousand; ours are those that are divided by."""
    config, outputs = small_config("rank=8", "adapter=dora"), {}
    for kind in ("base", "dora"):
        transformer, _ = load_transformer(folder, torch.bfloat16)
        if kind == "dora":
            adapters.inject(transformer, config.adapter, 0)
            for module in transformer.modules():
                if isinstance(module, LoraLayer):
                    norm = module.get_base_layer().weight.float().norm(dim=1)
                    assert torch.allclose(module.lora_magnitude_vector["default"].weight, norm, rtol=1e-6)
        with torch.autocast("cpu", torch.bfloat16):
            outputs[kind] = predict(fast_forward(transformer))
    assert torch.equal(outputs["base"], outputs["dora"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merging_makes_no_second_copy_of_the_weights_and_leaves_their_file_alone(dtype, folder, small_config):
    """Loaded weights are views of the mapped file: replaced by new tensors, both would stay in memory."""
    file = next((folder.path / "transformer").glob("*.safetensors"))
    before, (transformer, _) = file_sha256(file), load_transformer(folder, dtype)
    adapters.inject(transformer, small_config(*WAN).adapter, 0)
    layers = [m.get_base_layer() for m in transformer.modules() if isinstance(m, LoraLayer)]
    places = [layer.weight.data_ptr() for layer in layers]
    adapters.merge(transformer)
    assert [layer.weight.data_ptr() for layer in layers] == places
    assert file_sha256(file) == before


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_an_adapter_is_not_rounded_to_a_bf16_base_and_merges_in_fp32(kind, folder, small_config, tmp_path):
    config = small_config("rank=8", "alpha=16", *KINDS[kind][0])
    model, parameters = trained(folder, config)
    adapters.save_adapter(model, tmp_path, {})
    base, _ = load_transformer(folder, torch.bfloat16)
    adapters.load_adapter(base, tmp_path)
    loaded = dict(base.named_parameters())
    for name, value in parameters.items():
        assert torch.equal(loaded[name], value)
    # The merged weight is the exact sum, rounded once.
    layer = "transformer_blocks.0.ff.net.2"
    weight = base.get_submodule(layer).get_base_layer().weight.data.double()
    a, b = (parameters[f"{layer}.lora_{x}.default.weight"].double() for x in "AB")
    expected = weight + 2.0 * b @ a
    if kind == "dora":
        length = parameters[f"{layer}.lora_magnitude_vector.default.weight"].double()
        expected = expected * (length / expected.norm(dim=1))[:, None]
    adapters.merge(base)
    merged = base.get_submodule(layer).get_base_layer().weight.data
    assert merged.dtype == torch.bfloat16
    assert (merged == expected.float().bfloat16()).float().mean() > 0.999


def test_a_file_in_diffusers_older_naming_loads(folder, small_config, tmp_path):
    from diffusers.utils import convert_state_dict_to_diffusers

    model, _ = trained(folder, small_config("rank=8", "alpha=8"))
    expected = predict(model)
    file = adapters.save_adapter(model, tmp_path, {})
    save_file({k: v.contiguous() for k, v in convert_state_dict_to_diffusers(load_file(file)).items()}, file)
    fresh, _ = load_transformer(folder, torch.float32)
    adapters.load_adapter(fresh, tmp_path, alpha=8)
    assert (predict(fresh) - expected).abs().max() < 1e-5


def test_an_unknown_adapter_kind_is_refused():
    with pytest.raises(UserError, match=r"adapter\.kind=vera: no such choice; choose one of none, lora, dora"):
        adapters.lora_config(Adapter(kind="vera"))


def test_start_values_follow_the_seed(folder, small_config):
    config = small_config()
    draws = [adapters.inject(load_transformer(folder, torch.float32)[0], config.adapter, seed) for seed in (0, 0, 1)]
    name = next(n for n in draws[0] if "lora_A" in n)
    assert torch.equal(draws[0][name], draws[1][name])
    assert not torch.equal(draws[0][name], draws[2][name])
    assert draws[0][name].std().item() == pytest.approx(1 / 32, rel=0.1)  # gaussian: N(0, 1/r^2)


def test_a_base_that_lacks_a_tensor_is_refused(folder, tmp_path):
    model, _ = load_transformer(folder, torch.float32)
    with pytest.raises(RunError, match="missing in the files"):
        check_loaded("the transformer", model, {"missing_keys": ["proj_out.weight"]})
    import shutil

    from cosmos_exp.world.model_folder import ModelFolder

    broken = ModelFolder(tmp_path / "model", tmp_path)
    shutil.copytree(folder.path, broken.path)
    file = next((broken.path / "transformer").glob("*.safetensors"))
    with safe_open(file, "pt") as content:
        header = content.metadata()
    tensors = load_file(file)
    tensors.pop("transformer_blocks.3.attn1.to_q.weight")
    save_file(tensors, file, header)
    with pytest.raises(RunError, match=r"to_q|is incomplete"):
        load_transformer(broken, torch.float32)


def test_metadata_is_json_in_the_header(folder, small_config, tmp_path):
    transformer, _ = trained(folder, small_config())
    with safe_open(adapters.save_adapter(transformer, tmp_path, {"a": 1}), "pt") as content:
        assert json.loads(content.metadata()["cosmos_exp"]) == {"a": 1}
        assert content.metadata()["format"] == "pt"
