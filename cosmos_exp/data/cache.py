"""What the frozen encoders make of data, computed once and shared by all runs: latents of windows, projected prompts.

Files are named by the hash of everything that went in (video content, window, size, model files, precision), written
atomically, and carry a checksum that is verified when read: two processes at once do no harm, a damaged file is told.
The VAE's posterior mean is kept in its own precision and normalised when read, as the reference does on the fly.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from cosmos_exp.data.clips import CheckedClip
from cosmos_exp.data.windows import load_window, window_indices
from cosmos_exp.errors import RunError
from cosmos_exp.files import atomic_path


def checksum(tensor: torch.Tensor) -> str:
    """SHA-256 of a tensor's bytes, 16 hex digits."""
    raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.sha256(memoryview(raw)).hexdigest()[:16]


class TensorCache:
    """One tensor a file under `root`, named by the hash of its ingredients."""

    def __init__(self, root: Path):
        self.root = root

    def path(self, *ingredients: Any) -> Path:
        name = hashlib.sha256("\0".join(map(str, ingredients)).encode()).hexdigest()[:40]
        return self.root / name[:2] / f"{name}.safetensors"

    def write(self, path: Path, tensor: torch.Tensor, about: str) -> None:
        """Store a tensor; `about` says in words what it is."""
        with atomic_path(path) as temporary:
            tensor = tensor.detach().cpu().contiguous()
            save_file({"value": tensor}, temporary, {"checksum": checksum(tensor), "about": about[:400]})

    def read(self, path: Path) -> torch.Tensor:
        """Load and verify.

        Raises:
            RunError: missing or damaged; says which file to delete.
        """
        try:
            with safe_open(path, "pt") as content:
                tensor, expected = content.get_tensor("value"), content.metadata()["checksum"]
        except Exception as error:
            raise RunError(
                f"{path}: cannot be read from the cache ({error}); delete it, the next run makes it anew"
            ) from error
        if checksum(tensor) != expected:
            raise RunError(f"{path}: is damaged (checksum differs); delete it, the next run makes it anew")
        return tensor

    def has(self, path: Path) -> bool:
        return path.is_file()


class RunCache:
    """Latents and prompts for one configuration."""

    def __init__(self, root: Path, config: Any, fingerprints: dict[str, str]):
        self.data, self.dtype = config.data, config.hardware.mixed_precision
        self.prompt_tokens = config.model.prompt_tokens
        self.fingerprints = fingerprints
        self.latents, self.prompts = TensorCache(root / "latents"), TensorCache(root / "prompts")

    def latent_path(self, checked: CheckedClip, start: int) -> Path:
        data = self.data
        return self.latents.path(
            checked.sha256,
            window_indices(checked, data, start),
            data.height,
            data.width,
            data.resize,
            self.fingerprints["vae"],
            self.dtype,
        )

    def prompt_path(self, prompt: str | None) -> Path:
        prints = [self.fingerprints[c] for c in ("text_encoder", "tokenizer", "transformer")]
        return self.prompts.path(
            "zero" if prompt is None else "text:" + prompt, self.prompt_tokens, self.dtype, *prints
        )

    def missing(self, windows: list[tuple[CheckedClip, int]], prompts: list[str | None]) -> tuple[list, list]:
        """The windows and prompts that are still to be encoded."""
        left = [w for w in windows if not self.latents.has(self.latent_path(*w))]
        return left, [p for p in dict.fromkeys(prompts) if not self.prompts.has(self.prompt_path(p))]

    def encode_window(self, encoders: Any, window: tuple[CheckedClip, int]) -> None:
        """Decode, encode and store one window."""
        checked, start = window
        latent = encoders.encode_video(load_window(checked, self.data, start))
        self.latents.write(self.latent_path(checked, start), latent, f"{checked.clip.name} from frame {start}")

    def encode_prompt(self, encoders: Any, prompt: str | None) -> None:
        """Encode, project and store one prompt (None: the zero embedding)."""
        self.prompts.write(self.prompt_path(prompt), encoders.encode_prompt(prompt), str(prompt))

    def latent(self, checked: CheckedClip, start: int) -> torch.Tensor:
        """Posterior mean (C, T, H, W), not normalised."""
        return self.latents.read(self.latent_path(checked, start))

    def prompt(self, prompt: str | None) -> torch.Tensor:
        """Projected prompt (tokens, channels)."""
        return self.prompts.read(self.prompt_path(prompt))
