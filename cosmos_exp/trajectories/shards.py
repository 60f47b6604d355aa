"""Video shards of a LeRobot v3.0 set: the coded pictures of several episodes in one file, copied without a new encoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from cosmos_exp.data.strict import UNREADABLE, open_video, reason, video_stream
from cosmos_exp.errors import RunError
from cosmos_exp.files import atomic_path

SHARD_BYTES = 200 * 2**20  # the library's limit of a video file


@dataclass(frozen=True)
class Coded:
    """What a shard needs to know of an episode's file: files of one shard have the same of all but `frames` and `size`."""

    frames: int
    size: int
    header: bytes
    shape: tuple[int, int]
    rate: Fraction
    time_base: Fraction

    def fits(self, other: Coded) -> bool:
        """Whether both can be in one file: a player reads the header once."""
        same = (self.header, self.shape, self.rate, self.time_base)
        return same == (other.header, other.shape, other.rate, other.time_base)


@dataclass(frozen=True)
class Place:
    """Where an episode is: its file, and its first frame in it."""

    file: int
    first: int


def read_coded(path: Path) -> Coded:
    """The properties of an episode's file.

    Raises:
        RunError: it cannot be read, or is not H.264.
    """
    try:
        with open_video(path) as container:
            stream = video_stream(container)
            frames = sum(1 for packet in container.demux(stream) if packet.size)
            codec = stream.codec_context
            if codec.name != "h264" or stream.average_rate is None or stream.time_base is None:
                raise RunError(f"{path}: is {codec.name}, expected H.264")
            header = bytes(codec.extradata or b"")
            shape = (codec.height, codec.width)
            return Coded(frames, path.stat().st_size, header, shape, stream.average_rate, stream.time_base)
    except UNREADABLE as error:
        raise RunError(f"{path}: cannot be read as a video ({reason(error)})") from error


def place_episodes(coded: Sequence[Coded], limit: int = SHARD_BYTES) -> list[Place]:
    """The place of each episode, in order: a new file begins where one would be larger than `limit`, or another header."""
    places: list[Place] = []
    file, first, size = 0, 0, 0
    for k, own in enumerate(coded):
        if k and (size + own.size > limit or not own.fits(coded[k - 1])):
            file, first, size = file + 1, 0, 0
        places.append(Place(file, first))
        first, size = first + own.frames, size + own.size
    return places


def write_shard(path: Path, episodes: Sequence[Path]) -> None:
    """Write the episodes one after another into one file, atomically. The same files give the same bytes.

    Args:
        episodes: whose `Coded` fit each other.
    """
    with (
        atomic_path(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"}) as target,
    ):
        stream, offset = None, 0
        for episode in episodes:
            with open_video(episode) as source:
                own = video_stream(source)
                if stream is None:
                    stream = target.add_stream_from_template(own)
                    stream.time_base = own.time_base
                assert own.average_rate is not None
                assert own.time_base is not None
                frames = 0
                for packet in source.demux(own):
                    if not packet.size or packet.pts is None or packet.dts is None:
                        continue
                    packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                    packet.stream = stream
                    target.mux(packet)
                    frames += 1
                offset += round(frames / own.average_rate / own.time_base)
