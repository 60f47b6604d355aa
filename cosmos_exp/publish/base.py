"""The model that an adapter belongs to: where others find it, and under which licence."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from cosmos_exp.config.adapter_file import AdapterFile
from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.paths import group_choices
from cosmos_exp.config.registry import WEIGHT_FOLDERS
from cosmos_exp.config.schema import Model
from cosmos_exp.files import JsonObject
from cosmos_exp.report.runs import Run
from cosmos_exp.text import one_line

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
NVIDIA_LINK = "https://www.nvidia.com/en-us/agreements/enterprise-software/nvidia-open-model-license"


@dataclass(frozen=True)
class Licence:
    """A licence as the hub names it. `name` and `link` belong to `other`."""

    id: str
    name: str | None = None
    link: str | None = None


@dataclass(frozen=True)
class Base:
    """A base model.

    repository: on the hub; None for the embedded model and for one that is only known as a folder.
    revision: branch, tag or commit there.
    local: whether the run read it from a folder, so that repository and revision are those of its configuration's name.
    embedded: a plugin builds it, under the name `builder`.
    random: its weights are random.
    fingerprint: of its transformer; empty if it was not recorded.
    """

    repository: str | None
    revision: str | None
    local: bool
    embedded: bool
    random: bool
    fingerprint: str
    builder: str

    @property
    def weights(self) -> Path | None:
        """The folder of an embedded model's trained weights, which the plugin brings."""
        return WEIGHT_FOLDERS.get(self.builder) if self.embedded and not self.random else None

    @property
    def shown_weights(self) -> str:
        """That folder as seen from where the plugin is installed: package/…/weights."""
        return "/".join(self.weights.parts[-3:]) if self.weights else ""

    @property
    def autoencoder(self) -> str | None:
        """The class of the base's autoencoder if it is one that diffusers does not have."""
        if self.weights is None:
            return None
        name = json.loads((self.weights / "vae" / "config.json").read_text())["_class_name"]
        return None if name == "AutoencoderKLWan" else name

    @property
    def licence(self) -> Licence:
        """The licence of the base, which an adapter is a derivative of."""
        if self.embedded:
            return Licence("mit")
        if self.repository and self.repository.lower().startswith("nvidia/cosmos"):
            return Licence("other", "nvidia-open-model-license", NVIDIA_LINK)
        return Licence("unknown")

    @property
    def is_cosmos(self) -> bool:
        """Whether the base is one of NVIDIA's Cosmos models."""
        return self.licence.link == NVIDIA_LINK

    @property
    def words(self) -> str:
        """The base in words, for the card."""
        weights = "random weights" if self.random else "trained weights"
        if self.embedded:
            return f"the embedded {self.builder} model of cosmos_exp ({weights})"
        if self.repository:
            return f"`{self.repository}`" + (f", revision `{self.revision}`" if self.revision else "")
        return f"a model in a folder ({weights})"


def entries(value: object) -> JsonObject:
    """The entries of a part of a record; none if it is something else: keys that no check knows may hold anything."""
    return value if isinstance(value, dict) else {}


def base_of(run: Run, header: AdapterFile) -> Base:
    """The base model of a run, from its records alone: nothing that they name is opened."""
    model, record = run.settings.model, run.manifest.get("model", {})
    prints = record.get("fingerprints") or header.record.get("fingerprints") or {}
    random = bool(record.get("random_weights"))
    repository, revision, local = None, None, False
    if model.source != "embedded":
        local = not comes_from_hub(run)
        found = known_repository(model) if local else (model.source, model.revision)
        if found and not random:
            repository, revision = found
    return Base(
        repository,
        revision,
        local,
        model.source == "embedded",
        random,
        one_line(prints.get("transformer", "")),
        model.builder or "",
    )


def comes_from_hub(run: Run) -> bool:
    """Whether `model.source` of a run names a repository of the hub, and no folder of the same name."""
    source = run.settings.model.source
    path = run.manifest.get("model", {}).get("path")
    in_cache = path is None or f"models--{source.replace('/', '--')}" in str(path)
    return bool(_REPOSITORY.fullmatch(source)) and in_cache


def known_repository(model: Model) -> tuple[str, str | None] | None:
    """Repository and revision of a shipped model, for one of its name that was read from a folder."""
    if model.name not in group_choices()["model"]:
        return None
    shipped = compose_config([f"model={model.name}"]).model
    return (shipped.source, shipped.revision) if _REPOSITORY.fullmatch(shipped.source) else None
