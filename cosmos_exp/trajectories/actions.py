"""States and actions from an inverse dynamics model: a TorchScript file that declares what it takes and gives.

The declaration is JSON in the archive's extra file `idm.json`:
{"frames": T, "height": H, "width": W, "fps": f, "state": ["name", …], "actions": ["name", …]}, one of the two lists or both.
The model takes float32 RGB in [0, 1] of shape (1, T, 3, H, W) and returns float32 (1, T, S + A): the values of each frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from cosmos_exp.config.registry import INVERSE_DYNAMICS
from cosmos_exp.data.video import resize
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.files import file_sha256
from cosmos_exp.text import one_line

PREFIX = "idm:"
STATE = "observation.state"  # the column that LeRobot's policies read
DECLARATION = "idm.json"  # extra file of the archive
SAME_RATE = 0.01  # frame rates that differ by a smaller share are the same
EXAMPLE = '{"frames": 8, "height": 96, "width": 160, "fps": 8, "state": ["x", "y"]}'


class Declaration(BaseModel):
    """What the file says about the model.

    Attributes:
        frames: of a window, T.
        fps: frames per second of the videos that it was trained on.
        state: name of each value of the robot's state at a frame, e.g. positions.
        actions: name of each value of the action at a frame, e.g. differences.
    """

    model_config = ConfigDict(strict=True, frozen=True)
    frames: int = Field(ge=1)
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    fps: float = Field(gt=0)
    state: list[str] = []
    actions: list[str] = Field([], validate_default=True)

    @field_validator("actions")
    @classmethod
    def _check_names(cls, actions: list[str], info: ValidationInfo) -> list[str]:
        if not actions and not info.data.get("state"):
            raise ValueError("state or actions has to name the values")
        return actions

    @property
    def columns(self) -> dict[str, list[str]]:
        """The columns of the data set and the names of their values."""
        columns = {"action": self.actions or self.state}
        if self.state:
            columns[STATE] = self.state
        return columns


@dataclass(frozen=True)
class InverseDynamics:
    """A loaded model. `file`: its file; `sha256`: of it."""

    file: Path
    sha256: str
    declared: Declaration
    module: torch.nn.Module

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
        try:
            self.infer(np.zeros((frames, declared.height, declared.width, 3), np.uint8))
        except RunError as error:
            raise UserError(f"{where}: on black frames: {error}") from error

    def infer(self, frames: np.ndarray) -> dict[str, np.ndarray]:
        """The columns of a video, each float32 (frames, values).

        The action of a model that reads states only is the state to reach: that of the next frame, at the last frame its own.
        Windows are consecutive; the last one is aligned to the end and gives only what the ones before it have not.

        Args:
            frames: uint8 (T, H, W, 3), at least as many as a window has; resized if the model takes another size.

        Raises:
            RunError: the model fails, or gives another shape or values that are not finite.
        """
        window = self.declared.frames
        if len(frames) < window:
            raise RunError(f"the model takes windows of {window} frames, the video has {len(frames)}")
        sized = resize(frames, self.declared.height, self.declared.width, "stretch")
        parts, done = [], 0
        while done < len(sized):
            start = min(done, len(sized) - window)
            parts.append(self._window(sized[start : start + window])[done - start :])
            done = start + window
        state, action = np.split(np.concatenate(parts), [len(self.declared.state)], axis=1)
        if not self.declared.actions:
            action = np.concatenate([state[1:], state[-1:]])
        return {"action": action, STATE: state}

    @torch.no_grad()
    def _window(self, frames: np.ndarray) -> np.ndarray:
        """The values of one window: float32 (T, S + A)."""
        batch = np.ascontiguousarray(frames.transpose(0, 3, 1, 2)[None].astype(np.float32) / 255)
        try:
            values = self.module(torch.from_numpy(batch)).numpy()
        except Exception as error:  # whatever the user's model raises
            last = str(error).strip().rpartition("\n")[2] or type(error).__name__
            raise RunError(f"the model fails ({one_line(last)[:160]})") from error
        shape = (1, self.declared.frames, len(self.declared.state + self.declared.actions))
        if values.shape != shape or values.dtype != np.float32 or not np.isfinite(values).all():
            raise RunError(
                f"the model gives {values.dtype} {values.shape}, declared are finite float32 {shape}. Correct the model or its "
                "declaration."
            )
        return values[0]


def load_actions(word: str) -> InverseDynamics:
    """The model that --actions names: `idm:FILE`, or `idm:NAME` of a registered one.

    Raises:
        UserError: no such file, not a model, or without a valid declaration.
    """
    name = word.removeprefix(PREFIX)
    path = Path(INVERSE_DYNAMICS.get(name) if name in INVERSE_DYNAMICS.names else name).expanduser()
    if name == word or not path.is_file():
        raise UserError(
            f"--actions {word}: no such file. Write idm:FILE of a TorchScript file, or idm: and one of {INVERSE_DYNAMICS.names}"
        )
    extra: dict[str, str | bytes] = {DECLARATION: ""}
    try:
        module = torch.jit.load(str(path), map_location="cpu", _extra_files=extra).eval()
        declared = Declaration.model_validate_json(extra[DECLARATION])
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
        raise UserError(
            f"--actions {word}: the declaration in its extra file {DECLARATION}: {one_line('; '.join(problems))}. Write e.g. {EXAMPLE}"
        ) from error
    except (RuntimeError, ValueError) as error:
        raise UserError(f"--actions {word}: is no TorchScript file. Save the model with torch.jit.save.") from error
    return InverseDynamics(path, file_sha256(path), declared, module)
