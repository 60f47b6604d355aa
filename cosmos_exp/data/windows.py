"""Windows of a clip: data.num_frames frames at data.fps, which are one training sample."""

from __future__ import annotations

import numpy as np

from cosmos_exp.config.schema import Data
from cosmos_exp.data.clips import CheckedClip, frames_needed
from cosmos_exp.data.tiling import tile_frames
from cosmos_exp.data.video import decode, resize
from cosmos_exp.rng import generator


def window_indices(checked: CheckedClip, data: Data, start: int) -> list[int]:
    """Source frame numbers of the window that starts `start` frames into the clip (nearest frame at data.fps)."""
    step = 1.0 if data.fps is None else checked.info.fps / data.fps
    return [checked.start + start + int(np.floor(k * step + 0.5)) for k in range(data.num_frames)]


def window_starts(checked: CheckedClip, data: Data, seed: int) -> list[int]:
    """Start frames of a clip's cached windows: distinct, ascending, drawn from the seed and the clip's content."""
    room = checked.stop - checked.start - frames_needed(data, checked.info) + 1
    count = min(data.windows_per_video, room)
    rng = generator(seed, "windows", int(checked.sha256[:12], 16) + checked.start)
    return sorted(int(i) for i in rng.choice(room, size=count, replace=False))


def load_window(checked: CheckedClip, data: Data, start: int) -> np.ndarray:
    """Decode one window, all cameras of it: uint8 (num_frames, height, width, 3), RGB."""
    indices = window_indices(checked, data, start)
    frames = decode(checked.clip.path, indices, checked.info)
    if not data.cameras:
        return resize(frames, data.height, data.width, data.resize)
    others = [decode(o.path, [o.frames[i - checked.start] for i in indices], o.info) for o in checked.others]
    return tile_frames([frames, *others], data)
