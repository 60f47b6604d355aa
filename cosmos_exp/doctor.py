"""`cosmos-exp doctor`: can this machine do this run? Every line says what is there and, if it is not, how to mend it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import psutil

from cosmos_exp.compose import compose_config
from cosmos_exp.config import Config
from cosmos_exp.errors import UserError
from cosmos_exp.run_folder import machine
from cosmos_exp.tracking.wandb import chosen_mode


def _versions(config: Config) -> str:
    found = machine()
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
    from cosmos_exp.plan import rows

    return dict(rows(config))["memory"]


def _disk(config: Config) -> str:
    from cosmos_exp.data.dataset import cache_root

    words = []
    for path in (Path("outputs").absolute(), cache_root(config).absolute()):
        there = next(p for p in (path, *path.parents) if p.exists())
        free = shutil.disk_usage(there).free / 2**30
        if free < 2:
            raise UserError(f"{path}: {free:.1f} GiB free; make room or set cache_dir / run_dir elsewhere")
        words.append(f"{path}: {free:.0f} GiB free")
    return "; ".join(words)


def _weights(config: Config) -> str:
    from cosmos_exp.data.dataset import cache_root
    from cosmos_exp.world.model_folder import resolve

    folder = resolve(config.model, cache_root(config))
    return f"{folder.path}" + (" (random weights: nothing was learned)" if folder.random else "")


def _data(config: Config) -> str:
    from cosmos_exp.data.dataset import locate

    return str(locate(config)[0])


def _guardrail(config: Config) -> str:
    from cosmos_exp.world.model_folder import check_guardrail

    return check_guardrail(config.model.guardrail)


def _wandb(config: Config) -> str:
    return chosen_mode(config.tracking.mode)


def _judge(config: Config) -> str:
    from cosmos_exp.hub import local_folder

    if config.judge.name != "reason2":
        return config.judge.name
    return str(local_folder(config.judge.source, config.judge.revision, "judge.source"))


CHECKS: dict[str, Callable[[Config], str]] = {
    "versions": _versions, "device": _device, "memory": _memory, "disk": _disk, "weights": _weights, "data": _data,
    "guardrail": _guardrail, "wandb": _wandb, "judge": _judge,
}  # fmt: skip


def main(overrides: list[str]) -> int:
    """Print a line a check. Exit code 1 if one fails."""
    config = compose_config(overrides)
    failed = False
    for name, check in CHECKS.items():
        try:
            print(f"ok    {name:10} {check(config)}")
        except UserError as error:
            failed = True
            print(f"FAIL  {name:10} {error}")
    return int(failed)
