"""Figures of the embedded world's inverse dynamics model (cosmos_exp/tabletop/idm).

    python benchmarks/tabletop_idm.py [--scenes 60] [--videos DIR/base DIR/lora-r32 …]

1. Rendered clips of scenes that it has not seen, where the truth is known: as rendered, behind the autoencoder, with noise in the
   latents, with another clock, and held at the first frame (nothing moves).
2. --videos: folders of generated videos, where no truth is known. The grasp points are compared with those that the judge's
   outlines find (cosmos_exp.tabletop.arms): where two instruments disagree, at least one is wrong. The same on rendered clips shows
   how far they are apart where both work.

Writes benchmarks/results/tabletop_idm_<date>.{json,md}.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import device_name, markdown, write
from scipy.stats import binomtest

from cosmos_exp.data.video import read_video
from cosmos_exp.files import JsonObject, file_sha256
from cosmos_exp.statistics.intervals import mean_interval
from cosmos_exp.tabletop.arms import first_camera
from cosmos_exp.tabletop.idm.actions import true_actions
from cosmos_exp.tabletop.idm.clips import HELD_OUT_SEEDS, TimedScene, decoded
from cosmos_exp.tabletop.idm.file import IDM_FILE, read_actions
from cosmos_exp.tabletop.kinematics import roll_out
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.seeing import probe_video
from cosmos_exp.tabletop.vocabulary import APPEARANCES, HANDS

Case = Callable[[Scene], tuple[Scene, np.ndarray]]  # a scene to the scene that is shown and its frames
COUNTED = ("replay", "same hand moved")
AWAY = 12.0  # pixels from its rest position at which a hand is at work


def noisy(scene: Scene, level: float) -> tuple[Scene, np.ndarray]:
    """Behind the autoencoder, with noise in the latents."""
    return scene, decoded(scene.clip().frames, level, np.random.default_rng(scene.seed))


def retimed(scene: Scene) -> tuple[Scene, np.ndarray]:
    """A clip that ends at 0.7 of the motion, behind the autoencoder."""
    return noisy(TimedScene.of(scene, 0.7 * np.linspace(0, 1, scene.num_frames)), 0.0)


def held(scene: Scene) -> tuple[Scene, np.ndarray]:
    """The first frame for the whole clip."""
    still = TimedScene.of(scene, np.zeros(scene.num_frames))
    return still, np.repeat(scene.clip().frames[:1], scene.num_frames, axis=0)


CASES: dict[str, Case] = {
    "as rendered": lambda s: (s, s.clip().frames),
    "behind the autoencoder": lambda s: noisy(s, 0.0),
    "with noise of 0.2 in the latents": lambda s: noisy(s, 0.2),
    "other clock (ends at 0.7)": retimed,
    "first frame held": held,
}


def split(actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (T, hands, 3) and openings (T, hands)."""
    parts = actions.reshape(len(actions), len(HANDS), 4)
    return parts[..., :3], parts[..., 3]


def pixels(positions: np.ndarray, cameras: list) -> np.ndarray:  # type: ignore[type-arg]
    """Image positions (T, hands, 2) of (T, hands, 3), each frame by its own camera."""
    return np.array([[c.project(tuple(p))[:2] for p in row] for row, c in zip(positions, cameras, strict=True)])


def errors(scene: Scene, frames: np.ndarray) -> dict[str, float]:
    """Errors on one clip whose truth is known: cm, pixels, and of the opening."""
    (found, opening), (true, wanted) = split(read_actions(frames)), split(true_actions(scene))
    own, cameras = HANDS.index(scene.hand), [scene.camera(k) for k in range(scene.num_frames)]
    gap = 100 * (found - true)
    px = np.linalg.norm(pixels(found, cameras) - pixels(true, cameras), axis=-1)
    shut = wanted[:, own] < 0.5
    return {
        "moving hand, cm": float(np.linalg.norm(gap[:, own], axis=-1).mean()),
        "x, cm": float(np.abs(gap[:, own, 0]).mean()),
        "y, cm": float(np.abs(gap[:, own, 1]).mean()),
        "height, cm": float(np.abs(gap[:, own, 2]).mean()),
        "while it holds, cm": float(np.linalg.norm(gap[shut, own], axis=-1).mean()) if shut.any() else float("nan"),
        "moving hand, px": float(px[:, own].mean()),
        "resting hand, cm": float(np.linalg.norm(gap[:, 1 - own], axis=-1).mean()),
        "opening": float(np.abs(opening[:, own] - wanted[:, own]).mean()),
        "replay": float(roll_out(scene, read_actions(frames)).success),
    }


def apart(frames: np.ndarray) -> JsonObject:
    """The grasp points of the model beside those of the judge's outlines, in pixels of the first frame's camera."""
    found, _ = split(read_actions(frames))
    camera = first_camera((frames.shape[1], frames.shape[2]))
    mine = pixels(found, [camera] * len(frames))
    seen = probe_video(frames)
    gap = np.linalg.norm(mine - seen.outlines.tips, axis=-1)
    away = np.linalg.norm(mine - mine[:1], axis=-1) > AWAY
    theirs = ~np.isnan(seen.outlines.tips[..., 0]) & (np.linalg.norm(seen.outlines.tips - mine[:1], axis=-1) > AWAY)
    both, sides = away & theirs, seen.side_frames
    way = np.abs(np.diff(found, axis=0)).sum((0, 2))
    agree = None if sides["left"] == sides["right"] else float((way[1] > way[0]) == (sides["right"] > sides["left"]))
    return {
        "gap, px": float(np.median(gap[both])) if both.any() else None,
        "same frames at work": float((away == theirs).mean()),
        "same hand moved": agree,
    }


def interval(values: list[float | None], digits: int = 2) -> str:
    """Mean over scenes with its 95 % interval; missing values are left out and counted."""
    known = np.array([v for v in values if v is not None and not np.isnan(v)])
    mean, low, high = mean_interval(known[:, None])
    ends = "" if low is None or high is None else f" [{low:.{digits}f}, {high:.{digits}f}]"
    lost = f" ({len(values) - len(known)} undefined)" if len(known) < len(values) else ""
    return "-" if mean is None else f"{mean:.{digits}f}{ends}{lost}"


def cell(name: str, values: list[float | None]) -> str:
    """A mean with its interval; of quantities that are 0 or 1 the count with its exact interval in percent."""
    known = [v for v in values if v is not None and not np.isnan(v)]
    if name not in COUNTED or not known:
        return interval(values)
    ends = binomtest(int(sum(known)), len(known)).proportion_ci()  # Clopper-Pearson
    return f"{int(sum(known))} of {len(known)} [{100 * ends.low:.0f}, {100 * ends.high:.0f} %]"


def table(rows: dict[str, list[JsonObject]], what: str) -> str:
    """A row for each group, a column for each quantity."""
    names = list(next(iter(rows.values()))[0])
    return markdown(
        [what, "n", *names], [[k, len(r), *(cell(n, [x[n] for x in r]) for n in names)] for k, r in rows.items()]
    )


def page(known: dict[str, list[JsonObject]], beside: dict[str, list[JsonObject]]) -> str:
    """Both tables with what they mean."""
    return "\n\n".join(
        [
            "Held-out scenes, means over scenes with 95 % intervals. Moving hand: the one of the action.",
            table(known, "rendered clips"),
            "Beside the judge's outlines (grasp points on a grid of 2.5 cm at a fixed height, about 3 px apart). No truth is "
            "known for generated videos. Intervals are over videos; the two videos of a scene are not independent.",
            table(beside, "videos"),
            f"{device_name()}.",
        ]
    )


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=60, help="held-out scenes of each appearance")
    parser.add_argument("--videos", type=Path, nargs="*", default=[], help="folders of generated videos")
    options = parser.parse_args()
    torch.set_num_threads(1)
    scenes = [Scene.sample(HELD_OUT_SEEDS + k, "robot") for k in range(options.scenes)]
    known = {name: [errors(*case(s)) for s in scenes] for name, case in CASES.items()}
    human = [s for k in range(options.scenes) if (s := Scene.sample(HELD_OUT_SEEDS + k, "human"))]
    known[f"{APPEARANCES[0]} hands, behind the autoencoder"] = [errors(*noisy(s, 0.0)) for s in human]
    beside = {"rendered": [apart(noisy(s, 0.0)[1]) for s in scenes]}
    for folder in options.videos:
        beside[folder.name] = [apart(read_video(f)) for f in sorted(folder.glob("*.mp4"))]
    text = page(known, beside)
    data = {"rendered": known, "beside the outlines": beside, "idm": file_sha256(IDM_FILE)}
    write("tabletop_idm", "Inverse dynamics model of the embedded world", text, data)


if __name__ == "__main__":
    main()
