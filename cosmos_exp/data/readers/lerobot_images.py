"""Cameras of a LeRobot data set whose pictures are in its tables (`dtype: image`), as videos in the cache.

The PNG of a frame becomes a packet of a MOV file as it is: nothing is coded again.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import pyarrow as pa
import pyarrow.parquet as pq

from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.schema import Config
from cosmos_exp.data.readers.lerobot_meta import LeRobot
from cosmos_exp.data.video import UNREADABLE, reason
from cosmos_exp.errors import RunError
from cosmos_exp.files import atomic_path, inside_by_name, json_sha256

PNG = b"\x89PNG"


def image_video(dataset: LeRobot, camera: str, episode: int) -> Path:
    """The video of an episode's pictures; it is made if the cache has none.

    Raises:
        RunError: the tables lack the episode or its pictures, or these are not PNG.
    """
    file, fps = dataset.tables.get(episode), dataset.info.fps
    where = f"{file or dataset.folder / 'data'}: {camera} of episode {episode}"
    if file is None:
        raise RunError(f"{where}: no table has its frames; download the data set again")
    state = file.stat()
    key = json_sha256([str(file.resolve()), state.st_size, state.st_mtime_ns, camera, episode, fps])[:16]
    path = cache_root(Config()) / "images" / key / f"episode_{episode:06d}.mov"
    if not path.is_file():
        try:
            rows = pq.read_table(file, columns=[camera], filters=[("episode_index", "=", episode)])
            pictures = []
            for row in rows.column(camera).to_pylist():
                pictures.append(row["bytes"] or inside_by_name(dataset.folder, row["path"]).read_bytes())
            _write(path, pictures, fps)
        except (*UNREADABLE, pa.ArrowException, LookupError, TypeError) as error:
            raise RunError(f"{where}: {reason(error)}; download the data set again") from error
    return path


def _write(path: Path, pictures: Sequence[bytes], fps: float) -> None:
    if not pictures[0].startswith(PNG):
        raise ValueError("the pictures are not PNG")
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mov") as container:
        stream = container.add_stream("png", rate=round(fps))
        stream.width, stream.height = struct.unpack(">II", pictures[0][16:24])
        stream.pix_fmt = "rgb24"
        for number, picture in enumerate(pictures):
            packet = av.Packet(picture)
            packet.pts = packet.dts = number
            packet.time_base, packet.stream = Fraction(1, round(fps)), stream
            container.mux(packet)
