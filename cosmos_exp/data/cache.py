"""Outputs of the frozen encoders, computed once and shared by all runs: latents of windows, projected prompts.

A file's name is the hash of everything that determines its content (video content, window, size, model files,
precision). Files are written atomically, so that several processes can share the cache, and carry a checksum that is
verified when they are read. Latents are the VAE's posterior mean in the VAE's precision; they are normalised when read,
as the reference does on the fly.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.schema import Config
from cosmos_exp.data.clips import CheckedClip, window_indices
from cosmos_exp.errors import RunError
from cosmos_exp.files import atomic_path

Item = tuple[CheckedClip, int] | str | None
"""A window: a clip, and the frame of it where the window starts. Or a prompt; None: the zero embedding."""


def checksum(tensor: torch.Tensor) -> str:
    """SHA-256 of a contiguous tensor's bytes, 16 hex digits."""
    raw = tensor.reshape(-1).view(torch.uint8).numpy()
    return hashlib.sha256(raw.data).hexdigest()[:16]


def tensor_path(root: Path, *ingredients: object) -> Path:
    """The file of a tensor with these ingredients, which their strings identify."""
    name = hashlib.sha256("\0".join(map(str, ingredients)).encode()).hexdigest()[:40]
    return root / name[:2] / f"{name}.safetensors"


def write_tensor(path: Path, tensor: torch.Tensor) -> None:
    """Store a tensor with its checksum."""
    tensor = tensor.detach().cpu().contiguous()
    with atomic_path(path) as temporary:
        save_file({"value": tensor}, temporary, {"checksum": checksum(tensor)})


def read_tensor(path: Path) -> torch.Tensor:
    """Load a tensor and verify its checksum.

    Raises:
        RunError: the file is missing or damaged.
    """
    fix = "delete it, the next run creates it again"
    try:
        with safe_open(path, "pt") as content:
            tensor, expected = content.get_tensor("value"), content.metadata()["checksum"]
    except Exception as error:
        raise RunError(f"{path}: cannot be read from the cache ({error}); {fix}") from error
    if checksum(tensor) != expected:
        raise RunError(f"{path}: is damaged (checksum differs); {fix}")
    return tensor


class RunCache:
    """Latents and prompts of one configuration.

    Args:
        fingerprints: of the model's components, by name.
    """

    def __init__(self, config: Config, fingerprints: dict[str, str]):
        self.config, self.fingerprints = config, fingerprints
        self.root = cache_root(config) / "encoded"

    def path(self, item: Item) -> Path:
        """The file of a window's latent, or of a projected prompt."""
        data, dtype, known = self.config.data, self.config.hardware.mixed_precision, self.fingerprints
        if isinstance(item, tuple):
            checked, start = item
            pixels = [window_indices(checked, data, start), data.height, data.width, data.resize]
            return tensor_path(self.root / "latents", checked.sha256, *pixels, known["vae"], dtype)
        words = ["zero" if item is None else "text:" + item, self.config.model.prompt_tokens, dtype]
        models = known["text_encoder"], known["tokenizer"], known["transformer"]
        return tensor_path(self.root / "prompts", *words, *models)

    def read(self, item: Item) -> torch.Tensor:
        """Posterior mean (C, T, H, W) of a window, not normalised, or projected prompt (tokens, channels).

        Raises:
            RunError: the file is missing or damaged.
        """
        return read_tensor(self.path(item))
