"""Rubrics: what a judge is asked about a video."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from cosmos_exp.errors import UserError


@dataclass(frozen=True)
class Rubric:
    """The prompts of a judge. `measure` names the score; `user_prompt` may hold {instruction}."""

    measure: str
    system_prompt: str
    user_prompt: str

    @property
    def needs_instruction(self) -> bool:
        """Whether the user prompt holds {instruction}."""
        return "{instruction}" in self.user_prompt

    def text(self, instruction: str | None) -> str:
        """The user prompt with the instruction inserted."""
        return self.user_prompt.replace("{instruction}", instruction or "")


def load_rubric(name: str) -> Rubric:
    """A rubric.

    Args:
        name: physics, instruction, or the path of a YAML file with system_prompt, user_prompt and optionally measure
            (default: the file's name).

    Raises:
        UserError: no such file, not YAML, or a prompt is missing.
    """
    path = Path(__file__).parent / "rubrics" / f"{name}.yaml"
    if not path.is_file():
        path = Path(name).expanduser()
    if not path.is_file():
        raise UserError(f"judge.rubrics: {name!r} is neither physics nor instruction nor the path of a YAML file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML ({str(error).splitlines()[0]})") from error
    if not isinstance(content, dict):
        content = {}
    for key in ("system_prompt", "user_prompt"):
        if not isinstance(content.get(key), str):
            raise UserError(f"{path}: add the text of {key}")
    measure = content.get("measure", path.stem)
    if not isinstance(measure, str) or not re.fullmatch(r"[A-Za-z][\w.-]*", measure):
        raise UserError(f"{path}: measure={measure!r}: give a name of letters, digits, _, - and .")
    return Rubric(measure, content["system_prompt"], content["user_prompt"])


def load_rubrics(names: Sequence[str]) -> list[Rubric]:
    """The rubrics of a judge.

    Raises:
        UserError: as `load_rubric`, or two have the same measure.
    """
    rubrics: dict[str, Rubric] = {}
    for name in names:
        rubric = load_rubric(name)
        if rubric.measure in rubrics:
            raise UserError(
                f"judge.rubrics: two rubrics measure {rubric.measure}. Set another `measure:` in one of the files."
            )
        rubrics[rubric.measure] = rubric
    return list(rubrics.values())
