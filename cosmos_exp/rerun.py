"""`cosmos-exp rerun RUN_DIR`: the same run again from its record, and what came out different."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from cosmos_exp.compose import load_config
from cosmos_exp.errors import UserError
from cosmos_exp.run_folder import RunFolder, differences, machine, read_json_lines

_SURROUNDINGS = ("python", "platform", "host", "cpus", "packages", "git")
_INPUTS = ("data_fingerprint", "model", "guardrail")


def main(args: argparse.Namespace) -> int:
    """Run it, then print a line a figure. Exit code 1 if the run fails, or with --strict if a result differs."""
    from cosmos_exp.launch import launch

    old = RunFolder(args.run_dir)
    if not old.config.is_file():
        raise UserError(f"{old.path}: no config.yaml there; is this a run folder?")
    config = load_config(old.config)
    new = RunFolder(Path(args.out) if args.out else _free(old.path))
    if new.config.is_file() and not args.out:
        raise UserError(f"{new.path} exists")
    config.run_dir = str(new.path)
    for line in differences(_part(old, _SURROUNDINGS), {k: machine().get(k) for k in _SURROUNDINGS}):
        print(f"differs from the original: {line}", file=sys.stderr)
    code = launch(config)
    if code:
        return code
    for line in differences(_part(old, _INPUTS), _part(new, _INPUTS)):
        print(f"differs from the original: {line}", file=sys.stderr)
    rows = compare(old, new)
    for what, same, words in rows:
        print(f"{'same     ' if same else 'DIFFERENT'}  {what:18} {words}")
    return int(args.strict and not all(same for _, same, _ in rows))


def _free(path: Path) -> Path:
    number = 1
    while (place := path.with_name(f"{path.name}-rerun{number}")).exists():
        number += 1
    return place


def _part(folder: RunFolder, keys: tuple[str, ...]) -> dict[str, Any]:
    manifest = folder.read(folder.manifest_file)
    return {k: manifest.get(k) for k in keys}


def compare(old: RunFolder, new: RunFolder) -> list[tuple[str, bool, str]]:
    """(what, whether equal, words) for training losses, adapter, videos and scores of two runs."""
    rows = [_losses(old, new)]
    if old.adapter_file.is_file() or new.adapter_file.is_file():
        rows.append(("adapter", _bytes(old.adapter_file) == _bytes(new.adapter_file), "every byte"))
    names = sorted({p.name for f in (old, new) for p in f.videos.glob("*.mp4")})
    equal = [_bytes(old.videos / n) == _bytes(new.videos / n) for n in names]
    rows.append(("videos", all(equal), f"{sum(equal)} of {len(names)} files byte for byte"))
    return rows + _scores(old, new)


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _losses(old: RunFolder, new: RunFolder) -> tuple[str, bool, str]:
    first, second = ({r["step"]: r["loss"] for r in read_json_lines(f.train_log)} for f in (old, new))
    common = sorted(set(first) & set(second))
    if set(first) != set(second):
        return "training losses", False, f"{len(first)} steps before, {len(second)} now"
    if not common:
        return "training losses", True, "none: no training"
    gaps = [abs(first[s] - second[s]) for s in common]
    begins = next((s for s, gap in zip(common, gaps, strict=True) if gap), None)
    words = f"{len(common)} steps" + (f", largest difference {max(gaps):.3g}, from step {begins} on" if begins else "")
    return "training losses", begins is None, words


def _scores(old: RunFolder, new: RunFolder) -> list[tuple[str, bool, str]]:
    def keyed(folder: RunFolder) -> dict[tuple, float | None]:
        return {(r["measure"], r["sample"], r["seed"]): r["value"] for r in read_json_lines(folder.scores)}

    first, second, rows = keyed(old), keyed(new), []
    for measure in sorted({k[0] for k in (*first, *second)}):
        keys = [k for k in sorted({*first, *second}) if k[0] == measure]
        missing = sum((k in first) != (k in second) or (first.get(k) is None) != (second.get(k) is None) for k in keys)
        gaps = [abs(a - b) for k in keys if (a := first.get(k)) is not None and (b := second.get(k)) is not None]
        words = f"{len(keys)} videos, largest difference {max(gaps, default=0):.3g}"
        words += f", {missing} scored in only one" if missing else ""
        rows.append((measure, not missing and not any(gaps), words))
    return rows
