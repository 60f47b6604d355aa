"""The stages that `experiment.run` walks through. They meet in the run folder and in `Prepared`, nowhere else."""

from __future__ import annotations

import os

from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.schema import Config
from cosmos_exp.distributed import Processes
from cosmos_exp.errors import RunError
from cosmos_exp.experiment.context import Prepared, _set_aside, stage
from cosmos_exp.experiment.stages.generate import pair_tasks
from cosmos_exp.files import read_json_lines, write_json, write_json_lines
from cosmos_exp.metrics.judges.registry import load_judge
from cosmos_exp.metrics.score import ScoredVideo, judge_videos, measure_geometry
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.statistics.intervals import summarize


# --- evaluate ---------------------------------------------------------------------------------------------------
def evaluate(config: Config, folder: RunFolder, processes: Processes, prepared: Prepared) -> None:
    """Score every video, then sum up with intervals; processes share the videos."""
    tasks = pair_tasks(config, prepared.dataset.pairs, prepared.dataset, folder.video)
    _set_aside(folder, "evaluate", folder.scores, config, processes)
    with stage("evaluate", config, folder, processes):
        done = {(r["sample"], r["seed"], r["measure"]) for r in read_json_lines(folder.scores)}
        videos = [ScoredVideo(t.sample, t.seed, t.prompt, t.path) for t in tasks]
        judge = (
            load_judge(config.judge, processes.device, config.hardware.mixed_precision, config.seed) if videos else None
        )
        processes.barrier()
        mine, show = processes.shard(videos), processes.is_main
        workers = max(1, (os.cpu_count() or 1) // processes.size)
        failure = None
        try:
            measure_geometry(mine, config, folder.scores, done, show, workers)
            if judge:
                judge_videos(mine, config, judge, folder.scores, done, cache_root(config) / "judged", show)
        except RunError as error:
            failure = error
        processes.barrier()
        if processes.is_main:
            rows = sorted(read_json_lines(folder.scores), key=lambda r: (r["sample"], r["seed"], r["measure"]))
            write_json_lines(folder.scores, rows)
            write_json(folder.metrics, folder.read(folder.metrics) | {"measures": summarize(rows)})
        if failure:
            raise RunError(
                f"{failure}\nWhat was scored before is kept; the same command with run_dir={folder.path} scores the rest."
            ) from failure
