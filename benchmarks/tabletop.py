"""The embedded world's figures: renderer, autoencoder, the judge's calibration, and what finished runs scored.

    python benchmarks/tabletop.py --clean 200 --faults 50              # instruments (about 15 minutes on two cores)
    python benchmarks/tabletop.py --runs outputs/tabletop              # and the runs below a folder

Writes benchmarks/results/tabletop_<kind of machine>_<date>.md and .json.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import multiprocessing
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np

CLEAN_SEEDS, FAULT_SEEDS, VAE_SEEDS = 80_000_000, 81_000_000, 82_000_000
NOTICED = 4.8  # what a clean clip must reach; below it a fault counts as noticed
_state: dict[str, Any] = {}


def _scores(frames: np.ndarray, prompt: str) -> dict[str, float]:
    from cosmos_exp.metrics.judges.rubric import load_rubric
    from cosmos_exp.tabletop.judge import RulesJudge

    judge = RulesJudge()
    answers = {m: judge.answer(frames, 8.0, load_rubric(m), prompt).score for m in ("physics", "instruction")}
    return {m: float("nan") if s is None else s for m, s in answers.items()}


def _through_vae(frames: np.ndarray) -> np.ndarray:
    import torch

    from cosmos_exp.tabletop.build import WEIGHTS
    from cosmos_exp.world.loading import load_vae
    from cosmos_exp.world.model_folder import ModelFolder

    torch.set_num_threads(1)
    if "vae" not in _state:
        _state["vae"] = load_vae(ModelFolder(WEIGHTS, WEIGHTS), torch.float32)
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float().div(127.5).sub(1.0)
    with torch.no_grad():
        back = _state["vae"].decode(_state["vae"].encode(video).latent_dist.mean).sample[0]
    return ((back.permute(1, 2, 3, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy()


def clean(task: tuple[int, str, bool]) -> dict[str, float]:
    """A real clip's scores, as it is or after the autoencoder."""
    from cosmos_exp.tabletop.scene import Scene

    seed, look, vae = task
    clip = Scene.sample(seed, look).clip()
    return _scores(_through_vae(clip.frames) if vae else clip.frames, clip.prompt)


def fault(task: tuple[int, str]) -> dict[str, float]:
    """Scores of a clip with a planted fault; looks take turns, the wrong hand is the robot's (only it is told)."""
    from cosmos_exp.tabletop.faults import plant
    from cosmos_exp.tabletop.scene import LOOKS, Scene

    seed, name = task
    look = "robot" if name == "wrong hand" else LOOKS[seed % 2]
    return _scores(*plant(Scene.sample(seed, look), name))


def reconstruction(task: tuple[int, str]) -> dict[str, float]:
    """PSNR, share of SIFT matches kept and Sampson errors of one clip after the autoencoder."""
    import cv2

    from cosmos_exp.config.schema import Sampson
    from cosmos_exp.metrics.geometry.sampson import temporal_sampson
    from cosmos_exp.metrics.geometry.sift import SiftMatcher
    from cosmos_exp.tabletop.scene import Scene

    frames = Scene.sample(*task).clip().frames
    back = _through_vae(frames)
    matcher = SiftMatcher(2048, 0.8)

    def matches(video: np.ndarray) -> int:
        found = matcher.features([cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in video[::4]])
        return sum(len(m) for m in matcher.match(list(itertools.pairwise(found)), video.shape[1:3]))

    error = float(np.mean((frames.astype(np.float64) - back) ** 2))
    tse = [temporal_sampson(v, Sampson()).tse for v in (frames, back)]
    return {
        "psnr": 10 * np.log10(255**2 / error),
        "matches kept": matches(back) / max(matches(frames), 1),
        "tse": float("nan") if tse[0] is None else tse[0],
        "tse after": float("nan") if tse[1] is None else tse[1],
    }


def mean_interval(values: list[float]) -> str:
    """Mean with a normal 95 % interval, missing values left out and counted."""
    known = np.array([v for v in values if not np.isnan(v)])
    if not len(known):
        return "-"
    half = 1.96 * known.std(ddof=1) / len(known) ** 0.5 if len(known) > 1 else 0.0
    lost = len(values) - len(known)
    return f"{known.mean():.2f} ± {half:.2f}" + (f" ({lost} null)" if lost else "")


def instruments(args: argparse.Namespace, pool: Any) -> tuple[list[str], dict]:
    """Renderer, autoencoder and judge."""
    from cosmos_exp.tabletop.faults import RUBRIC
    from cosmos_exp.tabletop.scene import LOOKS, Scene

    lines, data = [], {}
    start = time.perf_counter()
    for k in range(10):
        Scene.sample(83_000_000 + k, LOOKS[k % 2]).clip()
    data["seconds a clip"] = (time.perf_counter() - start) / 10
    lines += [f"Renderer: {data['seconds a clip']:.2f} s a clip of 17 frames of 96x160.", "", "## Autoencoder", ""]
    lines += ["| look | PSNR dB | SIFT matches kept | TSE px | TSE after px |", "| --- | --- | --- | --- | --- |"]
    for look in LOOKS:
        rows = pool.map(reconstruction, [(VAE_SEEDS + k, look) for k in range(args.vae)], chunksize=1)
        data[f"vae {look}"] = {k: [r[k] for r in rows] for k in rows[0]}
        lines.append(f"| {look} | " + " | ".join(mean_interval(v) for v in data[f"vae {look}"].values()) + " |")
    lines += ["", "## Judge", "", f"`noticed`: the right rubric scores below {NOTICED}.", ""]
    lines += ["| clips | n | physics | instruction | right rubric | noticed |", "| --- | --- | --- | --- | --- | --- |"]
    sets = [("real", clean, [(CLEAN_SEEDS + k, LOOKS[k % 2], False) for k in range(args.clean)], None)]
    sets += [
        (
            "real, through the autoencoder",
            clean,
            [(CLEAN_SEEDS + k, LOOKS[k % 2], True) for k in range(args.clean)],
            None,
        )
    ]
    sets += [
        (name, fault, [(FAULT_SEEDS + k, name) for k in range(args.faults)], rubric) for name, rubric in RUBRIC.items()
    ]
    for name, call, tasks, rubric in sets:
        rows = pool.map(call, tasks, chunksize=2)
        both = {m: [r[m] for r in rows] for m in ("physics", "instruction")}
        data[name] = both
        noticed = "" if rubric is None else f"{np.mean([not v >= NOTICED for v in both[rubric]]):.0%}"
        figures = " | ".join(mean_interval(v) for v in both.values())
        lines.append(f"| {name} | {len(rows)} | {figures} | {rubric or ''} | {noticed} |")
        print(lines[-1], flush=True)
    return lines, data


def runs_table(folder: Path) -> list[str]:
    """A row a run: its adapter, intervals over prompts, and how often the named hand reached out."""
    from cosmos_exp.files import read_json_lines
    from cosmos_exp.report.formatting import summary_text
    from cosmos_exp.report.tables import run_row
    from cosmos_exp.report.variants import find_runs

    measures = ("instruction", "physics", "tse", "tse_moving")
    lines = [
        "",
        "## Runs",
        "",
        "| run | adapter | train s | " + " | ".join(measures) + " | named hand moves |",
        "| --- | --- | --- |" + " --- |" * (len(measures) + 1),
    ]
    for run in find_runs(folder):
        row = run_row(run)
        told = [r["detail"]["answer"] for r in read_json_lines(run.scores) if r["measure"] == "instruction"]
        moves = [not ("did not reach out" in t or "no hand reached out" in t) for t in told]
        seconds = row.training.get("train_seconds")
        cells = [run.path.name, row.adapter, "-" if seconds is None else f"{seconds:.0f}"]
        cells += [summary_text(row.measures.get(m)) for m in measures]
        lines.append("| " + " | ".join(cells) + f" | {np.mean(moves):.0%} of {len(moves)} |" if moves else " | - |")
    return lines


def main() -> None:
    """Measure what is asked for and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clean", type=int, default=200, help="real clips, both looks in turn; 0: no instruments")
    parser.add_argument("--faults", type=int, default=50, help="clips a fault")
    parser.add_argument("--vae", type=int, default=20, help="clips a look")
    parser.add_argument("--runs", type=Path, help="folder of runs to tabulate")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    now = datetime.date.today().isoformat()
    lines = [
        f"# The embedded world, {now}",
        "",
        f"{platform.machine()}, {multiprocessing.cpu_count()} cores, Python {platform.python_version()}.",
        "",
    ]
    data: dict[str, Any] = {}
    if args.clean:
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            more, data = instruments(args, pool)
        lines += more
    if args.runs:
        lines += runs_table(args.runs)
    args.out.mkdir(parents=True, exist_ok=True)
    stem = args.out / f"tabletop_cpu_{now}"
    stem.with_suffix(".md").write_text("\n".join(lines) + "\n")
    stem.with_suffix(".json").write_text(json.dumps(data, default=float))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
