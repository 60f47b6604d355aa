"""Stage 4: score the videos and their references, and summarise the scores with intervals."""

from __future__ import annotations

from pathlib import Path

from cosmos_exp.config.context import RunContext
from cosmos_exp.config.measures import LIMITS
from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.registry import JUDGES
from cosmos_exp.config.rollout import chunks_of
from cosmos_exp.config.tiling import tiling_of
from cosmos_exp.data.swaps import word_pairs
from cosmos_exp.errors import RunError
from cosmos_exp.experiment.stages.common import recorded_stage, set_aside
from cosmos_exp.experiment.stages.evaluated import record_scores, record_videos
from cosmos_exp.experiment.stages.prepare import Inputs
from cosmos_exp.experiment.stages.references import recording_of, reference_videos, write_references
from cosmos_exp.experiment.stages.tasks import probe_pairs, tested_pairs, video_tasks
from cosmos_exp.files import JsonObject, cut_half_line, write_json, write_json_lines
from cosmos_exp.generation.videos import num_conditioning_frames
from cosmos_exp.metrics.interface import ScoredVideo
from cosmos_exp.metrics.judges.interface import Judge
from cosmos_exp.metrics.score import judge_videos, measure_videos
from cosmos_exp.metrics.words.effect import score_word_effect
from cosmos_exp.provenance import available_cores
from cosmos_exp.run_folder import REFERENCES
from cosmos_exp.statistics.cells import Scenes
from cosmos_exp.statistics.chunks import summarize_chunks
from cosmos_exp.statistics.intervals import summarize
from cosmos_exp.statistics.scores import MeasureSummary, read_scores


def evaluate(context: RunContext, inputs: Inputs) -> None:
    """Score every video and reference that has no score yet; the processes divide them.

    Raises:
        RunError: a video cannot be read, or the judge fails. Scores made before are kept.
    """
    config, folder, processes = context.config, context.folder, context.processes
    files = [folder.scores, *(folder.reference_scores(k) for k in REFERENCES)]
    for file in files if processes.is_main else ():
        cut_half_line(file)
    set_aside(context, "evaluate", *files)
    with recorded_stage("evaluate", context):
        sets = _videos(context, inputs)
        judge = None
        if any(sets.values()):
            judge = JUDGES.get(config.judge.name)(
                config.judge, processes.device, config.hardware.mixed_precision, config.seed
            )
        write_references(context, inputs)
        if processes.is_main:  # the others wait in _score until this is written
            record_videos(context, sets, (v.path for v in _probe_videos(context, inputs)))
        failure = None
        try:
            for scores, videos in sets.items():
                _score(context, judge, videos, scores)
        except RunError as error:
            failure = error
        processes.barrier()
        if processes.is_main:
            if not failure:
                _score_words(context, inputs, sets[folder.scores])
            _summarise(context)
        if failure:
            raise RunError(
                f"{failure}\nScores made before are kept. Resume with `cosmos-exp run run_dir={folder.path}`."
            ) from failure


def _videos(context: RunContext, inputs: Inputs) -> dict[Path, list[ScoredVideo]]:
    """The videos to score by the file of their scores: the generated ones first, then the references."""
    config, folder, dataset = context.config, context.folder, inputs.dataset
    pairs = tested_pairs(config, dataset.pairs)
    recordings = {p.name: recording_of(context, p) for p in pairs}
    conditioning = num_conditioning_frames(config.generation.mode)
    generated = [
        ScoredVideo(
            t.sample,
            t.seed,
            t.prompt,
            t.path,
            recordings[t.sample],
            conditioning,
            chunks_of(config, t.prompt, t.sample),
        )
        for t in video_tasks(config, pairs, dataset.held_out, folder.video)
    ]
    sets = {folder.scores: generated}
    if config.measures.references:
        sets |= {folder.reference_scores(kind): reference_videos(context, inputs, kind) for kind in REFERENCES}
    return sets


def _score(context: RunContext, judge: Judge | None, videos: list[ScoredVideo], scores: Path) -> None:
    """Append what `scores` lacks, for this process's shard of the videos."""
    config, processes = context.config, context.processes
    done = {(r["sample"], r["seed"], r["measure"]) for r in read_scores(scores)}
    processes.barrier()  # all have read the file before one appends to it
    shard, show = list(processes.shard(videos)), processes.is_main
    workers = max(1, available_cores() // processes.size)
    measure_videos(shard, config, scores, done, show, workers)
    if judge:
        judge_videos(shard, config, judge, scores, done, cache_root(config) / "judged", show)


def _score_words(context: RunContext, inputs: Inputs, videos: list[ScoredVideo]) -> None:
    """Append word_effect, which compares videos of several prompts."""
    config, folder, dataset = context.config, context.folder, inputs.dataset
    if not config.measures.words or (len(config.generation.seeds) < 2 and not config.data.swaps):
        return  # the effect of a word is measured in units of the effect of another start noise
    probes = probe_pairs(config, dataset.pairs)
    pairs = word_pairs(tested_pairs(config, dataset.pairs) + probes, dataset.held_out)
    words = [(p.a.name, p.b.name, p.words) for p in pairs]
    score_word_effect(words, videos + _probe_videos(context, inputs), folder.scores, tiling_of(config.data))


def _probe_videos(context: RunContext, inputs: Inputs) -> list[ScoredVideo]:
    """The videos that only word_effect reads."""
    config, dataset = context.config, inputs.dataset
    conditioning = num_conditioning_frames(config.generation.mode)
    tasks = video_tasks(config, probe_pairs(config, dataset.pairs), dataset.held_out, context.folder.video)
    return [ScoredVideo(t.sample, t.seed, t.prompt, t.path, None, conditioning) for t in tasks]


def _summarise(context: RunContext) -> None:
    """Sort each scores.jsonl, record its hash, and write the means with their intervals to metrics.json."""
    folder = context.folder
    scenes = folder.manifest.get("data", {}).get("scenes", {})
    summary: JsonObject = {"measures": _sorted_summary(folder.scores, scenes)}
    if context.config.measures.references:
        summary["references"] = {kind: _sorted_summary(folder.reference_scores(kind), scenes) for kind in REFERENCES}
    if context.config.generation.chunks > 1:
        summary["chunks"] = summarize_chunks(read_scores(folder.scores), scenes, LIMITS)
    record_scores(context, (folder.scores, *(folder.reference_scores(k) for k in REFERENCES)))
    kept = {k: v for k, v in folder.read(folder.metrics).items() if k != "chunks"}
    write_json(folder.metrics, kept | summary)


def _sorted_summary(scores: Path, scenes: Scenes) -> dict[str, MeasureSummary]:
    rows = sorted(read_scores(scores), key=lambda r: (r["sample"], r["seed"], r["measure"]))
    if rows:
        write_json_lines(scores, rows)
    return summarize(rows, scenes, LIMITS)
