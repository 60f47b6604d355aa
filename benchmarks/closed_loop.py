"""Does synthetic data help a policy? The embedded world, from adapter to robot: does the policy do the task?

    python benchmarks/closed_loop.py outputs/sweeps/demo                  # the sweep of `make demo`, finished
    python benchmarks/closed_loop.py --draws 20                           # afterwards: other draws of the same clips
    python benchmarks/closed_loop.py --select                             # how the policy was chosen; needs no sweep

A tiny policy (closed_loop_policy.py) learns from 8 real clips, alone and with further demonstrations of 32 new scenes with either
hand: videos of each adapter with the actions that the inverse dynamics model reads, the filtered ones, and the real clips of the
same scenes. It is tested in 100 other scenes with either hand by cosmos_exp.tabletop.kinematics. Only the actions of the
demonstrations differ between arms: first frame and instruction of a generated demonstration are those of its scene.

Writes benchmarks/results/closed_loop_<date>.{json,md} and docs/images/closed_loop.png. Videos and scores are kept in --work.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from closed_loop_figure import draw
from closed_loop_policy import Demonstrations, Settings, act, demonstrations, train_policy
from closed_loop_videos import MEASURES, generate, kept, means, new_scenes, read_videos
from common import device_name, markdown, write
from scipy.stats import spearmanr

from cosmos_exp.files import JsonObject, file_sha256
from cosmos_exp.statistics.comparisons import holm_values
from cosmos_exp.statistics.crossed import estimate
from cosmos_exp.statistics.intervals import mean_interval
from cosmos_exp.tabletop.dataset import TRAIN_SEEDS, Kind
from cosmos_exp.tabletop.idm.actions import true_actions
from cosmos_exp.tabletop.idm.clips import decoded
from cosmos_exp.tabletop.idm.file import IDM_FILE, read_actions
from cosmos_exp.tabletop.kinematics import Outcome, roll_out
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.vocabulary import HANDS

ROOT = Path(__file__).parent.parent
FEW, ADAPTER_CLIPS, MANY = 8, 64, 1000  # real clips: the few, those rendered for the adapters, and those of the ceiling
MANY_SEEDS, SELECTION_SEEDS, TEST_SEEDS = 93_000_000, 94_000_000, 95_000_000  # scenes that nothing else uses
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
    return [Scene.sample(first + k, "robot").with_hand(h) for k in range(count) for h in HANDS]


def real(scenes: Sequence[Scene]) -> Demonstrations:
    """Demonstrations with true actions."""
    return demonstrations(list(scenes), np.stack([true_actions(s) for s in scenes]))


def evaluate(
    shown: Demonstrations, tests: Sequence[Scene], seen: Demonstrations, seeds: int, **settings: float
) -> Result:
    """Train a policy per seed and roll each out in all test scenes, which come in pairs of hands."""
    found: list[list[Outcome]] = []
    for seed in range(seeds):
        policy = train_policy(shown, seed, Settings(**settings))  # type: ignore[arg-type]
        found.append([roll_out(s, a) for s, a in zip(tests, act(policy, seen), strict=True)])
    outcomes = {}
    for name in WHAT:
        values = np.array([[float(getattr(o, name)) for o in row] for row in found])  # (seeds, tests)
        outcomes[name] = values.reshape(seeds, -1, len(HANDS)).mean(2).T
    misses = [o.misses[o.scene.hand] for row in found for o in row]
    return Result(len(shown), outcomes, float(np.nanmedian(misses)) if not np.isnan(misses).all() else float("nan"))


def difference(a: Result, b: Result) -> JsonObject:
    """Success of b minus that of a, with 95 % interval and p value; scenes and policy seeds are random."""
    found = estimate([a.outcomes["success"], b.outcomes["success"]], (-1.0, 1.0))
    if found.variance <= 0:
        return {"mean": float(found.mean), "low": None, "high": None, "p": None}
    low, high = found.interval()
    return {"mean": float(found.mean), "low": float(low), "high": float(high), "p": float(found.p())}


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
        first = rows[: options.across]
        record["means"][name] = means(first) | {"kept": len(kept(first)) / len(first)}
    return actions, record


def demonstrations_of_arms(options: argparse.Namespace) -> tuple[dict[str, Demonstrations], JsonObject]:
    """The demonstrations of every arm by name, and what was measured on the generated videos."""
    scenes = new_scenes(options.new // len(HANDS))
    few, own, new = real(training_scenes(FEW)), real(training_scenes(ADAPTER_CLIPS)), real(scenes)
    actions, record = generated(options, scenes)
    made = {n: Demonstrations(new.inputs[: len(a)], torch.from_numpy(a)) for n, a in actions.items()}
    chosen = kept([r for r in record["videos"] if r["arm"] == BEST])
    others = sorted(np.random.default_rng(0).choice(len(new), len(chosen), replace=False).tolist())
    clips = (decoded(s.clip().frames, 0.0, np.random.default_rng(0)) for s in scenes)
    read = torch.from_numpy(np.stack([read_actions(frames) for frames in clips]))
    arms = {f"{FEW} real": few}
    arms |= {f"{FEW} real + {len(new)} of {n}": few + made[n] for n in ("base", BEST)}
    arms[f"{FEW} real + {len(chosen)} kept of {BEST}"] = few + made[BEST][chosen]
    arms[f"{FEW} real + {len(others)} at random of {BEST}"] = few + made[BEST][others]
    arms[f"{FEW} real + {len(new)} real, actions read"] = few + Demonstrations(new.inputs, read)
    arms[f"{FEW} real + {len(new)} real"] = few + new
    arms[f"{ADAPTER_CLIPS} real (the adapters' own)"] = own
    arms[f"{ADAPTER_CLIPS} real + {len(new)} of {BEST}"] = own + made[BEST]
    arms[f"{MANY} real (ceiling)"] = real(scene_pairs(MANY_SEEDS, MANY // 2))
    across = list(range(options.across))
    return arms | {f"{FEW} real + {len(across)} of {n}": few + made[n][across] for n in ADAPTERS}, record


def comparisons(results: Mapping[str, Result], new: int) -> list[JsonObject]:
    """The differences that the benchmark is about, fixed before its first run, with Holm's correction over them."""
    few, base, best = f"{FEW} real", f"{FEW} real + {new} of base", f"{FEW} real + {new} of {BEST}"
    filtered, random = (next(n for n in results if w in n) for w in ("kept of", "at random of"))
    read, true = f"{FEW} real + {new} real, actions read", f"{FEW} real + {new} real"
    own = f"{ADAPTER_CLIPS} real (the adapters' own)"
    pairs = [(few, base), (few, best), (base, best), (random, filtered), (best, filtered), (best, read), (read, true)]
    pairs += [(best, own), (own, f"{ADAPTER_CLIPS} real + {new} of {BEST}")]
    found = [{"first": a, "second": b, **difference(results[a], results[b])} for a, b in pairs]
    for row, p in zip(found, holm_values([r["p"] for r in found]), strict=True):
        row["p_holm"] = p
    return found


def prediction(record: JsonObject, results: Mapping[str, Result], across: int) -> list[JsonObject]:
    """Rank correlation of each measure of the generator with the policy's success across the adapters.

    The p value is that of all permutations of the adapters; with five it cannot be below 2/120 = 0.017.
    """
    success = [float(results[f"{FEW} real + {across} of {a}"].outcomes["success"].mean()) for a in ADAPTERS]
    rows = []
    for measure in (*MEASURES, "kept"):
        values = [record["means"][a][measure] for a in ADAPTERS]
        rho = p = None
        if None not in values and len(set(values)) > 1 and len(set(success)) > 1:
            rho = float(spearmanr(values, success).statistic)
            others = [abs(spearmanr(values, order).statistic) for order in itertools.permutations(success)]
            p = float(np.mean([o >= abs(rho) - 1e-9 for o in others]))
        rows.append({"measure": measure, "values": values, "rho": rho, "p": p})
    return rows


def percent(cells: np.ndarray) -> str:
    """Mean with its 95 % interval over scenes and policy seeds, in percent."""
    mean, low, high = mean_interval(cells)
    ends = "" if low is None or high is None else f" [{100 * max(low, 0):.0f}, {100 * min(high, 1):.0f}]"
    return f"{100 * float(mean or 0):.1f}{ends}"


def text(results: Mapping[str, Result], compared: list[JsonObject], predicted: list[JsonObject], setting: str) -> str:
    """The result file's tables."""
    head = [
        "demonstrations",
        "n",
        "success, %",
        "named hand moved",
        "named object grasped",
        "placed by any hand",
        "miss, cm",
    ]
    lines = [
        [name, r.count, *(percent(r.outcomes[w]) for w in WHAT), f"{100 * r.miss:.1f}"] for name, r in results.items()
    ]

    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    differences = [
        [
            f"{r['second']} − {r['first']}",
            f"{100 * r['mean']:+.1f} [{number(r['low'] and 100 * r['low'], '+.1f')}, {number(r['high'] and 100 * r['high'], '+.1f')}]",
            number(r["p_holm"], ".2g"),
        ]
        for r in compared
    ]
    across = [
        [r["measure"], *(number(v, ".3g") for v in r["values"]), number(r["rho"], "+.2f"), number(r["p"], ".2g")]
        for r in predicted
    ]
    return "\n\n".join(
        [
            setting,
            markdown(head, lines),
            markdown(["difference in success, points", "mean [95 %]", f"p (Holm over {len(compared)})"], differences),
            markdown(["measure of the generated videos", *ADAPTERS, "rank correlation", "p"], across),
        ]
    )


def draws(options: argparse.Namespace) -> None:
    """How much it matters which clips: other draws of the few real ones, and of as many generated ones as the filter keeps."""
    scenes, rng = new_scenes(options.new // len(HANDS)), np.random.default_rng(1)
    few, own, new = real(training_scenes(FEW)), real(training_scenes(ADAPTER_CLIPS)), real(scenes)
    actions, rows = read_videos(BEST, scenes, options.work)
    made, chosen = Demonstrations(new.inputs, torch.from_numpy(actions)), kept(rows)
    tests = scene_pairs(TEST_SEEDS, options.scenes)
    seen = real(tests)

    def score(shown: Demonstrations) -> float:
        return float(evaluate(shown, tests, seen, options.seeds).outcomes["success"].mean())

    pairs = [rng.choice(len(own) // 2, FEW // 2, replace=False) for _ in range(options.draws)]
    sets = [rng.choice(len(new), len(chosen), replace=False).tolist() for _ in range(options.draws)]
    found = {
        f"{FEW} real, other draws": [score(own[sorted([2 * k for k in p] + [2 * k + 1 for k in p])]) for p in pairs],
        f"{FEW} real + {len(chosen)} at random of {BEST}, other draws": [score(few + made[s]) for s in sets],
        f"{FEW} real + {len(chosen)} kept of {BEST}": [score(few + made[chosen])],
    }
    lines = [[n, len(v), *(f"{100 * float(x):.1f}" for x in (np.median(v), min(v), max(v)))] for n, v in found.items()]
    head = ["demonstrations", "draws", "median success, %", "lowest", "highest"]
    title = "Closed loop: how much it matters which clips"
    write("closed_loop_draws", title, f"{options.seeds} policies per draw.\n\n{markdown(head, lines)}", found)


def select(options: argparse.Namespace) -> None:
    """How the policy was chosen: variants trained on real clips and tested on selection scenes, none of them test scenes."""
    shown, tests = real(scene_pairs(SELECTION_SEEDS, 36)), scene_pairs(SELECTION_SEEDS + 500_000, 60)
    seen, lines = real(tests), []
    for words in options.variant or [""]:
        settings = {k: type(getattr(Settings(), k))(float(v)) for k, v in (w.split("=") for w in words.split())}
        for count in (FEW, len(shown)):
            result = evaluate(shown[list(range(count))], tests, seen, options.seeds, **settings)
            outcomes = (percent(result.outcomes[w]) for w in WHAT)
            lines.append([words or "the chosen one", count, *outcomes, f"{100 * result.miss:.1f}"])
            print(lines[-1], flush=True)
    print(markdown(["variant", "real clips", *WHAT, "miss, cm"], lines))


def main() -> None:
    """Generate, train, test, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path, nargs="?", help="folder of the finished sweep `demo`")
    parser.add_argument("--work", type=Path, default=ROOT / "outputs" / "closed_loop", help="videos and scores")
    parser.add_argument("--new", type=int, default=64, help="demonstrations added to the few real ones, even")
    parser.add_argument("--across", type=int, default=64, help="of them, those that are compared across all adapters")
    parser.add_argument("--scenes", type=int, default=100, help="test scenes, each with either hand")
    parser.add_argument("--seeds", type=int, default=5, help="policies for each arm")
    parser.add_argument("--draws", type=int, default=0, help="only this: other draws of the clips, after a whole run")
    parser.add_argument("--select", action="store_true", help="compare variants of the policy on selection scenes")
    parser.add_argument("--variant", action="append", help="settings for --select, e.g. 'steps=600 lr=0.01'")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.select:
        select(options)
        return
    if options.draws:
        draws(options)
        return
    if options.sweep is None:
        parser.error("give the folder of a finished sweep, e.g. outputs/sweeps/demo")
    arms, record = demonstrations_of_arms(options)
    tests = scene_pairs(TEST_SEEDS, options.scenes)
    seen, results = real(tests), {}
    for name, shown in arms.items():
        results[name] = evaluate(shown, tests, seen, options.seeds)
        print(f"{name}: success {percent(results[name].outcomes['success'])} %", flush=True)
    report(options, results, record)


def report(options: argparse.Namespace, results: Mapping[str, Result], record: JsonObject) -> None:
    """Write the result files and the figure."""
    new = len(new_scenes(options.new // len(HANDS)))
    compared, predicted = comparisons(results, new), prediction(record, results, options.across)
    setting = (
        f"{options.scenes} test scenes with either hand, {options.seeds} policies per arm. Brackets: 95 % intervals, scenes and policy "
        "seeds random, for these demonstrations and adapters (one training run each). Miss: median distance of the named hand from the "
        f"named object where it first closes. {device_name()}."
    )
    data = {
        "results": {
            n: {"count": r.count, "miss": r.miss, "success": r.outcomes["success"].tolist()} for n, r in results.items()
        },
        "comparisons": compared,
        "prediction": predicted,
        "idm": file_sha256(IDM_FILE),
        **record,
    }
    write(
        "closed_loop",
        "Closed loop: does synthetic data help a policy?",
        text(results, compared, predicted, setting),
        data,
    )
    draw(
        results,
        record["means"],
        [f"{FEW} real + {options.across} of {a}" for a in ADAPTERS],
        ROOT / "docs" / "images" / "closed_loop.png",
    )


if __name__ == "__main__":
    main()
