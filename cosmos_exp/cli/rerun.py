"""`cosmos-exp rerun RUN_DIR`: run a record again and compare the results."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_exp.cli.arguments import writable_folder
from cosmos_exp.errors import Interrupted, UserError

if TYPE_CHECKING:
    import pandas

    from cosmos_exp.run_folder import RunFolder

Comparison = tuple[str, bool, str]  # what, whether it is the same, the difference in words

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
    for what, is_same, text in found:
        print(f"{'same     ' if is_same else 'DIFFERENT'}  {what:18} {text}")
    return int(args.strict and not all(is_same for _, is_same, _ in found))


def compare(old: RunFolder, new: RunFolder) -> list[Comparison]:
    """Training losses, adapter, videos and scores of two runs of the same configuration."""
    found = [_losses(old, new)]
    if old.adapter_file.is_file() or new.adapter_file.is_file():
        found.append(("adapter", _same_file(old.adapter_file, new.adapter_file), "every byte"))
    names = {path.name for folder in (old, new) for path in folder.videos.glob("[!.]*.mp4")}
    equal = sum(_same_file(old.videos / name, new.videos / name) for name in names)
    found.append(("videos", equal == len(names), f"{equal} of {len(names)} files byte for byte"))
    return found + _scores(old, new)


def _same_file(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and one.read_bytes() == other.read_bytes()


def _losses(old: RunFolder, new: RunFolder) -> Comparison:
    first, second = _table(old.train_log, ["step"], "loss"), _table(new.train_log, ["step"], "loss")
    if not first.index.equals(second.index):
        return "training losses", False, f"{len(first)} steps before, {len(second)} now"
    gaps = (first - second).abs()
    if gaps.empty:
        return "training losses", True, "none: no training"
    if not gaps.any():
        return "training losses", True, f"{len(gaps)} steps"
    begins = gaps.index[gaps > 0][0]
    return "training losses", False, f"{len(gaps)} steps, largest difference {gaps.max():.3g}, from step {begins} on"


def _scores(old: RunFolder, new: RunFolder) -> list[Comparison]:
    keys = ["measure", "sample", "seed"]
    first, second = _table(old.scores, keys, "value"), _table(new.scores, keys, "value")
    first, second = first.align(second)
    found = []
    for measure in first.index.unique("measure"):
        one, other = first[measure], second[measure]
        gaps, in_one = (one - other).abs(), int((one.isna() != other.isna()).sum())
        text = f"{len(one)} videos"
        if gaps.notna().any():
            text += f", largest difference {gaps.max():.3g}"
        if in_one:
            text += f", {in_one} scored in only one of the runs"
        found.append((str(measure), not in_one and not gaps.any(), text))
    return found


def _table(file: Path, keys: list[str], value: str) -> pandas.Series:
    """One column of a log by its keys, sorted."""
    import pandas

    from cosmos_exp.run_folder.records import read_rows

    rows = pandas.DataFrame(read_rows(file), columns=[*keys, value])
    return rows.drop_duplicates(keys, keep="last").set_index(keys)[value].astype(float).sort_index()


def why_bits_may_differ(old: RunFolder, new: RunFolder) -> list[str]:
    """Reasons, from two records, not to expect the same training to the bit; empty: it is expected.

    The number of processes is no reason.
    """
    from cosmos_exp.config.hashing import differences

    parts, inputs = [], []
    for manifest in (old.manifest, new.manifest):
        parts.append(manifest.get("exactness", []))
        model, training = manifest.get("model", {}), manifest.get("stages", {}).get("train", {})
        inputs.append(
            {
                "data_fingerprint": manifest.get("data_fingerprint"),
                "model fingerprints": model.get("fingerprints"),
                "config hash of the training": training.get("config_hash"),
            }
        )
    if not all(parts):
        return ["a record does not say under which conditions it was trained"]
    if max(map(len, parts)) > 1:
        return ["a run was trained in parts under different conditions (manifest.json, exactness)"]
    return differences(parts[0][0], parts[1][0]) + differences(inputs[0], inputs[1])


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
