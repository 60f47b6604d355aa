"""A measure: docs/guides/add_measure.md. Run this file to test it."""

import json
import tempfile
from pathlib import Path

import numpy as np

from cosmos_exp.config.measures import MEASURES, Measure
from cosmos_exp.config.registry import MEASURE_FUNCTIONS
from cosmos_exp.config.schema import Config, Measures, Sampson
from cosmos_exp.data.video import write_video
from cosmos_exp.metrics.interface import Measured, ScoredVideo
from cosmos_exp.metrics.score import measure_videos


def measure_motion(videos, config, workers):
    """Mean absolute difference of consecutive frames, grey levels; undefined for a single frame."""
    return map(_motion, videos)


def _motion(video):
    frames = video.frames().astype(np.float32)
    if len(frames) < 2:
        return Measured({"motion": (None, "the video has a single frame")})
    steps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    curve = [float(step) for step in steps[video.conditioning - 1 :]]
    return Measured({"motion": (float(steps.mean()), None)}, {"largest_step": float(steps.max())}, {"motion": curve})


MEASURE_FUNCTIONS.add("frame_differences", measure_motion)
MEASURES["motion"] = Measure(better=0, unit="grey levels", function="frame_differences")


if __name__ == "__main__":
    moving = np.zeros((9, 96, 160, 3), np.uint8)
    for number, frame in enumerate(moving):
        frame[40:56, 16 * number : 16 * number + 16] = 255
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = []
        for sample, frames in (("moving", moving), ("frozen", moving[:1].repeat(9, axis=0)), ("single", moving[:1])):
            write_video(folder / f"{sample}__seed0.mp4", frames, fps=8)
            videos.append(ScoredVideo(sample, 0, None, folder / f"{sample}__seed0.mp4"))
        off = Measures(recording=False, motion=False, words=False)
        config = Config(sampson=Sampson(enabled=False), measures=off)
        measure_videos(videos, config, folder / "scores.jsonl", done=set())
        lines = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    for line in lines:
        print(line["sample"], line["measure"], line["value"], line["detail"])
    values = {line["sample"]: line["value"] for line in lines}
    assert values["moving"] > 1 > values["frozen"]
    assert values["single"] is None
