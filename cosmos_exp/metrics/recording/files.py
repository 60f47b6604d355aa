"""The measures of a run's videos against their recordings, and of their motion alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

import numpy as np

from cosmos_exp.config.schema import Config
from cosmos_exp.errors import RunError
from cosmos_exp.metrics.interface import Measured, ScoredVideo, video_pool
from cosmos_exp.metrics.recording.flow import check_flow, grey_images, motion_magnitudes
from cosmos_exp.metrics.recording.motion import mask_overlap, motion_masks
from cosmos_exp.metrics.recording.pixels import cosmos_dynamic_psnr, psnr, ssim
from cosmos_exp.metrics.recording.tracks import MIN_TRACKS, follow

Curve = list[float | None]

MASKED = ("psnr_moving", "mask_iou_space", "mask_iou_spacetime", "mask_iou_weighted", "motion_ratio")
RECORDING = ("psnr", "ssim", *MASKED)
MOTION = ("flow_error", "flow_inconsistency", "track_survival", "track_roughness")

_NO_FRAMES = "no frames after the conditioning frames"


def measure_recording(videos: Sequence[ScoredVideo], config: Config, workers: int) -> Iterator[Measured] | None:
    """Compare videos with their recordings (see `metrics.interface.MeasureFunction`): the measures of `RECORDING`.

    None if no video has a recording.

    Raises:
        RunError: a file cannot be read, or a video and its recording differ in size or number of frames.
    """
    if not config.measures.recording or all(v.recording is None for v in videos):
        return None
    return _measure(compare_with_recording, videos, workers)


def measure_motion(videos: Sequence[ScoredVideo], config: Config, workers: int) -> Iterator[Measured] | None:
    """Measure the motion of videos (see `metrics.interface.MeasureFunction`): the measures of `MOTION`.

    Raises:
        RunError: a video cannot be read.
    """
    return _measure(motion_of, videos, workers) if config.measures.motion else None


def _measure(
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
    found = _compared(frames, recorded, video.conditioning)
    if have == want:
        return found
    short = f"compared over the first {have} of {want} frames, which were recorded"
    return replace(found, values={name: (value, why or short) for name, (value, why) in found.values.items()})


def _compared(frames: np.ndarray, recorded: np.ndarray, given: int) -> Measured:
    new, recorded_new = frames[given:], recorded[given:]
    curves: dict[str, Curve] = {"psnr": psnr(new, recorded_new), "ssim": [*ssim(new, recorded_new)]}
    values = {name: _mean(curve) for name, curve in curves.items()}
    start = max(given - 1, 0)  # motion is measured from the last conditioning frame on
    motion = _compared_motion(frames[start:], recorded[start:])
    dynamic = cosmos_dynamic_psnr(new, recorded_new) if len(new) > 1 else None
    return Measured(
        values={**values, **motion.values},
        detail={**motion.detail, "dynamic_psnr": dynamic},
        curves={**curves, **{name: _from(given, curve) for name, curve in motion.curves.items()}},
    )


def _compared_motion(frames: np.ndarray, recorded: np.ndarray) -> Measured:
    """The measures of `MASKED`; curves begin at the second frame."""
    masks, recorded_masks = motion_masks(frames), motion_masks(recorded)
    if not recorded_masks.any():
        return _undefined(MASKED, "nothing moves in the recording")
    overlap = mask_overlap(masks[1:], recorded_masks[1:])
    ratio = _ratio(_motion(frames, masks), _motion(recorded, recorded_masks))
    curves: dict[str, Curve] = {
        "psnr_moving": psnr(frames[1:], recorded[1:], recorded_masks[1:]),
        "mask_iou_space": [*overlap.space],
        "mask_iou_spacetime": [*overlap.spacetime],
        "mask_iou_weighted": [*overlap.weighted],
        "motion_ratio": ratio,
    }
    over_horizon = {
        "psnr_moving",
        "mask_iou_spacetime",
    }  # the others accumulate: their last point is of the whole horizon
    values = {name: _mean(curve) if name in over_horizon else _last(curve) for name, curve in curves.items()}
    detail: dict[str, object] = {
        "moving_share": float(recorded_masks[1:].mean()),
        "still_frames": float(np.mean([not mask.any() for mask in recorded_masks[1:]])),
        "motion_log2": float(np.log2(ratio[-1])) if ratio[-1] else None,
    }
    return Measured(values, detail, curves)


def motion_of(video: ScoredVideo) -> Measured:
    """The measures of `MOTION` of one video, over the frames after the conditioning frames.

    Raises:
        RunError: the video cannot be read.
    """
    images, factor = grey_images(video.frames()[max(video.conditioning - 1, 0) :])
    if len(images) < 2:
        return _undefined(MOTION, _NO_FRAMES)
    checks = [check_flow(a, b) for a, b in pairwise(images)]
    tracks = follow(images)
    roughness = tracks.roughness()
    curves: dict[str, Curve] = {
        "flow_error": [c.error for c in checks],
        "flow_inconsistency": [c.inconsistent for c in checks],
        "track_survival": tracks.survival()[1:],
        "track_roughness": roughness.curve[1:],
    }
    values = {
        name: _mean(curves[name], "no pixel of any frame is found again")
        for name in ("flow_error", "flow_inconsistency")
    }
    started = int(tracks.alive[0].sum())
    few = f"{started} corners in the first frame, {MIN_TRACKS} needed"
    values["track_survival"] = _mean(curves["track_survival"]) if started >= MIN_TRACKS else (None, few)
    values["track_roughness"] = (roughness.value, None if roughness.value is not None else "no track moves")
    detail: dict[str, object] = {"tracks": started, "reduced": factor}
    defined = {n: _from(video.conditioning, curve) for n, curve in curves.items() if values[n][0] is not None}
    return Measured(values, detail, defined)


def _motion(frames: np.ndarray, masks: np.ndarray) -> list[float]:
    return motion_magnitudes(grey_images(frames)[0], masks)


def _ratio(video: list[float], recording: list[float]) -> Curve:
    """Motion of the video up to each frame by that of the recording; None until the recording moves."""
    return [a / b if b else None for a, b in zip(accumulate(video), accumulate(recording), strict=True)]


def _mean(curve: Curve, reason: str = "undefined in every frame") -> tuple[float | None, str | None]:
    known = [value for value in curve if value is not None]
    return (float(np.mean(known)), None) if known else (None, reason)


def _last(curve: Curve) -> tuple[float | None, str | None]:
    return curve[-1], "no flow in the recording" if curve[-1] is None else None


def _from(given: int, curve: Curve) -> Curve:
    """A curve that begins at the second frame of the motion, as one that begins at frame `given`."""
    return curve if given else [None, *curve]


def _undefined(names: Sequence[str], reason: str) -> Measured:
    return Measured(dict.fromkeys(names, (None, reason)))


def _size(frames: np.ndarray) -> str:
    return f"{len(frames)} frames of {frames.shape[1]}x{frames.shape[2]}"
