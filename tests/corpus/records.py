"""A run folder on disk, made in milliseconds, whose files a case then spoils."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
import yaml
from conftest import SMALL

SECRET = "s3cret-value-0042"  # must never leave: no output and no file that a command writes may hold it
MARK = "CODE_WAS_RUN"


def run_folder(at: Path, changes: Mapping[str, Any] | None = None, rows: list[dict[str, Any]] | None = None) -> Path:
    """A finished run of the base model with one video.

    Args:
        changes: dotted keys of config.yaml with other values.
        rows: lines of scores.jsonl, each laid over a valid line.
    """
    at.mkdir(parents=True, exist_ok=True)
    content = yaml.safe_load(_config())
    for key, value in (changes or {}).items():
        *groups, last = key.split(".")
        node = content
        for group in groups:
            node = node[group]
        node[last] = value
    (at / "config.yaml").write_text(yaml.safe_dump(content))
    (at / "status.json").write_text(json.dumps({"state": "done", "stage": "record", "error": None, "time": "2026"}))
    (at / "manifest.json").write_text(json.dumps({"name": "run", "config_hash": "0", "stages": {}}))
    (at / "metrics.json").write_text(json.dumps({"measures": {}}))
    valid = {"sample": "a", "seed": 0, "prompt": "Lift the cup.", "video": "a__seed0.mp4", "measure": "tse"}
    valid |= {"value": 1.5, "detail": {"answer": "4"}}
    (at / "scores.jsonl").write_text("".join(json.dumps(valid | row) + "\n" for row in rows or [{}]))
    (at / "videos").mkdir(exist_ok=True)
    (at / "videos" / "a__seed0.mp4").write_bytes(video())
    return at


def evil_module(at: Path, name: str = "friend.evil") -> None:
    """A module that leaves a mark when it is imported."""
    file = at.joinpath(*name.split(".")).with_suffix(".py")
    file.parent.mkdir(parents=True, exist_ok=True)
    mark = at / MARK
    file.write_text(
        f"open({str(mark)!r}, 'w').write('x')\n\n\nclass J:\n    def __init__(self, *args, **kw):\n        pass\n"
    )


@functools.cache
def _config() -> str:
    from cosmos_exp.config.composing import compose_config
    from cosmos_exp.config.record import save_config

    with tempfile.TemporaryDirectory() as folder:
        save_config(compose_config([*SMALL, "adapter=none"]), Path(folder) / "config.yaml")
        return (Path(folder) / "config.yaml").read_text()


@functools.cache
def video() -> bytes:
    """A video of four grey frames."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "v.mp4")
        with av.open(path, "w") as container:
            stream = container.add_stream("libx264", rate=8)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            for k in range(4):
                frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 60 * k, np.uint8), "rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return Path(path).read_bytes()
