"""Stage 4: score the videos and their references, and summarise the scores with intervals.

The references are the recorded continuation of a test pair (real) and its first frame held (frozen).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cosmos_exp.config.context import RunContext
from cosmos_exp.config.measures import LIMITS
from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.registry import JUDGES
from cosmos_exp.config.rollout import chunks_of, rollout_frames
from cosmos_exp.config.tiling import tiling_of
from cosmos_exp.data.dataset import Dataset
from cosmos_exp.data.pairs import frozen_frames, has_recording, pair_frames, recorded_frames
from cosmos_exp.data.readers.records import TestPair
from cosmos_exp.data.scenes import one_word_apart
from cosmos_exp.data.video import write_video
from cosmos_exp.errors import RunError
from cosmos_exp.experiment.generate import kept_pairs
from cosmos_exp.experiment.record import recorded_stage, set_aside
from cosmos_exp.experiment.scored import record_scores, record_videos, score_files
from cosmos_exp.files import cut_half_line, write_json, write_json_lines
from cosmos_exp.generation.videos import num_conditioning_frames
from cosmos_exp.metrics.interface import ScoredVideo
from cosmos_exp.metrics.judges.interface import Judge
from cosmos_exp.metrics.kept import BASE, JUDGED, score_kept
from cosmos_exp.metrics.prompt_sensitivity import score_word_effect
from cosmos_exp.metrics.score import judge_videos, measure_videos
from cosmos_exp.provenance import available_cores
from cosmos_exp.run_folder import REFERENCES
from cosmos_exp.statistics.cells import Scenes
from cosmos_exp.statistics.chunks import summarize_chunks
from cosmos_exp.statistics.intervals import summarize
from cosmos_exp.statistics.scores import MeasureSummary, read_scores
from cosmos_exp.tracking.progress import with_progress


def evaluate(context: RunContext, dataset: Dataset) -> None:
    """Score every video and reference that has no score yet; the processes divide them.

    Raises:
        RunError: a video cannot be read, or the judge fails. Scores made before are kept.
    """
    config, folder, processes = context.config, context.folder, context.processes
    files, judged = score_files(folder), folder.reference_scores(JUDGED)
    if processes.is_main:
        for file in files:
            cut_half_line(file)
    set_aside(context, "evaluate", *files)
    with recorded_stage("evaluate", context):
        videos = {folder.scores: videos_to_score(context, dataset.tested)}
        if config.measures.references:
            for kind in REFERENCES:
                videos[folder.reference_scores(kind)] = videos_to_score(context, dataset.tested, kind)
        probes = videos_to_score(context, dataset.probes)  # which only word_effect reads
        pairs = kept_pairs(config, dataset)
        kept = videos_to_score(context, [*pairs, *(replace(pair, name=pair.name + BASE) for pair in pairs)])
        judge = None
        if any(videos.values()):
            load = JUDGES.get(config.judge.name)
            judge = load(config.judge, processes.device, config.hardware.mixed_precision, config.seed)
        write_references(context, dataset.tested)
        if processes.is_main:  # the others wait in _score until this is written
            record_videos(folder, videos, [probe.path for probe in probes + kept])
        failure = None
        try:
            for file, scored in videos.items():
                _score(context, judge, scored, file)
            if kept:
                judged.parent.mkdir(parents=True, exist_ok=True)
                _score(context, judge, kept, judged, measured=False)
        except RunError as error:
            failure = error
        processes.barrier()
        if processes.is_main:
            if not failure:
                _score_words(context, dataset.tested + dataset.probes, videos[folder.scores] + probes)
                score_kept(kept, judged, folder.scores)
            _summarise(context)
        if failure:
            raise RunError(
                f"{failure}\nScores made before are kept. Resume with `cosmos-exp run run_dir={folder.path}`."
            ) from failure


# --- what is scored ---


def videos_to_score(context: RunContext, pairs: Sequence[TestPair], kind: str = "generated") -> list[ScoredVideo]:
    """The generated videos of test pairs, or their references of a kind: `real` or `frozen`.

    `real` has no recording to be compared with: it is the recording.
    """
    config, folder, videos = context.config, context.folder, []
    conditioning = num_conditioning_frames(config)
    for pair in pairs:
        recording = None
        if has_recording(pair):
            recording = folder.reference_video("real", pair.name)
        elif kind == "real":
            continue
        chunks = chunks_of(config, pair.prompt, pair.name)
        for seed in config.generation.seeds if kind == "generated" else [0]:
            path, compared = folder.video(pair.name, seed), recording
            if kind != "generated":
                path = folder.reference_video(kind, pair.name)
            if kind == "real":
                compared = None
            videos.append(ScoredVideo(pair.name, seed, pair.prompt, path, compared, conditioning, chunks))
    return videos


def write_references(context: RunContext, pairs: Sequence[TestPair]) -> None:
    """Write the reference videos that do not exist yet, with the H.264 settings of the generated videos.

    The processes divide them. `real` exists for test pairs with a recording, `frozen` for all.
    """
    measures, every, missing = context.config.measures, [], []
    for pair in pairs:
        if has_recording(pair) and (measures.references or measures.recording):
            every.append(("real", pair))
        if measures.references:
            every.append(("frozen", pair))
    # Divided before a look at the disk: a process that has begun must not change the others' parts.
    for kind, pair in context.processes.shard(every):
        if not context.folder.reference_video(kind, pair.name).is_file():
            missing.append((kind, pair))
    for kind, pair in with_progress(missing, "writing references", len(missing), "video"):
        write_reference(context, kind, pair)
    context.processes.barrier()


def write_reference(context: RunContext, kind: str, pair: TestPair) -> None:
    """Write the reference video of a test pair."""
    config = context.config
    length, count = rollout_frames(config), num_conditioning_frames(config)
    if kind == "real":
        frames = recorded_frames(pair, config.data, length)
    else:
        frames = frozen_frames(pair_frames(pair, config.data, count), length)
    path = context.folder.reference_video(kind, pair.name)
    write_video(path, frames, config.generation.fps, config.generation.crf)


# --- scores ---


def _score(
    context: RunContext, judge: Judge | None, videos: list[ScoredVideo], scores: Path, measured: bool = True
) -> None:
    """Append what `scores` lacks, for this process's shard of the videos: the measures, if `measured`, and the judge's scores."""
    config, processes = context.config, context.processes
    done = {(r["sample"], r["seed"], r["measure"]) for r in read_scores(scores)}
    processes.barrier()  # all have read the file before one appends to it
    shard = list(processes.shard(videos))
    if measured:
        measure_videos(shard, config, scores, done, max(1, available_cores() // processes.size))
    if judge:
        judge_videos(shard, config, judge, scores, done, cache_root(config) / "judged")


def _score_words(context: RunContext, pairs: Sequence[TestPair], videos: list[ScoredVideo]) -> None:
    """Append word_effect, which compares videos of several prompts."""
    config = context.config
    if not config.measures.words or (len(config.generation.seeds) < 2 and not config.data.swaps):
        return  # the effect of a word is measured in units of the effect of another start noise
    score_word_effect(one_word_apart(pairs), videos, context.folder.scores, tiling_of(config.data))


def _summarise(context: RunContext) -> None:
    """Sort each scores.jsonl, record its hash, and write the means with their intervals to metrics.json."""
    folder, config = context.folder, context.config
    scenes = folder.manifest.get("data", {}).get("scenes", {})
    metrics = folder.read(folder.metrics)
    metrics.pop("chunks", None)
    metrics["measures"] = _sorted_summary(folder.scores, scenes)
    if config.measures.references:
        metrics["references"] = {k: _sorted_summary(folder.reference_scores(k), scenes) for k in REFERENCES}
    if config.generation.chunks > 1:
        metrics["chunks"] = summarize_chunks(read_scores(folder.scores), scenes, LIMITS)
    record_scores(folder)
    write_json(folder.metrics, metrics)


def _sorted_summary(scores: Path, scenes: Scenes) -> dict[str, MeasureSummary]:
    rows = sorted(read_scores(scores), key=lambda r: (r["sample"], r["seed"], r["measure"]))
    if rows:
        write_json_lines(scores, rows)
    return summarize(rows, scenes, LIMITS)
