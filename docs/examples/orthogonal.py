"""An adapter kind: docs/guides/add_adapter_kind.md. Run this file to test it."""

import torch
from diffusers import CosmosTransformer3DModel

from cosmos_exp.config.registry import ADAPTERS
from cosmos_exp.config.schema import Adapter
from cosmos_exp.world.adapter import expected_names, inject, lora


def lora_orthogonal(adapter):
    """LoRA with A and B both non-zero at the start, and B A = 0."""
    config = lora(adapter)
    config.init_lora_weights = "orthogonal"
    return config


ADAPTERS.add("lora_orthogonal", lora_orthogonal)


if __name__ == "__main__":
    transformer = CosmosTransformer3DModel(
        in_channels=5,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=1,
        mlp_ratio=2.0,
        text_embed_dim=32,
        adaln_lora_dim=8,
        max_size=(8, 16, 16),
        patch_size=(1, 2, 2),
        extra_pos_embed_type=None,
    )
    settings = Adapter(kind="lora_orthogonal", rank=8, alpha=8, target_modules=["to_q", "to_k"])
    parameters = inject(transformer.requires_grad_(False), settings, seed=0)
    layers = sorted({name.split(".lora_")[0] for name in parameters})
    print(len(parameters), "parameter tensors in", layers)
    assert set(parameters) == expected_names(layers, settings)
    for layer in layers:
        a, b = (parameters[f"{layer}.lora_{x}.default.weight"] for x in "AB")
        assert a.abs().max() > 0
        assert b.abs().max() > 0
        assert torch.allclose(b @ a, torch.zeros(b.shape[0], a.shape[1]), atol=1e-6)
