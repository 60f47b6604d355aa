"""Generated videos of the closed loop: made by the adapters, scored, and read by the inverse dynamics model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.closed_loop.kinematics import roll_out
from benchmarks.idm.actions import POSITIONS, read_actions, true_actions
from cosmos_exp.config.schema import Sampson
from cosmos_exp.data.video import read_video
from cosmos_exp.files import JsonObject, append_json_line, read_json_lines
from cosmos_exp.metrics.geometry.sampson import temporal_sampson
from cosmos_exp.metrics.judges.rubric import load_rubric
from cosmos_exp.metrics.prompt_sensitivity import motion_map, side_share
from cosmos_exp.tabletop.dataset import TEST_SEEDS, Kind, make_pairs
from cosmos_exp.tabletop.judge import RulesJudge
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.world import HANDS

FIRST_SCENE = 6_000  # of TEST_SEEDS: scenes that no training, test, selection or tuning uses
FIRST_SEED = TEST_SEEDS + FIRST_SCENE
# What may predict the policy's success, each the mean over an adapter's videos.
MEASURES = ("instruction", "physics", "word_side", "tse", "psnr", "replay", "action_error")


def scene_pairs(first: int, count: int) -> list[Scene]:
    """`count` scenes of the robot from seed `first` on, each two of them one scene with either hand."""
    return [Scene.sample(first + k // 2, "robot").with_hand(HANDS[k % 2]) for k in range(count)]


def sample_name(scene: Scene) -> str:
    """The name of a scene's first frame among the pairs."""
    return f"robot_{scene.seed - TEST_SEEDS:04d}_{scene.hand}"


def video_file(work: Path, arm: str, scene: Scene) -> Path:
    """The video of an arm for a scene."""
    return work / "videos" / arm / f"{sample_name(scene)}__seed0.mp4"


def generate(arm: str, adapter: str, scenes: Sequence[Scene], work: Path) -> None:
    """A video of an adapter (a run folder, or `base`) for each scene, the first from FIRST_SEED on; existing ones are kept."""
    if all(video_file(work, arm, scene).is_file() for scene in scenes):
        return
    make_pairs(work / "pairs", Kind("robot"), len(scenes) // len(HANDS), FIRST_SCENE)
    command = [sys.executable, "-m", "cosmos_exp", "generate", "--adapter", adapter, "--prompts", str(work / "pairs")]
    command += ["--out", str(work / "videos"), "hardware.num_threads=1", "generation.seeds=[0]"]
    subprocess.run([*command, f"generation.max_prompts={len(scenes)}"], check=True)


def read_videos(arm: str, scenes: Sequence[Scene], work: Path) -> tuple[np.ndarray, list[JsonObject]]:
    """The actions (N, T, 8) that the inverse dynamics model reads from an arm's videos, and a row of scores for each video.

    Both are kept in `work`; the actions are read again when the model has changed.
    """
    file = work / "scores.jsonl"
    known = {}
    for row in read_json_lines(file):
        known[row["arm"], row["sample"]] = row
    actions, rows = [], []
    for scene in scenes:
        name = sample_name(scene)
        frames = read_video(video_file(work, arm, scene))
        row = known.get((arm, name))
        if row is None:
            row = {"arm": arm, "sample": name, **scores(frames, scene)}
            append_json_line(file, row)
        actions.append(read_actions(frames))
        rows.append({**row, **action_scores(actions[-1], scene)})
    return np.stack(actions), rows


def scores(frames: np.ndarray, scene: Scene) -> JsonObject:
    """What is measured on one generated video, uint8 (T, H, W, 3). `psnr` (dB) is against the scene's rendered clip."""
    judge = RulesJudge()
    error = float(np.mean((frames.astype(np.float64) - scene.clip().frames) ** 2))
    judged = {name: judge.answer(frames, load_rubric(name), scene.prompt).score for name in ("instruction", "physics")}
    return judged | {
        "word_side": side_share([motion_map(frames)], scene.hand),
        "tse": temporal_sampson(frames, Sampson()).values["tse"],
        "psnr": float(10 * np.log10(255**2 / error)),
    }


def action_scores(actions: np.ndarray, scene: Scene) -> JsonObject:
    """Whether the actions, followed in their own scene, do the task; and their mean distance to the true ones, metres.

    Both need the truth of the scene, which a user of real videos does not have.
    """
    gap = (actions - true_actions(scene))[:, POSITIONS].reshape(len(actions), len(HANDS), 3)
    return {
        "replay": float(roll_out(scene, actions).success),
        "action_error": float(np.linalg.norm(gap, axis=-1).mean()),
    }


def means(rows: Sequence[JsonObject]) -> dict[str, float | None]:
    """The mean of each measure over an adapter's videos; missing values are left out."""
    out = pd.DataFrame(list(rows))[list(MEASURES)].astype(float).mean()
    return out.astype(object).where(out.notna(), None).to_dict()


def kept(rows: Sequence[JsonObject]) -> list[int]:
    """The videos that the filter keeps: instruction >= 4 and physics >= 3. A missing score is not kept."""
    numbers = []
    for number, row in enumerate(rows):
        if (row["instruction"] or 0) >= 4 and (row["physics"] or 0) >= 3:
            numbers.append(number)
    return numbers
