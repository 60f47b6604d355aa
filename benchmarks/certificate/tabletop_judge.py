"""Calibrate judge=rules: its scores of clean clips and of each planted fault, on scenes that nothing was tuned on.

    python -m benchmarks.certificate.tabletop_judge --seed 91000000 --out benchmarks/certificate/results/NAME

Scenes alternate between robot and human. Writes NAME.json, all scores, and NAME.md, the table.
"""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import numpy as np
from scipy.stats import binomtest
from tqdm import tqdm

from benchmarks.certificate.page import markdown_table
from benchmarks.certificate.response import t_interval
from benchmarks.certificate.tabletop_clips import through_autoencoder
from benchmarks.certificate.tabletop_faults import FAULTS, plant
from benchmarks.common import command_line
from cosmos_exp.metrics.judges.rubric import load_rubric
from cosmos_exp.tabletop.judge import RulesJudge
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.world import APPEARANCES

NOTICED = {"physics": 3.5, "instruction": 4.8}  # a score below is a fault that the judge has noticed
RENDERED, REAL = "real, as rendered", "real, behind the autoencoder"
CLEAN, CLIPS = 60, 24  # clean clips, and clips of each fault
ROBOT_ONLY = "wrong hand"  # a human prompt names no hand
Scores = dict[str, float | None]  # rubric -> score, None where the clip cannot be judged


def score(task: tuple[str, int]) -> Scores:
    """The scores of the scene with this seed under a fault of FAULTS, RENDERED or REAL."""
    name, seed = task
    appearance = "robot" if name == ROBOT_ONLY else APPEARANCES[seed % 2]
    scene = Scene.sample(seed, appearance)
    frames, prompt = plant(scene, name) if name in FAULTS else (scene.clip().frames, scene.prompt)
    if name != RENDERED:
        frames = through_autoencoder(frames)
    judge = RulesJudge()
    return {rubric: judge.answer(frames, load_rubric(rubric), prompt).score for rubric in NOTICED}


def row(name: str, scores: list[Scores]) -> list[str]:
    """A row of the table: mean and half of its 95 % interval for each rubric, and the clips noticed in per cent."""
    cells, noticed = [name, str(len(scores))], []
    rubrics = [FAULTS[name].rubric] if name in FAULTS else list(NOTICED)
    for rubric in NOTICED:
        known = np.array([s[rubric] for s in scores if s[rubric] is not None])
        high = t_interval(known)[1]
        nulls = len(scores) - len(known)
        cells.append(f"{known.mean():.2f} ± {high - known.mean():.2f}" + f" ({nulls} null)" * bool(nulls))
        if rubric in rubrics:
            count = int((known < NOTICED[rubric]).sum())
            low, high = binomtest(count, len(known)).proportion_ci()  # Clopper-Pearson
            noticed.append(f"{100 * count / len(known):.0f} [{100 * low:.0f}, {100 * high:.0f}]")
    return [*cells, ", ".join(rubrics), "; ".join(noticed)]


def main() -> None:
    """Score all clips and write both files."""
    words = command_line(__doc__)
    words.add_argument("--seed", type=int, required=True, help="seed of the first scene")
    words.add_argument("--out", type=Path, required=True, help="the files' path without their ending")
    options = words.parse_args()
    tasks = []
    for name in (RENDERED, REAL, *FAULTS):
        tasks += [(name, options.seed + number) for number in range(CLIPS if name in FAULTS else CLEAN)]
    scores = {}
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for task, found in zip(tasks, tqdm(pool.imap(score, tasks, chunksize=4), total=len(tasks)), strict=True):
            scores.setdefault(task[0], []).append(found)
    rows = [["clips", "n", *NOTICED, "rubric", "noticed, %"]]
    rows += [row(name, of_fault) for name, of_fault in scores.items()]
    bounds = " or ".join(f"{bound} ({rubric})" for rubric, bound in NOTICED.items())
    options.out.with_suffix(".md").write_text(
        f"# judge=rules on planted faults\n\n`noticed`: the score of the rubric is below {bounds}. Scenes from seed "
        f"{options.seed} on; all clips but the first row are behind the autoencoder.\n\n{markdown_table(rows)}\n"
    )
    options.out.with_suffix(".json").write_text(json.dumps(scores) + "\n")


if __name__ == "__main__":
    main()
