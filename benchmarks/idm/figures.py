"""Figures of the embedded world's inverse dynamics model.

    python -m benchmarks.idm.figures [--scenes 60]

Rendered clips of scenes that it has not seen, where the truth is known: as rendered, behind the autoencoder, with noise in the
latents, with another clock, and held at the first frame (nothing moves).

Writes benchmarks/idm/results/tabletop_idm_<date>.{json,md}.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import binomtest

from benchmarks.closed_loop.kinematics import roll_out
from benchmarks.common import command_line, device_name, write
from benchmarks.idm.actions import IDM_FILE, read_actions, true_actions
from benchmarks.idm.clips import HELD_OUT_SEEDS, TimedScene, decoded
from cosmos_exp.files import file_sha256
from cosmos_exp.statistics.intervals import mean_interval
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.world import APPEARANCES, HANDS


def cases(scene: Scene) -> Iterator[tuple[str, Scene, np.ndarray]]:
    """The ways in which a clip of `scene` is shown: name, the scene that is shown, and its frames."""
    frames = scene.clip().frames
    if scene.appearance == "human":
        yield "human hands, behind the autoencoder", scene, noisy(scene, frames, 0.0)
        return
    yield "as rendered", scene, frames
    yield "behind the autoencoder", scene, noisy(scene, frames, 0.0)
    yield "with noise of 0.2 in the latents", scene, noisy(scene, frames, 0.2)
    retimed = TimedScene.of(scene, 0.7 * np.linspace(0, 1, scene.num_frames))
    yield "other clock (ends at 0.7)", retimed, noisy(retimed, retimed.clip().frames, 0.0)
    still = TimedScene.of(scene, np.zeros(scene.num_frames))
    yield "first frame held", still, np.repeat(frames[:1], scene.num_frames, axis=0)


def noisy(scene: Scene, frames: np.ndarray, level: float) -> np.ndarray:
    """Frames behind the autoencoder, with noise in the latents."""
    return decoded(frames, level, np.random.default_rng(scene.seed))


def split(actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (T, hands, 3) and openings (T, hands)."""
    parts = actions.reshape(len(actions), len(HANDS), 4)
    return parts[..., :3], parts[..., 3]


def pixels(scene: Scene, positions: np.ndarray) -> np.ndarray:
    """Image positions (T, hands, 2) of (T, hands, 3), each frame by its own camera."""
    out = np.zeros((*positions.shape[:2], 2))
    for t, hand in np.ndindex(*positions.shape[:2]):
        out[t, hand] = scene.camera(t).project(positions[t, hand])[:2]
    return out


def errors(scene: Scene, frames: np.ndarray) -> dict[str, float]:
    """Errors on one clip whose truth is known: cm, pixels, and of the opening."""
    actions = read_actions(frames)
    (positions, opening), (true, wanted) = split(actions), split(true_actions(scene))
    moving = HANDS.index(scene.hand)
    gap = 100 * (positions - true)
    distance = np.linalg.norm(gap, axis=-1)
    px = np.linalg.norm(pixels(scene, positions) - pixels(scene, true), axis=-1)
    shut = wanted[:, moving] < 0.5
    return {
        "moving hand, cm": float(distance[:, moving].mean()),
        "height, cm": float(np.abs(gap[:, moving, 2]).mean()),
        "while it holds, cm": float(distance[shut, moving].mean()) if shut.any() else float("nan"),
        "moving hand, px": float(px[:, moving].mean()),
        "resting hand, cm": float(distance[:, 1 - moving].mean()),
        "opening": float(np.abs(opening[:, moving] - wanted[:, moving]).mean()),
        "replay": float(roll_out(scene, actions).success),
    }


def cell(values: pd.Series) -> str:
    """Mean over scenes with its 95 % interval; of `replay`, 0 or 1, the count with its exact interval in percent."""
    known = values.dropna().to_numpy()
    if not len(known):
        return "-"
    if values.name == "replay":
        ends = binomtest(int(known.sum()), len(known)).proportion_ci()  # Clopper-Pearson
        return f"{int(known.sum())} of {len(known)} [{100 * ends.low:.0f}, {100 * ends.high:.0f} %]"
    mean, low, high = mean_interval(known[:, None])
    ends = "" if low is None else f" [{low:.2f}, {high:.2f}]"
    return f"{mean:.2f}{ends}"


def main() -> None:
    """Measure and write."""
    parser = command_line(__doc__)
    parser.add_argument("--scenes", type=int, default=60, help="held-out scenes of each appearance")
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = []
    for appearance in APPEARANCES[::-1]:
        for k in range(options.scenes):
            for name, scene, frames in cases(Scene.sample(HELD_OUT_SEEDS + k, appearance)):
                known.append({"group": name, **errors(scene, frames)})
    groups = pd.DataFrame(known).groupby("group", sort=False)
    cells = groups.agg(cell)
    cells.insert(0, "n", groups.size())
    text = f"""Held-out scenes, means over scenes with 95 % intervals. Moving hand: the one of the action.

{cells.rename_axis("rendered clips").to_markdown()}

{device_name()}."""
    data = {"rendered": known, "idm": file_sha256(IDM_FILE)}
    title = "Inverse dynamics model of the embedded world"
    write("tabletop_idm", title, text, data, Path(__file__).parent / "results")


if __name__ == "__main__":
    main()
