"""Test pairs: NAME.png (or .jpg) with the prompt in NAME.txt, and NAME.mp4 where the continuation was recorded.

A held-out clip is a test pair too. First frames that are taken as they are: 8-bit RGB and grey. Converted: 16 bits to 8, a
palette to RGB, an EXIF orientation to upright pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from cosmos_exp.config.schema import Data
from cosmos_exp.data.clips import CheckedClip, check_length, frames_needed, load_window
from cosmos_exp.data.readers.captions import read_caption
from cosmos_exp.data.readers.records import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Clip, TestPair
from cosmos_exp.data.video import check_whole, decode, probe, read_image, resize
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.files import damage_fix

TRANSPARENT = "transparent pixels"
SMALLEST = 32  # pixels a side of a first frame
MOST_DIFFERENT = 16.0  # grey levels between an image and the first frame of its recording; compression stays below 5


def read_test_pairs(folder: Path, problems: list[str]) -> list[TestPair]:
    """The test pairs of a folder, sorted by name. What is wrong is appended to `problems`.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"data.test_path={folder}: no such folder. Give one that exists.")
    pairs, images = [], 0
    for image in sorted(folder.iterdir()):
        if image.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        images += 1
        caption = image.with_suffix(".txt")
        recording = next(filter(Path.is_file, map(image.with_suffix, VIDEO_SUFFIXES)), None)
        try:
            pairs.append(TestPair(image.stem, read_caption(caption), image, recording))
        except FileNotFoundError:
            problems.append(f"{image}: has no prompt; expected {caption}")
        except (RunError, OSError) as error:
            problems.append(str(error))
    if not images:
        problems.append(f"{folder}: has no test pairs (NAME.png with NAME.txt)")
    return pairs


def check_pair(pair: TestPair, data: Data, whole: bool = False) -> None:
    """Read the image and the recording of a test pair on disk.

    Args:
        whole: decode the whole recording.

    Raises:
        RunError: one of them cannot be read, the recording is too short, or the pair's image is not its first frame.
    """
    assert isinstance(pair.image, Path), "test pairs on disk are images"
    check_image(pair.image)
    image = read_image(pair.image)
    if pair.recording is None:
        return
    info = probe(pair.recording)
    if whole:
        check_whole(pair.recording, info)
    check_length(pair.recording, pair.name, info.num_frames, info, data)
    size = 64, 64
    first = resize(decode(pair.recording, [0], info), *size, "stretch").astype(float)
    difference = float(np.abs(first - resize(image[None], *size, "stretch")).mean())
    if difference > MOST_DIFFERENT:
        raise RunError(
            f"{pair.recording}: its first frame is not {pair.image.name} (mean difference {difference:.0f} grey levels). "
            "A recording begins with the test pair's image. Replace or remove it."
        )


def check_image(path: Path) -> None:
    """Refuse a picture that cannot be read as 8-bit RGB without a guess.

    Raises:
        RunError: it cannot be read, is damaged, CMYK, of floating-point values, transparent, or smaller than SMALLEST pixels.
    """
    try:
        with Image.open(path) as image:
            image.load()
            mode, (width, height) = image.mode, image.size
            if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
                mode = TRANSPARENT
    except Exception as error:  # Pillow raises many kinds, OSError and SyntaxError among them
        raise RunError(f"{path}: cannot be read as an image ({error}); {damage_fix(path)}") from error
    if min(width, height) < SMALLEST:
        raise RunError(
            f"{path}: {width}x{height} pixels are too small for a first frame; use {SMALLEST}x{SMALLEST} or more"
        )
    if mode in ("CMYK", "F", TRANSPARENT):
        raise RunError(
            f"{path}: has no defined colours ({mode}); save it as an opaque RGB picture with 8 bits per channel"
        )


# --- the frames of a pair: the conditioning frames, and what really followed them ---


def pair_frames(pair: TestPair, data: Data, count: int) -> np.ndarray:
    """The conditioning frames of a test pair: uint8 (count, height, width, 3).

    Args:
        count: number of conditioning frames.

    Raises:
        UserError: more than one frame is required and the test pair is an image.
    """
    if isinstance(pair.image, CheckedClip):
        return load_window(pair.image, data, 0)[:count]
    if count == 1:
        mode = "nearest" if data.resize == "reference" else data.resize
        return resize(read_image(pair.image)[None], data.height, data.width, mode)
    if pair.recording is None:
        raise UserError(single_frame(pair))
    return recorded_frames(pair, data)[:count]


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
    return isinstance(pair.image, CheckedClip) or pair.recording is not None


def recorded_frames(pair: TestPair, data: Data, most: int | None = None) -> np.ndarray:
    """What really happened: uint8 (T, height, width, 3), which begins with the conditioning frames.

    The pair must have a recording.

    Args:
        most: of a rollout's frames as many as were recorded; None: data.num_frames.
    """
    frames = recorded_length(pair, data, most or data.num_frames)
    return load_window(_recorded_clip(pair), data.updated({"num_frames": frames}), 0)


def recorded_length(pair: TestPair, data: Data, most: int) -> int:
    """How many of a rollout's `most` frames at data.fps were recorded, at least data.num_frames.

    The pair must have a recording.
    """
    clip = _recorded_clip(pair)
    for frames in range(most, data.num_frames, -1):
        if frames_needed(data.updated({"num_frames": frames}), clip.info) <= clip.stop - clip.start:
            return frames
    return data.num_frames


def _recorded_clip(pair: TestPair) -> CheckedClip:
    """The clip that begins with the conditioning frames."""
    if isinstance(pair.image, CheckedClip):
        return pair.image
    assert pair.recording is not None
    info = probe(pair.recording)
    return CheckedClip(Clip(pair.name, pair.recording, pair.prompt), info, 0, info.num_frames, sha256="")


def frozen_frames(conditioning: np.ndarray, num_frames: int) -> np.ndarray:
    """The conditioning frames, uint8 (k, H, W, 3), and then their last one held: uint8 (num_frames, H, W, 3)."""
    held = np.repeat(conditioning[-1:], num_frames - len(conditioning), axis=0)
    return np.concatenate([conditioning, held])
