"""The embedded model's folder: the trained one that ships in weights/, or one of another size with random weights.

Both are normal diffusers folders, loaded by the same code as the 2B model. A random one says so (RANDOM_WEIGHTS), and
so does every run that uses it. The weights come from cosmos_exp/tabletop/pretrain.py.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import AutoencoderKLWan, CosmosTransformer3DModel, UniPCMultistepScheduler
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from cosmos_exp.config.schema import Transformer
from cosmos_exp.errors import UserError
from cosmos_exp.tabletop.scene import COLORS, CONTAINERS, HANDS, OBJECTS
from cosmos_exp.world.linear_autoencoder import LinearVideoAutoencoder

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}<|im_end|>\n{% endfor %}"
)
SEED = 20251
WEIGHTS = Path(__file__).parent / "weights"


def model_folder(model: Any, cache_root: Path) -> Path:
    """The diffusers folder for `model` (the keys under conf/model).

    The shipped weights when `model.weights` is trained; with `random`, a folder drawn from a seed on first use, in any
    size (safe in several processes).

    Raises:
        UserError: the keys ask for another size than the shipped weights have.
    """
    if model.weights == "trained":
        return shipped_folder(model)
    wanted = {
        "code": inspect.getsource(sys.modules[__name__]),
        "transformer": dataclasses.asdict(model.transformer),
        "z_dim": model.z_dim,
        "text": model.text_channels,
    }
    digest = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:12]
    target = cache_root / "models" / f"tabletop-random-{digest}"
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=target.parent, prefix=".tmp-"))
        try:
            build(work, model)
            os.replace(work, target)
        except OSError:
            if not target.is_dir():  # another process was not first either: a real failure
                raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return target


def shipped_folder(model: Any) -> Path:
    """weights/ beside this file, if it is of the size that `model` asks for."""
    own = json.loads((WEIGHTS / "transformer" / "config.json").read_text())
    wanted = dataclasses.asdict(model.transformer) | {"crossattn_proj_in_channels": model.text_channels}
    other = {k: own[k] for k, v in wanted.items() if own[k] != v}
    if other:
        told = ", ".join(f"{k} is {v}, not {wanted[k]}" for k, v in other.items())
        raise UserError(f"model=tabletop: its trained weights have another size ({told}); set model.weights=random")
    return WEIGHTS


def export(work: Path, out: Path) -> None:
    """Write the trained parts under `work` (see pretrain.py) to `out` in bf16, whole or not at all."""
    state = torch.load(work / "transformer.pt", map_location="cpu", weights_only=True)
    transformer = CosmosTransformer3DModel.from_config(_transformer_keys(shipped_keys()))
    missing, unexpected = transformer.load_state_dict(state["ema"], strict=False)
    if unexpected or [m for m in missing if m in dict(transformer.named_parameters())]:
        raise RuntimeError(f"{work}: the checkpoint is of another model ({missing}, {unexpected})")
    vae = LinearVideoAutoencoder.from_pretrained(work / "vae")
    if (work / "decoder.pt").is_file():
        vae.refiner.load_state_dict(torch.load(work / "decoder.pt", weights_only=True)["refiner"])
    part = Path(tempfile.mkdtemp(dir=out.parent, prefix=".tmp-"))
    for name in ("text_encoder", "tokenizer", "scheduler"):
        shutil.copytree(work / "frozen" / name, part / name)
    text = Qwen2_5_VLForConditionalGeneration.from_pretrained(work / "frozen" / "text_encoder")
    text.to(torch.bfloat16).save_pretrained(part / "text_encoder")
    # In shards: a host of git repositories does not like large files.
    transformer.to(torch.bfloat16).save_pretrained(part / "transformer", max_shard_size="7MB")
    vae.to(torch.bfloat16).save_pretrained(part / "vae")
    for name in ("LICENSE", "README.md"):
        if (out / name).is_file():
            shutil.copy(out / name, part / name)
    shutil.rmtree(out, ignore_errors=True)
    part.chmod(0o755)
    os.replace(part, out)


def shipped_keys(z_dim: int = 32) -> Any:
    """The shipped model's sizes, as conf/model/tabletop.yaml has them."""
    keys = Transformer(
        in_channels=z_dim + 1,
        out_channels=z_dim,
        num_attention_heads=4,
        attention_head_dim=64,
        num_layers=5,
        mlp_ratio=4.0,
        text_embed_dim=256,
        adaln_lora_dim=64,
    )
    return SimpleNamespace(transformer=keys, z_dim=z_dim, text_channels=128)


def build(folder: Path, model: Any) -> None:
    """Write transformer/ vae/ text_encoder/ tokenizer/ scheduler/ with weights drawn from SEED."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        tokenizer = build_tokenizer()
        tokenizer.save_pretrained(folder / "tokenizer")
        build_text_encoder(len(tokenizer), model.text_channels).save_pretrained(folder / "text_encoder")
        build_transformer(model).save_pretrained(folder / "transformer")
        build_vae(model.z_dim).save_pretrained(folder / "vae")
    build_scheduler().save_pretrained(folder / "scheduler")
    (folder / "RANDOM_WEIGHTS").write_text("These weights were drawn from a seed; nothing has been learned.\n")


def build_transformer(model: Any) -> CosmosTransformer3DModel:
    """CosmosTransformer3DModel with cross-attention projection, as the real one has it."""
    return CosmosTransformer3DModel(**_transformer_keys(model))


def _transformer_keys(model: Any) -> dict[str, Any]:
    return dataclasses.asdict(model.transformer) | {
        "max_size": (32, 64, 64),
        "patch_size": (1, 2, 2),
        "rope_scale": (1.0, 3.0, 3.0),
        "concat_padding_mask": True,
        "extra_pos_embed_type": None,
        "use_crossattn_projection": True,
        "crossattn_proj_in_channels": model.text_channels,
        "encoder_hidden_states_channels": model.transformer.text_embed_dim,
    }


def build_vae(z_dim: int) -> AutoencoderKLWan:
    """AutoencoderKLWan, 4x8x8; its first two-fold reduction is a patch, a quarter of the cost."""
    return AutoencoderKLWan(
        base_dim=16,
        z_dim=z_dim,
        dim_mult=[1, 2, 4],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        latents_mean=[0.0] * z_dim,
        latents_std=[1.0] * z_dim,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_temporal=4,
        scale_factor_spatial=8,
    )


def build_text_encoder(vocabulary: int, text_channels: int) -> Qwen2_5_VLForConditionalGeneration:
    """A frozen Qwen2.5-VL of two layers; random ones tell left from right under a linear probe."""
    width = text_channels // 2
    text = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": vocabulary,
        "max_position_embeddings": 1024,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0},
        "pad_token_id": 0,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": width}
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE of a few hundred pieces, learned from the world's own prompts: any text can be written in it."""
    prompts = [
        f"{start} the {a} {thing} and place it in the {b} {goal}."
        for start in (*(f"Use the {h} hand to pick up" for h in HANDS), "Pick up")
        for a in COLORS
        for b in COLORS
        for thing in OBJECTS
        for goal in CONTAINERS
    ]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        [*prompts, "system user You are a helpful assistant who will provide prompts to an image generator."],
        trainers.BpeTrainer(
            vocab_size=480,
            special_tokens=list(SPECIAL),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=SPECIAL[0], eos_token=SPECIAL[2], padding_side="right"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_scheduler() -> UniPCMultistepScheduler:
    """The real model's scheduler with its settings."""
    return UniPCMultistepScheduler(
        use_karras_sigmas=True, use_flow_sigmas=True, prediction_type="flow_prediction", sigma_min=0.01, sigma_max=200.0
    )
