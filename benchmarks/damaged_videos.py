"""Damaged videos: which does the data check find, which can training read, and does it reject good files?

    python benchmarks/damaged_videos.py [--files 100] [--kinds 200_bytes,200_in_a_row,…] [--data DIR]

Sources: the recordings of COSMOS_EXP_REAL_DATA and rendered tabletop clips. Each file is damaged by its own seed. A file
is *visibly* different if its number of frames differs or some 16x16 block of some frame differs by more than 4 grey levels
on average from the undamaged decode. *Before* is the check of 2026-11-23: header, frame count, first and last frame.
A window is 17 frames, read as training reads it. Good files: whole files and windows of eleven encoders' output, compared with a
plain decode byte by byte and timed against it.
"""

from __future__ import annotations

import argparse
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
from common import interleaved, machine_line, markdown, spread, write

from cosmos_exp.data.video import (
    UNREADABLE,
    VideoInfo,
    check_whole,
    decode,
    open_video,
    probe,
    read_video,
    video_stream,
    write_video,
)
from cosmos_exp.errors import RunError
from cosmos_exp.tabletop.scene import Scene

ROOT = Path(__file__).parent.parent
VISIBLE = 4.0  # grey levels, mean of a 16x16 block
WINDOW = 17
Frames = dict[int, np.ndarray]  # luma by presentation time

ENCODERS = {
    "H.264": ("libx264", {}),
    "H.264 open GOP": ("libx264", {"x264-params": "open-gop=1:keyint=12:bframes=3"}),
    "H.264 baseline": ("libx264", {"profile": "baseline"}),
    "H.264 lossless": ("libx264", {"qp": "0"}),
    "H.264 intra refresh": ("libx264", {"x264-params": "intra-refresh=1:keyint=20"}),
    "HEVC": ("libx265", {"x265-params": "log-level=none"}),
    "HEVC, key frame every 2": ("libx265", {"x265-params": "log-level=none:keyint=2"}),
    "AV1": ("libsvtav1", {"g": "20", "preset": "10"}),
    "VP9": ("libvpx-vp9", {"g": "20", "deadline": "realtime", "cpu-used": "8"}),
    "MPEG-4": ("mpeg4", {"g": "12"}),
    "Motion JPEG": ("mjpeg", {}),
}


def media(raw: bytes) -> tuple[int, int]:
    """First and last byte (excluded) of an MP4's media data."""
    at = raw.find(b"mdat")
    size = struct.unpack(">I", raw[at - 4 : at])[0]
    return at + 4, min(len(raw), at - 4 + size) if size > 8 else len(raw)


def damaged(raw: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """A copy of an MP4 with one kind of damage."""
    content, (first, last) = bytearray(raw), media(raw)
    if kind == "200_bytes":
        for at in rng.integers(0, len(raw), 200):
            content[at] = rng.integers(256)
    elif kind == "200_in_media":
        for at in rng.integers(first, last, 200):
            content[at] = rng.integers(256)
    elif kind == "200_in_a_row":
        at = int(rng.integers(first, last - 200))
        content[at : at + 200] = rng.bytes(200)
    elif kind == "sector_of_zeros":
        at = max(first, int(rng.integers(first, last - 4096)) // 4096 * 4096)
        content[at : at + 4096] = bytes(min(4096, len(content) - at))
    elif kind == "one_byte":
        content[int(rng.integers(first, last))] ^= int(rng.integers(1, 256))
    elif kind == "one_bit":
        content[int(rng.integers(first, last))] ^= 1 << int(rng.integers(8))
    elif kind == "cut":
        del content[int(rng.integers(first, last)) :]
    return bytes(content)


KINDS = ("200_bytes", "200_in_media", "200_in_a_row", "sector_of_zeros", "cut", "one_byte", "one_bit")


def luma(path: Path) -> Frames:
    """What a player shows: concealed, whatever can be decoded."""
    frames: Frames = {}
    try:
        with open_video(path) as container:
            stream = video_stream(container)
            for packet in container.demux(stream):
                try:
                    frames.update({f.pts: f.to_ndarray(format="gray") for f in packet.decode()})
                except av.error.FFmpegError:
                    continue
    except UNREADABLE:
        pass
    return frames


def difference(a: Frames, b: Frames) -> float:
    """Largest mean difference of a 16x16 block in grey levels; infinite if frames are missing or of another size."""
    if a.keys() != b.keys() or any(a[k].shape != b[k].shape for k in a):
        return float("inf")
    return max((blocks(a[k], b[k]) for k in a if not np.array_equal(a[k], b[k])), default=0.0)


def blocks(a: np.ndarray, b: np.ndarray) -> float:
    """Largest mean difference of a 16x16 block of two pictures (H, W)."""
    rows, columns = (n // 16 for n in a.shape[:2])
    gap = np.abs(a.astype(np.int16) - b)[: rows * 16, : columns * 16]
    return float(gap.reshape(rows, 16, columns, 16).mean((1, 3)).max())


def refuses(check: Callable[[], object]) -> bool:
    """Whether a check raises RunError. Any other error is a fault of the check and ends the benchmark."""
    try:
        check()
    except RunError:
        return True
    return False


def before(path: Path) -> None:
    """The check of 2026-11-23."""
    info = probe(path)
    if info.declared_frames and info.num_frames < info.declared_frames:
        raise RunError("truncated")
    for index in (0, info.num_frames - 1):
        if not _plain(path, info, {info.pts[index]}, index):
            raise RunError("does not decode")


def _plain(path: Path, info: VideoInfo, wanted: set[int], start: int) -> list[np.ndarray]:
    """Frames as they were decoded before: concealed."""
    found, last = {}, max(wanted)
    try:
        with open_video(path) as container:
            stream = video_stream(container)
            stream.thread_type = "AUTO"
            if start:
                container.seek(info.pts[start], stream=stream, backward=True)
            for frame in container.decode(stream):
                if frame.pts in wanted:
                    found[frame.pts] = frame.to_ndarray(format="rgb24")
                if frame.pts is not None and frame.pts >= last:
                    break
    except UNREADABLE as error:
        raise RunError("does not decode") from error
    return [found[p] for p in sorted(found)]


def now(path: Path) -> None:
    """Today's check without hashes."""
    info = probe(path)
    if info.declared_frames and info.num_frames < info.declared_frames:
        raise RunError("truncated")
    check_whole(path, info)


def sources(data: Path, folder: Path) -> dict[str, list[Path]]:
    """Undamaged MP4s by origin: recordings, and four rendered clips."""
    rendered = []
    for seed in range(4):
        rendered.append(folder / f"tabletop{seed}.mp4")
        write_video(rendered[-1], Scene.sample(seed, "robot").clip().frames, 8)
    return {"recordings": sorted(data.rglob("*.mp4")), "tabletop": rendered}


def damage_row(origin: str, paths: list[Path], kind: str, files: int, folder: Path) -> list[int | str]:
    """One row of the table: `files` damaged files of one kind."""
    clean = {p: luma(p) for p in paths}
    count = dict.fromkeys(("visible", "before", "now", "passed_before", "passed", "windows", "windows_bad"), 0)
    target, worst = folder / "damaged.mp4", 0.0
    for number in range(files):
        source, rng = paths[number % len(paths)], np.random.default_rng(number)
        target.write_bytes(damaged(source.read_bytes(), kind, rng))
        gap = difference(clean[source], luma(target))
        visible = gap > VISIBLE
        found_before, found = refuses(lambda: before(target)), refuses(lambda: now(target))
        count["visible"] += visible
        count["before"] += found_before
        count["now"] += found
        count["passed_before"] += visible and not found_before
        count["passed"] += visible and not found
        if not found:
            worst = max(worst, gap)
        bad, read = _window_passes(source, target, rng)
        count["windows"] += read
        count["windows_bad"] += bad
    return [
        origin,
        kind,
        files,
        *(count[k] for k in ("visible", "before", "passed_before", "now", "passed")),
        f"{worst:.0f}" if count["passed"] else "-",
        f"{count['windows_bad']} of {count['windows']}",
    ]


def _window_passes(source: Path, target: Path, rng: np.random.Generator) -> tuple[int, int]:
    """Windows that training reads without an error and that differ visibly, of those that it reads."""
    try:
        info = probe(target)
    except RunError:
        return 0, 0
    own, bad, read = probe(source), 0, 0
    for start in rng.integers(0, max(1, own.num_frames - WINDOW), 2):
        indices = list(range(int(start), int(start) + WINDOW))
        try:
            frames = decode(target, indices, info)
        except RunError:
            continue
        read += 1
        expected = decode(source, indices, own)
        same = frames.shape == expected.shape
        pairs = zip(frames.mean(3), expected.mean(3), strict=True)
        bad += not same or max(blocks(a, b) for a, b in pairs) > VISIBLE
    return bad, read


def encode(path: Path, frames: np.ndarray, encoder: str, options: dict[str, str]) -> None:
    """Write uint8 (T, H, W, 3) with one of ENCODERS."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=20, options=options)
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        stream.pix_fmt = "yuvj420p" if encoder == "mjpeg" else "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def good_files(paths: list[Path], folder: Path) -> Iterator[tuple[str, Path]]:
    """The originals, and up to 61 frames of two of them by each encoder."""
    yield from (("original", p) for p in paths)
    for number, path in enumerate(paths[:2]):
        frames = read_video(path)[:61]
        for name, (encoder, options) in ENCODERS.items():
            made = folder / f"good{number}_{name}.{'webm' if encoder == 'libvpx-vp9' else 'mp4'}"
            encode(made, frames, encoder, options)
            yield name, made


def good_rows(paths: list[Path], folder: Path) -> list[list[int | str]]:
    """False alarms, byte identity and time of good files, by encoder."""
    rows: dict[str, list[int]] = {}
    for name, path in good_files(paths, folder):
        row = rows.setdefault(name, [0, 0, 0, 0, 0])
        info = probe(path)
        row[0] += 1
        row[1] += refuses(lambda p=path: now(p))
        for start in np.linspace(0, info.num_frames - WINDOW, 6).astype(int):
            indices = list(range(start, start + WINDOW))
            row[2] += 1
            if refuses(lambda p=path, i=indices, n=info: decode(p, i, n)):
                row[3] += 1
                continue
            whole = _plain(path, info, {info.pts[i] for i in indices}, 0)
            row[4] += not np.array_equal(np.stack(whole), decode(path, indices, info))
    return [[name, *row] for name, row in rows.items()]


def time_row(path: Path) -> list[str]:
    """Seconds of strict and plain decoding of a window in the middle of a recording, and their ratio."""
    info = probe(path)
    indices = list(range(info.num_frames // 2, info.num_frames // 2 + WINDOW))
    wanted = {info.pts[i] for i in indices}
    seconds = interleaved(
        {"plain": lambda: _plain(path, info, wanted, indices[0]), "strict": lambda: decode(path, indices, info)}, 40
    )
    ratios = [s / p for s, p in zip(seconds["strict"], seconds["plain"], strict=True)]
    return [path.name, *(f"{np.median(s) * 1000:.1f} ms" for s in seconds.values()), spread(ratios)]


def main() -> None:
    """Print the tables and write them to benchmarks/results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100, help="damaged files per row")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("COSMOS_EXP_REAL_DATA", ROOT.parent / "shared" / "data")
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = sources(Path(args.data), folder)
        damage = [
            damage_row(origin, paths, kind, args.files, folder)
            for origin, paths in found.items()
            if paths
            for kind in args.kinds.split(",")
        ]
        every = [p for paths in found.values() for p in paths]
        good = good_rows(every, folder)
        timed = [time_row(p) for p in every[:2]]
    heads = "origin|damage|files|visible|found before|visible, passed before|found|visible, passed|worst, grey levels|windows wrong"
    tables = [
        markdown(heads.split("|"), damage),
        markdown(["encoder", "files", "refused", "windows", "refused", "not byte-identical"], good),
        markdown(["file", "plain", "strict", "ratio"], timed),
    ]
    text = "\n\n".join([*tables, machine_line()])
    write("damaged_videos", "Damaged videos", text, {"damage": damage, "good": good, "time": timed})


if __name__ == "__main__":
    main()
