"""Bad inputs for the command line: a small run folder to spoil."""

import functools
import json
import tempfile
from pathlib import Path

import numpy as np
import yaml
from conftest import SMALL

SECRET = "s3cret-value-0042"  # no output and no file that a command writes may hold it
ROW = {"sample": "a", "seed": 0, "prompt": "Lift the cup.", "video": "a__seed0.mp4", "measure": "tse", "value": 1.5}


@functools.cache
def _config():
    from cosmos_exp.config.composing import compose_config
    from cosmos_exp.config.record import save_config

    with tempfile.TemporaryDirectory() as folder:
        save_config(compose_config([*SMALL, "adapter=none"]), Path(folder) / "config.yaml")
        return (Path(folder) / "config.yaml").read_text()


@functools.cache
def video():
    """The bytes of a video of four grey frames."""
    from cosmos_exp.data.video import write_video

    with tempfile.TemporaryDirectory() as folder:
        write_video(Path(folder) / "v.mp4", np.full((4, 64, 96, 3), 60, np.uint8), 8)
        return (Path(folder) / "v.mp4").read_bytes()


def run_folder(at, changes=None, rows=({},)):
    """A finished run of the base model with one video.

    Args:
        changes: dotted keys of config.yaml with other values.
        rows: lines of scores.jsonl, each laid over a valid line.
    """
    (at / "videos").mkdir(parents=True)
    content = yaml.safe_load(_config())
    for key, value in (changes or {}).items():
        group, _, last = key.rpartition(".")
        (content[group] if group else content)[last] = value
    (at / "config.yaml").write_text(yaml.safe_dump(content))
    (at / "status.json").write_text(json.dumps({"state": "done", "stage": "record", "error": None, "time": "2026"}))
    (at / "manifest.json").write_text(json.dumps({"name": "run", "config_hash": "0", "stages": {}}))
    (at / "metrics.json").write_text(json.dumps({"measures": {}}))
    (at / "scores.jsonl").write_text("".join(json.dumps(ROW | row) + "\n" for row in rows))
    (at / "videos" / "a__seed0.mp4").write_bytes(video())
    return at
