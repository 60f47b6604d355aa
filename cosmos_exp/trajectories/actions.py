"""Actions from an inverse dynamics model of the user's: a TorchScript or ONNX file that declares what it takes and gives.

The declaration is JSON, in the TorchScript archive under the extra file `idm.json` or in ONNX under the metadata key `idm`:
{"frames": T, "height": H, "width": W, "fps": f, "actions": ["name", …]}. The model takes float32 RGB in [0, 1] of shape
(1, T, 3, H, W) and returns float32 (1, T, A): one action per frame.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from cosmos_exp.data.video import resize
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.files import JsonObject, file_sha256
from cosmos_exp.text import one_line

if TYPE_CHECKING:
    pass

PREFIX = "idm:"
KEY = "idm"  # of ONNX metadata; idm.json in a TorchScript archive
SHIPPED = {
    "tabletop": Path(__file__).parents[1] / "tabletop" / "weights" / "idm" / "tabletop.pt"
}  # by the name after idm:
SAME_RATE = 0.01  # frame rates that differ by a smaller share are the same
EXAMPLE = '{"frames": 8, "height": 96, "width": 160, "fps": 8, "actions": ["x", "y"]}'
Call = Callable[[np.ndarray], np.ndarray]  # (1, T, 3, H, W) float32 -> (1, T, A)


@dataclass(frozen=True)
class Declaration:
    """What the file says about the model.

    Attributes:
        frames: of a window, T.
        fps: frames per second of the videos that it was trained on.
        actions: name of each action value.
    """

    frames: int
    height: int
    width: int
    fps: float
    actions: tuple[str, ...]


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
        own, where = self.declared, f"--actions {PREFIX}{self.file}"
        if abs(own.fps - fps) > SAME_RATE * fps:
            raise UserError(
                f"{where}: was made for {own.fps:g} frames per second, the videos have {fps:g}. Use a model for that rate."
            )
        if frames < own.frames:
            raise UserError(
                f"{where}: takes windows of {own.frames} frames, the videos have {frames}. Use a model with shorter windows."
            )
        try:
            self._window(np.zeros((own.frames, own.height, own.width, 3), np.uint8))
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
        own = self.declared
        if len(frames) < own.frames:
            raise RunError(f"{len(frames)} frames, {own.frames} are needed")
        sized = resize(frames, own.height, own.width, "stretch")
        parts, done = [], 0
        while done < len(sized):
            start = min(done, len(sized) - own.frames)
            parts.append(self._window(sized[start : start + own.frames])[done - start :])
            done = start + own.frames
        return np.concatenate(parts)

    def _window(self, frames: np.ndarray) -> np.ndarray:
        """The actions of one window: float32 (T, A)."""
        own = self.declared
        batch = np.ascontiguousarray(frames.transpose(0, 3, 1, 2)[None].astype(np.float32) / 255)
        try:
            found = self.call(batch)
        except Exception as error:  # whatever the user's model raises
            lines = [line for line in str(error).strip().splitlines() if line.strip()] or [type(error).__name__]
            raise RunError(f"the model fails ({one_line(lines[-1])[:160]})") from error
        wanted = (1, own.frames, len(own.actions))
        if found.shape != wanted or found.dtype != np.float32:
            raise RunError(
                f"the model gives {found.dtype} {found.shape}, declared is float32 {wanted}. Correct the model or its declaration."
            )
        if not np.isfinite(found).all():
            raise RunError("the model gives values that are not finite")
        return found[0]


def load_actions(word: str, device: torch.device) -> InverseDynamics:
    """The model that --actions names: `idm:FILE`, or `idm:NAME` of one that is shipped.

    Raises:
        UserError: no such file, not a model, or without a valid declaration.
    """
    name = word.removeprefix(PREFIX)
    if name == word or not name:
        raise UserError(f"--actions {word}: write idm:FILE (TorchScript or ONNX), or idm:{' or idm:'.join(SHIPPED)}")
    path = SHIPPED.get(name) or Path(name).expanduser()
    if not path.is_file():
        raise UserError(f"--actions {word}: {path}: no such file. Give a TorchScript or ONNX file.")
    call, text = _open_onnx(path) if path.suffix == ".onnx" else _open_torchscript(path, device)
    if not text:
        place = f"metadata key {KEY}" if path.suffix == ".onnx" else f"extra file {KEY}.json"
        raise UserError(f"--actions {word}: {path} has no declaration ({place}). Add it, e.g. {EXAMPLE}")
    return InverseDynamics(path, file_sha256(path), _declaration(path, text), call)


def _open_torchscript(path: Path, device: torch.device) -> tuple[Call, str]:
    """The model's function and its declaration; an empty one if it has none."""
    extra = {f"{KEY}.json": ""}
    try:
        module = torch.jit.load(str(path), map_location=device, _extra_files=extra).eval()
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"--actions {PREFIX}{path}: is no TorchScript file. Save the model with torch.jit.save, or name an .onnx file."
        ) from error

    @torch.no_grad()
    def call(batch: np.ndarray) -> np.ndarray:
        found = module(torch.from_numpy(batch).to(device))
        if not isinstance(found, torch.Tensor):
            raise TypeError(f"it returns {type(found).__name__}, expected a tensor")
        return found.cpu().numpy()

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


def _declaration(path: Path, text: str) -> Declaration:
    """The checked declaration.

    Raises:
        UserError: it is no JSON object, or an entry is missing or wrong.
    """
    where = f"--actions {PREFIX}{path}: its declaration"
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON ({one_line(error)[:80]}). Write e.g. {EXAMPLE}") from error
    problems = _problems(content) if isinstance(content, dict) else ["is no object"]
    if problems:
        raise UserError(f"{where}: {'; '.join(problems)}. Write e.g. {EXAMPLE}")
    sizes = (content["frames"], content["height"], content["width"])
    return Declaration(*sizes, float(content["fps"]), tuple(content["actions"]))


def _problems(content: JsonObject) -> list[str]:
    found = [f"{k} is missing" for k in ("frames", "height", "width", "fps", "actions") if k not in content]
    for key in ("frames", "height", "width"):
        value = content.get(key, 1)
        if type(value) is not int or not 1 <= value <= 100_000:
            found.append(f"{key} is {one_line(value)[:40]}, expected a whole number above 0")
    fps = content.get("fps", 1)
    if type(fps) not in (int, float) or not 0 < fps <= 1000:
        found.append(f"fps is {one_line(fps)[:40]}, expected a number above 0")
    names = content.get("actions", ["x"])
    if not isinstance(names, list) or not names or not all(isinstance(n, str) and n.strip() for n in names):
        found.append("actions is no list of names")
    elif len(set(names)) < len(names):
        found.append("actions names one value twice")
    return found
