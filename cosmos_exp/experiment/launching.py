"""From `hardware` to processes: one runs here, more through `accelerate launch`; what is missing is told before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from cosmos_exp.config.record import save_config
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import RunError
from cosmos_exp.experiment.preflight import preflight
from cosmos_exp.run_folder import RunFolder


def launch(config: Config) -> int:
    """Run a configuration whose run_dir is set; prints the table and the folder at the end. Returns the exit code."""
    preflight(config)
    folder = RunFolder(str(config.run_dir))
    folder.path.mkdir(parents=True, exist_ok=True)
    save_config(config, folder.config)
    print(f"run folder: {folder.path}", flush=True)
    if config.hardware.num_processes == 1:
        from cosmos_exp.experiment.run import run_safely

        code = run_safely(config)
    else:
        code = _several(config, folder)
    if code == 0:
        from cosmos_exp.report.writing import print_runs

        print_runs([folder])
        print(f"run folder: {folder.path}")
    return code


def command(config: Config, folder: RunFolder) -> list[str]:
    """The `accelerate launch` line for several processes on this machine."""
    # --multi_gpu is accelerate's word for torchrun; with --cpu it would start one process, whatever the number.
    return [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes",
        str(config.hardware.num_processes),
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--main_process_port",
        "0",
        "-m",
        "cosmos_exp.experiment.worker",
        str(folder.path),
    ]


def _several(config: Config, folder: RunFolder) -> int:
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    threads = config.hardware.num_threads or max(1, (os.cpu_count() or 1) // config.hardware.num_processes)
    process = subprocess.Popen(
        command(config, folder), env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": str(threads)}
    )
    # A scheduler's SIGTERM may reach this process alone; the workers write a checkpoint when they get it.
    old = signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
    try:
        code = process.wait()
    except KeyboardInterrupt:  # the workers got it too
        code = process.wait()
    finally:
        signal.signal(signal.SIGTERM, old)
    status = folder.read(folder.status_file)
    if status.get("state") == "done":
        return 0
    if status.get("state") == "interrupted":
        print(f"interrupted: {status.get('error')}\nTo go on: cosmos-exp run run_dir={folder.path}", flush=True)
        return 1
    if status.get("state") == "running":
        folder.set_status("failed", status.get("stage", "prepare"), f"a process ended with code {code}")
    raise RunError(folder.read(folder.status_file).get("error") or f"a process ended with code {code}")
