"""The pipeline's safety checker: NVIDIA's cosmos_guardrail, or off."""

from __future__ import annotations

import importlib.util
from typing import Protocol

import numpy as np

from cosmos_exp.errors import UserError


class Guardrail(Protocol):
    """What the pipeline requires of a safety checker."""

    def to(self, *args: object, **kwargs: object) -> object:
        """Move its models, as `torch.nn.Module.to`."""

    def check_text_safety(self, prompt: str) -> bool:
        """Whether the prompt is safe."""

    def check_video_safety(self, video: np.ndarray) -> np.ndarray | None:
        """The video uint8 (T, H, W, 3), faces blurred; None if it is not safe."""


class GuardrailOff:
    """Accepts everything. Used only if model.guardrail=off, which the run's manifest records."""

    def to(self, *args: object, **kwargs: object) -> GuardrailOff:
        """There is nothing to move."""
        return self

    def check_text_safety(self, prompt: str) -> bool:
        """True."""
        return True

    def check_video_safety(self, video: np.ndarray) -> np.ndarray:
        """The video itself."""
        return video


def load_guardrail(choice: str) -> Guardrail:
    """The safety checker for model.guardrail=`choice`.

    Raises:
        UserError: cosmos_guardrail is chosen and not installed.
    """
    if check_guardrail(choice) == "off":
        return GuardrailOff()
    from cosmos_guardrail import CosmosSafetyChecker

    checker: Guardrail = CosmosSafetyChecker()
    return checker


def check_guardrail(choice: str) -> str:
    """The guardrail that a run will use. Loads nothing.

    Raises:
        UserError: cosmos_guardrail is chosen and not installed.
    """
    if choice != "off" and importlib.util.find_spec("cosmos_guardrail") is None:
        raise UserError(
            "model.guardrail=cosmos_guardrail: the package is not installed. Run `pip install cosmos_guardrail`, or set "
            "model.guardrail=off, which the run records. The model's licence requires that guardrails are kept."
        )
    return choice
