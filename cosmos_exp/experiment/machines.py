"""A run on several machines: which of them this is, where their processes meet, and whether they share what they must."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cosmos_exp.config.context import RunContext
from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.record import load_config
from cosmos_exp.config.schema import Hardware
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.files import write_text
from cosmos_exp.provenance import variables

PORTS = (20000, 20000)  # of a Slurm job: first + job id modulo count
PATIENCE = 30.0  # seconds until a network file system must show what another machine has written

_FIX = (
    "Start the same command on each machine: in a Slurm job with `srun --ntasks-per-node=1`, elsewhere with MASTER_ADDR "
    "(name or address of machine 0), MASTER_PORT (a free port of it) and NODE_RANK (0, 1, …) set."
)


@dataclass(frozen=True)
class Machine:
    """One of the machines of a run.

    rank: its number, from 0.
    rendezvous: where all processes meet, as torch.distributed takes it.
    """

    rank: int
    rendezvous: str

    def variables(self, hardware: Hardware, local_rank: int) -> dict[str, str]:
        """The environment variables of one of this machine's processes; COSMOS_EXP_RENDEZVOUS is read by `distributed`."""
        here = hardware.num_processes
        return {
            "WORLD_SIZE": str(hardware.all_processes),
            "LOCAL_WORLD_SIZE": str(here),
            "RANK": str(self.rank * here + local_rank),
            "LOCAL_RANK": str(local_rank),
            "COSMOS_EXP_RENDEZVOUS": self.rendezvous,
        }


def this_machine(hardware: Hardware, environment: Mapping[str, str] = os.environ) -> Machine:
    """This machine, by MASTER_ADDR, MASTER_PORT and NODE_RANK if one of them is set, else by the variables of Slurm.

    Raises:
        UserError: it names what is missing, or what contradicts hardware.num_machines.
    """
    where, count = f"hardware.num_machines={hardware.num_machines}", hardware.num_machines
    if "SLURM_NODEID" in environment and "NODE_RANK" not in environment:
        return _of_slurm(where, count, environment)
    names = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    missing = [name for name in names if not environment.get(name)]
    if missing:
        raise UserError(f"{where}: {', '.join(missing)} not set. {_FIX}")
    address, port, rank = (environment[name] for name in names)
    for name, value in (("MASTER_PORT", port), ("NODE_RANK", rank)):
        if not value.isdecimal():
            raise UserError(f"{where}: {name}={value} is not a number. {_FIX}")
    if int(rank) >= count:
        raise UserError(f"{where}: NODE_RANK={rank} must be from 0 to {count - 1}")
    return Machine(int(rank), f"tcp://{address}:{port}")


def _of_slurm(where: str, count: int, environment: Mapping[str, str]) -> Machine:
    nodes = environment.get("SLURM_STEP_NUM_NODES") or environment.get("SLURM_NNODES", "1")
    if int(nodes) != count:
        raise UserError(
            f"{where}: the Slurm step runs on {nodes} node(s). Ask for {count} (hydra.launcher.nodes={count}, or srun --nodes="
            f"{count} --ntasks-per-node=1), or set hardware.num_machines={nodes}."
        )
    if environment.get("SLURM_LOCALID", "0") != "0":
        raise UserError(
            f"{where}: several tasks per node. The command starts its processes itself: srun --ntasks-per-node=1"
        )
    found = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST")
    address = environment.get("MASTER_ADDR") or (first_host(found) if found else None)
    if not address:
        raise UserError(f"{where}: neither SLURM_JOB_NODELIST nor MASTER_ADDR is set. {_FIX}")
    first, ports = PORTS
    port = environment.get("MASTER_PORT") or first + int(environment.get("SLURM_JOB_ID", "0")) % ports
    return Machine(int(environment["SLURM_NODEID"]), f"tcp://{address}:{port}")


@contextlib.contextmanager
def joined(hardware: Hardware) -> Iterator[None]:
    """Make this process its machine's part of the run while the block runs, unless it is one of the run's processes already.

    Raises:
        UserError: see `this_machine`.
    """
    if hardware.num_machines == 1 or "WORLD_SIZE" in os.environ:
        yield
        return
    with variables(this_machine(hardware).variables(hardware, 0)):
        yield


def first_host(nodes: str) -> str:
    """The first host of a Slurm node list: `gpu[03-07,9],login` -> `gpu03`."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodes)
    return re.sub(r"\[([^-,\]]+)[^\]]*\]", r"\1", first.group(0) if first else nodes)


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
