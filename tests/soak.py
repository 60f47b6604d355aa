"""`make soak`: random kills of tiny runs, and fuzzing with fresh seeds, until the time is up.

    PYTHONPATH=tests python -m soak --minutes 60
    PYTHONPATH=tests python -m soak --only kills --seed 7 --minutes 0      # one case again

A tiny run or sweep is ended by a signal at a random moment, resumed, and compared with an unbroken one, byte for byte.
The table is written after every case, so that an interrupted soak leaves what it has found. Not part of the test suite.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd  # noqa: E402
from conftest import SMALL, settled, wait_until  # noqa: E402

from benchmarks.common import RESULTS, machine_line  # noqa: E402
from cosmos_exp.experiment import fork_server  # noqa: E402
from cosmos_exp.files import read_json_lines, write_text  # noqa: E402
from cosmos_exp.run_folder import RunFolder  # noqa: E402

TINY = [
    *SMALL,
    *("data.train_clips=3", "data.num_frames=9", "data.height=32", "data.width=48", "model.max_first_loss=null"),
    *("generation.num_steps=1", "training.max_steps=4", "training.checkpoint_every_steps=1", "hardware.num_threads=1"),
    *("training.validation.sigmas=[0.5]", "training.validation.every_steps=2"),
]
# Name: the words of the command, and the run folders that it leaves below the current folder.
SCENARIOS = {
    "LoRA": (["run", "run_dir=run"], ["run"]),
    "DoRA with EMA": (["run", "adapter=dora", "rank=8", "training.ema_power=0.1", "run_dir=run"], ["run"]),
    "base": (["run", "adapter=none", "run_dir=run"], ["run"]),
    "two processes": (["run", "hardware.num_processes=2", "run_dir=run"], ["run"]),
    "sweep": (["sweep", "rank", "rank=8,16"], ["outputs/sweeps/rank/lora-r8", "outputs/sweeps/rank/lora-r16"]),
}
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
TIMES = ("second", "time", "hours", "memory")  # parts of names whose values differ from run to run
PATIENCE = 900  # seconds: a busy machine is slow, a hang is for ever


def start(scenario: str, at: Path) -> fork_server.Child:
    """Start the command of a scenario in a folder."""
    argv = settled([*SCENARIOS[scenario][0], *TINY])
    environment = {"OMP_NUM_THREADS": "1", "COSMOS_EXP_CACHE": str(at.parent / "cache")}
    return fork_server.start("cosmos_exp.cli:main", (argv,), environment=environment, log=at / "log.txt", cwd=at)


def outcome(scenario: str, at: Path) -> dict[str, str]:
    """What a scenario left in a folder: each part -> its state or hash. Two that are equal are equal byte for byte."""
    parts = {}
    for run in SCENARIOS[scenario][1]:
        folder = RunFolder(at / run)
        parts[run] = f"{folder.status.get('state')}, half-written: {sorted(folder.path.rglob('.tmp-*'))}"
        for path in (folder.adapter_file, folder.metrics, *folder.path.rglob("*.mp4"), *folder.path.rglob("*.jsonl")):
            content: object = path.read_bytes().hex() if path.is_file() else "missing"
            if path in (folder.train_log, folder.metrics):
                content = timeless(read_json_lines(path) if path == folder.train_log else folder.read(path))
            parts[str(path.relative_to(at))] = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return parts


def timeless(content: object) -> object:
    """JSON content without what a clock or the machine's load decides."""
    if isinstance(content, dict):
        return {key: timeless(value) for key, value in content.items() if not any(word in str(key) for word in TIMES)}
    return [timeless(value) for value in content] if isinstance(content, list) else content


def unbroken(scenario: str, work: Path) -> tuple[dict[str, str], float]:
    """The outcome of a scenario that nothing disturbs, and its seconds."""
    at, began = Path(tempfile.mkdtemp(dir=work)), time.monotonic()
    if start(scenario, at).wait(PATIENCE):
        raise SystemExit(f"the unbroken run failed: {(at / 'log.txt').read_text()[-2000:]}")
    return outcome(scenario, at), time.monotonic() - began


def kill(scenario: str, seconds: float, at: Path, draw: random.Random) -> str:
    """Start, wait for a random time, send a random signal to the process or its group, wait until all have ended.

    Returns what is wrong.
    """
    number, send = draw.choice(SIGNALS), draw.choice((os.kill, os.killpg))
    log = at / "log.txt"
    before = log.stat().st_size if log.is_file() else 0
    child = start(scenario, at)
    code = child.wait(draw.random() * seconds)
    if code is not None:
        return f"ended before the signal with exit code {code}" if code else ""
    try:
        send(child.pid, number)
    except ProcessLookupError:  # it has no group of its own yet, or has just ended
        child.kill()
    code = child.wait(PATIENCE)
    child.kill()
    wait_until(lambda: not any(RunFolder(at / run).is_locked() for run in SCENARIOS[scenario][1]), PATIENCE)
    said = log.read_bytes()[before:].decode(errors="replace")
    is_traceback = number != signal.SIGKILL and "Traceback (most recent call last)" in said
    if code not in (-number, -signal.SIGKILL, 0, 1) or is_traceback:
        return f"{number.name}: exit code {code}: {said[-1500:]}"
    return ""


def kills(seed: int, work: Path, known: dict[str, tuple[dict[str, str], float]]) -> tuple[str, list[str]]:
    """A case, decided by its seed alone but for the moment at which the signal arrives: the scenario, and what is wrong."""
    draw = random.Random(seed)
    scenario = draw.choice(list(SCENARIOS))
    if scenario not in known:
        known[scenario] = unbroken(scenario, work)
    expected, seconds = known[scenario]
    at = Path(tempfile.mkdtemp(dir=work))
    problems = []
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        problems.append(kill(scenario, seconds, at, draw))
    child = start(scenario, at)
    code = child.wait(PATIENCE)
    child.kill()
    if code != 0:
        problems.append(f"resumed: exit code {code}: {(at / 'log.txt').read_text()[-2000:]}")
    left = outcome(scenario, at)
    problems += [f"differs from the unbroken run: {part}" for part in expected if left.get(part) != expected[part]]
    if not any(problems):
        shutil.rmtree(at)
    return scenario, list(filter(None, problems))


def fuzz(seed: int) -> tuple[str, list[str]]:
    """tests/test_fuzz.py with fresh inputs, and what is wrong."""
    words = [sys.executable, "-m", "pytest", "-qx", "--timeout=0", f"--hypothesis-seed={seed}", "tests/test_fuzz.py"]
    done = subprocess.run(words, cwd=ROOT, env=os.environ | {"SOAK": "1"}, capture_output=True, text=True, check=False)
    return "fuzzing", [done.stdout[-3000:]] if done.returncode else []


def main() -> int:
    """Run cases until the time is up. Exit code 1 if there is a defect."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--only", choices=("kills", "fuzz"))
    help = "of the first case; each case counts up"
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6) * 1000, help=help)
    args = parser.parse_args()
    out = RESULTS / f"soak_{datetime.date.today()}.md"
    work, known = Path(tempfile.mkdtemp(prefix="soak-")), {}
    end = time.monotonic() + 60 * args.minutes
    cases, lines, seed = [], [], args.seed
    while not cases or time.monotonic() < end:
        is_fuzz = args.only == "fuzz" or (args.only is None and seed % 5 == 0)
        case, problems = fuzz(seed) if is_fuzz else kills(seed, work, known)
        cases.append({"case": case, "number": 1, "good": int(not problems)})
        lines += [f"- {case}, seed {seed}: {json.dumps(problem[:600])}" for problem in problems]
        table = pd.DataFrame(cases).groupby("case").sum().to_markdown()
        write_text(out, "\n\n".join([f"# Soak, {datetime.date.today()}", machine_line(), table, *lines]) + "\n")
        seed += 1
    print(f"{len(cases)} cases, {len(lines)} problems: {out}")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
