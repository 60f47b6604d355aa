"""What a process of its own does: one run, or one of a run's processes. Started by `launching`."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback

from cosmos_exp.config.schema import Config
from cosmos_exp.distributed import PeerLost
from cosmos_exp.errors import DamagedError, DiskError, Interrupted, UserError
from cosmos_exp.experiment.process_group import LOST
from cosmos_exp.experiment.run import run
from cosmos_exp.report.terminal import print_runs
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.text import printable, redact


def work(config: Config) -> int:
    """Run a configuration. Returns the exit code; status.json has the reason."""
    folder = RunFolder(str(config.run_dir))
    alone = "WORLD_SIZE" not in os.environ  # else the launching process reports how the run ended
    try:
        run(config)
    except PeerLost:
        return LOST  # the launching process knows which process ended first, and how
    except (Interrupted, KeyboardInterrupt) as error:
        if alone:
            print(f"interrupted: {error}\nResume with `cosmos-exp run run_dir={folder.path}`.", flush=True)
        return 1
    except UserError as error:
        if alone:
            print(f"cosmos-exp: {redact(printable(error))}", file=sys.stderr)
        with contextlib.suppress(DiskError, DamagedError):
            folder.record_failure(str(error))
        return error.exit_code
    except Exception:
        print(redact(traceback.format_exc()), file=sys.stderr, flush=True)
        return 1
    if alone:
        print_runs([folder])
    return 0
