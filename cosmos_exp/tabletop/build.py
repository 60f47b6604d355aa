"""The embedded model as a diffusers folder: the trained weights in weights/, or random weights in any size.

Both folders are loaded by the same code as the 2B model. A folder of random weights contains the file RANDOM_WEIGHTS,
and every run that uses it records this. benchmarks/pretraining trains the weights.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, CosmosTransformer3DModel, UniPCMultistepScheduler
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from cosmos_exp.config.schema import Model
from cosmos_exp.errors import UserError
from cosmos_exp.files import atomic_folder
from cosmos_exp.tabletop.world import COLORS, CONTAINERS, OBJECTS

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}<|im_end|>\n{% endfor %}"
)
SEED = 20251
RANDOM_VERSION = 2  # part of the cache folder's name; change it with the code that draws random weights
WEIGHTS = Path(__file__).parent / "weights"
# Sampling ends here and the last step takes all noise away: below it, a network this small leaves grain (docs/log.md).
SIGMA_MIN = 0.5


def model_folder(model: Model, cache_root: Path) -> Path:
    """The builder of model=tabletop: the diffusers folder of `model`.

    With model.weights=trained it is the folder of this package. With random it is a folder in the cache, created on
    first use from a fixed seed and in the size of `model` (safe with several processes).

    Raises:
        UserError: weights=trained, and the trained weights have another size.
    """
    if model.weights == "trained":
        return shipped_folder(model)
    wanted = {
        "version": RANDOM_VERSION,
        "transformer": model.transformer.model_dump(),
        "z_dim": model.z_dim,
        "text": model.text_channels,
    }
    digest = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:12]
    target = cache_root / "models" / f"tabletop-random-{digest}"
    if not target.is_dir():
        try:
            with atomic_folder(target) as work:
                build(work, model)
        except OSError:
            if not target.is_dir():  # no other process has created it meanwhile: a real failure
                raise
    return target


def shipped_folder(model: Model) -> Path:
    """The folder of the trained weights.

    Raises:
        UserError: `model` has another size.
    """
    shipped = json.loads((WEIGHTS / "transformer" / "config.json").read_text())
    wanted = model.transformer.model_dump() | {"crossattn_proj_in_channels": model.text_channels}
    other = []
    for key, value in wanted.items():
        if shipped[key] != value:
            other.append(f"{key} is {shipped[key]}, not {value}")
    if other:
        listed = ", ".join(other)
        raise UserError(
            f"model=tabletop: the trained weights have another size ({listed}). Set model.weights=random to use this "
            "size with random weights."
        )
    return WEIGHTS


def build(folder: Path, model: Model) -> None:
    """Write a diffusers folder with random weights, drawn from SEED, in the sizes of `model`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        tokenizer = build_tokenizer()
        tokenizer.save_pretrained(folder / "tokenizer")
        build_text_encoder(len(tokenizer), model.text_channels).save_pretrained(folder / "text_encoder")
        build_transformer(model).save_pretrained(folder / "transformer")
        build_vae(model.z_dim).save_pretrained(folder / "vae")
    build_scheduler(SIGMA_MIN).save_pretrained(folder / "scheduler")
    (folder / "RANDOM_WEIGHTS").write_text("These weights were drawn from a seed; nothing has been learned.\n")


def build_transformer(model: Model) -> CosmosTransformer3DModel:
    """A CosmosTransformer3DModel with cross-attention projection, as in the 2B model; weights from torch's RNG."""
    return CosmosTransformer3DModel(
        **model.transformer.model_dump(),
        max_size=(32, 64, 64),
        patch_size=(1, 2, 2),
        rope_scale=(1.0, 3.0, 3.0),
        concat_padding_mask=True,
        extra_pos_embed_type=None,
        use_crossattn_projection=True,
        crossattn_proj_in_channels=model.text_channels,
        encoder_hidden_states_channels=model.transformer.text_embed_dim,
    )


def build_vae(z_dim: int) -> AutoencoderKLWan:
    """An AutoencoderKLWan that compresses by 4x8x8. Its first spatial factor 2 is a patch, for a quarter of the cost."""
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


def build_text_encoder(
    vocabulary: int, text_channels: int, layers: int = 2, heads: int = 4, inner: int | None = None
) -> Qwen2_5_VLForConditionalGeneration:
    """A Qwen2.5-VL, of two layers if not stated. Even with random weights a linear probe separates left from right.

    Args:
        text_channels: of all layers together.
        inner: width of the feed-forward layers; None: twice that of the others.
    """
    width = text_channels // layers
    part = width // heads // 16
    text = {
        "hidden_size": width,
        "intermediate_size": inner or 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 4,
        "vocab_size": vocabulary,
        "max_position_embeddings": 1024,
        "rope_parameters": {
            "rope_type": "default",
            "mrope_section": [2 * part, 3 * part, 3 * part],
            "rope_theta": 10000.0,
        },
        "pad_token_id": 0,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": width}
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with 480 tokens, trained on the prompts of the world. It can encode any text."""
    starts = ("Use the left hand to pick up", "Use the right hand to pick up", "Pick up")
    prompts = []
    for start, color, goal_color, obj, goal in itertools.product(starts, COLORS, COLORS, OBJECTS, CONTAINERS):
        prompts.append(f"{start} the {color} {obj} and place it in the {goal_color} {goal}.")
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


def build_scheduler(sigma_min: float = 0.01) -> UniPCMultistepScheduler:
    """The scheduler of the 2B model with its settings.

    Args:
        sigma_min: the lowest noise level of sampling, noise over clean; the default is the 2B model's.
    """
    return UniPCMultistepScheduler(
        use_karras_sigmas=True,
        use_flow_sigmas=True,
        prediction_type="flow_prediction",
        sigma_min=sigma_min,
        sigma_max=200.0,
    )
