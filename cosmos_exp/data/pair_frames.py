"""The frames of a test pair: the conditioning frames, and the recording of what really followed them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from cosmos_exp.config.schema import Data
from cosmos_exp.data.clips import CheckedClip, frames_needed
from cosmos_exp.data.hashes import check_hash
from cosmos_exp.data.images import check_image
from cosmos_exp.data.readers.records import Clip, TestPair
from cosmos_exp.data.video import check_whole, decode, probe, read_image, resize
from cosmos_exp.data.windows import load_window
from cosmos_exp.errors import RunError, UserError

MOST_DIFFERENT = 16.0  # grey levels between an image and the first frame of its recording; compression stays below 5

HeldOut = Mapping[str, CheckedClip]  # the clips behind test pairs that come from the training data, by name


def check_pair(pair: TestPair, data: Data, whole: bool = False, recorded: Mapping[Path, str] | None = None) -> None:
    """Read the image and the recording of a test pair on disk.

    Args:
        whole: decode the whole recording.
        recorded: known hashes by path.

    Raises:
        RunError: one of them cannot be read, the recording is too short, or the pair's image is not its first frame.
    """
    assert isinstance(pair.image, Path), "test pairs on disk are images"
    check_image(pair.image)
    image = read_image(pair.image)
    if pair.recording is None:
        return
    check_hash(pair.recording, (recorded or {}).get(pair.recording))
    info = probe(pair.recording)
    if whole:
        check_whole(pair.recording, info)
    needed = frames_needed(data, info)
    if info.num_frames < needed:
        raise RunError(
            f"{pair.recording}: has {info.num_frames} frames, {needed} are needed (data.num_frames={data.num_frames}, "
            f"data.fps={data.fps}). Record a longer one, or remove it: the test pair then has no recording."
        )
    size = 64, 64
    first = resize(decode(pair.recording, [0], info), *size, "stretch").astype(float)
    difference = float(np.abs(first - resize(image[None], *size, "stretch")).mean())
    if difference > MOST_DIFFERENT:
        raise RunError(
            f"{pair.recording}: its first frame is not {pair.image.name} (mean difference {difference:.0f} grey levels). "
            "A recording begins with the test pair's image. Replace or remove it."
        )


def pair_frames(pair: TestPair, held_out: HeldOut, data: Data, count: int) -> np.ndarray:
    """The conditioning frames of a test pair: uint8 (count, height, width, 3).

    Args:
        held_out: the clips behind test pairs that are no images.
        count: number of conditioning frames.

    Raises:
        UserError: more than one frame is required and the test pair is an image.
    """
    if isinstance(pair.image, Clip):
        return load_window(held_out[pair.image.name], data, 0)[:count]
    if count == 1:
        return resize(read_image(pair.image)[None], data.height, data.width, data.resize)
    if pair.recording is None:
        raise UserError(single_frame(pair))
    return recorded_frames(pair, held_out, data)[:count]


def single_frame(pair: TestPair) -> str:
    """The error of a pair of one image where several frames are needed."""
    assert isinstance(pair.image, Path)
    return (
        f"generation.mode=video2world conditions on several frames, and the test pair {pair.name} has one. "
        f"Put its recording beside it ({pair.image.with_suffix('.mp4')}), or hold clips out with data.test_videos "
        "and data.test_path=null."
    )


def has_recording(pair: TestPair) -> bool:
    """Whether it is known what really followed the conditioning frames."""
    return isinstance(pair.image, Clip) or pair.recording is not None


def recorded_frames(pair: TestPair, held_out: HeldOut, data: Data, most: int | None = None) -> np.ndarray:
    """What really happened: uint8 (T, height, width, 3), which begins with the conditioning frames.

    The pair must have a recording.

    Args:
        most: of a rollout's frames as many as were recorded; None: data.num_frames.
    """
    clip = _recorded_clip(pair, held_out)
    frames = data.num_frames if most is None else _recorded_length(clip, data, most)
    return load_window(clip, replace(data, num_frames=frames), 0)


def recorded_length(pair: TestPair, held_out: HeldOut, data: Data, most: int) -> int:
    """How many of a rollout's `most` frames were recorded. The pair must have a recording."""
    return _recorded_length(_recorded_clip(pair, held_out), data, most)


def _recorded_clip(pair: TestPair, held_out: HeldOut) -> CheckedClip:
    """The clip that begins with the conditioning frames."""
    if isinstance(pair.image, Clip):
        return held_out[pair.image.name]
    assert pair.recording is not None
    info = probe(pair.recording)
    return CheckedClip(Clip(pair.name, pair.recording, pair.prompt), info, 0, info.num_frames, sha256="")


def _recorded_length(clip: CheckedClip, data: Data, most: int) -> int:
    """The largest number of frames at data.fps that the clip spans, at most `most`, at least data.num_frames."""
    have = clip.stop - clip.start
    longer = range(most, data.num_frames, -1)
    return next((n for n in longer if frames_needed(replace(data, num_frames=n), clip.info) <= have), data.num_frames)


def frozen_frames(conditioning: np.ndarray, num_frames: int) -> np.ndarray:
    """The conditioning frames, uint8 (k, H, W, 3), and then their last one held: uint8 (num_frames, H, W, 3)."""
    held = np.repeat(conditioning[-1:], num_frames - len(conditioning), axis=0)
    return np.concatenate([conditioning, held])
