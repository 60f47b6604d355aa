"""Where a run belongs in a study: its sweep and its arm. The report and the dashboard name arms by this."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

from cosmos_exp.config.layers import adapter_label
from cosmos_exp.config.schema import Adapter
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject, read_json
from cosmos_exp.run_folder import SWEEP_FILE
from cosmos_exp.text import plain_json


def read_sweep(folder: Path) -> JsonObject:
    """The record of a sweep by arms (sweep.json); empty if the folder has none.

    Raises:
        UserError: the record cannot be read.
    """
    file = folder / SWEEP_FILE
    if not file.is_file():
        return {}
    try:
        record: JsonObject = plain_json(read_json(file))
        for arm in record["arms"]:
            for name in (arm["name"], *arm["runs"]):
                if not isinstance(name, str):
                    raise TypeError(f"{str(name)[:40]} is no name")
        return record
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file}: not a record of a sweep ({error}). Remove it; `cosmos-exp sweep` writes it again."
        ) from error


def arm_entry(run: Path, top: Path) -> JsonObject | None:
    """The entry of a run's arm in the sweep's record: {} without a record, None if the record does not list the run.

    Args:
        run: the run folder.
        top: The folder that is reported. A record above it leaves no run out.
    """
    for parent in run.parents[:2]:  # tuning runs are in a folder of their own
        record = read_sweep(parent)
        for arm in record.get("arms", []):
            if run.relative_to(parent).as_posix() in arm["runs"]:
                return cast(JsonObject, arm)
        if record:
            return None if parent.is_relative_to(top.absolute()) else {}
    return {}


def sweep_folder(run: Path) -> Path | None:
    """The folder of a run's sweep: it has a record, or is in outputs/sweeps. None for a single run."""
    for parent in run.parents[:2]:
        if parent.parent.name == "sweeps" or (parent / SWEEP_FILE).is_file():
            return parent
    return None


def arm_name(run: Path, entry: JsonObject, adapter: Adapter) -> str:
    """The name of a run's arm: of its entry in the sweep, else of its folder in a sweep, else of its adapter.

    Of a tuning run it is its folder's name: an arm with one value of each key of the grid.
    """
    if name := entry.get("name"):
        return str(name)
    if sweep_folder(run) or run.name.startswith(("base", "full", "lora-r", "dora-r")):
        return without_seed(run.name)
    return adapter_label(adapter)


def without_seed(name: str) -> str:
    """`lora-r8` for a run called lora-r8-seed1."""
    return re.sub(r"-seed\d+(?=-|$)", "", name)
