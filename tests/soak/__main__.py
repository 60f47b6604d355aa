"""The command line of `make soak`."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Protocol

ROOT = Path(__file__).parents[2]
PARTS = ("kills", "fuzz", "inputs")
EVERY = 30.0  # seconds between two writes of the table

sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("COSMOS_EXP_CACHE", tempfile.mkdtemp(prefix="soak-cache-"))

import conftest  # noqa: E402, F401  (wandb and the hub are off)

from benchmarks.common import RESULTS, machine_line  # noqa: E402
from cosmos_exp.files import JsonObject  # noqa: E402
from cosmos_exp.provenance import now  # noqa: E402
from soak.table import write_tables  # noqa: E402


class Part(Protocol):
    def case(self, seed: int) -> JsonObject: ...


def main() -> int:
    """Run the parts and write the table. Exit code 1 if there is a defect."""
    args = _arguments()
    today = datetime.date.today().isoformat()
    out = args.out or RESULTS / f"soak_{today}"
    if args.only:
        return _run_part(args, out.with_name(f"{out.name}_{args.only}"))
    words = [sys.executable, "-m", "soak", f"--minutes={args.minutes}", f"--seed={args.seed}", f"--out={out}"]
    children = [subprocess.Popen([*words, "--only", part], cwd=ROOT / "tests") for part in PARTS]
    try:
        while any(c.poll() is None for c in children):
            time.sleep(EVERY)
            merge(out)
    except KeyboardInterrupt:  # the terminal has sent it to the children too
        pass
    codes = [c.wait() for c in children]
    print(merge(out))
    return int(any(codes))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="of each part; the parts run at the same time")
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(10**6) * 1000, help="of the first case; each case counts up"
    )
    parser.add_argument("--cases", type=int, help="stop after so many cases")
    parser.add_argument(
        "--out", type=Path, help="PATH of PATH.json and PATH.md (default: benchmarks/results/soak_DATE)"
    )
    return parser.parse_args()


def _run_part(args: argparse.Namespace, out: Path) -> int:
    asked: list[int] = []
    _stop_when_asked(asked)
    part = _part(args.only)
    record: JsonObject = {
        "first_seed": args.seed,
        "began": now(),
        "seconds": 0.0,
        "load": [os.getloadavg()[0]],
        "cases": [],
    }
    began = written = time.monotonic()
    seed = args.seed
    try:
        while not asked and time.monotonic() - began < 60 * args.minutes and seed < args.seed + (args.cases or 10**9):
            record["cases"].append(part.case(seed))
            seed += 1
            if time.monotonic() - written > EVERY:
                written = time.monotonic()
                _save(record, args.only, out, began)
    except KeyboardInterrupt:
        pass
    if asked:
        print("interrupted; the table holds what was done", file=sys.stderr)
    _save(record, args.only, out, began)
    bad = [c for c in record["cases"] if "problems" in c]
    print(f"{args.only}: {len(record['cases'])} cases, {len(bad)} with a problem: {out.with_suffix('.md')}")
    for case in bad[:5] if args.cases else []:
        print(json.dumps(case, indent=2))
    return int(bool(bad))


def _stop_when_asked(asked: list[int]) -> None:
    """SIGTERM and SIGINT, which a shell's background job ignores, end a part. They are also noted, as a command under test
    may take the exception for itself."""

    def stop(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def _part(name: str) -> Part:
    if name == "kills":
        from soak.kills import Kills

        return Kills(Path(tempfile.mkdtemp(prefix="soak-kills-")))
    if name == "fuzz":
        from soak.fuzzing import Fuzzing

        return Fuzzing()
    from soak.inputs import Inputs

    return Inputs()


def _save(record: JsonObject, name: str, out: Path, began: float) -> None:
    record["seconds"] = time.monotonic() - began
    record["load"].append(os.getloadavg()[0])
    write_tables({name: record}, _about(), out)


def _about() -> JsonObject:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return {"date": datetime.date.today().isoformat(), "machine": machine_line(), "commit": commit.stdout.strip()}


def merge(out: Path) -> str:
    """One table of the parts that have written one. Returns where it is."""
    parts: dict[str, JsonObject] = {}
    about = _about()
    for name in PARTS:
        file = out.with_name(f"{out.name}_{name}.json")
        if file.is_file():
            parts |= json.loads(file.read_text())["parts"]
    if parts:
        write_tables(parts, about, out)
    return f"written: {out.with_suffix('.json')}, {out.with_suffix('.md')}"


if __name__ == "__main__":
    sys.exit(main())
