"""What is published: the adapters of a run or of a sweep with their results, and the base model that they belong to."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

from cosmos_exp.config.adapter_file import AdapterFile, read_adapter
from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.paths import group_choices
from cosmos_exp.config.registry import WEIGHT_FOLDERS
from cosmos_exp.config.schema import Model
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject
from cosmos_exp.publish.neutral import private_names, recorded_paths
from cosmos_exp.report.comparisons import check_comparable
from cosmos_exp.report.runs import Run, read_runs
from cosmos_exp.report.study import Study, load_study
from cosmos_exp.report.verify import trained_findings
from cosmos_exp.run_folder import ADAPTER_NAME, RunFolder
from cosmos_exp.text import one_line

NVIDIA_LICENCE = {
    "license": "other",
    "license_name": "nvidia-open-model-license",
    "license_link": "https://www.nvidia.com/en-us/agreements/enterprise-software/nvidia-open-model-license",
}
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_UNUSUAL = re.compile(r"[^\w.+=, ()/-]")  # characters that a table or a heading could take for markup


@dataclass(frozen=True)
class Base:
    """A base model, from the records of a run alone.

    repository: on the hub; None for the embedded model and for one that is only known as a folder.
    revision: branch, tag or commit there.
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

    @property
    def weights(self) -> Path | None:
        """The folder of an embedded model's trained weights, which the plugin brings."""
        if self.random or not self.builder:
            return None
        folder: Path = WEIGHT_FOLDERS.get(self.builder)
        return folder

    @property
    def shown_weights(self) -> str:
        """That folder as seen from where the plugin is installed: package/…/weights."""
        return "/".join((self.weights or Path()).parts[-3:])

    @property
    def autoencoder(self) -> str | None:
        """The class of the base's autoencoder if it is one that diffusers does not have."""
        if self.weights is None:
            return None
        name: str = json.loads((self.weights / "vae" / "config.json").read_text())["_class_name"]
        if name == "AutoencoderKLWan":
            return None
        return name

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
class Arm:
    """An adapter that is published.

    name: as the tables show it.
    place: its folder in the published one; empty for a single run.
    """

    name: str
    place: str
    run: Run
    adapter: AdapterFile


@dataclass(frozen=True)
class Source:
    """What a card and its folder are made from.

    title: of the card.
    is_sweep: several adapters, each in a folder of its own.
    study: all runs with their scores.
    base: the model that the adapters belong to.
    base_run: the evaluation of the base alone; None if there is none.
    names: of hosts and users, which are not published.
    """

    title: str
    is_sweep: bool
    arms: list[Arm]
    study: Study
    base: Base
    base_run: Run | None
    names: tuple[str, ...]


def load_source(path: Path) -> Source:
    """The run, or the sweep, at a path.

    Raises:
        UserError: there is none, a run is not finished, has no adapter, or has one that is not fit for use.
    """
    runs, damages = read_runs(path)
    if damages:
        raise UserError(damages[0])
    is_sweep = path.absolute() != runs[0].folder.path
    if all(run.is_base for run in runs):
        raise UserError(
            f"{path}: adapter.kind=none: the base model has no adapter to publish. Name a run that trained one "
            "(adapter=lora, adapter=dora), or the folder of a sweep."
        )
    for run in runs:
        _check_finished(run)
    beside = [] if is_sweep else _bases_beside(runs[0])
    study = _with_plain_names(load_study(path, beside=beside))
    arms = []
    for name in study.arms.index[~study.arms["is_base"]]:
        runs_of_arm = study.runs_of(name)
        for run in runs_of_arm:
            shown, place = name, ""
            if len(runs_of_arm) > 1:
                shown = f"{name} seed {run.seed}"
            if is_sweep:
                place = plain_name(run.folder.path.relative_to(path.absolute()).as_posix()).replace(" ", "_")
            arms.append(Arm(shown, place, run, _adapter_of(run)))
    _check_one_base(arms)
    title = path.absolute().name
    if not is_sweep:
        title = plain_name(f"{arms[0].run.settings.name} {arms[0].name}")
    base_runs = study.runs_of(study.base)
    names = _private_names([*(arm.run for arm in arms), *base_runs])
    base_run = next(iter(base_runs), None)
    return Source(title, is_sweep, arms, study, base_of(arms[0].run, arms[0].adapter), base_run, names)


def _private_names(runs: list[Run]) -> tuple[str, ...]:
    records = []
    paths: list[str] = []
    for run in runs:
        records += [run.manifest, run.config]
        paths += recorded_paths(run.config, comes_from_hub(run)).values()
    return private_names(records, paths)


def plain_name(name: str) -> str:
    """A name of a run without characters that could be markup."""
    return _UNUSUAL.sub("_", one_line(name))


def _with_plain_names(study: Study) -> Study:
    """The study with names of arms that no table takes for markup. They stay unique."""
    names: dict[str, str] = {}
    for name in study.arms.index:
        plain = plain_name(name)
        if plain in names.values():
            plain = f"{plain} {len(names)}"
        names[name] = plain
    for run in study.records.values():
        run.arm = names.get(run.arm, run.arm)
    frames = {"arms": study.arms.rename(index=names)}
    for frame in ("runs", "scores", "means", "differences", "drift"):
        frames[frame] = getattr(study, frame).replace({"arm": names, "reference": names})
    return replace(study, **frames)


def _check_finished(run: Run) -> None:
    state, folder = run.status.get("state", "?"), run.folder.path
    if state != "done":
        raise UserError(
            f"{folder}: the run is not finished ({state}). Wait for it, or resume it with `cosmos-exp run run_dir={folder}`, or "
            "publish the finished runs one by one."
        )


def _bases_beside(run: Run) -> list[Run]:
    """The first finished run of the base beside a run whose scores are comparable with its own."""
    for status in sorted(run.folder.path.parent.glob("*/status.json")):
        other = Run(RunFolder(status.parent), arm="base")
        try:
            other.check()
            if other.is_base and other.finished:
                check_comparable([run, other])
                return [other]
        except UserError:  # a damaged or another neighbour is no part of this run
            continue
    return []


def _adapter_of(run: Run) -> AdapterFile:
    """The adapter of a finished run.

    Raises:
        UserError: it is missing, was changed since the training, or is not fit for use.
    """
    folder = run.folder
    file = folder.recorded(ADAPTER_NAME)
    findings = [finding for finding in trained_findings(run, videos=True) if finding.startswith(ADAPTER_NAME)]
    if not file.is_file():
        findings = [f"{ADAPTER_NAME}: missing"]
    if findings:
        raise UserError(
            f"{folder.path}/{findings[0]}. Put the trained file back, or delete it and resume the run, which writes it again: "
            f"cosmos-exp run run_dir={folder.path}"
        )
    model = run.settings.model
    if model.source == "embedded":
        return read_adapter(file, model=model)
    if comes_from_hub(run):  # a folder that a record names is not opened
        return read_adapter(file, model=model.updated({"source": "embedded"}))
    return read_adapter(file)


def _check_one_base(arms: list[Arm]) -> None:
    """Check that all adapters belong to one base model: a card names one.

    Raises:
        UserError: they do not.
    """
    first = arms[0].run
    for arm in arms:
        if _model(arm.run) != _model(first):
            raise UserError(
                f"{first.folder.path.name} and {arm.run.folder.path.name} have different base models. Publish the runs of each "
                "base by themselves."
            )


def _model(run: Run) -> object:
    model = run.settings.model
    return run.manifest.get("model", {}).get("fingerprints") or (model.source, model.revision)


def base_of(run: Run, adapter: AdapterFile) -> Base:
    """The base model of a run, from its records alone: nothing that they name is opened."""
    model, record = run.settings.model, run.manifest.get("model", {})
    fingerprints = record.get("fingerprints") or adapter.record.get("fingerprints") or {}
    fingerprint, random = one_line(fingerprints.get("transformer", "")), bool(record.get("random_weights"))
    if model.source == "embedded":
        return Base(None, None, False, model.builder or "", random, fingerprint)
    local = not comes_from_hub(run)
    repository: str | None = model.source
    revision: str | None = model.revision
    if local:
        repository, revision = known_repository(model)
    if random:
        repository = revision = None
    return Base(repository, revision, local, "", random, fingerprint)


def comes_from_hub(run: Run) -> bool:
    """Whether `model.source` of a run names a repository of the hub, and no folder of the same name."""
    source = run.settings.model.source
    path = run.manifest.get("model", {}).get("path")
    in_cache = path is None or f"models--{source.replace('/', '--')}" in str(path)
    return bool(_REPOSITORY.fullmatch(source)) and in_cache


def known_repository(model: Model) -> tuple[str | None, str | None]:
    """Repository and revision of a shipped model, for one of its name that was read from a folder; None if there is none."""
    if model.name in group_choices()["model"]:
        shipped = compose_config([f"model={model.name}"]).model
        if _REPOSITORY.fullmatch(shipped.source):
            return shipped.source, shipped.revision
    return None, None
