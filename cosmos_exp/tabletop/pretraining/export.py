"""Stage `export`: write the trained weights as a diffusers folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import CosmosTransformer3DModel
from transformers import Qwen2_5_VLForConditionalGeneration

from cosmos_exp.tabletop.build import shipped_settings, transformer_config
from cosmos_exp.world.linear_autoencoder import LinearVideoAutoencoder

MAX_SHARD_SIZE = "7MB"  # git hosts reject or warn about large files


def export(work: Path, out: Path) -> None:
    """Write the trained parts of `work` to `out` in bf16. `out` is replaced as a whole.

    LICENSE, README.md and the inverse dynamics model, idm/, in `out` are kept.

    Raises:
        RuntimeError: the checkpoint is of a model of another size.
    """
    transformer = _trained_transformer(work)
    vae = LinearVideoAutoencoder.from_pretrained(work / "vae")
    if (work / "decoder.pt").is_file():
        vae.refiner.load_state_dict(torch.load(work / "decoder.pt", weights_only=True)["refiner"])
    part = Path(tempfile.mkdtemp(dir=out.parent, prefix=".tmp-"))
    for name in ("text_encoder", "tokenizer", "scheduler"):
        shutil.copytree(work / "frozen" / name, part / name)
    text = Qwen2_5_VLForConditionalGeneration.from_pretrained(work / "frozen" / "text_encoder")
    text.to(torch.bfloat16).save_pretrained(part / "text_encoder")
    transformer.to(torch.bfloat16).save_pretrained(part / "transformer", max_shard_size=MAX_SHARD_SIZE)
    vae.to(torch.bfloat16).save_pretrained(part / "vae")
    for name in ("LICENSE", "README.md"):
        if (out / name).is_file():
            shutil.copy(out / name, part / name)
    if (out / "idm").is_dir():
        shutil.copytree(out / "idm", part / "idm")
    shutil.rmtree(out, ignore_errors=True)
    part.chmod(0o755)
    os.replace(part, out)


def _trained_transformer(work: Path) -> CosmosTransformer3DModel:
    """The transformer with the averaged weights of the checkpoint."""
    state = torch.load(work / "transformer.pt", map_location="cpu", weights_only=True)
    transformer = CosmosTransformer3DModel.from_config(transformer_config(shipped_settings()))
    missing, unexpected = transformer.load_state_dict(state["ema"], strict=False)
    missing = [m for m in missing if m in dict(transformer.named_parameters())]
    if unexpected or missing:
        raise RuntimeError(
            f"{work / 'transformer.pt'}: the checkpoint is of another model (missing {missing}, unexpected {unexpected}). "
            "Train the transformer again with this recipe."
        )
    return transformer
