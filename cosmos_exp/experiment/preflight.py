"""Can this machine do this run? One list of checks for `doctor`, `dry_run` and `run`.

The checks download, render and write nothing. `ensure_inputs` gets what is missing; only `run` calls it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.registry import JUDGES
from cosmos_exp.config.schema import Config, Sampson
from cosmos_exp.data.location import ensure_data, find_data
from cosmos_exp.errors import UserError
from cosmos_exp.experiment.cost import check_memory, check_sizes, count_parameters, memory_row, positions
from cosmos_exp.experiment.data_plan import plan_data
from cosmos_exp.hub import ensure_folder, find_folder
from cosmos_exp.metrics.geometry.sampson import check_run_settings, ensure_matcher
from cosmos_exp.metrics.judges.rubric import load_rubrics
from cosmos_exp.provenance import environment
from cosmos_exp.run_folder import RunFolder, in_use
from cosmos_exp.tracking.wandb import check_login, chosen_mode
from cosmos_exp.world.guardrail import check_guardrail
from cosmos_exp.world.hardware import check_gpus
from cosmos_exp.world.model_folder import ensure_model, find_model

MIN_FREE_GIB = 2.0
ANY_RUBRIC = ("none", "reason2", "server")  # judges that take every rubric; their modules import torch


@dataclass(frozen=True)
class Finding:
    """The result of one check: what was found, or what is missing and how to get it."""

    name: str
    ok: bool
    text: str


def _versions(config: Config) -> str:
    found = environment()
    return f"Python {found['python']}, " + ", ".join(f"{k} {v}" for k, v in found["packages"].items())


def _device(config: Config) -> str:
    hardware = config.hardware
    if hardware.device == "cpu":
        free = psutil.virtual_memory().available / 2**30
        return f"cpu, {psutil.cpu_count()} cores, {free:.1f} GiB of memory free"
    count = check_gpus(hardware)
    import torch

    return f"{count} x {', '.join({torch.cuda.get_device_name(i) for i in range(count)})}"


def _memory(config: Config) -> str:
    counts = count_parameters(config)
    check_memory(config, counts, psutil.virtual_memory().available / 2**30)
    return memory_row(config, counts)


def _sizes(config: Config) -> str:
    return check_sizes(
        config, psutil.virtual_memory().total / 2**30, positions(find_model(config.model, cache_root(config)).path)
    )


def _disk(config: Config) -> str:
    found = []
    for key, path in (("run_dir", Path(config.run_dir or "outputs").absolute()), ("cache_dir", cache_root(config))):
        existing = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
        if not existing.is_dir():
            raise UserError(f"{key}: {path}: {existing} is a file. Set {key} to a folder.")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise UserError(f"{key}: {path}: you may not write in {existing}. Set {key} to another folder.")
        free = shutil.disk_usage(existing).free / 2**30
        if free < MIN_FREE_GIB:
            raise UserError(f"{key}: {path}: {free:.1f} GiB free. Free some space, or set {key} elsewhere.")
        found.append(f"{path}: {free:.0f} GiB free")
    return "; ".join(found)


def _records(config: Config) -> str:
    if not config.run_dir or not Path(config.run_dir).is_dir():
        return "a new run"
    folder = RunFolder(config.run_dir)
    folder.check()
    if folder.is_locked():
        raise UserError(in_use(folder.path))
    return f"those of {config.run_dir} can be read"


def _weights(config: Config) -> str:
    return find_model(config.model, cache_root(config)).text


def _data(config: Config) -> str:
    return find_data(config).text


def _guardrail(config: Config) -> str:
    return check_guardrail(config.model.guardrail)


def _sampson(config: Config) -> str:
    if not config.sampson.enabled:
        return "off"
    check_run_settings(config)
    return f"matcher {config.sampson.matcher}"


def _views(config: Config) -> str:
    """`_sampson` without the folder of the matcher's weights."""
    return _sampson(replace(config, sampson=replace(config.sampson, matcher_source=Sampson().matcher_source)))


def _rubrics(config: Config) -> str:
    judge = config.judge
    rubrics = load_rubrics(judge.rubrics) if judge.name != "none" else []
    if judge.name not in ANY_RUBRIC:
        check = getattr(JUDGES.get(judge.name), "check_rubric", None)
        for rubric in rubrics if check else ():
            check(rubric)
    return judge.name


def _judge(config: Config) -> str:
    name, judge = _rubrics(config), config.judge
    return find_folder(judge.source, judge.revision, "judge.source").text if name == "reason2" else name


def _wandb(config: Config) -> str:
    check_login(config.tracking.mode)
    return chosen_mode(config.tracking.mode)


def _videos(config: Config) -> str:
    return "; ".join(f"{value} {name}" for name, value in plan_data(config).rows())


# What a run needs. The text of the others is worth knowing, but they cannot stop a run.
REQUIRED: dict[str, Callable[[Config], str]] = {
    "weights": _weights,
    "guardrail": _guardrail,
    "judge": _judge,
    "sampson": _sampson,
    "data": _data,
    "device": _device,
    "sizes": _sizes,
    "disk": _disk,
    "records": _records,
    "wandb": _wandb,
}
# Those of the required checks whose result is the same on every machine, and those that concern one run folder.
ANYWHERE: dict[str, Callable[[Config], str]] = {"judge": _rubrics, "sampson": _views}
OF_ONE_FOLDER = ("records",)
INFORMATION: dict[str, Callable[[Config], str]] = {"versions": _versions, "memory": _memory}
# A dry run shows these in its plan, and a run finds them out in its first stage.
INSPECTION: dict[str, Callable[[Config], str]] = {"videos": _videos}
EVERYTHING = {**INFORMATION, **REQUIRED, **INSPECTION}


def findings(config: Config, checks: Mapping[str, Callable[[Config], str]] = REQUIRED) -> list[Finding]:
    """The result of every check."""
    results = []
    for name, check in checks.items():
        try:
            results.append(Finding(name, True, check(config)))
        except UserError as error:
            results.append(Finding(name, False, str(error)))
    return results


def check_inputs(config: Config) -> None:
    """Run the required checks, then download or render what is missing.

    Raises:
        UserError: it lists everything that is missing, before anything is written.
    """
    missing = [f.text for f in findings(config) if not f.ok]
    if missing:
        raise UserError("\n".join(missing))
    ensure_inputs(config)


def check_making(config: Config) -> None:
    """Run the checks of what makes and scores videos, without those of data and run folder, and get what is missing.

    Raises:
        UserError: it lists everything that is missing.
    """
    missing = []
    for name in ("weights", "guardrail", "judge", "sampson", "device"):
        try:
            REQUIRED[name](config)
        except UserError as error:
            missing.append(str(error))
    if missing:
        raise UserError("\n".join(missing))
    _ensure_making(config)


def ensure_inputs(config: Config) -> None:
    """Download or render what a run needs and this machine lacks.

    Raises:
        UserError: a download failed.
    """
    _ensure_making(config)
    ensure_data(config)


def _ensure_making(config: Config) -> None:
    """Download or build the model, the judge and the matcher."""
    ensure_model(config.model, cache_root(config))
    if config.judge.name == "reason2":
        ensure_folder(config.judge.source, config.judge.revision, "judge.source")
    if config.sampson.enabled:
        ensure_matcher(config.sampson)
