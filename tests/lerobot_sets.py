"""LeRobot data sets written by hand, as the `lerobot` library lays them out: one camera or several, v2 and v3."""

import json

import numpy as np

from cosmos_exp.data.video import write_video

LEFT, RIGHT, WRIST = (f"observation.images.{n}" for n in ("left", "right", "wrist"))
FPS = 10


def flat(levels, height=96, width=160):
    """A grey frame of each level."""
    return np.stack([np.full((height, width, 3), level, np.uint8) for level in levels])


def grey(count, level, height=96, width=160):
    """Frame k is a flat grey of `level` + 2 k, so that a decoded frame tells its camera and number."""
    return flat(range(level, level + 2 * count, 2), height, width)


def write_set(folder, cameras, version="v3.0", fps=FPS):
    """Write a data set.

    Args:
        cameras: name -> the frames of each episode, uint8 (T, H, W, 3). Episode k has the task "task k".
        version: v2.x: a file per episode; v3.x: one file per camera with all episodes, listed in a parquet table.
    """
    first = next(iter(cameras.values()))
    features = {
        name: {"dtype": "video", "shape": list(episodes[0].shape[1:]), "names": ["height", "width", "channels"]}
        for name, episodes in cameras.items()
    }
    info = {"codebase_version": version, "fps": fps, "chunks_size": 1000, "features": features}
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    rows = [{"episode_index": k, "tasks": [f"task {k}"], "length": len(e)} for k, e in enumerate(first)]
    if version.startswith("v2"):
        (folder / "meta" / "episodes.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        for name, episodes in cameras.items():
            for k, frames in enumerate(episodes):
                write_video(folder / "videos" / "chunk-000" / name / f"episode_{k:06d}.mp4", frames, fps)
        return folder
    for name, episodes in cameras.items():
        write_video(folder / "videos" / name / "chunk-000" / "file-000.mp4", np.concatenate(episodes), fps)
        ends = np.cumsum([len(e) for e in episodes])
        for row, end, frames in zip(rows, ends, episodes, strict=True):
            seconds = {"from_timestamp": float(end - len(frames)) / fps, "to_timestamp": float(end) / fps}
            entry = {"chunk_index": 0, "file_index": 0, **seconds}
            row |= {f"videos/{name}/{key}": value for key, value in entry.items()}
    _write_table(folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet", rows)
    return folder


def _write_table(path, rows):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
