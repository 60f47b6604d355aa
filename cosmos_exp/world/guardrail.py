"""The parts of a Cosmos Predict 2.5 model, from the hub, a folder, or the embedded world: one code path for all.

A model is a normal diffusers folder: transformer/ vae/ text_encoder/ tokenizer/ scheduler/. Parts are loaded one by
one, when they are needed, and each is checked to have been loaded whole."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np

from cosmos_exp.errors import UserError


class GuardrailOff:
    """Passes everything. Used only when model.guardrail=off, which the run's record states."""

    def to(self, *args: Any, **kwargs: Any) -> GuardrailOff:
        return self

    def check_text_safety(self, prompt: str) -> bool:
        return True

    def check_video_safety(self, video: np.ndarray) -> np.ndarray:
        return video


def load_guardrail(choice: str) -> Any:
    """The safety checker that the pipeline insists on.

    Raises:
        UserError: cosmos_guardrail is asked for and not installed.
    """
    if check_guardrail(choice) == "off":
        return GuardrailOff()
    from cosmos_guardrail import CosmosSafetyChecker

    return CosmosSafetyChecker()


def check_guardrail(choice: str) -> str:
    """The guardrail that a run will use, without loading it.

    Raises:
        UserError: cosmos_guardrail is asked for and not installed.
    """
    if choice != "off" and importlib.util.find_spec("cosmos_guardrail") is None:
        raise UserError(
            "model.guardrail=cosmos_guardrail: the package is not installed. `pip install cosmos_guardrail`, or "
            "model.guardrail=off, which the run records; the model's licence asks that guardrails are kept."
        )
    return choice
