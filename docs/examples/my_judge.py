"""A judge: docs/guides/add_judge.md. Run this file to test it."""

import tempfile
from pathlib import Path

import numpy as np

from cosmos_exp.config.registry import JUDGES
from cosmos_exp.data.video import read_video, write_video
from cosmos_exp.metrics.judges.interface import Answer, Question
from cosmos_exp.metrics.judges.rubric import Rubric


class FlickerJudge:
    """Scores jumps of the mean brightness between frames: 5 for none, 1 for jumps of 20 grey levels or more."""

    name = "flicker"
    batch = 1

    def __init__(self, settings=None, device=None, precision="no", seed=0):
        pass

    def identity(self):
        return None  # deterministic and fast: no cache, no second request

    def ask(self, questions, temperature, seed):
        return [self._answer(question) for question in questions]

    def _answer(self, question):
        if question.rubric.measure != "flicker":
            return Answer(None, None, f"{self.name} has no rule for {question.rubric.measure}")
        frames = read_video(question.video).astype(np.float32)
        jump = float(np.abs(np.diff(frames.mean(axis=(1, 2, 3)))).max())  # grey levels, 0 to 255
        score = 5 - 4 * min(jump / 20, 1)
        return Answer(score, score, f"the largest jump is {jump:.1f} grey levels")


JUDGES.add("flicker", FlickerJudge)


if __name__ == "__main__":
    rubric = Rubric("flicker", "You judge videos of robots.", "Does the brightness of the video jump?")
    steady = np.full((17, 96, 160, 3), 128, np.uint8)
    flickering = steady.copy()
    flickering[::2] = 168
    with tempfile.TemporaryDirectory() as folder:
        scores = []
        for name, frames in (("steady", steady), ("flickering", flickering)):
            video = Path(folder) / f"{name}.mp4"
            write_video(video, frames, fps=8)
            scores += FlickerJudge().ask([Question(video, rubric, instruction=None)], temperature=0.0, seed=0)
    for answer in scores:
        print(answer.score, answer.text)
    assert scores[0].score > 4.8
    assert scores[1].score == 1
