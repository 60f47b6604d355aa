"""`cosmos-exp rerun RUN_DIR`: run a record again and compare the results."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_exp.cli.arguments import writable_folder
from cosmos_exp.errors import Interrupted, UserError

if TYPE_CHECKING:
    from cosmos_exp.run_folder import RunFolder

EPILOG = """examples:
  cosmos-exp rerun outputs/run/2026-01-01_12-00-00               into outputs/run/2026-01-01_12-00-00-rerun1
  cosmos-exp rerun outputs/sweeps/rank/lora-r8 --out /tmp/again
  cosmos-exp rerun outputs/sweeps/rank/lora-r8 --strict          exit code 1 if anything differs"""
HELP = "run a record again and compare the result with the original"
# What of the manifest may explain a difference: known before the run, and after it.
SURROUNDINGS = ("python", "platform", "host", "cpus", "packages", "git")
INPUTS = ("data_fingerprint", "model", "guardrail")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to `cosmos-exp`."""
    parser = commands.add_parser(
        "rerun", help=HELP, description=HELP, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", help="folder of a finished run")
    parser.add_argument("--out", metavar="DIR", help="folder of the new run (default: RUN_DIR-rerun1)")
    parser.add_argument(
        "--strict", action="store_true", help="exit code 1 if any loss, adapter, video or score differs"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run it and print one line per result. Exit code 1 if the run fails, or with --strict if a result differs."""
    from cosmos_exp.config.record import load_config
    from cosmos_exp.experiment.run import run as run_experiment
    from cosmos_exp.provenance import environment
    from cosmos_exp.report.tables import print_runs
    from cosmos_exp.run_folder import RunFolder
    from cosmos_exp.sweep.comparing import compare, why_bits_may_differ

    old = RunFolder(args.run_dir)
    if not old.config.is_file():
        raise UserError(f"{old.path}: no config.yaml. Is this a run folder?")
    config = load_config(old.config)
    new = RunFolder(writable_folder(args.out) if args.out else _unused(old.path))
    if new.config.is_file():
        raise UserError(f"{new.path} exists. Give another --out.")
    config = config.updated({"run_dir": str(new.path)})
    here = environment()
    _print_differences(_part(old, SURROUNDINGS), {k: here.get(k) for k in SURROUNDINGS})
    print(f"run folder: {new.path}", flush=True)
    try:
        run_experiment(config)
    except (Interrupted, KeyboardInterrupt) as error:
        print(f"interrupted: {error}\nResume with `cosmos-exp run run_dir={new.path}`.", flush=True)
        return 1
    print_runs([new])
    _print_differences(_part(old, INPUTS), _part(new, INPUTS))
    if old.train_log.is_file():
        reasons = "; ".join(why_bits_may_differ(old, new))
        print(
            f"equality to the bit is {f'not expected: {reasons}' if reasons else 'expected: the records name no reason'}"
        )
    found = compare(old, new)
    for row in found:
        print(f"{'same     ' if row.same else 'DIFFERENT'}  {row.what:18} {row.text}")
    return int(args.strict and not all(row.same for row in found))


def _unused(path: Path) -> Path:
    number = 1
    while (candidate := path.with_name(f"{path.name}-rerun{number}")).exists():
        number += 1
    return candidate


def _part(folder: RunFolder, keys: tuple[str, ...]) -> dict[str, object]:
    manifest = folder.manifest
    return {k: manifest.get(k) for k in keys}


def _print_differences(old: dict[str, object], new: dict[str, object]) -> None:
    from cosmos_exp.config.hashing import differences

    for line in differences(old, new):
        print(f"differs from the original: {line}", file=sys.stderr)
