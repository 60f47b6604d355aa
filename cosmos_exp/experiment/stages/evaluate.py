"""Stage 4: score the videos and summarise the scores with intervals."""

from __future__ import annotations

import os

from cosmos_exp.config.context import RunContext
from cosmos_exp.config.paths import cache_root
from cosmos_exp.errors import RunError
from cosmos_exp.experiment.stages.common import recorded_stage, set_aside
from cosmos_exp.experiment.stages.generate import pair_tasks
from cosmos_exp.experiment.stages.prepare import Inputs
from cosmos_exp.files import write_json, write_json_lines
from cosmos_exp.metrics.judges.registry import load_judge
from cosmos_exp.metrics.interface import ScoredVideo
from cosmos_exp.metrics.score import judge_videos, measure_videos
from cosmos_exp.statistics.intervals import summarize
from cosmos_exp.statistics.scores import read_scores


def evaluate(context: RunContext, inputs: Inputs) -> None:
    """Score every video that has no score yet; the processes divide them.

    Raises:
        RunError: a video cannot be read, or the judge fails. Scores made before are kept.
    """
    config, folder, processes = context.config, context.folder, context.processes
    tasks = pair_tasks(config, inputs.dataset.pairs, inputs.dataset, folder.video)
    set_aside(context, "evaluate", folder.scores)
    with recorded_stage("evaluate", context):
        videos = [ScoredVideo(t.sample, t.seed, t.prompt, t.path) for t in tasks]
        done = {(r["sample"], r["seed"], r["measure"]) for r in read_scores(folder.scores)}
        judge = None
        if videos:
            judge = load_judge(config.judge, processes.device, config.hardware.mixed_precision, config.seed)
        processes.barrier()
        shard, show = list(processes.shard(videos)), processes.is_main
        workers = max(1, (os.cpu_count() or 1) // processes.size)
        failure = None
        try:
            measure_videos(shard, config, folder.scores, done, show, workers)
            if judge:
                judge_videos(shard, config, judge, folder.scores, done, cache_root(config) / "judged", show)
        except RunError as error:
            failure = error
        processes.barrier()
        if processes.is_main:
            _summarise(context)
        if failure:
            raise RunError(
                f"{failure}\nScores made before are kept. Resume with `cosmos-exp run run_dir={folder.path}`."
            ) from failure


def _summarise(context: RunContext) -> None:
    """Sort scores.jsonl and write the means with their intervals to metrics.json."""
    folder = context.folder
    rows = sorted(read_scores(folder.scores), key=lambda r: (r["sample"], r["seed"], r["measure"]))
    write_json_lines(folder.scores, rows)
    write_json(folder.metrics, folder.read(folder.metrics) | {"measures": summarize(rows)})
