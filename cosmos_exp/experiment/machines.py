"""A run on several machines: which of them this is, where their processes meet, and whether they share what they must."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

from cosmos_exp.config.context import RunContext
from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.record import load_config
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.files import write_text

FIRST_PORT, PORTS = 20000, 20000  # of a Slurm job: first port + job id modulo the number of ports
PATIENCE = 30.0  # seconds until a network file system must show what another machine has written


def this_machine(count: int, environment: Mapping[str, str] = os.environ) -> tuple[int, str]:
    """The number of this machine, from 0, and `host:port` where all machines meet.

    They come from MASTER_ADDR, MASTER_PORT and NODE_RANK, and where these are not set from the variables of a Slurm step.

    Args:
        count: hardware.num_machines.

    Raises:
        UserError: it names what is missing, or what contradicts `count`.
    """
    where = f"hardware.num_machines={count}"
    given = {name: environment.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")}
    if "SLURM_NODEID" in environment and not given["NODE_RANK"]:
        nodes = environment.get("SLURM_STEP_NUM_NODES") or environment.get("SLURM_NNODES", "1")
        if int(nodes) != count or environment.get("SLURM_LOCALID", "0") != "0":
            raise UserError(
                f"{where}: the Slurm step runs on {nodes} node(s). It needs one task on each of {count} nodes: "
                f"srun --nodes={count} --ntasks-per-node=1; the command starts the processes of its node itself."
            )
        job = int(environment.get("SLURM_JOB_ID", "0"))
        hosts = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", "")
        slurm = {"MASTER_ADDR": first_host(hosts), "MASTER_PORT": str(FIRST_PORT + job % PORTS)}
        slurm["NODE_RANK"] = environment["SLURM_NODEID"]
        given = {name: value or slurm[name] for name, value in given.items()}
    missing = [name for name, value in given.items() if not value]
    if missing:
        raise UserError(
            f"{where}: {', '.join(missing)} not set. Start the same command on each machine: in a Slurm job with `srun "
            "--ntasks-per-node=1`, elsewhere with MASTER_ADDR (name or address of machine 0), MASTER_PORT (a free port of it) "
            "and NODE_RANK (0, 1, …) set."
        )
    rank, port = given["NODE_RANK"], given["MASTER_PORT"]
    if not rank.isdecimal() or int(rank) >= count:
        raise UserError(f"{where}: NODE_RANK={rank} must be a number from 0 to {count - 1}")
    if not port.isdecimal():
        raise UserError(f"{where}: MASTER_PORT={port} is not a number")
    return int(rank), f"{given['MASTER_ADDR']}:{port}"


def first_host(nodes: str) -> str:
    """The first host of a Slurm node list: `gpu[03-07,9],login` -> `gpu03`."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodes)
    return re.sub(r"\[([^-,\]]+)[^\]]*\]", r"\1", first.group(0)) if first else ""


def check_shared(context: RunContext) -> None:
    """Check that all machines have the same run folder, configuration and cache. All processes call it.

    Raises:
        RunError: a machine lacks the run folder or the cache of machine 0, or has another configuration.
    """
    config, processes = context.config, context.processes
    if config.hardware.num_machines == 1:
        return
    seen = cache_root(config) / f".seen-{stage_hash(config)}"
    if processes.is_main:
        write_text(seen, "a run on several machines checks that all of them see this file\n")
    processes.barrier()
    rank = processes.rank // config.hardware.num_processes
    for key, path in (("run_dir", context.folder.config), ("cache_dir", seen)):
        if not _appears(path):
            raise RunError(
                f"{key}: machine {rank} does not see {path} of machine 0. Set {key} to a folder that all machines share."
            )
    if stage_hash(load_config(context.folder.config)) != stage_hash(config):
        raise RunError(
            f"machine {rank} has another configuration than machine 0. Start the same command on all machines."
        )
    processes.barrier()
    if processes.is_main:
        seen.unlink(missing_ok=True)


def _appears(path: Path) -> bool:
    end = time.monotonic() + PATIENCE
    while not path.is_file():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True
