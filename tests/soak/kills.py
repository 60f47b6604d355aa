"""Random kills: a tiny run or sweep is ended by a signal at a random moment, resumed, and compared with an unbroken one."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from cosmos_exp.experiment import fork_server
from cosmos_exp.experiment.fork_server import Child
from cosmos_exp.files import JsonObject
from cosmos_exp.run_folder import RunFolder
from soak.scenarios import SCENARIOS, Scenario, outcome

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
PATIENCE = 900.0  # seconds: a busy machine is slow, a hang is for ever
ROOT = Path(__file__).parents[2]


class Kills:
    """Cases of random kills, one after another. `work` is a folder for the runs; those of defects stay there."""

    def __init__(self, work: Path):
        self.work = work
        self.references: dict[str, dict[str, str]] = {}
        self.seconds: dict[str, float] = {}

    def case(self, seed: int) -> JsonObject:
        """One case, decided by its seed alone but for the moment at which the signal arrives."""
        draw = random.Random(seed)
        scenario = draw.choices(SCENARIOS, [s.weight for s in SCENARIOS])[0]
        self._ensure_reference(scenario)
        at = self.work / f"case_{seed}"
        shutil.rmtree(at, ignore_errors=True)
        at.mkdir(parents=True)
        cache = at / "cache" if draw.random() < 0.2 else self.work / "cache"
        kills: list[JsonObject] = []
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            kills.append(self._killed(scenario, at, cache, draw, _left(scenario, kills)))
            if kills[-1]["stage"] == "ended":
                break
        problems = [p for kill in kills for p in kill.pop("problems")]
        began = time.monotonic()
        different = self._resumed(scenario, at, cache, draw)
        problems += different
        if not problems:
            self.seconds[scenario.name] = max(5.0, (self.seconds[scenario.name] + time.monotonic() - began) / 2)
            shutil.rmtree(at)
        return {
            "seed": seed,
            "scenario": scenario.name,
            "fresh cache": cache.parent == at,
            "kills": kills,
            "equal": not different,
        } | ({"problems": problems, "folder": str(at)} if problems else {})

    def _ensure_reference(self, scenario: Scenario) -> None:
        if scenario.name in self.references:
            return
        at = self.work / f"reference_{SCENARIOS.index(scenario)}"
        shutil.rmtree(at, ignore_errors=True)
        at.mkdir(parents=True)
        for _ in range(2):  # the first fills the cache; the second is timed
            shutil.rmtree(at)
            at.mkdir()
            began = time.monotonic()
            child = self._start(scenario.words(at), at, self.work / "cache")
            if child.wait(PATIENCE):
                raise SystemExit(f"the unbroken run failed: {(at / 'log.txt').read_text()[-2000:]}")
            self.seconds[scenario.name] = time.monotonic() - began
            if len(self.references) > 0:
                break
        self.references[scenario.name] = outcome(at, scenario)

    def _start(self, words: list[str], at: Path, cache: Path) -> Child:
        environment = {"OMP_NUM_THREADS": "1", "COSMOS_EXP_CACHE": str(cache)}
        return fork_server.start("cosmos_exp.cli:main", (words,), environment=environment, log=at / "log.txt", cwd=at)

    def _killed(
        self, scenario: Scenario, at: Path, cache: Path, draw: random.Random, stages: tuple[str, ...]
    ) -> JsonObject:
        """Start, wait for a random moment of one of `stages`, send a random signal, and wait until everything has ended."""
        number, whole_group = draw.choice(SIGNALS), draw.random() < 0.5
        stage, share = draw.choice((None, *stages)), draw.random()
        before, old = _text(at), _statuses(at, scenario)
        child = self._start(scenario.words(at), at, cache)
        if stage is None:
            _wait(lambda: child.poll() is not None, share * self.seconds[scenario.name])
        else:
            reached = _wait(lambda: child.poll() is not None or stage in _stages(at, scenario, old), PATIENCE)
            _wait(lambda: child.poll() is not None, share * 0.2 * self.seconds[scenario.name] * reached)
        where = _where(at, scenario, child, old)
        _send(child, number, whole_group)
        code = child.wait(PATIENCE)
        problems = [] if code is not None else [f"still running {PATIENCE:.0f} s after {number.name}"]
        child.kill()
        child.wait(PATIENCE)
        free = _wait(lambda: not any(RunFolder(at / r).is_locked() for r in scenario.runs), PATIENCE)
        problems += [] if free else ["a process of the run is left after its parent has ended"]
        said = _text(at)[len(before) :]
        if number != signal.SIGKILL and "Traceback (most recent call last)" in said:
            problems.append(f"{number.name} at {where}: a traceback: {said[-1500:]}")
        if where == "ended" and code != 0:
            problems.append(f"ended before the signal with exit code {code}: {said[-1500:]}")
        if where != "ended" and code not in _codes(number):
            problems.append(f"{number.name} at {where}: exit code {code}: {said[-1500:]}")
        return {
            "signal": number.name,
            "to": "group" if whole_group else "process",
            "stage": where,
            "code": code,
            "problems": problems,
        }

    def _resumed(self, scenario: Scenario, at: Path, cache: Path, draw: random.Random) -> list[str]:
        """Resume and compare. Returns what is wrong."""
        words = scenario.words(at)
        if words[0] == "run" and (at / "run" / "config.yaml").is_file() and draw.random() < 0.5:
            words = ["run", words[-1]]
        before = _text(at)
        child = self._start(words, at, cache)
        code = child.wait(PATIENCE)
        if code != 0:
            child.kill()
            return [f"cosmos-exp {' '.join(words[:2])} …: exit code {code}: {_text(at)[len(before) :][-2000:]}"]
        expected, found = self.references[scenario.name], outcome(at, scenario)
        return [
            f"{part}: {found.get(part)!r}, unbroken {expected.get(part)!r}"
            for part in sorted({*expected, *found})
            if found.get(part) != expected.get(part)
        ]


def _left(scenario: Scenario, kills: list[JsonObject]) -> tuple[str, ...]:
    """The stages that a scenario has not finished when it was killed last."""
    last = kills[-1]["stage"] if kills else ""
    return scenario.stages[scenario.stages.index(last) :] if last in scenario.stages else scenario.stages


def _codes(number: signal.Signals) -> tuple[int, ...]:
    """Exit codes that a signal may give: its own before the command has begun, 1 with a message, 0 if it was done just now."""
    return (-number, 0) if number == signal.SIGKILL else (-number, 0, 1)


def _send(child: Child, number: signal.Signals, whole_group: bool) -> None:
    """Send a signal as a terminal or a scheduler does: to the whole group, or to the one process that it knows."""
    if child.poll() is not None:
        return
    try:
        (os.killpg if whole_group else os.kill)(child.pid, number)
    except ProcessLookupError:  # it has no group of its own yet, or has just ended
        child.kill() if number == signal.SIGKILL else child.terminate()


def _where(at: Path, scenario: Scenario, child: Child, old: list[JsonObject]) -> str:
    """The stage that a scenario has reached since it was started."""
    if child.poll() is not None:
        return "ended"
    reached = _stages(at, scenario, old)
    return reached[-1] if reached else "start"


def _statuses(at: Path, scenario: Scenario) -> list[JsonObject]:
    return [RunFolder(at / run).status for run in scenario.runs]


def _stages(at: Path, scenario: Scenario, old: list[JsonObject]) -> list[str]:
    """The stage of each run that has begun since `old` and is not done."""
    now = _statuses(at, scenario)
    return [str(n["stage"]) for n, o in zip(now, old, strict=True) if n and n != o and n.get("state") != "done"]


def _text(at: Path) -> str:
    """The output of all commands of a case and of the runs of its sweep."""
    return "".join(p.read_text(errors="replace") for p in sorted(at.rglob("log.txt")))


def _wait(holds: Callable[[], bool], seconds: float) -> bool:
    """Wait until `holds()`, at most `seconds`. Returns whether it does."""
    end = time.monotonic() + seconds
    while not (now := holds()) and time.monotonic() < end:
        time.sleep(0.01)
    return now
