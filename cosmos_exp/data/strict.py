"""Strict decoding. FFmpeg conceals damage by default: it fills in what it cannot decode and reports nothing.

H.264, HEVC, AV1 and VP9 have no checksums, and some damage decodes as another valid picture. Only a recorded hash finds
that (`hashes.py`); benchmarks/damaged_videos.py measures how often.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import av

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Checksums where a format has them, deviations from the bitstream's syntax and length; `explode`: stop, do not conceal.
# `careful` and above also reject valid files of unusual encoders.
ERROR_RECOGNITION = "crccheck+bitstream+buffer+explode"


class DamagedError(Exception):
    """The stream does not decode without concealment."""


# What av raises on damaged files: values out of range and text that is not UTF-8 as well.
UNREADABLE = (OSError, ValueError, IndexError, OverflowError, av.error.FFmpegError, DamagedError)


def open_video(path: Path) -> InputContainer:
    """Open a file to read; its tags (title, encoder) may hold any bytes."""
    return av.open(str(path), metadata_errors="replace")


def video_stream(container: InputContainer) -> VideoStream:
    """The first video stream.

    Raises:
        DamagedError: there is none, or it is of no known codec.
    """
    if not container.streams.video:
        raise DamagedError("it has no video stream")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise DamagedError("its codec is unknown")
    return stream


def strict_frames(container: InputContainer, stream: VideoStream, after_seek: bool = False) -> Iterator[VideoFrame]:
    """All frames from the current position, in order of presentation.

    Args:
        after_seek: the position is a key frame inside the file. Frames shown before that key frame may refer to earlier,
            undecoded ones (open groups of pictures); they are left out.

    Raises:
        DamagedError: a packet or a frame is corrupt.
        av.error.FFmpegError: a packet cannot be decoded.
    """
    # One thread: with several, FFmpeg sometimes returns a damaged frame before another thread has reported the damage.
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    stream.codec_context.options = {"err_detect": ERROR_RECOGNITION}
    key_frame: int | None = None
    size: tuple[int, int] | None = None
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise DamagedError("the container marks a packet as corrupt")
        if key_frame is None:
            key_frame = packet.pts
        for frame in packet.decode():
            leading = after_seek and frame.pts is not None and key_frame is not None and frame.pts < key_frame
            if leading and frame.is_corrupt:
                continue
            if frame.is_corrupt:
                raise DamagedError(f"the frame at {frame.time or 0:.2f} s decodes with errors")
            size = size or (frame.width, frame.height)
            if size != (frame.width, frame.height):
                raise DamagedError(f"the picture size changes at {frame.time or 0:.2f} s")
            yield frame


def undecoded_frame(container: InputContainer, stream: VideoStream, pts: tuple[int, ...]) -> int | None:
    """Decode a whole file. Returns the first frame of `pts` that does not come out; None: all do.

    Raises:
        DamagedError, av.error.FFmpegError: as `strict_frames`.
    """
    seen = {frame.pts for frame in strict_frames(container, stream)}
    return next((i for i, p in enumerate(pts) if p not in seen), None)


def reason(error: Exception) -> str:
    """What went wrong, without FFmpeg's numbers and paths."""
    return error.strerror if isinstance(error, av.error.FFmpegError) and error.strerror else str(error)
