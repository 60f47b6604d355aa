"""Read and write videos and images. Frame counts are exact, only the requested frames are decoded, writes are atomic."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from cosmos_exp.data.strict import UNREADABLE, open_video, reason, strict_frames, undecoded_frame, video_stream
from cosmos_exp.errors import RunError
from cosmos_exp.files import atomic_path


@dataclass(frozen=True)
class VideoInfo:
    """The stream's header and frame times.

    pts: presentation times of all frames in ascending order, in units of time_base.
    declared_frames: number of frames in the header; 0: it has none.
    width, height: of the coded picture, before `rotation`.
    rotation: degrees counter-clockwise by which `decode` turns the pictures, as the container asks: 0, 90, 180 or 270.
    """

    pts: tuple[int, ...]
    time_base: Fraction
    fps: float
    width: int
    height: int
    declared_frames: int
    rotation: int = 0

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height of the pictures that `decode` returns."""
        return (self.height, self.width) if self.rotation % 180 else (self.width, self.height)

    @property
    def irregular_gaps(self) -> tuple[int, float, float]:
        """Number of frame gaps beyond half to one and a half times the median; the smallest and largest gap, seconds."""
        gaps = np.diff(np.array(self.pts, dtype=np.float64) * float(self.time_base))
        if not len(gaps):
            return 0, 0.0, 0.0
        middle = float(np.median(gaps))
        return int(np.sum((gaps < 0.5 * middle) | (gaps > 1.5 * middle))), float(gaps.min()), float(gaps.max())

    @property
    def num_frames(self) -> int:
        """Frames in the file."""
        return len(self.pts)

    def frame_at(self, seconds: float) -> int:
        """Index of the frame shown `seconds` after the first frame."""
        times = np.array([float((p - self.pts[0]) * self.time_base) for p in self.pts])
        return int(np.searchsorted(times, seconds + 0.5 / self.fps, side="right") - 1)


def probe(path: Path) -> VideoInfo:
    """Read header and frame times without decoding.

    Raises:
        RunError: not a video, no video stream, or no frames.
    """
    try:
        with open_video(path) as container:
            stream = video_stream(container)
            packets = [p for p in container.demux(stream) if p.pts is not None and p.size]
            pts = sorted(p.pts for p in packets if p.pts is not None and not p.is_discard)  # an edit list hides some
            rate = stream.average_rate or stream.guessed_rate
            if not pts or not rate or stream.time_base is None:
                raise RunError(f"{path}: has no video frames")
            return VideoInfo(
                tuple(pts),
                stream.time_base,
                float(rate),
                stream.codec_context.width,
                stream.codec_context.height,
                max(0, stream.frames - (len(packets) - len(pts))),
            )
    except UNREADABLE as error:
        raise RunError(f"{path}: cannot be read as a video ({reason(error)})") from error


def decode(path: Path, indices: list[int], info: VideoInfo | None = None) -> np.ndarray:
    """Decode some frames; seeks to the first and stops after the last.

    Args:
        indices: ascending, repeats allowed.
        info: from `probe`, if known.

    Returns:
        uint8 (len(indices), height, width, 3), RGB.

    Raises:
        RunError: a frame does not exist or does not decode.
    """
    info = info or probe(path)
    if not indices or indices[0] < 0 or indices[-1] >= info.num_frames:
        raise RunError(f"{path}: frames {indices[:1]} to {indices[-1:]} requested, the file has {info.num_frames}")
    wanted, back = {info.pts[i] for i in indices}, 0
    found: dict[int, np.ndarray] = {}
    # Open groups of pictures (HEVC): a frame shown before the key frame that a seek finds needs an earlier one. A seek can
    # also land where a sound file does not decode cleanly; only an error from the file's beginning on is damage.
    while len(found) < len(wanted):
        start = max(0, indices[0] - back)
        try:
            found = _decode_from(path, wanted, start, info)
        except RunError:
            if not start:
                raise
        if not start:
            break
        back = max(16, 4 * back)
    missing = [i for i in indices if info.pts[i] not in found]
    if missing:
        raise RunError(f"{path}: frame {missing[0]} of {info.num_frames} does not decode; the file is damaged")
    return np.stack([found[info.pts[i]] for i in indices])


def _decode_from(path: Path, wanted: set[int], start: int, info: VideoInfo) -> dict[int, np.ndarray]:
    """The frames with these presentation times that decode after a seek to frame `start`."""
    last, found = max(wanted), {}
    try:
        with open_video(path) as container:
            stream = video_stream(container)
            if start:
                container.seek(info.pts[start], stream=stream, backward=True)
            for frame in strict_frames(container, stream, after_seek=start > 0):
                if frame.pts in wanted:
                    found[frame.pts] = _upright(frame.to_ndarray(format="rgb24"), frame.rotation)
                if frame.pts is not None and frame.pts >= last:
                    break
    except UNREADABLE as error:
        raise RunError(f"{path}: is damaged, it does not decode ({reason(error)}); copy it again") from error
    return found


def _upright(picture: np.ndarray, rotation: int) -> np.ndarray:
    """A picture (H, W, 3) turned counter-clockwise by a multiple of 90 degrees."""
    return np.ascontiguousarray(np.rot90(picture, round(rotation / 90) % 4)) if rotation else picture


def rotation(path: Path) -> int:
    """Degrees counter-clockwise by which the container asks to turn the pictures: 0, 90, 180 or 270.

    Raises:
        RunError: another angle, or the first frame does not decode.
    """
    try:
        with open_video(path) as container:
            degrees = next(container.decode(video_stream(container))).rotation
    except (StopIteration, *UNREADABLE) as error:
        raise RunError(f"{path}: its first frame does not decode ({reason(error)}); copy it again") from error
    if degrees % 90:
        raise RunError(f"{path}: is shown turned by {degrees} degrees; re-encode it: ffmpeg -i IN.mp4 OUT.mp4")
    return degrees % 360


def check_whole(path: Path, info: VideoInfo) -> None:
    """Decode a whole file strictly.

    Raises:
        RunError: it is damaged.
    """
    try:
        with open_video(path) as container:
            missing = undecoded_frame(container, video_stream(container), info.pts)
    except UNREADABLE as error:
        raise RunError(f"{path}: is damaged, it does not decode ({reason(error)}); copy it again") from error
    if missing is not None:
        raise RunError(
            f"{path}: frame {missing} of {info.num_frames} does not decode; the file is damaged, copy it again"
        )


def resize(frames: np.ndarray, height: int, width: int, mode: str) -> np.ndarray:
    """Resize frames (T, H, W, 3) to height x width.

    Args:
        mode: "stretch": the whole frame; "crop": scale to cover, then crop the centre.
    """
    if mode == "crop":
        rows, columns = frames.shape[1:3]
        scale = max(height / rows, width / columns)
        keep_rows, keep_columns = min(rows, round(height / scale)), min(columns, round(width / scale))
        top, left = (rows - keep_rows) // 2, (columns - keep_columns) // 2
        frames = frames[:, top : top + keep_rows, left : left + keep_columns]
    if frames.shape[1:3] == (height, width):
        return np.ascontiguousarray(frames)
    shrinks = frames.shape[1] >= height and frames.shape[2] >= width
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.stack([cv2.resize(np.ascontiguousarray(f), (width, height), interpolation=how) for f in frames])


def write_video(path: Path, frames: np.ndarray, fps: float, crf: int = 12) -> None:
    """Write uint8 (T, H, W, 3) RGB as H.264, atomically. The same frames give the same bytes."""
    with (
        atomic_path(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"}) as container,
    ):
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        # One thread and no macroblock tree, whose assembly code reads uninitialised memory: with it ten encodings gave
        # ten files (docs/log.md). faststart puts the index first: truncation is detected, browsers play at once.
        stream.options = {"crf": str(crf), "preset": "medium", "threads": "1", "x264-params": "mbtree=0"}
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def read_video(path: Path) -> np.ndarray:
    """All frames, uint8 (T, H, W, 3) RGB."""
    info = probe(path)
    return decode(path, list(range(info.num_frames)), info)


def read_image(path: Path) -> np.ndarray:
    """uint8 (H, W, 3) RGB.

    Raises:
        RunError: it cannot be read as an image.
    """
    data = np.fromfile(path, dtype=np.uint8) if path.is_file() else np.zeros(0, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise RunError(f"{path}: cannot be read as an image")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def write_image(path: Path, image: np.ndarray) -> None:
    """Write uint8 (H, W, 3) RGB as PNG, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())
