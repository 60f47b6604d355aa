"""How the cost of each part grows: three sizes, the growth exponent, the peak memory. The data sets are made here.

    python benchmarks/scale.py [LINE…] [--sizes 250,500,1000] [--title "before"]

A size is measured in a process of its own: CPU seconds without imports (of all threads and child processes), peak MiB. The line
`page opens`: until a Chromium shows the first video's cell and `Play all` answers, median of three; MiB of the page.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import device_name, table, write

Command = Callable[[], object]
CAMERA, FRAMES, PER_FILE = "observation.images.top", 20, 1000  # frames of an episode, episodes of a file


class Taken(NamedTuple):
    """What a line took: CPU seconds, seconds, MiB."""

    cpu: float
    clock: float
    mib: float


def lerobot_set(folder: Path, episodes: int, statistics: int = 0) -> None:
    """A LeRobot v3.0 set of small pictures. One video file is coded, the others are links to it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from cosmos_exp.data.video import write_video

    info = {"codebase_version": "v3.0", "fps": 10, "features": {CAMERA: {"dtype": "video", "shape": [32, 48, 3]}}}
    (folder / "meta/episodes/chunk-000").mkdir(parents=True)
    (folder / "meta/info.json").write_text(json.dumps(info))
    per_file, number = min(episodes, PER_FILE), np.arange(episodes)
    place = number % per_file * FRAMES / 10
    columns = {
        "episode_index": number,
        "tasks": [[f"pick up thing {k}"] for k in number],
        "length": [FRAMES] * episodes,
    }
    columns |= {f"videos/{CAMERA}/from_timestamp": place, f"videos/{CAMERA}/to_timestamp": place + FRAMES / 10}
    columns |= {f"videos/{CAMERA}/chunk_index": number * 0, f"videos/{CAMERA}/file_index": number // per_file}
    for k in range(statistics):
        columns[f"stats/feature{k}/mean"] = list(np.random.default_rng(k).random((episodes, 14)))
    pq.write_table(pa.table(columns), folder / "meta/episodes/chunk-000/file-000.parquet")
    if statistics:
        return
    first = folder / "videos" / CAMERA / "chunk-000/file-000.mp4"
    level = np.arange(per_file * FRAMES) % 200
    frames = np.broadcast_to(level[:, None, None, None], (len(level), 32, 48, 3)).astype(np.uint8)
    write_video(first, frames, 10)
    for file in range(1, -(-episodes // per_file)):
        os.link(first, first.with_name(f"file-{file:03d}.mp4"))


def study(folder: Path, videos: int) -> None:
    """13 finished runs of full-size videos (links to one), with the details that a run records."""
    from cosmos_exp.config.composing import compose_config
    from cosmos_exp.config.record import save_config
    from cosmos_exp.data.video import write_video
    from cosmos_exp.files import write_json, write_json_lines
    from cosmos_exp.run_folder import RunFolder

    noise = np.random.default_rng(0).integers(0, 255, (27, 48, 3)).astype(np.uint8)
    picture = noise.repeat(16, 0).repeat(16, 1)
    write_video(folder / "video.mp4", np.stack([np.roll(picture, 4 * k, 1) for k in range(93)]), 16)
    curve = {"frame_medians": [0.1234] * 92, "frame_means": [0.1234] * 92}
    for arm, seed in [("none", 0), *((rank, seed) for rank in (4, 8, 16, 32) for seed in range(3))]:
        words = ["adapter=none"] if arm == "none" else ["adapter=lora", f"adapter.rank={arm}", f"seed={seed}"]
        run, rows = RunFolder(folder / f"{arm}-seed{seed}"), []
        run.videos.mkdir(parents=True)
        save_config(compose_config(words), run.config)
        for k in range(videos):
            video = run.video(f"p{k // 5}", k % 5)
            os.link(folder / "video.mp4", video)
            row = {"sample": f"p{k // 5}", "seed": k % 5, "prompt": f"Lift thing {k // 5}", "video": video.name}
            for m in ("tse", "tse_robust", "tse_moving", "static_share", "physics", "instruction"):
                detail = {"repeatability": {"tse": 0.01}, "curve": [0.1234] * 92}
                if m == "tse":
                    detail["views"] = [curve]
                if m in ("physics", "instruction"):
                    detail["answer"] = "The hand takes the thing, lifts it and holds it. " * 8
                rows.append(row | {"measure": m, "value": 3 + math.sin(k + len(m)), "detail": detail})
        write_json_lines(run.scores, rows)
        write_json(run.metrics, {"training": {"train_loss": 0.5}})
        run.set_status("done", "record")


def previews(folder: Path, size: int) -> None:
    """The previews that reports make one after another, as links to one."""
    pictures = folder / "previews"
    made = next(pictures.rglob("*.jpg"), None)
    for video in folder.glob("*/videos/*.mp4"):
        preview = (pictures / video.relative_to(folder)).with_suffix(".jpg")
        if made and not preview.exists():
            preview.parent.mkdir(parents=True, exist_ok=True)
            os.link(made, preview)


def listed(folder: Path, size: int) -> Command:
    """The start of a run, `data check`'s list, `dry_run`: all episodes of a set."""
    from cosmos_exp.config.composing import compose_config
    from cosmos_exp.data.dataset import load_dataset

    os.environ["COSMOS_EXP_CACHE"] = str(folder.parent / f"cache-{folder.name}")
    config = compose_config([f"data.path={folder}", "data=lerobot", "data.fps=null"])
    return lambda: load_dataset(config)


def tables(folder: Path, size: int) -> Command:
    """The episodes' table, with statistics."""
    from cosmos_exp.data.readers.lerobot_meta import open_lerobot

    return lambda: open_lerobot(folder)


def planned_runs(folder: Path, size: int) -> list:
    """`size` runs of a sweep in a folder."""
    from cosmos_exp.sweep.runs import expand_sweep, find_sweep

    return expand_sweep(*find_sweep("rank"), [f"seed=range(0,{size // 3})"], folder)


def planned(folder: Path, size: int) -> Command:
    """`sweep --list` of runs that exist."""
    from cosmos_exp.config.hashing import stage_hash
    from cosmos_exp.config.record import save_config
    from cosmos_exp.sweep.live import print_states
    from cosmos_exp.sweep.runs import missing_runs

    for run in planned_runs(folder, size):
        save_config(run.config, run.folder.config)
        done = {"evaluate": {"config_hash": stage_hash(run.config)}}
        run.folder.update_manifest(config_hash=stage_hash(run.config))
        run.folder.update_manifest(data={"train": [f"clip {k}" for k in range(200)]}, stages=done)
        run.folder.set_status("done", "record")

    def command() -> None:
        runs = planned_runs(folder, size)
        for run in runs:
            run.check_same()
        missing_runs(runs)
        print_states(runs)

    return command


def watched(folder: Path, size: int) -> Command:
    """Ten seconds of the live table: CPU seconds x 10 are per cent of a core."""
    from cosmos_exp.sweep.live import print_changes, watch

    planned(folder, size)
    runs = planned_runs(folder, size)

    def command() -> None:
        with watch(print_changes, runs):
            time.sleep(10)

    return command


def reported(folder: Path, size: int) -> Command:
    """`cosmos-exp report` of 13 runs."""
    from cosmos_exp.report import figures, page, tables  # noqa: F401  # imports are not measured

    return lambda: tables.write_report(folder)


def opened(folder: Path, size: int) -> Command:
    """The page of `reported` in a Chromium."""
    import psutil
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    options.page_load_strategy = "none"
    for word in ("headless=new", "no-sandbox", "disable-gpu", "no-first-run", "window-size=1280,900"):
        options.add_argument(f"--{word}")
    page = folder.with_name(f"reported-{size}") / "page.html"
    usable = """const cell = document.querySelector('.cell:not([hidden]) video, .cell:not([hidden]) p');
        if (!cell?.getBoundingClientRect().height || !document.querySelector('#count').textContent) return false;
        document.querySelector('#play').click();
        return document.querySelector('#play').textContent === 'Pause'"""

    def once() -> Taken:
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
        chromium = psutil.Process(browser.service.process.pid)

        def used() -> float:
            total = 0.0
            for process in chromium.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    total += sum(process.cpu_times()[:2])
            return total

        try:
            browser.set_script_timeout(300)
            time.sleep(3)  # its own start is not measured
            before, began = used(), time.perf_counter()
            browser.get(page.as_uri())
            while not browser.execute_script(usable):
                time.sleep(0.01)
            clock = time.perf_counter() - began
            return Taken(used() - before, clock, page.stat().st_size / 2**20)
        finally:
            browser.quit()

    return lambda: sorted((once() for _ in range(3)), key=lambda taken: taken.clock)[1]


def recorded(folder: Path, size: int) -> Command:
    """Ten changes of a manifest that names many videos."""
    from cosmos_exp.run_folder import RunFolder

    run = RunFolder(folder)
    folder.mkdir()
    run.update_manifest(data={"train": [f"episode_{k:06d}" for k in range(size)], "scenes": {}})
    return lambda: [run.update_manifest(stages={"train": {"seconds": k}}) for k in range(10)]


# line: (maker of its data, what is measured, sizes)
LINES = {
    "list episodes": (lerobot_set, listed, (250, 500, 1000)),
    "list them again": (None, listed, (250, 500, 1000)),
    "tables": (partial(lerobot_set, statistics=10), tables, (5000, 10000, 20000)),
    "sweep --list": (None, planned, (30, 60, 120)),
    "live table": (None, watched, (30, 60, 120)),
    "report, videos a run": (study, reported, (25, 50, 100)),
    "report again": (previews, reported, (25, 50, 100)),
    "page opens": (None, opened, (25, 50, 100)),
    "manifest, names": (None, recorded, (5000, 10000, 20000)),
}


def measured(work: Callable[..., Command], folder: Path, size: int) -> Taken:
    """In a process of its own: what a line takes."""
    command = work(folder, size)

    def seconds() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in used)

    began, clock = seconds(), time.perf_counter()
    taken = command()
    if isinstance(taken, Taken):
        return taken
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Taken(seconds() - began, time.perf_counter() - clock, peak)


def apart(function: Callable, *args: object) -> Any:
    """The result of a call in a process of its own."""
    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        return pool.submit(function, *args).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("lines", nargs="*", default=list(LINES), metavar="LINE", help=", ".join(LINES))
    parser.add_argument("--sizes", type=lambda text: tuple(map(int, text.split(","))))
    parser.add_argument("--title", default="scale")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as root:
        for line in args.lines:
            make, work, sizes = LINES[line]
            sizes, found = args.sizes or sizes, list[Taken]()
            for size in sizes:
                folder = Path(root) / f"{work.__name__}-{size}"
                if make:
                    apart(make, folder, size)
                found.append(apart(measured, work, folder, size))
            first, last = found[0], found[-1]
            row = {"line": line, "sizes": ", ".join(map("{:,}".format, sizes))}
            row["CPU s"] = ", ".join(f"{taken.cpu:.3g}" for taken in found)
            row["exponent"] = math.log(last.cpu / first.cpu) / math.log(sizes[-1] / sizes[0])
            row |= {"last: s": last.clock, "MiB": last.mib}
            rows.append(row)
            print(row, flush=True)
    write(f"scale_{args.title}", f"Growth of cost, {args.title}", f"{table(rows, '.3g')}\n\n{device_name()}", rows)


if __name__ == "__main__":
    main()
