"""A run in a process of its own: Hydra, wandb and CUDA in one process leak from run to run, and a crash takes all along.

`python -m cosmos_exp.experiment.isolation RUN_DIR` is the child; `run_isolated` starts it and settles how it ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

from cosmos_exp.config.record import load_config, save_config
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError
from cosmos_exp.run_folder import RunFolder

LOG_TO_FILE = "COSMOS_EXP_LOG_TO_FILE"  # set by a study, whose terminal shows a table instead

_PR_SET_PDEATHSIG = 1


def run_isolated(config: Config) -> int:
    """Run a configuration whose run_dir is set; its output goes to log.txt when a study asks for that.

    Returns:
        0, or the child's exit code; status.json says how it ended in any case.
    """
    folder = RunFolder(str(config.run_dir))
    folder.path.mkdir(parents=True, exist_ok=True)
    save_config(config, folder.config)
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    words = [sys.executable, "-m", "cosmos_exp.experiment.isolation", str(folder.path)]
    with contextlib.ExitStack() as stack:
        out = None
        if os.environ.get(LOG_TO_FILE):
            out = stack.enter_context(open(folder.path / "log.txt", "ab"))
        process = subprocess.Popen(
            words, env=os.environ | {"PYTHONPATH": paths}, stdout=out, stderr=subprocess.STDOUT if out else None
        )
        try:
            code = process.wait()
        except KeyboardInterrupt:  # a terminal's Ctrl-C reached the child too: it writes a checkpoint first
            process.send_signal(signal.SIGTERM)
            process.wait()
            raise
    if code and folder.read(folder.status_file).get("state") not in ("failed", "interrupted"):
        folder.set_status(
            "failed", folder.read(folder.status_file).get("stage", "prepare"), _how_it_ended(code, folder)
        )
    return 1 if code else 0


def _how_it_ended(code: int, folder: RunFolder) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        return f"the process was ended by {name}" + (" (out of memory?)" if -code == signal.SIGKILL else "")
    log = folder.path / "log.txt"
    said = log.read_text(errors="replace").strip().splitlines()[-3:] if log.is_file() else []
    return " ".join(said) or f"the process ended with code {code}"


def main(run_dir: str) -> int:
    """The child: run what the folder's configuration says; ends with its parent."""
    with contextlib.suppress(OSError, AttributeError):  # Linux only
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    folder = RunFolder(run_dir)
    try:
        config = load_config(folder.config)
        config.run_dir = run_dir
        from cosmos_exp.experiment.launching import launch

        return launch(config)
    except UserError as error:
        print(f"cosmos-exp: {error}", file=sys.stderr)
        if folder.read(folder.status_file).get("state") not in ("failed", "interrupted"):
            folder.set_status("failed", "prepare", str(error))
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
