"""Video and image files, always as RGB, uint8, (frames, height, width, channels). Decoding is strict.

FFmpeg conceals damage by default: it fills in what it cannot decode and reports nothing. H.264, HEVC, AV1 and VP9 have no
checksums, and some damage decodes as another valid picture. Only a recorded hash finds that (`sha256sum`);
benchmarks/results/damaged_videos_2026-11-24.md has how often.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import av
import cv2
import numpy as np
from PIL import Image

from cosmos_exp.errors import RunError
from cosmos_exp.files import atomic_path, damage_fix

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Checksums where a format has them, deviations from the bitstream's syntax and length; `explode`: stop, do not conceal.
# `careful` and above also reject valid files of unusual encoders.
ERROR_RECOGNITION = "crccheck+bitstream+buffer+explode"
UNTIMED = ("avi",)  # containers whose times are in coding order: frames are numbered as they are decoded
HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics of ITU-T H.273


MOST_EARLY = 32  # frames that a decoder gives before an earlier one; more: that one is lost
LOST = "does not decode; the file is damaged, copy it again"


# What av raises on damaged files: values out of range and text that is not UTF-8 as well.
UNREADABLE = (OSError, ValueError, IndexError, OverflowError, av.error.FFmpegError)


@dataclass(frozen=True)
class VideoInfo:
    """The stream's header and frame times.

    pts: presentation times of all frames in ascending order, in units of time_base; a range where they are regular.
    declared_frames: number of frames in the header; 0: it has none.
    width, height: of the coded picture, before `rotation`.
    rotation: degrees counter-clockwise by which `decode` turns the pictures, as the container asks: 0, 90, 180 or 270.
    pixel_aspect: width by height of a pixel; `decode` widens the pictures by it.
    notes: what is read in a way that is worth knowing.
    """

    pts: Sequence[int]
    time_base: Fraction
    fps: float
    width: int
    height: int
    declared_frames: int
    rotation: int = 0
    pixel_aspect: Fraction = Fraction(1)
    notes: tuple[str, ...] = ()

    @property
    def num_frames(self) -> int:
        """Frames in the file."""
        return len(self.pts)

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height of the pictures that `decode` returns."""
        return (self.height, self.wide) if self.rotation % 180 else (self.wide, self.height)

    @property
    def wide(self) -> int:
        """The width with square pixels, before `rotation`."""
        return round(self.width * self.pixel_aspect)

    def second(self, index: int) -> float:
        """Seconds of a frame since the first one."""
        return (self.pts[index] - self.pts[0]) * self.time_base.numerator / self.time_base.denominator

    @cached_property
    def gaps(self) -> tuple[int, float, float]:
        """Number of irregular gaps between frames (more than half of the median away from it), least and largest seconds."""
        if isinstance(self.pts, range):
            return 0, 0.0, 0.0
        seconds = np.diff(np.array(self.pts, dtype=np.int64)) * float(self.time_base)
        usual = np.median(seconds)
        return int(np.sum(np.abs(seconds - usual) > usual / 2)), float(seconds.min()), float(seconds.max())

    def frame_at(self, seconds: float) -> int:
        """Index of the frame shown `seconds` after the first frame."""
        return bisect_right(range(self.num_frames), seconds + 0.5 / self.fps, key=self.second) - 1


def as_range(numbers: Sequence[int]) -> Sequence[int]:
    """Numbers in equal steps as a range, whatever their count; others as a tuple."""
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    regular = range(numbers[0], numbers[0] + len(numbers) * step, step or 1)
    return regular if step > 0 and np.array_equal(regular, numbers) else tuple(numbers)


def open_video(path: Path) -> InputContainer:
    """Open a file to read; its tags (title, encoder) may hold any bytes."""
    if int(av.__version__.partition(".")[0]) >= 19:  # PyAV 19 dropped the argument: it reads any bytes
        return av.open(str(path))
    return av.open(str(path), metadata_errors="replace")


def video_stream(container: InputContainer) -> VideoStream:
    """The video stream that FFmpeg takes: the largest that is no artwork.

    Raises:
        ValueError: there is none, or it is of no known codec.
    """
    if not container.streams.video:
        raise ValueError("it has no video stream")
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream) or stream.codec_context is None:
        raise ValueError("its codec is unknown")
    return stream


def reason(error: Exception) -> str:
    """What went wrong, without FFmpeg's numbers and paths."""
    return error.strerror if isinstance(error, av.error.FFmpegError) and error.strerror else str(error)


def probe(path: Path) -> VideoInfo:
    """Read header and frame times without decoding.

    Raises:
        RunError: not a video, no video stream, or no frames.
    """
    try:
        with open_video(path) as container:
            stream = video_stream(container)
            packets, pts = 0, []
            for packet in container.demux(stream):
                if packet.pts is not None and packet.size:
                    packets += 1
                    if not packet.is_discard:  # an edit list hides some
                        pts.append(packet.pts)
            rate, time_base = stream.average_rate or stream.guessed_rate, stream.time_base
            if not pts or not rate or time_base is None:
                raise ValueError("it has no video frames")
            if container.format.name in UNTIMED:
                pts, time_base = list(range(len(pts))), 1 / Fraction(rate)
            return VideoInfo(
                as_range(sorted(pts)),
                time_base,
                float(rate),
                stream.codec_context.width,
                stream.codec_context.height,
                max(0, stream.frames - (packets - len(pts))),
                pixel_aspect=Fraction(stream.sample_aspect_ratio or 1),
                notes=_notes(container, stream),
            )
    except UNREADABLE as error:
        raise RunError(f"{path}: cannot be read as a video ({reason(error)}); {damage_fix(path)}") from error


def _notes(container: InputContainer, stream: VideoStream) -> tuple[str, ...]:
    notes, context = [], stream.codec_context
    videos = len(container.streams.video)
    if videos > 1:
        notes.append(f"the file has {videos} video streams or pictures; stream {stream.index} is read")
    if (stream.sample_aspect_ratio or 1) != 1:
        notes.append(f"its pixels are not square ({stream.sample_aspect_ratio}); the pictures are widened")
    if context.color_trc in HDR:
        notes.append(
            f"HDR ({HDR[context.color_trc]}) is read as if it were SDR: its colours are pale; convert it first"
        )
    if context.format and context.format.components[-1].is_alpha:
        notes.append("its transparency is dropped")
    return tuple(notes)


def with_first_frame(path: Path, info: VideoInfo) -> VideoInfo:
    """What `probe` returned, with what the first frame adds: how the pictures are turned, and a note if they are interlaced.

    Raises:
        RunError: they are turned by another angle than 90, 180 or 270 degrees, or the first frame does not decode.
    """
    for first in itertools.islice(_frames(path), 1):
        if first.rotation % 90:
            raise RunError(
                f"{path}: is shown turned by {first.rotation} degrees; re-encode it: ffmpeg -i IN.mp4 OUT.mp4"
            )
        info = replace(info, rotation=first.rotation % 360)
        if first.interlaced_frame:
            info = replace(info, notes=(*info.notes, "it is interlaced; both fields are one picture"))
    return info


def _frames(path: Path, start: int = 0) -> Iterator[VideoFrame]:
    """All frames, decoded strictly, in order of presentation.

    Args:
        start: begin at the key frame before this presentation time. Frames shown before that key frame may refer to earlier,
            undecoded ones (open groups of pictures); they are left out. 0: begin at the first frame.

    Raises:
        RunError: a packet or a frame is corrupt or cannot be decoded, or the size of the pictures changes.
    """
    try:
        with open_video(path) as container:
            stream = video_stream(container)
            untimed = container.format.name in UNTIMED
            seeks = start and not untimed
            if seeks:
                container.seek(start, stream=stream, backward=True)
            # One thread: with several, FFmpeg sometimes returns a damaged frame before another thread has reported the damage.
            stream.thread_type = "NONE"
            stream.codec_context.thread_count = 1
            stream.codec_context.options = {"err_detect": ERROR_RECOGNITION}
            key_frame: int | None = None
            size: tuple[int, int] | None = None
            numbers = itertools.count()
            for packet in container.demux(stream):
                if packet.is_corrupt:
                    raise ValueError("the container marks a packet as corrupt")
                if seeks and key_frame is None:
                    key_frame = packet.pts
                for frame in packet.decode():
                    if frame.is_corrupt:
                        if key_frame is not None and frame.pts is not None and frame.pts < key_frame:
                            continue
                        raise ValueError(f"the frame at {frame.time or 0:.2f} s decodes with errors")
                    size = size or (frame.width, frame.height)
                    if size != (frame.width, frame.height):
                        raise ValueError(f"the picture size changes at {frame.time or 0:.2f} s")
                    if untimed:
                        frame.pts = next(numbers)
                    yield frame
    except UNREADABLE as error:
        raise RunError(f"{path}: is damaged, it does not decode ({reason(error)}); {damage_fix(path)}") from error


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
    decoded: dict[int, np.ndarray] = {}
    # Open groups of pictures (HEVC): a frame shown before the key frame that a seek finds needs an earlier one. A seek can
    # also land where a sound file does not decode cleanly; only an error from the file's beginning on is damage.
    while len(decoded) < len(wanted):
        start, decoded = max(0, indices[0] - back), {}
        try:
            for frame in _frames(path, start and info.pts[start]):
                if frame.pts in wanted:
                    decoded[frame.pts] = _picture(frame, info)
                if frame.pts is not None and frame.pts >= info.pts[indices[-1]]:
                    break
        except RunError:
            if not start:
                raise
        if not start:
            break
        back = max(16, 4 * back)
    frames = []
    for index in indices:
        if info.pts[index] not in decoded:
            raise RunError(f"{path}: frame {index} of {info.num_frames} {LOST}")
        frames.append(decoded[info.pts[index]])
    return np.stack(frames)


def _picture(frame: VideoFrame, info: VideoInfo) -> np.ndarray:
    """As it is shown: uint8 (H, W, 3) RGB."""
    picture = frame.to_ndarray(format="rgb24", width=info.wide, height=frame.height)
    return np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90) % 4))


def check_whole(path: Path, info: VideoInfo) -> None:
    """Decode a whole file strictly.

    Raises:
        RunError: it is damaged.
    """
    decoded = {frame.pts for frame in _frames(path)}
    for index, pts in enumerate(info.pts):
        if pts not in decoded:
            raise RunError(f"{path}: frame {index} of {info.num_frames} {LOST}")


def read_video(path: Path, span: tuple[int, int] | None = None) -> np.ndarray:
    """All frames, or those of a span, stop excluded: uint8 (T, H, W, 3) RGB."""
    info = probe(path)
    return decode(path, list(range(info.num_frames)), info)[slice(*(span or (None,)))]


class VideoFrames:
    """The frames of a file one by one, uint8 (H, W, 3) RGB, those of `read_video`; each iteration decodes anew.

    Args:
        span: the frames to give, stop excluded; None: all.

    Attributes:
        shape: (T, H, W, 3).

    Raises:
        RunError: the file is no video; in an iteration: it does not decode.
    """

    def __init__(self, path: Path, span: tuple[int, int] | None = None):
        self.path, self.info = path, probe(path)
        self.pts = self.info.pts[slice(*(span or (None,)))]
        first = next(iter(self), None)
        if first is None:
            raise RunError(f"{path}: has {self.info.num_frames} frames, none of {span}")
        self.shape = (len(self.pts), *first.shape)

    def __iter__(self) -> Iterator[np.ndarray]:
        decoded: dict[int, np.ndarray] = {}
        frames, wanted = _frames(self.path), set(self.pts)
        for pts, repeats in itertools.groupby(self.pts):
            while pts not in decoded:
                frame = next(frames, None)
                if frame is None or len(decoded) > MOST_EARLY:
                    number = self.info.pts.index(pts)
                    raise RunError(f"{self.path}: frame {number} of {self.info.num_frames} {LOST}")
                if frame.pts in wanted:
                    decoded[frame.pts] = _picture(frame, self.info)
            picture = decoded.pop(pts)
            for _ in repeats:
                yield picture


def resize(frames: np.ndarray, height: int, width: int, mode: str) -> np.ndarray:
    """Resize frames (T, H, W, 3) to height x width.

    Args:
        mode: "stretch": the whole frame; "crop": scale to cover, then crop the centre; "reference": the whole frame by
            Pillow's bilinear filter, as diffusers' VideoProcessor; "nearest": by nearest neighbour, as its pipeline.
    """
    if mode == "crop":
        rows, columns = frames.shape[1:3]
        scale = max(height / rows, width / columns)
        keep_rows, keep_columns = min(rows, round(height / scale)), min(columns, round(width / scale))
        top, left = (rows - keep_rows) // 2, (columns - keep_columns) // 2
        frames = frames[:, top : top + keep_rows, left : left + keep_columns]
    if frames.shape[1:3] == (height, width):
        return np.ascontiguousarray(frames)
    if mode == "reference":
        bilinear = Image.Resampling.BILINEAR
        return np.stack([np.asarray(Image.fromarray(f).resize((width, height), bilinear)) for f in frames])
    shrinks = frames.shape[1] >= height and frames.shape[2] >= width
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    if mode == "nearest":
        how = cv2.INTER_NEAREST
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
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def read_image(path: Path) -> np.ndarray:
    """uint8 (H, W, 3) RGB.

    Raises:
        RunError: it cannot be read as an image.
    """
    image = None
    if path.is_file() and path.stat().st_size:
        image = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise RunError(f"{path}: cannot be read as an image; {damage_fix(path)}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def write_image(path: Path, image: np.ndarray) -> None:
    """Write uint8 (H, W, 3) RGB as PNG, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())
