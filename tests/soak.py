"""`make soak`: random kills of tiny runs, and fuzzing with fresh seeds, until the time is up.

    PYTHONPATH=tests python -m soak --minutes 60
    PYTHONPATH=tests python -m soak --seed 7 --minutes 0      # one case again; each fifth seed is fuzzing

A tiny run or sweep is ended by a signal at a random moment, resumed, and compared with an unbroken one, byte for byte.
The table is written after every case, so that an interrupted soak leaves what it has found. Not part of the test suite.
"""

import argparse
import datetime
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
PATIENCE = 900  # seconds: a busy machine is slow, a hang is for ever


def start(scenario, at):
    """Start the command of a scenario in a folder, with a new log."""
    argv = settled([*SCENARIOS[scenario][0], *TINY])
    environment = {"OMP_NUM_THREADS": "1", "COSMOS_EXP_CACHE": str(at.parent / "cache")}
    code = f"import os, sys\nos.environ.update({environment!r})\nos.chdir({str(at)!r})\n"
    code += f"from cosmos_exp.cli import main\nsys.exit(main({argv!r}))"
    (at / "log.txt").unlink(missing_ok=True)
    return fork_server.start("builtins:exec", (code, {}), log=at / "log.txt")


def outcome(scenario, at):
    """What a scenario left in a folder, but for times: each part -> its state or content."""
    parts = {}
    for run in SCENARIOS[scenario][1]:
        folder = RunFolder(at / run)
        parts[f"{run}: state, half-written files"] = (folder.status.get("state"), len([*folder.path.rglob(".tmp-*")]))
        for path in (folder.adapter_file, *folder.path.rglob("*.mp4"), *folder.path.rglob("*.jsonl")):
            parts[str(path.relative_to(at))] = path.read_bytes() if path.is_file() else "missing"
        rows = read_json_lines(folder.train_log)
        parts[f"{run}/train_log.jsonl"] = [(row["step"], row["loss"], row["grad_norm"]) for row in rows]
        parts[f"{run}/metrics.json"] = folder.read(folder.metrics).get("measures")
    return parts


def unbroken(scenario, work):
    """The outcome of a scenario that nothing disturbs, and its seconds."""
    at, began = Path(tempfile.mkdtemp(dir=work)), time.monotonic()
    if start(scenario, at).wait(PATIENCE):
        raise SystemExit(f"the unbroken run failed: {(at / 'log.txt').read_text()[-2000:]}")
    return outcome(scenario, at), time.monotonic() - began


def kill(scenario, seconds, at, draw):
    """Start, wait for a random time, send a random signal to the process or its group, wait until all have ended.

    Returns what is wrong.
    """
    number, send = draw.choice(SIGNALS), draw.choice((os.kill, os.killpg))
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
    said = (at / "log.txt").read_text(errors="replace")
    is_traceback = number != signal.SIGKILL and "Traceback (most recent call last)" in said
    if code not in (-number, -signal.SIGKILL, 0, 1) or is_traceback:
        return f"{number.name}: exit code {code}: {said[-1500:]}"
    return ""


def kills(seed, work, known):
    """A case, decided by its seed alone but for the moment at which the signal arrives: the scenario, and what is wrong."""
    draw = random.Random(seed)
    scenario = draw.choice(list(SCENARIOS))
    if scenario not in known:
        known[scenario] = unbroken(scenario, work)
    expected, seconds = known[scenario]
    at = Path(tempfile.mkdtemp(dir=work))
    problems = [kill(scenario, seconds, at, draw) for _ in range(draw.choice((1, 1, 1, 2, 3)))]
    if code := start(scenario, at).wait(PATIENCE):
        problems.append(f"resumed: exit code {code}: {(at / 'log.txt').read_text()[-2000:]}")
    left = outcome(scenario, at)
    problems += [f"differs from the unbroken run: {part}" for part in expected if left.get(part) != expected[part]]
    if not any(problems):
        shutil.rmtree(at)
    return scenario, list(filter(None, problems))


def fuzz(seed):
    """tests/test_fuzz.py with fresh inputs, and what is wrong."""
    words = [sys.executable, "-m", "pytest", "-qx", "--timeout=0", f"--hypothesis-seed={seed}", "tests/test_fuzz.py"]
    done = subprocess.run(words, cwd=ROOT, env=os.environ | {"SOAK": "1"}, capture_output=True, text=True, check=False)
    return "fuzzing", [done.stdout[-3000:]] if done.returncode else []


def main():
    """Run cases until the time is up. Exit code 1 if there is a defect."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    help = "of the first case; each case counts up"
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6) * 1000, help=help)
    args = parser.parse_args()
    out = RESULTS / f"soak_{datetime.date.today()}.md"
    work, known = Path(tempfile.mkdtemp(prefix="soak-")), {}
    end, seed = time.monotonic() + 60 * args.minutes, args.seed
    cases, lines = [], []
    while not cases or time.monotonic() < end:
        case, problems = kills(seed, work, known) if seed % 5 else fuzz(seed)
        cases.append({"case": case, "number": 1, "good": int(not problems)})
        lines += [f"- {case}, seed {seed}: {problem[:600]!r}" for problem in problems]
        table = pd.DataFrame(cases).groupby("case").sum().to_markdown()
        write_text(out, "\n\n".join([f"# {out.stem}", machine_line(), table, *lines]) + "\n")
        seed += 1
    print(f"{len(cases)} cases, {len(lines)} problems: {out}")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
