"""Where a model's files are, from the hub, a folder or the embedded world, and what they are. No torch."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosmos_exp.errors import UserError
from cosmos_exp.files import file_sha256, write_json
from cosmos_exp.hub import fetch

COMPONENTS = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")

RANDOM_MARK = "RANDOM_WEIGHTS"


@dataclass(frozen=True)
class ModelFolder:
    """A local diffusers folder. `random` says that its weights were drawn, not trained."""

    path: Path
    cache_root: Path

    @property
    def random(self) -> bool:
        return (self.path / RANDOM_MARK).exists()

    def fingerprint(self, component: str) -> str:
        """16 hex digits over the content of a component's files; hashes are kept beside the cache."""
        digest = hashlib.sha256()
        for file in sorted((self.path / component).rglob("*")):
            if file.is_file() and not file.name.startswith("."):
                digest.update(f"{file.relative_to(self.path)}\0{self._sha256(file)}\n".encode())
        return digest.hexdigest()[:16]

    def fingerprints(self) -> dict[str, str]:
        """The components whose weights or words decide what the cache holds and what an adapter was trained on."""
        return {c: self.fingerprint(c) for c in ("vae", "text_encoder", "tokenizer", "transformer")}

    def _sha256(self, file: Path) -> str:
        stat = file.stat()
        if stat.st_size < 2**24:
            return file_sha256(file)
        name = hashlib.sha256(f"{file.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}".encode()).hexdigest()[:32]
        note = self.cache_root / "hashes" / f"{name}.json"
        if not note.is_file():
            write_json(note, {"sha256": file_sha256(file)})
        return json.loads(note.read_text())["sha256"]


def resolve(model: Any, cache_root: Path) -> ModelFolder:
    """Find, build or fetch the model's folder.

    Raises:
        UserError: a folder without the components, or a hub repository that cannot be fetched.
    """
    if model.source == "embedded":
        module, _, name = (model.builder or "").rpartition(".")
        if not module:
            raise UserError("model.source=embedded needs model.builder")
        path = getattr(importlib.import_module(module), name)(model, cache_root)
    elif Path(model.source).expanduser().exists() or model.source.startswith(("/", "./", "../", "~")):
        path = Path(model.source).expanduser()
    else:
        patterns = [f"{c}/*" for c in COMPONENTS] + ["model_index.json"]
        path = fetch(model.source, model.revision, "model", "model.source=/path/to/the/folder", patterns)
    missing = [c for c in COMPONENTS if not (path / c).is_dir()]
    if missing:
        raise UserError(
            f"model.source={path}: has no folder {', '.join(missing)}; a diffusers model has {', '.join(COMPONENTS)}"
        )
    return ModelFolder(path, cache_root)
