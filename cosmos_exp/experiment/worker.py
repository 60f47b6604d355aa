"""One of several processes of a run, started by `accelerate launch`: `python -m cosmos_exp.experiment.worker RUN_DIR`."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from cosmos_exp.config.record import load_config
from cosmos_exp.errors import UserError
from cosmos_exp.experiment.run import run_safely


def main(run_dir: str) -> int:
    """Run the configuration in the folder; the launcher reports the status that is written there."""
    config = load_config(Path(run_dir) / "config.yaml")
    config.run_dir = run_dir
    try:
        return run_safely(config)
    except UserError as error:
        return error.exit_code
    except Exception:
        traceback.print_exc()
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
