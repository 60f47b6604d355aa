"""The judge's interface: questions in, answers out, scores read from the answers; never a default number."""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import yaml

from cosmos_exp.errors import UserError

_BARE = re.compile(r"^\W*([1-5])\W*$", re.MULTILINE)
_NAMED = re.compile(r"\b(?:score|rating|answer)\b\W{0,4}(?:is\W+)?([1-5])(?![\d.,/]*\d)", re.IGNORECASE)
_THINKING, _THOUGHT = "<think>", "</think>"


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
class Question:
    """One video under one rubric; `instruction` is what the video was to show."""

    video: Path
    rubric: Rubric
    instruction: str | None


@dataclass(frozen=True)
class Answer:
    """A judge's answer: `score` 1 to 5, None when the text holds none; `expected` over the digits' probabilities."""

    score: float | None
    expected: float | None
    text: str


class Judge(Protocol):
    """What every judge can do."""

    name: str
    batch: int  # questions it takes at once

    def identity(self) -> dict[str, Any] | None:
        """All that its answers depend on besides question, temperature and seed; None: answers are not to be kept."""
        ...

    def ask(self, questions: Sequence[Question], temperature: float, seed: int) -> list[Answer]:
        """One answer each; temperature 0 is greedy and the same every time."""
        ...


def load_rubric(name: str) -> Rubric:
    """One of ours by name, or the user's YAML by path (system_prompt, user_prompt).

    Raises:
        UserError: not there, or without the two keys.
    """
    path = Path(__file__).parent / "rubrics" / f"{name}.yaml"
    if not path.is_file():
        path = Path(name).expanduser()
    if not path.is_file():
        raise UserError(f"judge.rubrics: {name!r} is neither physics, instruction nor a YAML file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: no YAML ({str(error).splitlines()[0]})") from error
    content = content if isinstance(content, dict) else {}
    missing = [k for k in ("system_prompt", "user_prompt") if not isinstance(content.get(k), str)]
    if missing:
        raise UserError(f"{path}: has no {' and no '.join(missing)}")
    return Rubric(content.get("measure", path.stem), content["system_prompt"], content["user_prompt"])


def find_score(text: str) -> tuple[int, int] | None:
    """The score in an answer and the position of its digit; None when it holds none.

    Only what follows the reasoning counts. The first line that is a bare digit 1 to 5 wins, else one named as score,
    rating or answer. What is not clearly a whole number from 1 to 5 is no score: 3.5, 10/5, 4/5, "score: five".
    """
    start = text.rfind(_THOUGHT) + len(_THOUGHT) if _THOUGHT in text else 0
    if not start and _THINKING in text:
        return None  # cut off while it reasoned
    found = _BARE.search(text, start) or _NAMED.search(text, start)
    return (int(found.group(1)), found.start(1)) if found else None


def parse_score(text: str) -> int | None:
    """The score alone."""
    found = find_score(text)
    return found[0] if found else None


def expected_score(digit_logits: np.ndarray) -> float:
    """sum_k k p_k over k = 1 to 5, p the softmax of the five logits (or log probabilities)."""
    weights = np.exp(digit_logits - digit_logits.max())
    return float((weights / weights.sum() * np.arange(1, 6)).sum())


def sample_frames(frames: np.ndarray, fps: float, settings: Any) -> tuple[np.ndarray, float]:
    """Frames at the judge's rate, no more than its number, shrunk so that all keep to its pixel budget.

    Returns:
        uint8 (T, H, W, 3) and the rate of these frames.
    """
    from cosmos_exp.data.video import resize

    step = max(fps / settings.fps, 1.0, len(frames) / settings.max_frames)
    picked = frames[[int(i * step) for i in range(int(np.ceil(len(frames) / step)))]]
    total = picked.shape[0] * picked.shape[1] * picked.shape[2]
    if total > settings.max_total_pixels:
        scale = (settings.max_total_pixels / total) ** 0.5
        height, width = (max(32, int(s * scale) // 32 * 32) for s in picked.shape[1:3])
        picked = resize(picked, height, width, "stretch")
    return picked, fps / step


def shown_frames(video: Path, settings: Any) -> tuple[np.ndarray, float]:
    """What the judge sees of a file: `sample_frames` of it."""
    from cosmos_exp.data.video import probe, read_video

    return sample_frames(read_video(video), probe(video).fps, settings)


def asked_text(question: Question, settings: Any) -> str:
    """The user's side of the conversation, with the request to reason where that is on."""
    text = question.rubric.text(question.instruction)
    if settings.reasoning:
        text += (
            f"\nThink before you answer: put your reasoning between {_THINKING} and {_THOUGHT}, then give the number."
        )
    return text


def weights_identity(folder: Path) -> str:
    """16 hex digits over the names and contents of a model folder's files (of large ones: size and both ends)."""
    digest = hashlib.sha256()
    for file in sorted(f for f in folder.rglob("*") if f.is_file() and not f.name.startswith(".")):
        size = file.stat().st_size
        digest.update(f"{file.relative_to(folder)}\0{size}\0".encode())
        with open(file, "rb") as stream:
            digest.update(stream.read(2**20))
            if size > 2**20:
                stream.seek(max(2**20, size - 2**20))
                digest.update(stream.read())
    return digest.hexdigest()[:16]


def load_judge(settings: Any, device: Any, precision: str, seed: int) -> Judge | None:
    """The judge that the configuration names; None for none."""
    if settings.name == "none":
        return None
    if settings.name == "rules":
        module, _, name = settings.builder.rpartition(".")
        return getattr(importlib.import_module(module), name)(settings, device, precision, seed)
    if settings.name == "server":
        from cosmos_exp.metrics.server import ServerJudge

        return ServerJudge(settings)
    from cosmos_exp.metrics.reason2 import Reason2

    return Reason2(settings, device, precision)
