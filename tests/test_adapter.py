"""An adapter file means at inference what it meant in training: shown with plain diffusers, not with our loader."""

import shutil

import numpy as np
import pytest
import torch
from conftest import WAN, move
from diffusers import AutoencoderKLWan, Cosmos2_5_PredictBasePipeline, CosmosTransformer3DModel, UniPCMultistepScheduler
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

from cosmos_exp.config.adapter_file import find_adapter, open_adapter, read_adapter
from cosmos_exp.config.layers import update_scale
from cosmos_exp.data.cache import RunCache
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.experiment.generate import AdaptedPipeline
from cosmos_exp.files import file_sha256
from cosmos_exp.metrics.kept import kept_shares
from cosmos_exp.training.checks import check_learned, check_trainable, check_untouched, velocity_change
from cosmos_exp.world import adapter as adapters
from cosmos_exp.world.adapter_truncation import truncate_full
from cosmos_exp.world.fast_forward import fast_forward
from cosmos_exp.world.guardrail import GuardrailOff
from cosmos_exp.world.loading import load_transformer
from cosmos_exp.world.model_folder import ModelFolder, ensure_model
from cosmos_exp.world.rectified_flow import FlowBatch, velocity

KINDS = {
    "lora": ["adapter=lora"],
    "dora": ["adapter=dora"],
    "rslora": ["adapter.scaling=rslora"],
    "bias": ["adapter.bias=true", "adapter.init=kaiming"],
    "pissa": ["adapter=pissa"],
}
OTHERS = ["full", "oft", "lokr"]  # without alpha


@pytest.fixture(scope="module")
def folder(small_config):
    config = small_config(*WAN)
    return ensure_model(config)


@pytest.fixture
def base(folder):
    return load_transformer(folder, torch.float32)[0]


@torch.no_grad()
def predict(transformer, seed=0):
    g = torch.Generator().manual_seed(seed)
    clean, noise = torch.randn(2, 1, 16, 5, 12, 20, generator=g)
    batch = FlowBatch(clean, noise, torch.tensor([0.6]), torch.tensor([1]), torch.randn(1, 64, 256, generator=g))
    return velocity(transformer, batch, 0.0001, (96, 160))[0]


@pytest.fixture
def train(folder, small_config):
    """train(kind): a transformer whose adapter has moved away from its start, its parameters, and their settings."""

    def call(kind="lora"):
        words = ["rank=8", "alpha=16", *KINDS[kind]] if kind in KINDS else [f"adapter={kind}"]
        adapter = small_config(*words).adapter
        transformer, _ = load_transformer(folder, torch.float32)
        parameters = adapters.inject(transformer, adapter, 0)
        move(parameters, 0.02)
        return transformer, parameters, adapter

    return call


@pytest.fixture
def plain(folder):
    """Plain diffusers: plain(path) is its pipeline with the transformer at a path, by default the base's."""

    def call(path=folder.path / "transformer"):
        transformer = CosmosTransformer3DModel.from_pretrained(path)
        transformer.crossattn_proj = torch.nn.Identity()  # the batch's prompt is projected already
        vae = AutoencoderKLWan.from_pretrained(folder.path / "vae")
        return Cosmos2_5_PredictBasePipeline(None, None, transformer, vae, UniPCMultistepScheduler(), GuardrailOff())

    return call


@pytest.mark.parametrize("kind", [*KINDS, *OTHERS])
def test_plain_diffusers_and_peft_give_the_same_velocity(kind, folder, base, train, plain, tmp_path):
    transformer, _, _ = train(kind)
    expected = predict(transformer)
    assert (predict(base) - expected).abs().max() > 1e-3
    file = adapters.save_adapter(transformer, tmp_path / "run" / "adapter", {"seed": 0}, folder)
    assert open_adapter(find_adapter(tmp_path / "run")).record == {"seed": 0}
    pipe = plain(file) if kind == "full" else plain()
    if kind in KINDS:
        pipe.load_lora_weights(str(file.parent))
    elif kind != "full":
        PeftModel.from_pretrained(pipe.transformer, file.parent)
    assert (predict(pipe.transformer) - expected).abs().max() < 1e-5


def test_a_mixture_is_that_of_diffusers_set_adapters(base, train, plain, tmp_path):
    pipe, mix, before = plain(), [], predict(base)
    for kind, weight in (("lora", 0.7), ("dora", 0.3)):
        adapters.save_adapter(train(kind)[0], tmp_path / kind, {})
        pipe.load_lora_weights(str(tmp_path / kind), adapter_name=kind)
        mix.append((find_adapter(tmp_path / kind), weight))
    pipe.set_adapters(["lora", "dora"], [0.7, 0.3])
    for merged in (True, False):
        original = adapters.apply(base, mix, merged=merged, keep_original=True)
        assert (predict(base) - predict(pipe.transformer)).abs().max() < 1e-5
        adapters.remove(base, original)
    assert torch.equal(predict(base), before)


def test_adapters_of_two_bases_are_not_mixed(folder, train, small_config, tmp_path):
    mix = []
    for base in ("one", "other"):
        record = {"fingerprints": {"transformer": base}}
        mix.append((adapters.save_adapter(train()[0], tmp_path / base, record), 0.5))
    config = small_config(*WAN)
    cache = RunCache(config, {"transformer": "one"})
    with pytest.warns(UserWarning, match="other weights"), pytest.raises(UserError, match="different base models"):
        AdaptedPipeline(config, {"mix": mix}, folder, cache, torch.device("cpu"))


def test_a_file_without_metadata_gets_its_alpha_or_a_warning(folder, base, train, tmp_path):
    transformer, _, _ = train()
    expected = predict(transformer)
    file = adapters.save_adapter(transformer, tmp_path, {})
    save_file(load_file(file), file)  # as the reference writes it: no metadata
    with pytest.warns(UserWarning, match="assumed alpha = rank = 8"):
        adapters.load_adapter(base, tmp_path)
    assert (predict(base) - expected).abs().max() > 1e-3
    known, _ = load_transformer(folder, torch.float32)
    adapters.load_adapter(known, tmp_path, alpha=16)
    assert (predict(known) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("kind", [*KINDS, *OTHERS])
def test_merged_is_unmerged_and_removal_restores_the_base(kind, folder, base, train, tmp_path):
    transformer, _, _ = train(kind)
    expected, before = predict(transformer), predict(base)
    file = adapters.save_adapter(transformer, tmp_path / "adapter", {}, folder)
    for _ in range(2):  # several adapters one after another
        original = adapters.apply(base, [(file, 1.0)], keep_original=True)
        assert (predict(base) - expected).abs().max() < 1e-5
        adapters.remove(base, original)
        assert torch.equal(predict(base), before)


@pytest.mark.parametrize("kind", [*KINDS, *OTHERS])
def test_fresh_adapter_changes_nothing_and_a_trained_one_something(kind, base, train):
    moved, _, adapter = train(kind)
    untrained = predict(base)
    check_trainable(base, adapters.inject(base, adapter, 0), adapter)
    assert velocity_change(predict(base), untrained) < 1e-4
    assert check_learned(predict(moved), untrained) > 1e-3
    if kind in KINDS:  # the scale of the plan and of the record is peft's
        scales = {scale for m in base.modules() if isinstance(m, LoraLayer) for scale in m.scaling.values()}
        assert scales == {update_scale(adapter)}
    if adapters.can_be_disabled(adapter):
        check_untouched(base, lambda: predict(base), "no")
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


def test_kept_falls_with_the_scale_of_an_adapter(base, train, tmp_path):
    """Velocities in grey levels stand for the videos."""

    def videos():
        return {seed: (predict(base, seed)[0, :3] * 40 + 128).clamp(0, 255).byte().numpy() for seed in (0, 1)}

    file, of_base, shares = adapters.save_adapter(train()[0], tmp_path, {}), videos(), []
    for scale in (0, 0.5, 1, 1.5, 2):
        original = adapters.apply(base, [(file, scale)], keep_original=True)
        shares.append(kept_shares(videos(), of_base)[1][0])
        adapters.remove(base, original)
    assert shares[0] == 1
    assert shares == sorted(set(shares), reverse=True)


def test_a_full_fine_tuning_is_cut_to_the_best_lora(folder, base, train, small_config, tmp_path):
    trained, parameters, _ = train("full")
    file = adapters.save_adapter(trained, tmp_path / "full", {}, folder)
    truncate_full(file, folder, tmp_path, small_config("rank=8", "alpha=16").adapter, {})
    name = "transformer_blocks.0.ff.net.2"
    layer, update = read_adapter(find_adapter(tmp_path)).layers[name], parameters[f"{name}.weight"].detach()
    update = (update - base.get_parameter(f"{name}.weight")).numpy()
    left = np.linalg.svd(update, compute_uv=False)[8:]
    assert np.linalg.norm(update - 2 * layer.b @ layer.a) == pytest.approx(np.linalg.norm(left), rel=1e-4)


def test_a_base_that_lacks_a_tensor_is_refused(folder, tmp_path):
    broken = ModelFolder(tmp_path / "model", tmp_path)
    shutil.copytree(folder.path, broken.path)
    file = next((broken.path / "transformer").glob("*.safetensors"))
    tensors = load_file(file)
    tensors.pop("transformer_blocks.3.attn1.to_q.weight")
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(RunError, match=r"missing in the files.*to_q"):
        load_transformer(broken, torch.float32)
