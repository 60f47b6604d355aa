"""What every stage of a run gets: the configuration, the run folder and the processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cosmos_exp.config.schema import Config
from cosmos_exp.run_folder import RunFolder

if TYPE_CHECKING:  # distributed imports torch, which the report must not
    from cosmos_exp.distributed import Processes


@dataclass(frozen=True)
class RunContext:
    """config: the checked configuration. folder: where results go. processes: this process among those of the run."""

    config: Config
    folder: RunFolder
    processes: Processes
