"""The measures of a run's videos against their recordings, of their motion alone, and of the drift of long videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

import cv2
import numpy as np

from cosmos_exp.config.schema import Config
from cosmos_exp.data.video import read_video
from cosmos_exp.errors import RunError
from cosmos_exp.metrics.interface import Measured, ScoredVideo, video_pool
from cosmos_exp.metrics.prompt_sensitivity import aligned_to, small_grey
from cosmos_exp.metrics.recording.motion import (
    MIN_TRACKS,
    check_flow,
    follow,
    grey_images,
    mask_overlap,
    motion_magnitudes,
    motion_masks,
)
from cosmos_exp.metrics.recording.pixels import cosmos_dynamic_psnr, psnr, ssim

Curve = list[float | None]

MASKED = ("psnr_moving", "mask_iou_space", "mask_iou_spacetime", "mask_iou_weighted", "motion_ratio")
RECORDING = ("psnr", "ssim", *MASKED)
MOTION = ("flow_error", "flow_inconsistency", "track_survival", "track_roughness")
ACCUMULATED = ("mask_iou_space", "mask_iou_weighted", "motion_ratio")  # the last point is of the whole horizon
SCENE = "scene_drift"

_NO_FRAMES = "no frames after the conditioning frames"


def measure_recording(videos: Sequence[ScoredVideo], config: Config, workers: int) -> Iterator[Measured] | None:
    """Compare videos with their recordings (see `metrics.interface.MeasureFunction`): the measures of `RECORDING`.

    None if no video has a recording.

    Raises:
        RunError: a file cannot be read, or a video and its recording differ in size or number of frames.
    """
    if not config.measures.recording or all(v.recording is None for v in videos):
        return None
    return _shared(compare_with_recording, videos, workers)


def measure_motion(videos: Sequence[ScoredVideo], config: Config, workers: int) -> Iterator[Measured] | None:
    """Measure the motion of videos (see `metrics.interface.MeasureFunction`): the measures of `MOTION`.

    Raises:
        RunError: a video cannot be read.
    """
    return _shared(motion_of, videos, workers) if config.measures.motion else None


def measure_scene(videos: Sequence[ScoredVideo], config: Config, workers: int) -> Iterator[Measured]:
    """`scene_drift` of videos and chunks (see `metrics.interface.MeasureFunction`).

    Raises:
        RunError: a video cannot be read.
    """
    return _shared(drift_of, videos, workers)


def _shared(
    function: Callable[[ScoredVideo], Measured], videos: Sequence[ScoredVideo], workers: int
) -> Iterator[Measured]:
    with video_pool(len(videos), workers) as (pool_map, _):
        yield from pool_map(function, videos)


def compare_with_recording(video: ScoredVideo) -> Measured:
    """The measures of `RECORDING` of one video, over the frames after the conditioning frames.

    Raises:
        RunError: as in `measure_recording`.
    """
    frames, recorded = video.frames(), video.recorded()
    if recorded is None:
        return _undefined(RECORDING, "no recording of this prompt")
    have, want = len(recorded), len(frames)
    if have < want and video.span:
        return _undefined(RECORDING, f"the recording has {have} of the {want} frames of this chunk")
    if have < want and video.chunks:
        frames = frames[:have]
    if frames.shape != recorded.shape:
        raise RunError(
            f"{video.path}: {_size(frames)}, but its recording {video.recording}: {_size(recorded)}. "
            "Delete the recording and run again, or turn the comparison off with measures.recording=false"
        )
    if len(frames) <= video.conditioning:
        return _undefined(RECORDING, _NO_FRAMES)
    measured = _compared(frames, recorded, video.conditioning)
    if have < want:
        short = f"compared over the first {have} of {want} frames, which were recorded"
        for name, (value, reason) in measured.values.items():
            measured.values[name] = value, reason or short
    return measured


def _compared(frames: np.ndarray, recorded: np.ndarray, conditioning: int) -> Measured:
    new, recorded_new = frames[conditioning:], recorded[conditioning:]
    curves: dict[str, Curve] = {"psnr": psnr(new, recorded_new), "ssim": ssim(new, recorded_new)}
    start = max(conditioning - 1, 0)  # motion is measured from the last conditioning frame on
    motion = _compared_motion(frames[start:], recorded[start:])
    dynamic = cosmos_dynamic_psnr(new, recorded_new) if len(new) > 1 else None
    values = {name: _mean(curve) for name, curve in curves.items()}
    for name, curve in motion.curves.items():
        curves[name] = _from(conditioning, curve)
    return Measured({**values, **motion.values}, {**motion.detail, "dynamic_psnr": dynamic}, curves)


def _compared_motion(frames: np.ndarray, recorded: np.ndarray) -> Measured:
    """The measures of `MASKED`; curves begin at the second frame."""
    masks, recorded_masks = motion_masks(frames), motion_masks(recorded)
    if not recorded_masks.any():
        return _undefined(MASKED, "nothing moves in the recording")
    moved = accumulate(motion_magnitudes(grey_images(frames)[0], masks))
    recorded_moved = accumulate(motion_magnitudes(grey_images(recorded)[0], recorded_masks))
    # Motion of the video up to each frame by that of the recording; None until the recording moves.
    ratio = [a / b if b else None for a, b in zip(moved, recorded_moved, strict=True)]
    curves: dict[str, Curve] = {
        "psnr_moving": psnr(frames[1:], recorded[1:], recorded_masks[1:]),
        **mask_overlap(masks[1:], recorded_masks[1:]),
        "motion_ratio": ratio,
    }
    values = {}
    for name, curve in curves.items():
        values[name] = _mean(curve)
        if name in ACCUMULATED:
            values[name] = _mean(curve[-1:], "no flow in the recording")
    detail: dict[str, object] = {
        "moving_share": float(recorded_masks[1:].mean()),
        "still_frames": float(np.mean(~recorded_masks[1:].any(axis=(1, 2)))),
        "motion_log2": None,
    }
    if ratio[-1]:
        detail["motion_log2"] = float(np.log2(ratio[-1]))
    return Measured(values, detail, curves)


def motion_of(video: ScoredVideo) -> Measured:
    """The measures of `MOTION` of one video, over the frames after the conditioning frames.

    Raises:
        RunError: the video cannot be read.
    """
    images, factor = grey_images(video.frames()[max(video.conditioning - 1, 0) :])
    if len(images) < 2:
        return _undefined(MOTION, _NO_FRAMES)
    errors, inconsistent = zip(*map(check_flow, images, images[1:]), strict=True)
    tracks = follow(images)
    (roughness, curve), started = tracks.roughness(), int(tracks.alive[0].sum())
    curves: dict[str, Curve] = {
        "flow_error": list(errors),
        "flow_inconsistency": list(inconsistent),
        "track_survival": tracks.survival()[1:],
        "track_roughness": curve[1:],
    }
    not_found = "no pixel of any frame is found again"
    values = {name: _mean(curve, not_found) for name, curve in curves.items()}
    if started < MIN_TRACKS:
        values["track_survival"] = None, f"{started} corners in the first frame, {MIN_TRACKS} needed"
    values["track_roughness"] = roughness, None
    if roughness is None:
        values["track_roughness"] = None, "no track moves"
    defined = {}
    for name, curve in curves.items():
        if values[name][0] is not None:
            defined[name] = _from(video.conditioning, curve)
    return Measured(values, {"tracks": started, "reduced": factor}, defined)


def drift_of(video: ScoredVideo) -> Measured:
    """`scene_drift` of one video or chunk.

    Raises:
        RunError: the video cannot be read.
    """
    frames = read_video(video.path)
    new = frames[slice(*(video.span or (None,)))][video.conditioning :]
    if not len(new):
        return _undefined([SCENE], _NO_FRAMES)
    return Measured({SCENE: (scene_drift(frames[0], new), None)})


def scene_drift(first: np.ndarray, frames: np.ndarray) -> float:
    """How far the picture, away from what moves, has come from the first frame, grey levels. For videos of several chunks.

    Median over pixels of the median over frames of the absolute difference to the first frame. What moves or is moved covers
    less than half of the picture and less than half of the time, so both medians are of the rest. The camera's motion is
    removed as in `prompt_sensitivity.motion_map`.

    Args:
        first: uint8 (H, W, 3), of the whole video.
        frames: uint8 (T, H, W, 3).
    """
    start, flow = small_grey(first), cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    aligned = np.stack([aligned_to(start, small_grey(f), flow) for f in frames]).astype(np.float32)
    return float(np.median(np.median(np.abs(aligned - start), axis=0)))


def _mean(curve: Curve, reason: str = "undefined in every frame") -> tuple[float | None, str | None]:
    known = [value for value in curve if value is not None]
    if not known:
        return None, reason
    return float(np.mean(known)), None


def _from(conditioning: int, curve: Curve) -> Curve:
    """A curve that begins at the second frame of the motion, as one that begins at frame `conditioning`."""
    return curve if conditioning else [None, *curve]


def _undefined(names: Sequence[str], reason: str) -> Measured:
    return Measured(dict.fromkeys(names, (None, reason)))


def _size(frames: np.ndarray) -> str:
    return f"{len(frames)} frames of {frames.shape[1]}x{frames.shape[2]}"
