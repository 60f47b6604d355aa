"""What is published: the adapters of a run or of a sweep, checked, with the results that stand beside them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cosmos_exp.config.adapter_file import AdapterFile, read_adapter
from cosmos_exp.errors import UserError
from cosmos_exp.publish.base import Base, base_of, comes_from_hub
from cosmos_exp.publish.neutral import private_names, recorded_paths
from cosmos_exp.report.comparisons import check_comparable
from cosmos_exp.report.runs import Run
from cosmos_exp.report.study import Study, load_study
from cosmos_exp.report.verify import trained_findings
from cosmos_exp.run_folder import ADAPTER_NAME, RunFolder
from cosmos_exp.text import one_line

_UNUSUAL = re.compile(r"[^\w.+=, ()/-]")  # characters that a table or a heading could take for markup


@dataclass(frozen=True)
class Arm:
    """An adapter that is published.

    name: as the tables show it.
    place: its folder in the published one; empty for a single run.
    file: its adapter file.
    """

    name: str
    place: str
    run: Run
    file: Path
    header: AdapterFile


@dataclass(frozen=True)
class Source:
    """What a card and its folder are made from.

    title: of the card.
    is_sweep: several adapters, each in a folder of its own.
    base: the model that the adapters belong to.
    study: all runs with their scores.
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
    study = load_study(path)
    if study.damages:
        raise UserError(study.damages[0])
    runs = [study.records[name] for name in study.runs.index[study.runs["phase"] == study.phase]]
    is_sweep = path.absolute() not in [run.folder.path for run in runs]
    adapted = [run for run in runs if not run.is_base]
    if not adapted:
        raise UserError(_no_adapter(path, is_sweep))
    for run in runs:
        _check_finished(run)
    if not is_sweep:
        study = load_study(path, beside=_bases_beside(adapted[0]))
    study = _with_plain_names(study)
    arms = []
    for name in study.arms.index[~study.arms["is_base"]]:
        own = [run for run in study.records.values() if run.arm == name]
        arms += [_arm(path, run, is_sweep, len(own)) for run in own]
    base_runs = study.runs_of(study.base)
    runs = [*(arm.run for arm in arms), *base_runs]
    paths = [path for run in runs for path in recorded_paths(run.config, comes_from_hub(run))]
    names = private_names([part for run in runs for part in (run.manifest, run.config)], paths)
    base = base_of(arms[0].run, arms[0].header)
    _check_one_base(arms)
    title = path.absolute().name if is_sweep else plain_name(f"{arms[0].run.settings.name} {arms[0].name}")
    return Source(title, is_sweep, arms, study, base, next(iter(base_runs), None), names)


def plain_name(name: str) -> str:
    """A name of a run without characters that could be markup."""
    return _UNUSUAL.sub("_", one_line(name))


def _with_plain_names(study: Study) -> Study:
    """The study with names of arms that no table takes for markup. They stay unique."""
    names: dict[str, str] = {}
    for name in study.arms.index:
        plain = plain_name(name)
        names[name] = f"{plain} {len(names)}" if plain in names.values() else plain
    for run in study.records.values():
        run.arm = names.get(run.arm, run.arm)
    frames = {"arms": study.arms.rename(index=names)}
    for frame in ("runs", "scores", "means", "differences", "drift"):
        renamed = dict.fromkeys(["arm", "reference"][: 1 + (frame == "differences")], names)
        frames[frame] = getattr(study, frame).replace(renamed)
    return replace(study, **frames)


def _no_adapter(path: Path, is_sweep: bool) -> str:
    what = (
        "none of its runs has an adapter" if is_sweep else "adapter.kind=none: the base model has no adapter to publish"
    )
    return f"{path}: {what}. Name a run that trained one (adapter=lora, adapter=dora), or the folder of a sweep."


def _check_finished(run: Run) -> None:
    state, folder = run.status.get("state", "?"), run.folder.path
    if state == "done":
        return
    if state == "running":
        fix = f"Wait for it; if nothing runs, resume it with `cosmos-exp run run_dir={folder}`"
    else:
        fix = f"Resume it with `cosmos-exp run run_dir={folder}`"
    raise UserError(f"{folder}: the run is not finished ({state}). {fix}, or publish the finished runs one by one.")


def _bases_beside(run: Run) -> list[Run]:
    """The first finished run of the base beside a run whose scores are comparable with its own."""
    for status in sorted(run.folder.path.parent.glob("*/status.json")):
        other = Run(RunFolder(status.parent))
        try:
            other.check()
            if other.is_base and other.finished:
                check_comparable([run, other])
                return [other]
        except UserError:  # a damaged or another neighbour is no part of this run
            continue
    return []


def _arm(path: Path, run: Run, is_sweep: bool, siblings: int) -> Arm:
    """The adapter of a finished run, checked as a run checks its own.

    Raises:
        UserError: it is missing, was changed since the training, or is not fit for use.
    """
    folder = run.folder
    scored = dict.fromkeys(f"videos/{row['video']}" for row in run.scores)
    lost = [name for name in scored if not folder.recorded(name).is_file()]
    lost = [] if len(lost) == len(scored) else lost  # without any video the card shows how to make one
    lost += [] if folder.metrics.is_file() else [folder.metrics.name]
    if lost:
        raise UserError(
            f"{folder.path}/{lost[0]}: no such file ({len(lost)} missing). Resume the run, which makes it again: "
            f"cosmos-exp run run_dir={folder.path}"
        )
    file = folder.recorded(ADAPTER_NAME)
    if not file.is_file():
        raise UserError(
            f"{file}: no such file. Resume the run, which writes it again: cosmos-exp run run_dir={folder.path}"
        )
    wrong = [words for words in trained_findings(run, videos=False) if words.startswith(ADAPTER_NAME)]
    if wrong:
        raise UserError(
            f"{folder.path}/{wrong[0]}. The scores of this run are not those of this file. Put the trained file back, or delete "
            "it and resume the run."
        )
    model = run.settings.model
    known = model.source == "embedded" or comes_from_hub(run)  # the folder that a record names is not opened
    header = read_adapter(file, model=model.updated({"source": "embedded"}) if known else None)
    name, place = run.arm, ""
    if is_sweep:
        place = plain_name(folder.path.relative_to(path.absolute()).as_posix()).replace(" ", "_")
        name = name if siblings == 1 else f"{name} seed {run.seed}"
    return Arm(name, place, run, file, header)


def _check_one_base(arms: Sequence[Arm]) -> None:
    """Check that all adapters belong to one base model: a card names one.

    Raises:
        UserError: they do not.
    """
    first = arms[0]
    for arm in arms[1:]:
        if _model(arm.run) != _model(first.run):
            raise UserError(
                f"{first.run.folder.path.name} and {arm.run.folder.path.name} have different base models. Publish the runs of "
                "each base by themselves."
            )


def _model(run: Run) -> object:
    record = run.manifest.get("model", {})
    return record.get("fingerprints") or [run.config.get("model", {}).get(k) for k in ("source", "revision")]
