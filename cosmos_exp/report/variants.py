"""Run folders grouped into variants: runs of one configuration that differ only in their training seed."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import cast

from cosmos_exp.config.hashing import with_added_keys
from cosmos_exp.config.measures import MEASURES
from cosmos_exp.config.record import load_config, plain_config
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject, read_json
from cosmos_exp.report.copies import mark_copies
from cosmos_exp.run_folder import REFERENCES, SWEEP_FILE, RunFolder
from cosmos_exp.run_folder.records import check_record, damaged, read_rows
from cosmos_exp.statistics.cells import VideoKey
from cosmos_exp.statistics.scores import ScoreRow, read_scores
from cosmos_exp.text import plain_json


@dataclass
class Run:
    """One run folder, each file read once.

    copy_of: the run of the same variant whose training it repeats, and what shows it; such a run does not count.
    """

    folder: RunFolder
    copy_of: tuple[Run, str] | None = None
    _references: dict[str, list[ScoreRow]] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def config(self) -> JsonObject:
        content = plain_config(self.folder.config)
        check_record(self.folder.config, content)
        return plain_json(content)

    @cached_property
    def settings(self) -> Config:
        """The configuration, checked."""
        return load_config(self.folder.config)

    @cached_property
    def manifest(self) -> JsonObject:
        return self.folder.manifest

    @cached_property
    def status(self) -> JsonObject:
        return self.folder.status

    @cached_property
    def metrics(self) -> JsonObject:
        return self.folder.read(self.folder.metrics)

    @cached_property
    def scores(self) -> list[ScoreRow]:
        return read_scores(self.folder.scores)

    def check(self) -> None:
        """Read every record of the run.

        Raises:
            UserError: the first that is damaged.
        """
        self.folder.check()
        _ = self.config, self.scores, *map(self.references, REFERENCES)
        for file in (self.folder.config, *([self.folder.scores] if self.finished else [])):
            if file.is_file() and not file.read_bytes().endswith(b"\n"):
                raise damaged(file, "it is cut short")

    @property
    def scenes(self) -> dict[str, str]:
        """The scene of each prompt: prompts with the same first frame have the same one. Empty for old run folders."""
        return self.manifest.get("data", {}).get("scenes") or {}

    @cached_property
    def losses(self) -> list[object]:
        """The loss of each step of the training log."""
        return [row.get("loss") for row in read_rows(self.folder.train_log)]

    @property
    def video_hashes(self) -> dict[str, str]:
        """The recorded hash of each generated video by its name; empty for old run folders."""
        found = self.manifest.get("evaluated", {}).get("videos", {})
        return {name: digest for name, digest in found.items() if name.startswith("videos/")}

    @property
    def training_identity(self) -> str:
        """Fingerprint of all that decides the adapter, with the training seed."""
        groups = ("adapter", "model", "data", "training", "approximate")
        return fingerprint([self.seed, *(with_added_keys(k, self.config.get(k) or {}) for k in groups)])

    def references(self, kind: str) -> list[ScoreRow]:
        """The scores of the run's references of a kind, real or frozen."""
        if kind not in self._references:
            self._references[kind] = read_scores(self.folder.reference_scores(kind))
        return self._references[kind]

    @property
    def finished(self) -> bool:
        return self.status.get("state") == "done"

    @property
    def seed(self) -> int:
        return int(self.config.get("seed", 0))

    @property
    def is_tuning(self) -> bool:
        """Whether the run has no test videos: it belongs to the first phase of a sweep."""
        return (self.config.get("generation") or {}).get("split", "test") != "test"

    @property
    def adapter(self) -> JsonObject:
        """The `adapter` group of the configuration; old run folders may lack keys."""
        return self.config.get("adapter") or {}

    @property
    def is_base(self) -> bool:
        return self.adapter.get("kind") == "none"


@dataclass
class Variant:
    """Runs of one configuration with several training seeds.

    arm: its entry in the record of a sweep by arms; empty for other runs.
    """

    name: str
    runs: list[Run] = field(default_factory=list)
    arm: JsonObject = field(default_factory=dict)

    @property
    def tuned(self) -> JsonObject:
        """The keys that were tuned for this variant alone, with their values."""
        return self.arm.get("tuned") or {}

    @property
    def truncated_from(self) -> str | None:
        """The variant whose adapters were cut to this one's rank; None if it was trained."""
        return self.arm.get("truncated_from")

    @property
    def adapter(self) -> JsonObject:
        return self.runs[0].adapter

    @property
    def is_base(self) -> bool:
        return self.runs[0].is_base

    @property
    def done(self) -> list[Run]:
        """The finished runs that count: each training once."""
        return [r for r in self.runs if r.finished and r.copy_of is None]

    def rows(self) -> list[ScoreRow]:
        """All scores of the finished runs, with the training seed of the run."""
        return [{**row, "run_seed": r.seed} for r in self.done for row in r.scores]

    def values(self, measure: str) -> dict[VideoKey, float | None]:
        """The values of one measure by video."""
        return {
            (row["sample"], (row["seed"], run.seed)): row["value"]
            for run in self.done
            for row in run.scores
            if row["measure"] == measure
        }

    def training(self, name: str) -> list[float]:
        """One entry of the training summary, for each finished run that has it."""
        values = [r.metrics.get("training", {}).get(name) for r in self.done]
        return [float(v) for v in values if v is not None]


def find_runs(folder: Path) -> list[RunFolder]:
    """All run folders at or below a folder, by path.

    Raises:
        UserError: There are none.
    """
    found = [run for run in _with_status(folder) if run.config.is_file()]
    if not found:
        raise UserError(f"{folder}: no runs found (a run folder contains config.yaml and status.json)")
    return [run for run in found if not _is_set_aside(run.path, folder)]


def _with_status(folder: Path) -> list[RunFolder]:
    if not folder.is_dir():
        wrong = "is a file" if folder.exists() else "the folder does not exist"
        raise UserError(f"{folder}: {wrong}. Give a run folder, or a folder with runs.")
    return [RunFolder(p.parent) for p in sorted(folder.rglob("status.json"))]


@dataclass(frozen=True)
class Unreadable:
    """A run folder with a damaged record, and what is wrong with it."""

    folder: RunFolder
    reason: str

    @property
    def note(self) -> str:
        """A sentence for a report, without the place of the folder on this machine."""
        return f"{self.folder.path.name}: not reported: {self.reason.replace(f'{self.folder.path}/', '')}"


def readable_runs(folder: Path) -> tuple[list[Run], list[Unreadable]]:
    """The runs of `find_runs` whose records can all be read, with what was read, and the others.

    Raises:
        UserError: There are no runs, or none can be read.
    """
    good: list[Run] = []
    bad = [
        Unreadable(run, f"{run.config} is missing")
        for run in _with_status(folder)
        if not run.config.exists() and not _is_set_aside(run.path, folder)
    ]
    for run in map(Run, find_runs(folder)):
        try:
            run.check()
            good.append(run)
        except UserError as error:
            bad.append(Unreadable(run.folder, str(error)))
    if not good:
        raise UserError("\n".join(b.reason for b in bad))
    return good, bad


def _is_set_aside(run: Path, top: Path) -> bool:
    """Whether a run lies in the folder of a sweep by arms and is none of its tests: a tuning run, or an earlier choice.

    Args:
        top: the folder that is reported; a record above it does not count, so that tuning runs can be looked at.
    """
    run, top = run.absolute(), top.absolute()
    inside = run.relative_to(top)
    records = [(top / parent, read_sweep(top / parent)) for parent in inside.parents]
    return any(
        record and str(run.relative_to(folder)) not in {r for arm in record["arms"] for r in arm["runs"]}
        for folder, record in records
    )


def read_sweep(folder: Path) -> JsonObject:
    """The record of a sweep by arms (sweep.json); empty if the folder has none.

    Raises:
        UserError: the record cannot be read.
    """
    file = folder / SWEEP_FILE
    if not file.is_file():
        return {}
    try:
        record = cast(JsonObject, read_json(file))
        arms = [{**a, "name": _text(a["name"]), "runs": [_text(r) for r in a["runs"]]} for a in record["arms"]]
        return record | {"arms": arms}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file}: not a record of a sweep ({error}). Remove it; `cosmos-exp sweep` writes it again."
        ) from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:40]} is no name")
    return value


def group_runs(folders: list[RunFolder]) -> list[Variant]:
    """`variants_of` run folders."""
    return variants_of([Run(folder) for folder in folders])


def variants_of(runs: list[Run]) -> list[Variant]:
    """The variants of the runs: the base first, then by kind, rank and name. Names are unique."""
    found: dict[str, Variant] = {}
    arms: dict[Path, JsonObject] = {}
    for run in runs:
        folder, parent = run.folder, run.folder.path.parent
        if parent not in arms:
            arms[parent] = {r: arm for arm in read_sweep(parent).get("arms", []) for r in arm["runs"]}
        arm = arms[parent].get(folder.path.name, {})
        key = _identity(run) + str(arm.get("name", ""))
        found.setdefault(key, Variant(arm.get("name") or _name(run), arm=arm)).runs.append(run)
    taken: dict[str, int] = {}
    for variant in found.values():
        variant.runs.sort(key=lambda r: (r.seed, str(r.folder.path)))
        if len(variant.runs) > 1 and not variant.is_base:
            mark_copies(variant.runs)
        taken[variant.name] = taken.get(variant.name, 0) + 1
        if taken[variant.name] > 1:
            path = variant.runs[0].folder.path
            variant.name = f"{variant.name} ({path.parent.name}/{path.name})"

    def order(v: Variant) -> tuple[bool, str, bool, int, str]:
        cut = v.truncated_from is not None
        return (not v.is_base, str(v.adapter.get("kind")), cut, v.adapter.get("rank", 0), v.name)

    return sorted(found.values(), key=order)


def scenes_of(variants: list[Variant]) -> dict[str, str]:
    """The scene of each prompt that one of the finished runs knows."""
    return {sample: scene for v in variants for run in v.done for sample, scene in run.scenes.items()}


def measures_of(variants: list[Variant]) -> list[str]:
    """The measures that at least one variant has, in the order of the tables."""
    found = {r["measure"] for v in variants for run in v.done for r in run.scores}
    return [m for m in MEASURES if m in found] + sorted(found - set(MEASURES))


def fingerprint(content: object) -> str:
    """A short hash of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _identity(run: Run) -> str:
    """Fingerprint of everything in the configuration that can change a result, except the training seed."""
    keys = ("adapter", "model", "data", "training", "generation", "approximate")
    content: JsonObject = {k: with_added_keys(k, run.config.get(k) or {}) for k in keys}
    if run.is_base:
        content["adapter"] = content["training"] = None
    elif run.adapter.get("truncate_from"):  # the folder of the same arm with this run's seed
        content["adapter"] = {k: v for k, v in run.adapter.items() if k != "truncate_from"} | {"truncated": True}
    return fingerprint(content)


def _name(run: Run) -> str:
    """The name of the folder for a run of a sweep, else the name of its adapter."""
    path = run.folder.path
    if path.parent.parent.name == "sweeps" or path.name.startswith(("base", "lora-r", "dora-r")):
        return re.sub(r"-seed\d+(?=-|$)", "", path.name)
    return "base" if run.is_base else f"{run.adapter.get('kind')}-r{run.adapter.get('rank')}"
