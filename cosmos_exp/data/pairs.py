"""Test pairs: NAME.png (or .jpg) with the prompt in NAME.txt, and NAME.mp4 where the continuation was recorded.

A held-out clip is a test pair too. First frames that are taken as they are: 8-bit RGB and grey. Converted: 16 bits to 8, a
palette to RGB, an EXIF orientation to upright pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from cosmos_exp.config.schema import Data
from cosmos_exp.data.clips import CheckedClip, frames_needed, load_window
from cosmos_exp.data.hashes import check_hash
from cosmos_exp.data.readers.records import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Clip, TestPair, read_caption
from cosmos_exp.data.video import check_whole, decode, probe, read_image, resize
from cosmos_exp.errors import RunError, UserError

SMALLEST = 32  # pixels a side of a first frame
MOST_DIFFERENT = 16.0  # grey levels between an image and the first frame of its recording; compression stays below 5

HeldOut = Mapping[str, CheckedClip]  # the clips behind test pairs that come from the training data, by name


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
        if not caption.exists():
            problems.append(f"{image}: has no prompt; expected {caption}")
            continue
        text = read_caption(caption, problems)
        if text is not None:
            pairs.append(TestPair(image.stem, text, image, _recording_beside(image)))
    if not images:
        problems.append(f"{folder}: has no test pairs (NAME.png with NAME.txt)")
    return pairs


def _recording_beside(image: Path) -> Path | None:
    for suffix in VIDEO_SUFFIXES:
        if image.with_suffix(suffix).is_file():
            return image.with_suffix(suffix)
    return None


def unpaired_note(folder: Path) -> str | None:
    """A note on the prompts of a folder that have no picture, and so make no video; None: there is none."""
    files = list(folder.iterdir())
    pictured = {p.stem for p in files if p.suffix.lower() in IMAGE_SUFFIXES}
    alone = sorted(p.name for p in files if p.suffix == ".txt" and p.stem not in pictured)
    if not alone:
        return None
    more = " …" if len(alone) > 4 else ""
    return f"{folder}: {len(alone)} NAME.txt without NAME.png, not used: {', '.join(alone[:4])}{more}"


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


def check_image(path: Path) -> None:
    """Refuse a picture that cannot be read as 8-bit RGB without a guess.

    Raises:
        RunError: it cannot be read, is damaged, CMYK, of floating-point values, transparent, animated, or smaller than
            SMALLEST pixels.
    """
    try:
        with Image.open(path) as image:
            image.load()
            mode, size, pictures = image.mode, image.size, getattr(image, "n_frames", 1)
            lowest_alpha: object = 255
            if mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
                lowest_alpha = image.convert("RGBA").getchannel("A").getextrema()[0]
    except Exception as error:  # Pillow raises many kinds, OSError and SyntaxError among them
        raise RunError(f"{path}: cannot be read as an image ({error}); replace it by a PNG or JPEG") from error
    if min(size) < SMALLEST:
        raise RunError(
            f"{path}: {size[0]}x{size[1]} pixels are too small for a first frame; use at least {SMALLEST}x{SMALLEST}"
        )
    if mode == "CMYK":
        raise RunError(f"{path}: CMYK colours depend on a printer's profile; save it as RGB")
    if mode == "F":
        raise RunError(f"{path}: floating-point pixels have no known range; save it with 8 bits per channel")
    if pictures > 1:
        raise RunError(f"{path}: has {pictures} pictures (animated); save the one to use")
    if lowest_alpha != 255:
        raise RunError(f"{path}: has transparent pixels, whose colour is undefined; flatten it onto a background")


# --- the frames of a pair: the conditioning frames, and what really followed them ---


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
    frames = data.num_frames if most is None else recorded_length(pair, held_out, data, most)
    return load_window(_recorded_clip(pair, held_out), data.updated({"num_frames": frames}), 0)


def recorded_length(pair: TestPair, held_out: HeldOut, data: Data, most: int) -> int:
    """How many of a rollout's `most` frames at data.fps were recorded, at least data.num_frames.

    The pair must have a recording.
    """
    clip = _recorded_clip(pair, held_out)
    for frames in range(most, data.num_frames, -1):
        if frames_needed(data.updated({"num_frames": frames}), clip.info) <= clip.stop - clip.start:
            return frames
    return data.num_frames


def _recorded_clip(pair: TestPair, held_out: HeldOut) -> CheckedClip:
    """The clip that begins with the conditioning frames."""
    if isinstance(pair.image, Clip):
        return held_out[pair.image.name]
    assert pair.recording is not None
    info = probe(pair.recording)
    return CheckedClip(Clip(pair.name, pair.recording, pair.prompt), info, 0, info.num_frames, sha256="")


def frozen_frames(conditioning: np.ndarray, num_frames: int) -> np.ndarray:
    """The conditioning frames, uint8 (k, H, W, 3), and then their last one held: uint8 (num_frames, H, W, 3)."""
    held = np.repeat(conditioning[-1:], num_frames - len(conditioning), axis=0)
    return np.concatenate([conditioning, held])
