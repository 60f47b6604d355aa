"""Actions from an inverse dynamics model: a TorchScript or ONNX file that declares what it takes and gives.

The declaration is JSON, in the TorchScript archive under the extra file `idm.json` or in ONNX under the metadata key `idm`:
{"frames": T, "height": H, "width": W, "fps": f, "actions": ["name", …]}. The model takes float32 RGB in [0, 1] of shape
(1, T, 3, H, W) and returns float32 (1, T, A): one action per frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from cosmos_exp.config.registry import INVERSE_DYNAMICS
from cosmos_exp.data.video import resize
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.files import file_sha256
from cosmos_exp.text import one_line

PREFIX = "idm:"
KEY = "idm"  # of ONNX metadata; idm.json in a TorchScript archive
SAME_RATE = 0.01  # frame rates that differ by a smaller share are the same
EXAMPLE = '{"frames": 8, "height": 96, "width": 160, "fps": 8, "actions": ["x", "y"]}'
Call = Callable[[np.ndarray], np.ndarray]  # (1, T, 3, H, W) float32 -> (1, T, A)
Count = Annotated[int, Field(ge=1, le=100_000)]


class Declaration(BaseModel):
    """What the file says about the model.

    Attributes:
        frames: of a window, T.
        fps: frames per second of the videos that it was trained on.
        actions: name of each action value.
    """

    model_config = ConfigDict(strict=True, frozen=True)
    frames: Count
    height: Count
    width: Count
    fps: Annotated[float, Field(gt=0, le=1000)]
    actions: Annotated[list[Annotated[str, StringConstraints(min_length=1)]], Field(min_length=1)]

    @field_validator("actions")
    @classmethod
    def _unique(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError("names one value twice")
        return names


@dataclass(frozen=True)
class InverseDynamics:
    """A loaded model. `file`: its file; `sha256`: of it."""

    file: Path
    sha256: str
    declared: Declaration
    call: Call

    def check(self, frames: int, fps: float) -> None:
        """Check that the model fits videos, and that it gives what it declares: it is run once on black frames.

        Args:
            frames: of each video.
            fps: of the videos.

        Raises:
            UserError: it does not.
        """
        declared, where = self.declared, f"--actions {PREFIX}{self.file}"
        if abs(declared.fps - fps) > SAME_RATE * fps:
            raise UserError(
                f"{where}: was made for {declared.fps:g} frames per second, the videos have {fps:g}. Use a model for that rate."
            )
        if frames < declared.frames:
            raise UserError(
                f"{where}: takes windows of {declared.frames} frames, the videos have {frames}. Use a model with shorter windows."
            )
        try:
            self._window(np.zeros((declared.frames, declared.height, declared.width, 3), np.uint8))
        except RunError as error:
            raise UserError(f"{where}: on black frames {error}") from error

    def actions(self, frames: np.ndarray) -> np.ndarray:
        """The action at each frame of a video: float32 (frames, A).

        Consecutive windows; the last one is aligned to the end and gives only what the ones before it have not.

        Args:
            frames: uint8 (T, H, W, 3), at least as many as a window has; resized if the model takes another size.

        Raises:
            RunError: the model fails, or gives another shape or values that are not finite.
        """
        window = self.declared.frames
        if len(frames) < window:
            raise RunError(f"{len(frames)} frames, {window} are needed")
        sized = resize(frames, self.declared.height, self.declared.width, "stretch")
        parts, done = [], 0
        while done < len(sized):
            start = min(done, len(sized) - window)
            parts.append(self._window(sized[start : start + window])[done - start :])
            done = start + window
        return np.concatenate(parts)

    def _window(self, frames: np.ndarray) -> np.ndarray:
        """The actions of one window: float32 (T, A)."""
        batch = np.ascontiguousarray(frames.transpose(0, 3, 1, 2)[None].astype(np.float32) / 255)
        try:
            actions = self.call(batch)
        except Exception as error:  # whatever the user's model raises
            last = str(error).strip().rpartition("\n")[2] or type(error).__name__
            raise RunError(f"the model fails ({one_line(last)[:160]})") from error
        shape = (1, self.declared.frames, len(self.declared.actions))
        if actions.shape != shape or actions.dtype != np.float32:
            raise RunError(
                f"the model gives {actions.dtype} {actions.shape}, declared is float32 {shape}. Correct the model or its declaration."
            )
        if not np.isfinite(actions).all():
            raise RunError("the model gives values that are not finite")
        return actions[0]


def load_actions(word: str, device: torch.device) -> InverseDynamics:
    """The model that --actions names: `idm:FILE`, or `idm:NAME` of a registered one.

    Raises:
        UserError: no such file, not a model, or without a valid declaration.
    """
    name = word.removeprefix(PREFIX)
    if name == word or not name:
        known = ", ".join(f"{PREFIX}{known}" for known in INVERSE_DYNAMICS.names)
        raise UserError(f"--actions {word}: write idm:FILE (TorchScript or ONNX), or one of {known}")
    path = Path(INVERSE_DYNAMICS.get(name) if name in INVERSE_DYNAMICS.names else name).expanduser()
    if not path.is_file():
        raise UserError(f"--actions {word}: {path}: no such file. Give a TorchScript or ONNX file.")
    if path.suffix == ".onnx":
        call, text = _open_onnx(path)
        place = f"metadata key {KEY}"
    else:
        call, text = _open_torchscript(path, device)
        place = f"extra file {KEY}.json"
    if not text:
        raise UserError(f"--actions {word}: {path} has no declaration ({place}). Add it, e.g. {EXAMPLE}")
    try:
        declared = Declaration.model_validate_json(text)
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            problems.append(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}")
        raise UserError(
            f"--actions {word}: its declaration: {one_line('; '.join(problems))}. Write e.g. {EXAMPLE}"
        ) from error
    return InverseDynamics(path, file_sha256(path), declared, call)


def _open_torchscript(path: Path, device: torch.device) -> tuple[Call, str]:
    """The model's function and its declaration; an empty one if it has none."""
    extra: dict[str, str | bytes] = {f"{KEY}.json": ""}
    try:
        module = torch.jit.load(str(path), map_location=device, _extra_files=extra).eval()
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"--actions {PREFIX}{path}: is no TorchScript file. Save the model with torch.jit.save, or name an .onnx file."
        ) from error

    @torch.no_grad()
    def call(batch: np.ndarray) -> np.ndarray:
        actions: torch.Tensor = module(torch.from_numpy(batch).to(device))
        return actions.cpu().numpy()

    text = extra[f"{KEY}.json"]
    return call, text.decode("utf-8", "replace") if isinstance(text, bytes) else text


def _open_onnx(path: Path) -> tuple[Call, str]:
    """The same of an ONNX file."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"--actions {PREFIX}{path}: ONNX files need onnxruntime. Run `pip install 'cosmos-exp[onnx]'`, or use TorchScript."
        ) from error
    try:
        session = onnxruntime.InferenceSession(str(path))
    except Exception as error:  # the library has no common base class
        raise UserError(
            f"--actions {PREFIX}{path}: is no ONNX model. Export the model to ONNX again, or name a TorchScript file."
        ) from error
    name = session.get_inputs()[0].name

    def call(batch: np.ndarray) -> np.ndarray:
        return np.asarray(session.run(None, {name: batch})[0])

    return call, session.get_modelmeta().custom_metadata_map.get(KEY, "")
