"""`cosmos-exp rerun RUN_DIR`: the same run again from its record, and what came out different."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from cosmos_exp.config.hashing import differences
from cosmos_exp.config.record import load_config
from cosmos_exp.errors import UserError
from cosmos_exp.provenance import environment
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.sweep.comparing import compare

_SURROUNDINGS = ("python", "platform", "host", "cpus", "packages", "git")

_INPUTS = ("data_fingerprint", "model", "guardrail")


def main(args: argparse.Namespace) -> int:
    """Run it, then print a line a figure. Exit code 1 if the run fails, or with --strict if a result differs."""
    from cosmos_exp.experiment.launching import launch

    old = RunFolder(args.run_dir)
    if not old.config.is_file():
        raise UserError(f"{old.path}: no config.yaml there; is this a run folder?")
    config = load_config(old.config)
    new = RunFolder(Path(args.out) if args.out else _free(old.path))
    if new.config.is_file() and not args.out:
        raise UserError(f"{new.path} exists")
    config.run_dir = str(new.path)
    for line in differences(_part(old, _SURROUNDINGS), {k: environment().get(k) for k in _SURROUNDINGS}):
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
