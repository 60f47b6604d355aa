"""The judge's interface: rubrics in, answers out, scores read from the answers; never a default number."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import yaml

from cosmos_exp.errors import UserError

_BARE = re.compile(r"^\W*([1-5])\W*$")
_NAMED = re.compile(r"\b(?:score|rating|answer)\b\W{0,4}(?:is\W+)?([1-5])(?![\d.,]*\d)", re.IGNORECASE)


@dataclass(frozen=True)
class Rubric:
    """measure: what its score is called; user_prompt may hold {instruction}."""

    measure: str
    system_prompt: str
    user_prompt: str

    @property
    def needs_instruction(self) -> bool:
        return "{instruction}" in self.user_prompt

    def text(self, instruction: str | None) -> str:
        """The user prompt with the instruction put in."""
        return self.user_prompt.replace("{instruction}", instruction or "")


@dataclass(frozen=True)
class Answer:
    """A judge's answer: `score` 1 to 5, None when the text holds none; `expected` over the digits' probabilities."""

    score: float | None
    expected: float | None
    text: str


class Judge(Protocol):
    """What every judge can do."""

    name: str

    def answer(self, frames: np.ndarray, fps: float, rubric: Rubric, instruction: str | None) -> Answer:
        """Judge uint8 (T, H, W, 3) RGB under a rubric."""
        ...


def load_rubric(name: str) -> Rubric:
    """One of ours by name, or the user's YAML by path (system_prompt, user_prompt).

    Raises:
        UserError: not there, or without the two keys.
    """
    path = Path(__file__).parent / "rubrics" / f"{name}.yaml"
    if not path.is_file():
        path = Path(name)
    if not path.is_file():
        raise UserError(f"judge.rubrics: {name!r} is neither physics, instruction nor a YAML file")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    missing = [k for k in ("system_prompt", "user_prompt") if not isinstance((content or {}).get(k), str)]
    if missing:
        raise UserError(f"{path}: has no {' and no '.join(missing)}")
    return Rubric(content.get("measure", path.stem), content["system_prompt"], content["user_prompt"])


def parse_score(text: str) -> int | None:
    """The score in an answer: the first line that is a bare digit 1 to 5, else one named as score; None otherwise."""
    for line in text.splitlines():
        bare = _BARE.match(line.strip())
        if bare:
            return int(bare.group(1))
    named = _NAMED.search(text)
    return int(named.group(1)) if named else None


def sample_frames(frames: np.ndarray, fps: float, judge_fps: float, max_total_pixels: int) -> np.ndarray:
    """Frames at the judge's rate, shrunk so that all together keep to its pixel budget."""
    from cosmos_exp.data.video import resize

    step = max(fps / judge_fps, 1.0)
    picked = frames[[int(i * step) for i in range(int(np.ceil(len(frames) / step)))]]
    total = picked.shape[0] * picked.shape[1] * picked.shape[2]
    if total <= max_total_pixels:
        return picked
    scale = (max_total_pixels / total) ** 0.5
    height, width = (max(32, int(s * scale) // 32 * 32) for s in picked.shape[1:3])
    return resize(picked, height, width, "stretch")


def judge_folder(settings: Any) -> Path:
    """The judge's local folder, fetched when it is a hub repository.

    Raises:
        UserError: not there and not to be fetched.
    """
    from cosmos_exp.hub import fetch

    source = str(settings.source)
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if source.startswith(("/", "./", "../", "~")):
        raise UserError(f"judge.source={source}: there is no such folder")
    return fetch(source, settings.revision, "model", "judge.source=/path/to/the/folder")


def load_judge(settings: Any, device: Any, precision: str, seed: int) -> Judge | None:
    """The judge that the configuration names; None for none."""
    if settings.name == "none":
        return None
    if settings.name == "rules":
        module, _, name = settings.builder.rpartition(".")
        return getattr(importlib.import_module(module), name)(settings, device, precision, seed)
    from cosmos_exp.metrics.reason2 import Reason2

    return Reason2(settings, device, precision, seed)
