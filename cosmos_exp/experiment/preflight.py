"""`cosmos-exp doctor`: can this machine do this run? Every line says what is there and, if it is not, how to mend it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import psutil

from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError
from cosmos_exp.provenance import environment
from cosmos_exp.tracking.wandb import chosen_mode


def _versions(config: Config) -> str:
    found = environment()
    return f"Python {found['python']}, " + ", ".join(f"{k} {v}" for k, v in found["packages"].items())


def _device(config: Config) -> str:
    import torch

    hardware = config.hardware
    if hardware.device == "cpu":
        return f"cpu, {psutil.cpu_count()} cores, {psutil.virtual_memory().available / 2**30:.1f} GiB of memory free"
    count = torch.cuda.device_count()
    if count < hardware.num_processes:
        raise UserError(f"{hardware.num_processes} GPUs asked for, {count} are here; choose another hardware=…")
    names = {torch.cuda.get_device_name(i) for i in range(count)}
    free = min(torch.cuda.mem_get_info(i)[0] for i in range(count)) / 2**30
    return f"{count} x {', '.join(names)}, at least {free:.1f} GiB free"


def _memory(config: Config) -> str:
    from cosmos_exp.experiment.dry_run import rows

    return dict(rows(config))["memory"]


def _disk(config: Config) -> str:
    from cosmos_exp.config.paths import cache_root

    words = []
    for path in (Path("outputs").absolute(), cache_root(config).absolute()):
        there = next(p for p in (path, *path.parents) if p.exists())
        free = shutil.disk_usage(there).free / 2**30
        if free < 2:
            raise UserError(f"{path}: {free:.1f} GiB free; make room or set cache_dir / run_dir elsewhere")
        words.append(f"{path}: {free:.0f} GiB free")
    return "; ".join(words)


def _weights(config: Config) -> str:
    from cosmos_exp.config.paths import cache_root
    from cosmos_exp.world.model_folder import resolve

    folder = resolve(config.model, cache_root(config))
    return f"{folder.path}" + (" (random weights: nothing was learned)" if folder.random else "")


def _data(config: Config) -> str:
    from cosmos_exp.data.dataset import locate

    return str(locate(config)[0])


def _guardrail(config: Config) -> str:
    from cosmos_exp.world.guardrail import check_guardrail

    return check_guardrail(config.model.guardrail)


def _wandb(config: Config) -> str:
    return chosen_mode(config.tracking.mode)


def _judge(config: Config) -> str:
    from cosmos_exp.hub import local_folder

    if config.judge.name != "reason2":
        return config.judge.name
    return str(local_folder(config.judge.source, config.judge.revision, "judge.source"))


CHECKS: dict[str, Callable[[Config], str]] = {
    "versions": _versions,
    "device": _device,
    "memory": _memory,
    "disk": _disk,
    "weights": _weights,
    "data": _data,
    "guardrail": _guardrail,
    "wandb": _wandb,
    "judge": _judge,
}


def preflight(config: Config) -> None:
    """Model files, data, devices, the judge, its rubrics and the matcher are there (fetched now if they can be), before anything is written.

    Raises:
        UserError: what is missing and how to mend it.
    """
    from cosmos_exp.config.paths import cache_root
    from cosmos_exp.data.dataset import locate
    from cosmos_exp.hub import local_folder
    from cosmos_exp.metrics.geometry.files import check_settings
    from cosmos_exp.metrics.judges.rubric import load_rubric
    from cosmos_exp.world.guardrail import check_guardrail
    from cosmos_exp.world.model_folder import resolve

    resolve(config.model, cache_root(config))
    check_guardrail(config.model.guardrail)
    if config.judge.name != "none":
        if config.judge.name == "reason2":
            local_folder(config.judge.source, config.judge.revision, "judge.source")
        for rubric in config.judge.rubrics:
            load_rubric(rubric)
    if config.sampson.enabled:
        check_settings(config.sampson)
    locate(config)
    if config.hardware.device == "cuda":
        import torch

        count = torch.cuda.device_count()
        if count < config.hardware.num_processes:
            raise UserError(
                f"hardware: {config.hardware.num_processes} GPUs asked for, {count} are here; "
                "choose another hardware=… (cpu, 1xh100, 8xh100, 1x24gb) or hardware.num_processes"
            )
