"""The model's files: a diffusers folder from the hub, from a path, or built for the embedded world. No torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from cosmos_exp import hub
from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.registry import MODEL_BUILDERS
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError
from cosmos_exp.files import file_sha256, write_json
from cosmos_exp.hub import Location

COMPONENTS = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
# Those whose content decides what the cache holds and what an adapter was trained on.
FINGERPRINTED = ("vae", "text_encoder", "tokenizer", "transformer")
PATTERNS = [f"{c}/*" for c in COMPONENTS] + ["model_index.json"]  # what is downloaded of a hub repository
PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}  # suffixes of weights that are not read
RANDOM_MARK = "RANDOM_WEIGHTS"  # a file of this name marks a folder with random weights
NOT_LEARNED = "random weights: nothing was learned"
HASH_NOTE_BYTES = 2**24  # the hash of a file of at least this size is stored beside the cache


@dataclass(frozen=True)
class ModelFolder:
    """A local diffusers folder.

    cache_root: where hashes of large files are stored.
    """

    path: Path
    cache_root: Path

    @property
    def random(self) -> bool:
        """Whether the weights are random: drawn from a seed, not trained."""
        return (self.path / RANDOM_MARK).exists()

    def fingerprint(self, component: str) -> str:
        """16 hex digits over names and contents of a component's files."""
        digest = hashlib.sha256()
        for file in sorted((self.path / component).rglob("*")):
            if file.is_file() and not file.name.startswith("."):
                digest.update(f"{file.relative_to(self.path)}\0{self._sha256(file)}\n".encode())
        return digest.hexdigest()[:16]

    def fingerprints(self) -> dict[str, str]:
        """The fingerprint of each component in `FINGERPRINTED`, by name."""
        return {c: self.fingerprint(c) for c in FINGERPRINTED}

    def _sha256(self, file: Path) -> str:
        stat = file.stat()
        if stat.st_size < HASH_NOTE_BYTES:
            return file_sha256(file)
        name = hashlib.sha256(f"{file.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}".encode()).hexdigest()[:32]
        note = self.cache_root / "hashes" / f"{name}.json"
        if not note.is_file():
            write_json(note, {"sha256": file_sha256(file)})
        return str(json.loads(note.read_text())["sha256"])


def find_model(config: Config) -> Location:
    """Where the model's files are. Downloads and builds nothing.

    Returns:
        a path if they are on this machine, else what the run will do to get them.

    Raises:
        UserError: a folder that does not exist or is no diffusers model, or a builder that does not exist.
    """
    model = config.model
    if model.source == "embedded":
        MODEL_BUILDERS.get(model.builder)
        weights = {"random": NOT_LEARNED}.get(model.weights, "trained weights")
        return Location(None, f"embedded: {model.builder} provides it ({weights})")
    if not hub.is_path(model.source):
        location = hub.locate_repository(model.source, model.revision, "model", PATTERNS)
        incomplete = location.path is not None and _missing_components(location.path)
        if incomplete:
            return Location(
                None, f"{model.source}: downloaded without {', '.join(incomplete)}; the run downloads the rest"
            )
        return location
    folder = _checked(Path(model.source).expanduser(), cache_root(config))
    note = f" ({NOT_LEARNED})" if folder.random else ""
    return Location(folder.path, f"{folder.path}{note}")


def ensure_model(config: Config) -> ModelFolder:
    """The model's folder, built or downloaded if needed.

    Raises:
        UserError: as `find_model`, or the download fails.
    """
    model, cache = config.model, cache_root(config)
    if model.source == "embedded":
        path = MODEL_BUILDERS.get(model.builder)(model, cache)
    elif hub.is_path(model.source):
        path = Path(model.source).expanduser()
    else:
        path = hub.fetch(model.source, model.revision, "model", "model.source=/path/to/the/folder", PATTERNS)
    return _checked(path, cache)


def _missing_components(path: Path) -> list[str]:
    return [c for c in COMPONENTS if not (path / c).is_dir()]


def _checked(path: Path, cache: Path) -> ModelFolder:
    missing = _missing_components(path)
    if missing:
        raise UserError(
            f"model.source={path}: has no folder {', '.join(missing)}; a diffusers model has {', '.join(COMPONENTS)}"
        )
    for component in ("transformer", "vae", "text_encoder"):
        endings = {file.suffix: file.name for file in sorted((path / component).iterdir())}
        pickles = PICKLES & endings.keys()
        if pickles and ".safetensors" not in endings:
            raise UserError(
                f"model.source={path}: {component}/{endings[pickles.pop()]} is a pickle, which can run code, so it is not read. Use "
                "the model's .safetensors files, or convert it where you trust it."
            )
    return ModelFolder(path, cache)
