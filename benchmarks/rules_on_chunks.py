"""What judge=rules makes of true clips that begin in the middle of an action, as a later chunk of a rollout does.

    python benchmarks/rules_on_chunks.py [--scenes 24]

Each scene is rendered once with 33 frames, half as fast as in the data, and cut into windows of 17 frames. Nothing in them is
wrong: a rule that is valid for a window gives 5 for physics. Beside them: the usual clip of 17 frames, for which the rules are
made. The result is why the rules give no score for later chunks (`RulesJudge.chunk_fault`, docs/guides/rollout.md).
"""

from __future__ import annotations

import argparse

import numpy as np

from cosmos_exp.metrics.judges.rubric import load_rubrics
from cosmos_exp.statistics.intervals import mean_interval
from cosmos_exp.tabletop.dataset import Kind
from cosmos_exp.tabletop.judge import RulesJudge
from cosmos_exp.tabletop.world import HANDS

SEEDS = 2_700_000  # no scene of the data, the tests, the tuning or the calibration of the rules
FRAMES, LONG = 17, 33
STARTS = (0, 8, 12, 16)


def main() -> None:
    """Print the mean score of each window with its 95 % interval over scenes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=24)
    count = parser.parse_args().scenes
    judge, rubrics = RulesJudge(), load_rubrics(["physics", "instruction"])
    scores: dict[tuple[str, str], list[float | None]] = {}
    for number in range(count):
        hand = HANDS[number % 2]
        usual, slow = (Kind("robot").scene(SEEDS + number, n).with_hand(hand) for n in (FRAMES, LONG))
        windows = {f"the usual clip of {FRAMES} frames": usual.clip().frames}
        frames = slow.clip().frames
        windows[f"all {LONG} frames"] = frames
        windows |= {f"frames {a} to {a + FRAMES - 1} of {LONG}": np.array(frames[a : a + FRAMES]) for a in STARTS}
        for name, window in windows.items():
            for rubric in rubrics:
                answer = judge.answer(window, 8.0, rubric, usual.prompt)
                scores.setdefault((name, rubric.measure), []).append(answer.score)
    for (name, measure), values in scores.items():
        known = np.array([v for v in values if v is not None])
        mean, low, high = mean_interval(known[:, None])
        ends = f"[{max(low, 1):.2f}, {min(high, 5):.2f}]" if low is not None and high is not None else "[no spread]"
        below = float((known < 4.75).mean()) if len(known) else 1.0
        print(
            f"{name:32} {measure:12} {mean or 0:.2f} {ends}  below 4.75: {below:.0%}  n={len(known)} of {len(values)}"
        )


if __name__ == "__main__":
    main()
