"""Does synthetic data help a policy? The embedded world, from adapter to robot: does the policy do the task?

    python -m benchmarks.closed_loop outputs/sweeps/demo                  # the sweep of `make demo`, finished

A tiny policy (policy.py) learns from 8 real clips, alone and with further demonstrations of 32 new scenes with either hand: videos of
each adapter with the actions that the inverse dynamics model reads, the filtered ones, and the real clips of the same scenes. It is
tested in 100 other scenes with either hand (kinematics.py). Only the actions of the demonstrations differ between arms: first frame
and instruction of a generated demonstration are those of its scene.

Writes benchmarks/closed_loop/results/closed_loop_<date>.{json,md} and docs/images/closed_loop.png. Videos and scores are kept in
outputs/closed_loop.
"""

from __future__ import annotations

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
from benchmarks.closed_loop.videos import FIRST_SEED, MEASURES, generate, kept, means, read_videos, scene_pairs
from benchmarks.common import command_line, device_name, table, write
from benchmarks.idm.actions import IDM_FILE, read_actions, true_actions
from benchmarks.idm.clips import decoded
from cosmos_exp.files import JsonObject, file_sha256
from cosmos_exp.statistics.comparisons import holm_values
from cosmos_exp.statistics.crossed import estimate
from cosmos_exp.statistics.intervals import mean_interval
from cosmos_exp.tabletop.dataset import TRAIN_SEEDS
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.world import HANDS

ROOT = Path(__file__).parents[2]
WORK = ROOT / "outputs" / "closed_loop"  # of videos and scores
FEW, ADAPTER_CLIPS, MANY = 8, 64, 1000  # real clips: the few, those rendered for the adapters, and those of the ceiling
NEW = 64  # demonstrations added to the few
MANY_SEEDS, TEST_SEEDS = 93_000_000, 95_000_000  # scenes that nothing else uses
TEST_SCENES, POLICIES = 100, 5  # test scenes, each with either hand, and policies for each arm
ADAPTERS = ("base", "lora-r8-shared", "lora-r8", "dora-r8", "lora-r32")
BEST = "lora-r32"
WHAT = ("success", "right_hand", "object_grasped", "placed")
FEW_REAL, FEW_AND_NEW = f"{FEW} real", f"{FEW} real + {NEW} real"  # names of arms
ACTIONS_READ = f"{FEW_AND_NEW}, actions read"
OWN, OWN_AND_BEST = f"{ADAPTER_CLIPS} real (the adapters' own)", f"{ADAPTER_CLIPS} real + {NEW} of {BEST}"


def arm_of(adapter: str) -> str:
    """The name of the few real clips with an adapter's videos."""
    return f"{FEW} real + {NEW} of {adapter}"


class Result(NamedTuple):
    """An arm's test. count: demonstrations. outcomes: WHAT -> (scenes, policy seeds), means over the two hands.

    miss: median horizontal distance in metres between the named hand, when it first closes, and the named object.
    """

    count: int
    outcomes: dict[str, np.ndarray]
    miss: float


def real(scenes: Sequence[Scene]) -> Demonstrations:
    """Demonstrations with true actions."""
    return demonstrations(scenes, np.stack([true_actions(scene) for scene in scenes]))


def evaluate(shown: Demonstrations, tests: Sequence[Scene], seen: Demonstrations) -> Result:
    """Train POLICIES policies and roll each out in all test scenes, which come in pairs of hands."""
    rows = []
    for seed in range(POLICIES):
        actions = act(train_policy(shown, seed), seen)
        for number, scene in enumerate(tests):
            outcome = roll_out(scene, actions[number])
            row = {"scene": number // len(HANDS), "seed": seed, "miss": outcome.misses[scene.hand]}
            for name in WHAT:
                row[name] = float(getattr(outcome, name))
            rows.append(row)
    found = pd.DataFrame(rows)
    outcomes = {}
    for name in WHAT:
        outcomes[name] = found.pivot_table(index="scene", columns="seed", values=name).to_numpy()
    return Result(len(shown), outcomes, float(found["miss"].median()))


def difference(a: Result, b: Result) -> JsonObject:
    """Success of b minus that of a, with 95 % interval and p value; scenes and policy seeds are random."""
    gap = estimate([a.outcomes["success"], b.outcomes["success"]], (-1.0, 1.0))
    row = {"mean": float(gap.mean), "low": None, "high": None, "p": None}
    if gap.variance > 0:
        row["low"], row["high"] = map(float, gap.interval())
        row["p"] = float(gap.p())
    return row


def generated(sweep: Path, scenes: Sequence[Scene]) -> tuple[dict[str, np.ndarray], JsonObject]:
    """The actions read from each adapter's videos of the scenes, and what was measured on them."""
    actions, record = {}, {"videos": [], "means": {}}
    for name in ADAPTERS:
        generate(name, name if name == "base" else str(sweep / name), scenes, WORK)
        actions[name], rows = read_videos(name, scenes, WORK)
        record["videos"] += rows
        record["means"][name] = means(rows) | {"kept": len(kept(rows)) / len(rows)}
    return actions, record


def demonstrations_of_arms(sweep: Path) -> tuple[dict[str, Demonstrations], JsonObject]:
    """The demonstrations of every arm by name, and what was measured on the generated videos."""
    scenes = scene_pairs(FIRST_SEED, NEW)
    # The first clips of the adapters' training data, as `data=tabletop` renders them.
    few, adapters_own, new = (
        real(scene_pairs(TRAIN_SEEDS, FEW)),
        real(scene_pairs(TRAIN_SEEDS, ADAPTER_CLIPS)),
        real(scenes),
    )
    actions, record = generated(sweep, scenes)
    made = {name: Demonstrations(new.inputs, torch.from_numpy(values)) for name, values in actions.items()}
    chosen = kept([row for row in record["videos"] if row["arm"] == BEST])
    others = sorted(np.random.default_rng(0).choice(len(new), len(chosen), replace=False).tolist())
    read = []
    for scene in scenes:
        read.append(read_actions(decoded(scene.clip().frames, 0.0, np.random.default_rng(0))))
    arms = {FEW_REAL: few}
    for name in ("base", BEST):
        arms[arm_of(name)] = few + made[name]
    arms[f"{FEW} real + {len(chosen)} kept of {BEST}"] = few + made[BEST][chosen]
    arms[f"{FEW} real + {len(others)} at random of {BEST}"] = few + made[BEST][others]
    arms[ACTIONS_READ] = few + Demonstrations(new.inputs, torch.from_numpy(np.stack(read)))
    arms[FEW_AND_NEW] = few + new
    arms[OWN] = adapters_own
    arms[OWN_AND_BEST] = adapters_own + made[BEST]
    arms[f"{MANY} real (ceiling)"] = real(scene_pairs(MANY_SEEDS, MANY))
    for name in ADAPTERS:
        arms[arm_of(name)] = few + made[name]
    return arms, record


def comparisons(results: Mapping[str, Result]) -> list[JsonObject]:
    """The differences that the benchmark is about, fixed before its first run, with Holm's correction over them."""
    base, best = arm_of("base"), arm_of(BEST)
    filtered = next(name for name in results if "kept of" in name)
    random = next(name for name in results if "at random of" in name)
    pairs = [(FEW_REAL, base), (FEW_REAL, best), (base, best), (random, filtered), (best, filtered)]
    pairs += [(best, ACTIONS_READ), (ACTIONS_READ, FEW_AND_NEW), (best, OWN), (OWN, OWN_AND_BEST)]
    rows = [{"first": a, "second": b, **difference(results[a], results[b])} for a, b in pairs]
    for row, p in zip(rows, holm_values([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p
    return rows


def prediction(record: JsonObject, results: Mapping[str, Result]) -> list[JsonObject]:
    """Rank correlation of each measure of the generator with the policy's success across the adapters.

    The p value is that of all permutations of the adapters; with five it cannot be below 2/120 = 0.017.
    """
    success = [float(results[arm_of(name)].outcomes["success"].mean()) for name in ADAPTERS]
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
    ends = "" if low is None else f" [{100 * max(low, 0):.0f}, {100 * min(high, 1):.0f}]"
    return f"{100 * mean:.1f}{ends}"


def line(name: str, result: Result) -> JsonObject:
    """A row of the table of arms."""
    row: JsonObject = {"demonstrations": name, "n": result.count}
    for what in WHAT:
        row[f"{what}, %"] = percent(result.outcomes[what])
    return row | {"miss, cm": f"{100 * result.miss:.1f}"}


def page(results: Mapping[str, Result], compared: list[JsonObject], predicted: list[JsonObject]) -> str:
    """The result file's tables."""
    differences = pd.DataFrame(compared)
    differences[["mean", "low", "high"]] *= 100
    setting = (
        f"{TEST_SCENES} test scenes with either hand, {POLICIES} policies per arm. Brackets: 95 % intervals, scenes and policy "
        "seeds random, for these demonstrations and adapters (one training run each). Miss: median distance of the named hand from the "
        f"named object where it first closes. {device_name()}."
    )
    return f"""{setting}

{table([line(name, result) for name, result in results.items()])}

Differences in success, second minus first, points; p_holm: Holm's correction over {len(compared)}.

{table(differences.to_dict("records"), ".2g")}

Each measure of the generated videos by adapter, and its rank correlation with the policy's success.

{table(predicted, ".3g")}"""


def report(results: Mapping[str, Result], record: JsonObject) -> None:
    """Write the result files and the figure."""
    compared, predicted = comparisons(results), prediction(record, results)
    data: JsonObject = {"results": {}, "comparisons": compared, "prediction": predicted, "idm": file_sha256(IDM_FILE)}
    for name, result in results.items():
        success = result.outcomes["success"].tolist()
        data["results"][name] = {"count": result.count, "miss": result.miss, "success": success}
    title = "Closed loop: does synthetic data help a policy?"
    write("closed_loop", title, page(results, compared, predicted), data | record, Path(__file__).parent / "results")
    draw(results, record["means"], [arm_of(name) for name in ADAPTERS], ROOT / "docs" / "images" / "closed_loop.png")


def main() -> None:
    """Generate, train, test, write."""
    parser = command_line(__doc__)
    parser.add_argument("sweep", type=Path, help="folder of the finished sweep `demo`")
    torch.set_num_threads(1)
    arms, record = demonstrations_of_arms(parser.parse_args().sweep)
    tests = scene_pairs(TEST_SEEDS, 2 * TEST_SCENES)
    seen, results = real(tests), {}
    for name, shown in arms.items():
        results[name] = evaluate(shown, tests, seen)
        print(f"{name}: success {percent(results[name].outcomes['success'])} %", flush=True)
    report(results, record)


if __name__ == "__main__":
    main()
