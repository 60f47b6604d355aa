"""Does synthetic data help a policy? The embedded world, from adapter to robot: does the policy do the task?

    python -m benchmarks.closed_loop outputs/sweeps/demo                  # the sweep of `make demo`, finished

A tiny policy (policy.py) learns from 8 real clips, alone and with further demonstrations of 32 new scenes with either hand: videos of
each adapter with the actions that the inverse dynamics model reads, the filtered ones, and the real clips of the same scenes. It is
tested in 100 other scenes with either hand (kinematics.py). Only the actions of the demonstrations differ between arms: first frame
and instruction of a generated demonstration are those of its scene.

Writes benchmarks/closed_loop/results/closed_loop_<date>.{json,md} and docs/images/closed_loop.png. Videos and scores are kept in --work.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.stats import permutation_test, spearmanr

from benchmarks.closed_loop.figure import draw
from benchmarks.closed_loop.kinematics import roll_out
from benchmarks.closed_loop.policy import Demonstrations, act, demonstrations, train_policy
from benchmarks.closed_loop.videos import MEASURES, generate, kept, means, new_scenes, read_videos
from benchmarks.common import device_name, write
from benchmarks.idm.clips import decoded
from cosmos_exp.files import JsonObject, file_sha256
from cosmos_exp.statistics.comparisons import holm_values
from cosmos_exp.statistics.crossed import estimate
from cosmos_exp.statistics.intervals import mean_interval
from cosmos_exp.tabletop.dataset import TRAIN_SEEDS, Kind
from cosmos_exp.tabletop.idm import IDM_FILE, read_actions, true_actions
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.world import HANDS

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
FEW, ADAPTER_CLIPS, MANY = 8, 64, 1000  # real clips: the few, those rendered for the adapters, and those of the ceiling
MANY_SEEDS, TEST_SEEDS = 93_000_000, 95_000_000  # scenes that nothing else uses
ADAPTERS = ("base", "lora-r8-shared", "lora-r8", "dora-r8", "lora-r32")
BEST = "lora-r32"
WHAT = ("success", "right_hand", "object_grasped", "placed")


class Result(NamedTuple):
    """An arm's test. count: demonstrations. outcomes: WHAT -> (scenes, policy seeds), means over the two hands.

    miss: median horizontal distance in metres between the named hand, when it first closes, and the named object.
    """

    count: int
    outcomes: dict[str, np.ndarray]
    miss: float


def training_scenes(count: int) -> list[Scene]:
    """The first clips of the adapters' training data, as `data=tabletop` renders them: pairs of hands."""
    return [Kind("robot").scene(TRAIN_SEEDS + k // 2).with_hand(HANDS[k % 2]) for k in range(count)]


def scene_pairs(first: int, count: int) -> list[Scene]:
    """`count` scenes from seed `first` on, each with either hand."""
    return [Scene.sample(first + k // 2, "robot").with_hand(HANDS[k % 2]) for k in range(2 * count)]


def real(scenes: Sequence[Scene]) -> Demonstrations:
    """Demonstrations with true actions."""
    return demonstrations(list(scenes), np.stack([true_actions(scene) for scene in scenes]))


def evaluate(shown: Demonstrations, tests: Sequence[Scene], seen: Demonstrations, seeds: int) -> Result:
    """Train a policy per seed and roll each out in all test scenes, which come in pairs of hands."""
    rows = []
    for seed in range(seeds):
        actions = act(train_policy(shown, seed), seen)
        for number, scene in enumerate(tests):
            outcome = roll_out(scene, actions[number])
            row = {"scene": number // len(HANDS), "seed": seed, "miss": outcome.misses[scene.hand]}
            for name in WHAT:
                row[name] = float(getattr(outcome, name))
            rows.append(row)
    table = pd.DataFrame(rows)
    outcomes = {}
    for name in WHAT:
        outcomes[name] = table.pivot_table(index="scene", columns="seed", values=name).to_numpy()
    return Result(len(shown), outcomes, float(table["miss"].median()))


def difference(a: Result, b: Result) -> JsonObject:
    """Success of b minus that of a, with 95 % interval and p value; scenes and policy seeds are random."""
    gap = estimate([a.outcomes["success"], b.outcomes["success"]], (-1.0, 1.0))
    if gap.variance <= 0:
        return {"mean": float(gap.mean), "low": None, "high": None, "p": None}
    low, high = gap.interval()
    return {"mean": float(gap.mean), "low": float(low), "high": float(high), "p": float(gap.p())}


def generated(options: argparse.Namespace, scenes: Sequence[Scene]) -> tuple[dict[str, np.ndarray], JsonObject]:
    """The actions read from each adapter's videos, and what was measured on them.

    The base and BEST make a video for each of the scenes, the others for the first options.across of them; the means are over those.
    """
    actions, record = {}, {"videos": [], "means": {}}
    for name in ADAPTERS:
        count = len(scenes) if name in ("base", BEST) else options.across
        generate(name, name if name == "base" else str(options.sweep / name), scenes[:count], options.work)
        actions[name], rows = read_videos(name, scenes[:count], options.work)
        record["videos"] += rows
        compared = rows[: options.across]
        record["means"][name] = means(compared) | {"kept": len(kept(compared)) / len(compared)}
    return actions, record


def demonstrations_of_arms(options: argparse.Namespace) -> tuple[dict[str, Demonstrations], JsonObject]:
    """The demonstrations of every arm by name, and what was measured on the generated videos."""
    scenes = new_scenes(options.new // len(HANDS))
    few, adapters_own, new = real(training_scenes(FEW)), real(training_scenes(ADAPTER_CLIPS)), real(scenes)
    actions, record = generated(options, scenes)
    made = {}
    for name, values in actions.items():
        made[name] = Demonstrations(new.inputs[: len(values)], torch.from_numpy(values))
    chosen = kept([row for row in record["videos"] if row["arm"] == BEST])
    others = sorted(np.random.default_rng(0).choice(len(new), len(chosen), replace=False).tolist())
    read = []
    for scene in scenes:
        read.append(read_actions(decoded(scene.clip().frames, 0.0, np.random.default_rng(0))))
    arms = {f"{FEW} real": few}
    for name in ("base", BEST):
        arms[f"{FEW} real + {len(new)} of {name}"] = few + made[name]
    arms[f"{FEW} real + {len(chosen)} kept of {BEST}"] = few + made[BEST][chosen]
    arms[f"{FEW} real + {len(others)} at random of {BEST}"] = few + made[BEST][others]
    arms[f"{FEW} real + {len(new)} real, actions read"] = few + Demonstrations(
        new.inputs, torch.from_numpy(np.stack(read))
    )
    arms[f"{FEW} real + {len(new)} real"] = few + new
    arms[f"{ADAPTER_CLIPS} real (the adapters' own)"] = adapters_own
    arms[f"{ADAPTER_CLIPS} real + {len(new)} of {BEST}"] = adapters_own + made[BEST]
    arms[f"{MANY} real (ceiling)"] = real(scene_pairs(MANY_SEEDS, MANY // 2))
    for name in ADAPTERS:
        arms[f"{FEW} real + {options.across} of {name}"] = few + made[name][list(range(options.across))]
    return arms, record


def comparisons(results: Mapping[str, Result], new: int) -> list[JsonObject]:
    """The differences that the benchmark is about, fixed before its first run, with Holm's correction over them."""
    few, base, best = f"{FEW} real", f"{FEW} real + {new} of base", f"{FEW} real + {new} of {BEST}"
    filtered = next(name for name in results if "kept of" in name)
    random = next(name for name in results if "at random of" in name)
    read, true = f"{FEW} real + {new} real, actions read", f"{FEW} real + {new} real"
    own = f"{ADAPTER_CLIPS} real (the adapters' own)"
    pairs = [(few, base), (few, best), (base, best), (random, filtered), (best, filtered), (best, read), (read, true)]
    pairs += [(best, own), (own, f"{ADAPTER_CLIPS} real + {new} of {BEST}")]
    rows = [{"first": a, "second": b, **difference(results[a], results[b])} for a, b in pairs]
    for row, p in zip(rows, holm_values([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p
    return rows


def prediction(record: JsonObject, results: Mapping[str, Result], across: int) -> list[JsonObject]:
    """Rank correlation of each measure of the generator with the policy's success across the adapters.

    The p value is that of all permutations of the adapters; with five it cannot be below 2/120 = 0.017.
    """
    success = []
    for name in ADAPTERS:
        success.append(float(results[f"{FEW} real + {across} of {name}"].outcomes["success"].mean()))
    rows = []
    for measure in (*MEASURES, "kept"):
        values = [record["means"][name][measure] for name in ADAPTERS]
        row: JsonObject = {"measure": measure, **dict(zip(ADAPTERS, values, strict=True)), "rho": None, "p": None}
        if None not in values and len(set(values)) > 1 and len(set(success)) > 1:
            test = permutation_test(
                (values,), lambda order: spearmanr(order, success).statistic, permutation_type="pairings"
            )
            row["rho"], row["p"] = float(test.statistic), float(test.pvalue)
        rows.append(row)
    return rows


def percent(cells: np.ndarray) -> str:
    """Mean with its 95 % interval over scenes and policy seeds, in percent."""
    mean, low, high = mean_interval(cells)
    ends = "" if low is None or high is None else f" [{100 * max(low, 0):.0f}, {100 * min(high, 1):.0f}]"
    return f"{100 * float(mean or 0):.1f}{ends}"


def line(name: str, result: Result) -> JsonObject:
    """A row of the table of arms."""
    row: JsonObject = {"demonstrations": name, "n": result.count}
    for what in WHAT:
        row[f"{what}, %"] = percent(result.outcomes[what])
    return row | {"miss, cm": f"{100 * result.miss:.1f}"}


def page(results: Mapping[str, Result], compared: list[JsonObject], predicted: list[JsonObject], setting: str) -> str:
    """The result file's tables."""
    arms = pd.DataFrame([line(name, result) for name, result in results.items()])
    differences = pd.DataFrame(compared)
    differences[["mean", "low", "high"]] *= 100
    parts = [
        setting,
        arms.to_markdown(index=False),
        f"Differences in success, second minus first, points; p_holm: Holm's correction over {len(compared)}.",
        differences.to_markdown(index=False, floatfmt=".2g"),
        "Each measure of the generated videos by adapter, and its rank correlation with the policy's success.",
        pd.DataFrame(predicted).to_markdown(index=False, floatfmt=".3g"),
    ]
    return "\n\n".join(parts)


def report(options: argparse.Namespace, results: Mapping[str, Result], record: JsonObject) -> None:
    """Write the result files and the figure."""
    compared = comparisons(results, len(new_scenes(options.new // len(HANDS))))
    predicted = prediction(record, results, options.across)
    setting = (
        f"{options.scenes} test scenes with either hand, {options.seeds} policies per arm. Brackets: 95 % intervals, scenes and policy "
        "seeds random, for these demonstrations and adapters (one training run each). Miss: median distance of the named hand from the "
        f"named object where it first closes. {device_name()}."
    )
    data: JsonObject = {"results": {}, "comparisons": compared, "prediction": predicted, "idm": file_sha256(IDM_FILE)}
    for name, result in results.items():
        success = result.outcomes["success"].tolist()
        data["results"][name] = {"count": result.count, "miss": result.miss, "success": success}
    title = "Closed loop: does synthetic data help a policy?"
    write("closed_loop", title, page(results, compared, predicted, setting), data | record, RESULTS)
    across = [f"{FEW} real + {options.across} of {name}" for name in ADAPTERS]
    draw(results, record["means"], across, ROOT / "docs" / "images" / "closed_loop.png")


def main() -> None:
    """Generate, train, test, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path, help="folder of the finished sweep `demo`")
    parser.add_argument("--work", type=Path, default=ROOT / "outputs" / "closed_loop", help="videos and scores")
    parser.add_argument("--new", type=int, default=64, help="demonstrations added to the few real ones, even")
    parser.add_argument("--across", type=int, default=64, help="of them, those that are compared across all adapters")
    parser.add_argument("--scenes", type=int, default=100, help="test scenes, each with either hand")
    parser.add_argument("--seeds", type=int, default=5, help="policies for each arm")
    options = parser.parse_args()
    torch.set_num_threads(1)
    arms, record = demonstrations_of_arms(options)
    tests = scene_pairs(TEST_SEEDS, options.scenes)
    seen, results = real(tests), {}
    for name, shown in arms.items():
        results[name] = evaluate(shown, tests, seen, options.seeds)
        print(f"{name}: success {percent(results[name].outcomes['success'])} %", flush=True)
    report(options, results, record)


if __name__ == "__main__":
    main()
