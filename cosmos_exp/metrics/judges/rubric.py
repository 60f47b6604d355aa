"""The judge's interface: questions in, answers out, scores read from the answers; never a default number."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from cosmos_exp.errors import UserError


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
