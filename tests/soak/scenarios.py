"""What is killed: tiny runs and sweeps of the embedded world, and what of them must be equal after a resume."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from conftest import SMALL, settled

from cosmos_exp.files import read_json_lines
from cosmos_exp.run_folder import RunFolder

TINY = [
    *SMALL,
    *("data.train_clips=3", "data.num_frames=9", "data.height=32", "data.width=48", "model.max_first_loss=null"),
    *("generation.num_steps=1", "training.max_steps=4", "training.checkpoint_every_steps=1", "hardware.num_threads=1"),
    *("training.validation.sigmas=[0.5]", "training.validation.every_steps=2"),
]
TIMES = ("seconds", "per_second", "time", "hours", "memory")  # parts of names whose values differ from run to run


@dataclass(frozen=True)
class Scenario:
    """A command that is killed.

    words: the command, below a folder where it writes.
    runs: the run folders that it leaves there.
    weight: how often it is drawn.
    """

    name: str
    words: Callable[[Path], list[str]]
    runs: tuple[str, ...]
    weight: int
    stages: tuple[str, ...] = ("prepare", "train", "generate", "evaluate")


def _run(*more: str) -> Callable[[Path], list[str]]:
    return lambda at: settled(["run", *TINY, *more, f"run_dir={at / 'run'}"])


def _sweep(at: Path) -> list[str]:
    return ["sweep", "rank", *TINY, "rank=8,16"]


SCENARIOS = (
    Scenario("LoRA", _run(), ("run",), 6),
    Scenario("DoRA with EMA", _run("adapter=dora", "rank=8", "training.ema_power=0.1"), ("run",), 4),
    Scenario("base", _run("adapter=none"), ("run",), 2, ("prepare", "generate", "evaluate")),
    Scenario("two processes", _run("hardware.num_processes=2"), ("run",), 2),
    Scenario("sweep of two runs", _sweep, ("outputs/sweeps/rank/lora-r8", "outputs/sweeps/rank/lora-r16"), 2),
)


def outcome(at: Path, scenario: Scenario) -> dict[str, str]:
    """What a scenario left in a folder: name of each part -> its hash or state. Two that are equal are equal byte for byte."""
    found = {}
    for name in scenario.runs:
        folder = RunFolder(at / name)
        found |= {f"{name}: {part}": value for part, value in _parts(folder).items()}
    return found


def _parts(folder: RunFolder) -> dict[str, str]:
    parts = {"state": str(folder.status.get("state")), "steps": str(len(read_json_lines(folder.train_log)))}
    files = [folder.adapter_file, folder.validation_log, folder.scores]
    files += sorted(folder.videos.glob("*")) + sorted(folder.references.rglob("*.*"))
    for path in files:
        name = path.relative_to(folder.path).as_posix()
        parts[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
    rows = [_timeless(row) for row in read_json_lines(folder.train_log)]
    parts["train_log.jsonl"] = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    parts["metrics.json"] = hashlib.sha256(json.dumps(_timeless(folder.read(folder.metrics))).encode()).hexdigest()
    parts["leftovers"] = ", ".join(p.relative_to(folder.path).as_posix() for p in sorted(folder.path.rglob(".tmp-*")))
    return parts


def _timeless(content: object) -> object:
    """JSON content without what a clock or the machine's load decides."""
    if isinstance(content, dict):
        kept = {k: v for k, v in content.items() if not any(word in str(k) for word in TIMES)}
        return {k: _timeless(v) for k, v in kept.items()}
    return [_timeless(v) for v in content] if isinstance(content, list) else content
