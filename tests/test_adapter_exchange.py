"""Adapters for NVIDIA's own code and from it: names against diffusers' converter, loading by that code's own steps, bits."""

import numpy as np
import pytest
import torch
from conftest import REST, TINY, move
from diffusers import CosmosTransformer3DModel
from diffusers.loaders.single_file_utils import convert_cosmos_transformer_checkpoint_to_diffusers
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from torch import nn

from cosmos_exp.config.adapter_file import read_adapter, tensors_of
from cosmos_exp.config.layers import linear_layers
from cosmos_exp.config.schema import Adapter
from cosmos_exp.errors import UserError
from cosmos_exp.world.adapter import inject, load_adapter, merge, save_adapter
from cosmos_exp.world.adapter_exchange import diffusers_layer, export_adapter, import_adapter, original_layer


def transformer():
    torch.manual_seed(0)
    return CosmosTransformer3DModel(**TINY, **REST).requires_grad_(False)


def trained(folder, **settings):
    """The file of an adapter that has moved away from its start."""
    model = transformer()
    move(inject(model, Adapter(**{"rank": 4, "alpha": 8.0, **settings}), 0), 0.05)
    return save_adapter(model, folder, {"base_model": "x"})


def test_the_names_are_those_of_diffusers_converter():
    for layer in [*linear_layers(TINY), "crossattn_proj.0"]:
        theirs = original_layer(layer)
        assert list(convert_cosmos_transformer_checkpoint_to_diffusers({f"net.{theirs}.weight": 0})) == [
            f"{layer}.weight"
        ]
        assert diffusers_layer(theirs) == layer


def original_network(model):
    """Linear layers with the weights of a transformer under the original names: what peft sees of the original network."""
    net = nn.Module()
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            at = net
            *folders, last = original_layer(name).split(".")
            for folder in folders:
                if not hasattr(at, folder):
                    at.add_module(folder, nn.Module())
                at = getattr(at, folder)
            own = nn.Linear(module.in_features, module.out_features, bias=False)
            own.weight.data.copy_(module.weight)
            at.add_module(last, own)
    return net


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_the_other_codes_loader_gives_the_same_weights(kind, tmp_path):
    """The steps of model_loader.py (`adapter_checkpoint_paths`, commit 2ac6ee5): rename, then peft's own loading."""
    file = trained(tmp_path / "ours", kind=kind)
    keys = export_adapter(file, tmp_path / "theirs.pt")
    options = dict(o.removeprefix("model.config.").split("=", 1) for o in keys)
    settings = LoraConfig(
        r=int(options["lora_rank"]),
        lora_alpha=int(options["lora_alpha"]),
        target_modules=options["lora_target_modules"].strip("'").split(","),
        use_dora=options.get("use_dora") == "True",
    )
    net = get_peft_model(original_network(transformer()), settings, adapter_name="adapter_0")
    state = torch.load(tmp_path / "theirs.pt", weights_only=True)
    renamed = {k.replace("net.", "base_model.model.").replace("default.", ""): v for k, v in state.items()}
    result = set_peft_model_state_dict(net, renamed, adapter_name="adapter_0")
    assert not result.unexpected_keys
    assert not [k for k in result.missing_keys if "lora_" in k]
    theirs = dict(net.merge_and_unload().named_modules())
    ours = transformer()
    load_adapter(ours, file)
    changed = merge(ours, keep_original=True)
    for name in changed:
        weight = theirs[original_layer(name.removesuffix(".weight"))].weight
        torch.testing.assert_close(weight, ours.get_parameter(name), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_there_and_back_changes_no_bit(kind, tmp_path, answered):
    file = trained(tmp_path / "ours", kind=kind)
    there, back = tmp_path / "there.pt", tmp_path / "back"
    answered(
        ["adapter", "export", file, "--format", "cosmos-predict2.5", "--out", there],
        0,
        "model.config.lora_target_modules='cross_attn.k_proj,",
    )
    answered(["adapter", "import", there, "--format", "cosmos-predict2.5", "--alpha", 8, "--out", back], 0)
    a, b = read_adapter(file), read_adapter(back / file.name)
    old, new = tensors_of(a.layers), tensors_of(b.layers)
    assert old.keys() == new.keys()
    assert all(np.array_equal(old[k].view(np.uint8), new[k].view(np.uint8)) for k in old)
    assert (a.kind, a.scales) == (b.kind, b.scales)


def test_a_whole_checkpoint_in_bf16_gives_its_moving_average(tmp_path):
    """What that project's convert_distcp_to_pt.py writes: base weights, LoRA below net. and net_ema., in bfloat16."""
    export_adapter(trained(tmp_path / "ours"), tmp_path / "lora.pt")
    lora = torch.load(tmp_path / "lora.pt", weights_only=True)
    ema = {k.replace("net.", "net_ema."): (v + 1).bfloat16() for k, v in lora.items()}
    torch.save({"model": {**lora, **ema, "net.blocks.0.mlp.layer1.weight": torch.zeros(2)}}, tmp_path / "whole.pt")
    new = tensors_of(read_adapter(import_adapter(tmp_path / "whole.pt", tmp_path / "back")).layers)
    assert len(new) == len(lora)
    key = "transformer_blocks.1.attn2.to_k.lora_A.weight"
    expected = ema["net_ema.blocks.1.cross_attn.k_proj.lora_A.default.weight"].float().numpy()
    assert np.array_equal(new[key], expected)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"scaling": "rslora"}, "rsLoRA"),
        ({"rank_pattern": {"to_q": 2}}, "several ranks"),
        ({"alpha": 2.5}, "no whole number"),
    ],
)
def test_what_the_other_code_cannot_express_is_refused(settings, said, tmp_path):
    with pytest.raises(UserError, match=rf"{said}.*Merge it instead"):
        export_adapter(trained(tmp_path / "ours", **settings), tmp_path / "theirs.pt")
    assert not (tmp_path / "theirs.pt").exists()


def test_files_that_are_no_adapter_are_refused(tmp_path, answered):
    file = tmp_path / "file.pt"
    for content, said in (
        ({"net.blocks.0.mlp.layer1.weight": torch.zeros(2)}, "no adapter"),
        ({"x": np.dtype}, "is no checkpoint that NVIDIA's code writes"),  # a pickle that names code
    ):
        torch.save(content, file)
        answered(["adapter", "import", file, "--format", "cosmos-predict2.5", "--out", tmp_path / "o"], 2, said)
    assert not (tmp_path / "o").exists()
