"""An adapter file means at inference what it meant in training: shown with plain diffusers, not with our loader."""

import shutil

import pytest
import torch
from conftest import WAN, move
from diffusers import AutoencoderKLWan, Cosmos2_5_PredictBasePipeline, CosmosTransformer3DModel, UniPCMultistepScheduler
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

from cosmos_exp.config.adapter_file import read_adapter
from cosmos_exp.config.paths import cache_root
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.files import file_sha256
from cosmos_exp.training.checks import check_learned, check_untouched
from cosmos_exp.world import adapter as adapters
from cosmos_exp.world.fast_forward import fast_forward
from cosmos_exp.world.guardrail import GuardrailOff
from cosmos_exp.world.loading import load_transformer
from cosmos_exp.world.model_folder import ModelFolder, ensure_model
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


@pytest.fixture
def base(folder):
    return load_transformer(folder, torch.float32)[0]


@torch.no_grad()
def predict(transformer):
    g = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 1, 16, 5, 12, 20, generator=g)
    batch = FlowBatch(clean, noise, torch.tensor([0.6]), torch.tensor([1]), torch.randn(1, 64, 256, generator=g))
    return velocity(transformer, batch, 0.0001, (96, 160))[0]


@pytest.fixture
def train(folder, small_config):
    """train(kind): a transformer whose adapter has moved away from its start, its parameters, and their settings."""

    def call(kind="lora"):
        adapter = small_config("rank=8", "alpha=16", *KINDS[kind][0]).adapter
        transformer, _ = load_transformer(folder, torch.float32)
        parameters = adapters.inject(transformer, adapter, 0)
        move(parameters, 0.02)
        return transformer, parameters, adapter

    return call


@pytest.mark.parametrize("kind", KINDS)
def test_plain_diffusers_restores_scale_and_velocity(kind, folder, train, tmp_path):
    transformer, _, _ = train(kind)
    expected = predict(transformer)
    file = adapters.save_adapter(transformer, tmp_path, {"base_model": "tabletop"})
    assert read_adapter(file).record == {"base_model": "tabletop"}
    plain = CosmosTransformer3DModel.from_pretrained(folder.path / "transformer")
    plain.crossattn_proj = torch.nn.Identity()  # the batch's prompt is projected already
    vae = AutoencoderKLWan.from_pretrained(folder.path / "vae")
    pipe = Cosmos2_5_PredictBasePipeline(None, None, plain, vae, UniPCMultistepScheduler(), GuardrailOff())
    without = predict(plain)
    pipe.load_lora_weights(str(tmp_path))
    layers = [m for m in plain.modules() if isinstance(m, LoraLayer)]
    assert len(layers) == 50
    assert {round(s, 6) for m in layers for s in m.scaling.values()} == {round(KINDS[kind][1], 6)}
    assert (predict(plain) - expected).abs().max() < 1e-5
    assert (without - expected).abs().max() > 1e-3


def test_a_file_without_metadata_gets_its_alpha_or_a_warning(folder, base, train, tmp_path):
    transformer, _, _ = train()
    expected = predict(transformer)
    file = adapters.save_adapter(transformer, tmp_path, {})
    with pytest.raises(UserError, match="16"):  # the file's alpha contradicts the given one
        adapters.load_adapter(base, tmp_path, alpha=8)
    save_file(load_file(file), file)  # as the reference writes it: no metadata
    with pytest.warns(UserWarning, match="assumed alpha = rank = 8"):
        adapters.load_adapter(base, tmp_path)
    assert (predict(base) - expected).abs().max() > 1e-3
    known, _ = load_transformer(folder, torch.float32)
    adapters.load_adapter(known, tmp_path, alpha=16)
    assert (predict(known) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_merged_is_unmerged_and_removal_restores_the_base(kind, base, train, tmp_path):
    transformer, _, _ = train(kind)
    expected, before = predict(transformer), predict(base)
    adapters.save_adapter(transformer, tmp_path, {})
    for _ in range(2):  # several adapters one after another
        adapters.load_adapter(base, tmp_path)
        original = adapters.merge(base, keep_original=True)
        assert (predict(base) - expected).abs().max() < 1e-5
        adapters.remove(base, original)
        assert torch.equal(predict(base), before)


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_adapter_changes_nothing_and_a_trained_one_something(kind, base, train):
    moved, _, adapter = train(kind)
    adapters.inject(base, adapter, 0)
    check_untouched(base, lambda: predict(base), "no")
    assert check_learned(moved, lambda: predict(moved)) > 1e-3
    with pytest.raises(RunError, match="untrained"):
        check_untouched(moved, lambda: predict(moved), "no")


def test_a_fresh_dora_leaves_a_bf16_base_as_it_is(folder, small_config):
    """peft's magnitudes, computed in bf16, change the output by a part in a thousand; ours are those that are divided by."""
    transformer, _ = load_transformer(folder, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        before = predict(fast_forward(transformer))
        adapters.inject(transformer, small_config("rank=8", "adapter=dora").adapter, 0)
        assert torch.equal(predict(fast_forward(transformer)), before)


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
def test_an_adapter_is_not_rounded_to_a_bf16_base_and_merges_in_fp32(kind, folder, train, tmp_path):
    model, parameters, _ = train(kind)
    adapters.save_adapter(model, tmp_path, {})
    base, _ = load_transformer(folder, torch.bfloat16)
    adapters.load_adapter(base, tmp_path)
    loaded = dict(base.named_parameters())
    assert all(torch.equal(loaded[name], value) for name, value in parameters.items())
    # The merged weight is the exact sum, rounded once.
    layer = "transformer_blocks.0.ff.net.2"
    weight = base.get_submodule(layer).get_base_layer().weight
    a, b = (parameters[f"{layer}.lora_{x}.default.weight"].double() for x in "AB")
    expected = weight.data.double() + 2.0 * b @ a
    if kind == "dora":
        length = parameters[f"{layer}.lora_magnitude_vector.default.weight"].double()
        expected = expected * (length / expected.norm(dim=1))[:, None]
    adapters.merge(base)
    assert weight.dtype == torch.bfloat16
    assert (weight == expected.float().bfloat16()).float().mean() > 0.999


def test_start_values_follow_the_seed(folder, small_config):
    draws = []
    for seed in (0, 0, 1):
        parameters = adapters.inject(load_transformer(folder, torch.float32)[0], small_config().adapter, seed)
        draws.append(next(value for name, value in parameters.items() if "lora_A" in name))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert draws[0].std().item() == pytest.approx(1 / 32, rel=0.1)  # gaussian: N(0, 1/r^2)


def test_a_base_that_lacks_a_tensor_is_refused(folder, tmp_path):
    broken = ModelFolder(tmp_path / "model", tmp_path)
    shutil.copytree(folder.path, broken.path)
    file = next((broken.path / "transformer").glob("*.safetensors"))
    tensors = load_file(file)
    tensors.pop("transformer_blocks.3.attn1.to_q.weight")
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(RunError, match=r"missing in the files.*to_q"):
        load_transformer(broken, torch.float32)
