"""What is published: the adapter of a finished run with its scores, and the base model that it belongs to."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cosmos_exp.config.adapter_file import AdapterFile, find_adapter, kind_of, open_adapter
from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.paths import group_choices
from cosmos_exp.config.registry import VAE_CLASSES, WEIGHT_FOLDERS
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject, inside
from cosmos_exp.publish.neutral import private_names, recorded_paths
from cosmos_exp.report.comparisons import check_comparable
from cosmos_exp.report.runs import Run
from cosmos_exp.report.verify import trained_findings
from cosmos_exp.run_folder import ADAPTER_NAME, RunFolder
from cosmos_exp.text import one_line

NVIDIA_LICENCE = {
    "license": "other",
    "license_name": "nvidia-open-model-license",
    "license_link": "https://www.nvidia.com/en-us/agreements/enterprise-software/nvidia-open-model-license",
}
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Base:
    """A base model, from the records of a run alone: nothing that they name is opened.

    repository, revision: on the hub; None for the embedded model and for one that is only known as a folder.
    local: whether the run read it from a folder, so that repository and revision are those of its configuration's name.
    builder: what a plugin calls an embedded model; empty for others.
    random: its weights are random.
    fingerprint: of its transformer; empty if it was not recorded.
    """

    repository: str | None
    revision: str | None
    local: bool
    builder: str
    random: bool
    fingerprint: str

    @cached_property
    def weights(self) -> Path | None:
        """The folder of an embedded model's trained weights, which the plugin brings."""
        if self.random or not self.builder:
            return None
        folder: Path = WEIGHT_FOLDERS.get(self.builder)
        return folder

    @cached_property
    def autoencoder(self) -> str | None:
        """The class of the base's autoencoder if it is one that diffusers does not have."""
        if self.weights is None:
            return None
        name: str = json.loads((self.weights / "vae" / "config.json").read_text())["_class_name"]
        return None if name == "AutoencoderKLWan" else name

    @property
    def code(self) -> Path | None:
        """The file of that class, which is copied into the folder."""
        return VAE_CLASSES.source(self.autoencoder) if self.autoencoder else None

    @property
    def is_cosmos(self) -> bool:
        """Whether the base is one of NVIDIA's Cosmos models."""
        return (self.repository or "").lower().startswith("nvidia/cosmos")

    @property
    def licence(self) -> JsonObject:
        """The licence of the base, which an adapter is a derivative of, as the card's header says it."""
        if self.is_cosmos:
            return NVIDIA_LICENCE
        return {"license": "mit" if self.builder else "unknown"}


@dataclass(frozen=True)
class Source:
    """What a card and its folder are made from.

    base_run: a finished run of the base beside this one whose scores are comparable; None if there is none.
    names: of hosts and users, which are not published.
    """

    run: Run
    adapter: AdapterFile
    base: Base
    base_run: Run | None
    names: tuple[str, ...]


def load_source(path: Path) -> Source:
    """The run at a path.

    Raises:
        UserError: there is none, it is not finished, has no adapter, or has one that is not fit for use.
    """
    run = Run(RunFolder(path))
    if not run.folder.config.is_file():
        raise UserError(
            f"{path}: no config.yaml. Name the folder of a finished run; publish those of a sweep one by one."
        )
    run.check()
    if run.is_base:
        raise UserError(
            f"{path}: adapter.kind=none: the base model has no adapter to publish. Name a run that trained one."
        )
    if not run.finished:
        state = run.status.get("state", "?")
        raise UserError(f"{path}: the run is not finished ({state}). Resume it with `cosmos-exp run run_dir={path}`.")
    adapter, base_run = _adapter_of(run), _base_beside(run)
    paths = recorded_paths(run.settings, comes_from_hub(run)).values()
    return Source(run, adapter, _base_of(run, adapter), base_run, private_names(run.manifest, run.settings, paths))


def _adapter_of(run: Run) -> AdapterFile:
    """The adapter of a finished run.

    Raises:
        UserError: it is missing, was changed since the training, or is not fit for use.
    """
    findings = [finding for finding in trained_findings(run, videos=True) if finding.startswith("adapter/")]
    files = run.folder.adapter_files()
    if findings or not files:
        finding = next(iter(findings), f"{ADAPTER_NAME}: missing")
        raise UserError(
            f"{run.folder.path}/{finding}. Put the trained file back, or delete it and resume the run, which writes it again: "
            f"cosmos-exp run run_dir={run.folder.path}"
        )
    file = find_adapter(inside(run.folder.path, "adapter"))
    if kind_of(file) not in ("lora", "full"):
        raise UserError(
            f"{file}: {kind_of(file)} of peft, which diffusers does not load. Publish the merged model instead: cosmos-exp "
            f"adapter merge {run.folder.path} --out DIR"
        )
    model = run.settings.model
    if comes_from_hub(run):
        model = model.updated({"source": "embedded"})  # a folder that a record names is not opened
    return open_adapter(file, model=model if model.source == "embedded" else None)


def _base_beside(run: Run) -> Run | None:
    """The first finished run of the base beside a run whose scores are comparable with its own."""
    for status in sorted(run.folder.path.parent.glob("*/status.json")):
        other = Run(RunFolder(status.parent))
        try:
            other.check()
            if other.is_base and other.finished:
                check_comparable([run, other])
                return other
        except UserError:  # a stale or another neighbour is no part of this run
            continue
    return None


def _base_of(run: Run, adapter: AdapterFile) -> Base:
    model, record = run.settings.model, run.manifest.get("model", {})
    fingerprints = record.get("fingerprints") or adapter.record.get("fingerprints") or {}
    fingerprint, random = one_line(fingerprints.get("transformer", "")), bool(record.get("random_weights"))
    if model.source == "embedded":
        return Base(None, None, False, model.builder or "", random, fingerprint)
    local = not comes_from_hub(run)
    if local and model.name in group_choices()["model"]:  # a shipped model's name, read from a folder
        model = compose_config([f"model={model.name}"]).model
    if random or not _REPOSITORY.fullmatch(model.source) or (local and model is run.settings.model):
        return Base(None, None, local, "", random, fingerprint)
    return Base(model.source, model.revision, local, "", random, fingerprint)


def comes_from_hub(run: Run) -> bool:
    """Whether `model.source` of a run names a repository of the hub, and no folder of the same name."""
    source = run.settings.model.source
    path = run.manifest.get("model", {}).get("path")
    in_cache = path is None or f"models--{source.replace('/', '--')}" in str(path)
    return bool(_REPOSITORY.fullmatch(source)) and in_cache
