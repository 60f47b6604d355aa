"""The fast forward pass against those of diffusers and peft: same weights, same velocity, same gradients."""

from functools import partial
from inspect import signature

import pytest
import torch
from conftest import REST, TINY, long_test
from diffusers import CosmosTransformer3DModel
from diffusers.models.transformers.transformer_cosmos import CosmosAttnProcessor2_0
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from cosmos_exp.config.schema import Adapter, Training
from cosmos_exp.training.optimizer import make_adamw
from cosmos_exp.world import adapter as adapters
from cosmos_exp.world.adapted_linear import adapted, dora_norm
from cosmos_exp.world.fast_forward import fast_forward
from cosmos_exp.world.hardware import POLICIES
from cosmos_exp.world.kernels import shrink_base

ADAPTER = Adapter(rank=4, alpha=6.0)


def tiny_model(kind="lora", layers=2):
    """A tiny transformer of the real class with an adapter that is not zero."""
    torch.manual_seed(0)
    projection = {"use_crossattn_projection": True, "crossattn_proj_in_channels": 16}
    keys = {**TINY, **REST, **projection, "encoder_hidden_states_channels": 32, "num_layers": layers}
    model = CosmosTransformer3DModel(**keys).requires_grad_(False)
    parameters = adapters.inject(model, ADAPTER.updated({"kind": kind}), 0)
    for name, parameter in parameters.items():
        if "magnitude" in name:
            parameter.data *= 1 + 0.3 * torch.rand_like(parameter)
        elif "lora_B" in name:
            parameter.data.normal_(std=0.3)
    return model, parameters


def tiny_inputs(batch=1, given=1):
    """One batch of inputs."""
    torch.manual_seed(1)
    inputs = {
        "hidden_states": torch.randn(batch, 4, 3, 4, 6),
        "condition_mask": torch.zeros(batch, 1, 3, 4, 6),
        "timestep": torch.rand(batch, 1, 3, 1, 1),
        "encoder_hidden_states": torch.randn(batch, 5, 16),
        "padding_mask": torch.zeros(1, 1, 32, 48),
        "return_dict": False,
    }
    inputs["condition_mask"][:, :, :given] = 1
    return inputs


def velocity_and_gradients(forward, parameters, inputs):
    """Output and every adapter gradient."""
    for parameter in parameters.values():
        parameter.grad = None
    out = forward(**inputs)[0]
    out.square().mean().backward()
    return out.detach(), {n: p.grad.clone() for n, p in parameters.items()}


def assert_same(forward, model, parameters, inputs):
    plain, fast = (velocity_and_gradients(f, parameters, inputs) for f in (model, forward))
    assert (plain[0] - fast[0]).abs().max() < 1e-5
    assert sum(bool(g.any()) for g in plain[1].values()) > 0.9 * len(plain[1]), "no gradients: nothing is compared"
    for name, gradient in plain[1].items():
        assert (gradient - fast[1][name]).abs().max() < 1e-5, name


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("checkpointing", [*POLICIES, ["none", "full"]])
def test_velocity_and_gradients_equal_those_of_diffusers(kind, checkpointing):
    model, parameters = tiny_model(kind)
    names = set(model.state_dict())
    assert_same(fast_forward(model, checkpointing=checkpointing), model, parameters, tiny_inputs(3, 2))
    assert set(model.state_dict()) == names  # those of the checkpoint


# The default backend compiles C++ for half a minute: a long test. The other traces, differentiates, decomposes and partitions the
# same way, selective checkpointing included, and then calls torch's own kernels.
@pytest.mark.parametrize(
    ("kind", "checkpointing", "backend"),
    [pytest.param("dora", "none", "inductor", marks=long_test), ("lora", "selective", "aot_eager_decomp_partition")],
)
def test_compiled_blocks_share_one_graph_and_give_the_same(kind, checkpointing, backend, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    model, parameters = tiny_model(kind, layers=3)
    forward = fast_forward(model, compiled=True, checkpointing=checkpointing)
    assert_same(forward, model, parameters, tiny_inputs(2, 1))
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("checkpointing", POLICIES)
def test_on_a_gpu_it_gives_the_same(kind, checkpointing):
    """fp32 to 1e-4 (another order of sums), bf16 near the fp32 result as diffusers' own bf16 is."""
    model, parameters = tiny_model(kind)
    model.cuda()
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    inputs = {k: v.cuda() if isinstance(v, torch.Tensor) else v for k, v in tiny_inputs(2).items()}
    exact, gradients = velocity_and_gradients(model, parameters, inputs)
    for compiled in (False, True):
        forward = fast_forward(model, compiled=compiled, checkpointing=checkpointing)
        out, others = velocity_and_gradients(forward, parameters, inputs)
        assert (out - exact).abs().max() < 1e-4
        assert all((others[n] - g).abs().max() < 1e-4 for n, g in gradients.items())
        with torch.autocast("cuda", dtype=torch.bfloat16):
            theirs, ours = model(**inputs)[0].float(), forward(**inputs)[0].float()
        assert (ours - exact).abs().max() < 2 * (theirs - exact).abs().max() + 1e-3


def test_a_base_in_training_gets_the_gradient_of_every_parameter_also_with_one_sigma_for_all_frames():
    model, _ = tiny_model()
    model.requires_grad_(True)
    inputs = tiny_inputs(2) | {"timestep": torch.rand(2)}
    assert_same(fast_forward(model), model, dict(model.named_parameters()), inputs)


class Doubled(CosmosAttnProcessor2_0):
    """An attention processor of a user."""

    def __call__(self, *words, **keys):
        return 2 * super().__call__(*words, **keys)


def layer_of(model):
    return model.transformer_blocks[1].attn1


CHANGES = {
    "padding": lambda model, inputs: inputs["padding_mask"][..., 20:].fill_(1),
    "fps": lambda model, inputs: inputs.update(fps=12),
    "attention mask": lambda model, inputs: inputs.update(attention_mask=torch.arange(5)[None] < 3),
    "no projection": lambda model, inputs: (
        model.register_to_config(use_crossattn_projection=False),
        inputs.update(encoder_hidden_states=torch.randn(1, 5, 32)),
    ),
    "hook": lambda model, inputs: layer_of(model).register_forward_hook(lambda layer, given, out: 2 * out),
    "forward": lambda model, inputs: setattr(model.norm_out, "forward", lambda x, *times: 2 * x),
    "processor": lambda model, inputs: layer_of(model).set_processor(Doubled()),
    "weight": lambda model, inputs: layer_of(model).to_q.base_layer.weight.data.mul_(1.5),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_later_changes_the_velocity_as_in_diffusers(change):
    model, parameters = tiny_model("dora")
    forward, inputs = fast_forward(model), tiny_inputs()
    before = forward(**inputs)[0]
    CHANGES[change](model, inputs)
    assert (forward(**inputs)[0] - before).abs().max() > 1e-3
    assert_same(forward, model, parameters, inputs)
    del inputs["return_dict"]
    assert torch.equal(forward(**inputs).sample, forward(**inputs, return_dict=False)[0])
    assert signature(forward.forward).parameters.keys() == signature(model.forward).parameters.keys()


def layer_of_peft(**words):
    """A linear layer with an adapter of peft that is not zero."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 40, bias=words.pop("base_bias", True)))
    words = {"r": 4, "lora_alpha": 6, "target_modules": ["0"], "init_lora_weights": True, **words}
    layer = inject_adapter_in_model(LoraConfig(**words), model)[0]
    layer.lora_B["default"].weight.data.normal_(std=0.3)
    if words.get("use_dora"):
        layer.lora_magnitude_vector["default"].weight.data *= 1 + torch.rand(40)
    return layer


@pytest.mark.parametrize(
    "words",
    [
        {"use_rslora": True},
        {"lora_bias": True, "lora_dropout": 0.5},
        {"use_dora": True, "lora_dropout": 0.5},
        {"use_dora": True, "base_bias": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("training", [True, False])
def test_output_and_gradients_of_a_layer_are_pefts(words, training):
    layer = layer_of_peft(**words).train(training)
    x = torch.randn(2, 3, 24, requires_grad=True)
    wanted = [x, *(p for n, p in layer.named_parameters() if "lora_" in n)]
    results = []
    for call in (layer, lambda x: adapted(layer, x)):
        torch.manual_seed(5)  # dropout draws alike
        y = call(x)
        results.append([y, *torch.autograd.grad(y.square().mean(), wanted)])
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-5)


def test_the_norm_of_dora_follows_its_definition():
    """Against |W + s B A| written out in double precision, also where B A cancels W."""
    torch.manual_seed(0)
    weight, down, up = torch.randn(30, 20), torch.randn(4, 20), torch.randn(30, 4)
    weight[0] = -0.7 * (up @ down)[0]
    expected = torch.linalg.norm(weight.double() + 0.7 * up.double() @ down.double(), dim=1)
    norm = dora_norm(weight, down, up, 0.7)
    assert torch.allclose(norm[1:].double(), expected[1:], rtol=1e-5)
    assert norm[0] < 1e-2  # not NaN


def test_a_base_in_eight_bits_is_near_and_smaller_and_trains():
    pytest.importorskip("torchao", reason="the extra [approximate] is not installed")
    model, parameters = tiny_model("dora")
    exact, gradients = velocity_and_gradients(fast_forward(model), parameters, tiny_inputs(2))
    shrink_base(model)
    near, others = velocity_and_gradients(fast_forward(model), parameters, tiny_inputs(2))
    assert 0 < (near - exact).abs().max() < 0.1 * exact.abs().max()
    for name, gradient in gradients.items():
        assert torch.nn.functional.cosine_similarity(gradient.flatten(), others[name].flatten(), dim=0) > 0.9, name
    assert model.transformer_blocks[0].ff.net[2].base_layer.weight.qdata.element_size() == 1


def test_moments_in_eight_bits_step_nearly_alike():
    pytest.importorskip("torchao", reason="the extra [approximate] is not installed")
    steps = []
    for eight in (False, True):
        torch.manual_seed(0)
        parameter = nn.Parameter(torch.randn(64, 128))
        start = parameter.detach().clone()
        optimizer = make_adamw([parameter], Training(learning_rate=1e-2, weight_decay=0.0), eight)
        for _ in range(5):
            parameter.grad = torch.randn(64, 128)
            optimizer.step()
        steps.append(parameter.detach() - start)
    assert 0 < (steps[0] - steps[1]).abs().mean() < 0.1 * steps[0].abs().mean()
