"""Stage 4: score the videos and their references, and summarise the scores with intervals.

The references are the recorded continuation of a test pair (real) and its first frame held (frozen).
"""

from __future__ import annotations

from pathlib import Path

from cosmos_exp.config.context import RunContext
from cosmos_exp.config.measures import LIMITS
from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.registry import JUDGES
from cosmos_exp.config.rollout import chunks_of, rollout_frames
from cosmos_exp.config.tiling import tiling_of
from cosmos_exp.data.pairs import frozen_frames, has_recording, pair_frames, recorded_frames
from cosmos_exp.data.readers.records import TestPair
from cosmos_exp.data.scenes import one_word_apart
from cosmos_exp.data.video import write_video
from cosmos_exp.errors import RunError
from cosmos_exp.experiment.generate import video_tasks
from cosmos_exp.experiment.prepare import Inputs
from cosmos_exp.experiment.record import recorded_stage, set_aside
from cosmos_exp.experiment.scored import record_scores, record_videos, score_files
from cosmos_exp.files import JsonObject, cut_half_line, write_json, write_json_lines
from cosmos_exp.generation.videos import num_conditioning_frames
from cosmos_exp.metrics.interface import ScoredVideo
from cosmos_exp.metrics.judges.interface import Judge
from cosmos_exp.metrics.prompt_sensitivity import score_word_effect
from cosmos_exp.metrics.score import judge_videos, measure_videos
from cosmos_exp.provenance import available_cores
from cosmos_exp.run_folder import REFERENCES
from cosmos_exp.statistics.cells import Scenes
from cosmos_exp.statistics.chunks import summarize_chunks
from cosmos_exp.statistics.intervals import summarize
from cosmos_exp.statistics.scores import MeasureSummary, read_scores
from cosmos_exp.tracking.progress import with_progress


def evaluate(context: RunContext, inputs: Inputs) -> None:
    """Score every video and reference that has no score yet; the processes divide them.

    Raises:
        RunError: a video cannot be read, or the judge fails. Scores made before are kept.
    """
    config, folder, processes = context.config, context.folder, context.processes
    files = score_files(folder)
    if processes.is_main:
        for file in files:
            cut_half_line(file)
    set_aside(context, "evaluate", *files)
    with recorded_stage("evaluate", context):
        videos = {folder.scores: _generated(context, inputs)}
        if config.measures.references:
            for kind in REFERENCES:
                videos[folder.reference_scores(kind)] = _references(context, inputs, kind)
        probes = _probes(context, inputs)
        judge = None
        if any(videos.values()):
            load = JUDGES.get(config.judge.name)
            judge = load(config.judge, processes.device, config.hardware.mixed_precision, config.seed)
        write_references(context, inputs)
        if processes.is_main:  # the others wait in _score until this is written
            record_videos(context, videos, [probe.path for probe in probes])
        failure = None
        try:
            for file, scored in videos.items():
                _score(context, judge, scored, file)
        except RunError as error:
            failure = error
        processes.barrier()
        if processes.is_main:
            if not failure:
                _score_words(context, inputs, videos[folder.scores] + probes)
            _summarise(context)
        if failure:
            raise RunError(
                f"{failure}\nScores made before are kept. Resume with `cosmos-exp run run_dir={folder.path}`."
            ) from failure


# --- what is scored ---


def _generated(context: RunContext, inputs: Inputs) -> list[ScoredVideo]:
    """The generated videos of the test pairs."""
    dataset, videos = inputs.dataset, []
    recordings = {pair.name: _recording_of(context, pair) for pair in dataset.tested}
    for task in video_tasks(context.config, dataset.tested, dataset.held_out, context.folder.video):
        recording = recordings[task.sample]
        videos.append(_video(context, task.sample, task.seed, task.prompt, task.path, recording))
    return videos


def _probes(context: RunContext, inputs: Inputs) -> list[ScoredVideo]:
    """The generated videos that only word_effect reads, as a whole."""
    config, dataset = context.config, inputs.dataset
    conditioning = num_conditioning_frames(config.generation.mode)
    tasks = video_tasks(config, dataset.probes, dataset.held_out, context.folder.video)
    return [ScoredVideo(task.sample, task.seed, task.prompt, task.path, None, conditioning) for task in tasks]


def _references(context: RunContext, inputs: Inputs, kind: str) -> list[ScoredVideo]:
    """The reference videos of a kind. `real` has no recording to be compared with: it is the recording."""
    videos = []
    for pair in inputs.dataset.tested:
        path, recording = context.folder.reference_video(kind, pair.name), _recording_of(context, pair)
        if kind == "frozen":
            videos.append(_video(context, pair.name, 0, pair.prompt, path, recording))
        elif recording:
            videos.append(_video(context, pair.name, 0, pair.prompt, path, None))
    return videos


def _video(context: RunContext, sample: str, seed: int, prompt: str, path: Path, recording: Path | None) -> ScoredVideo:
    conditioning = num_conditioning_frames(context.config.generation.mode)
    chunks = chunks_of(context.config, prompt, sample)
    return ScoredVideo(sample, seed, prompt, path, recording, conditioning, chunks)


def _recording_of(context: RunContext, pair: TestPair) -> Path | None:
    """The file with which the videos of a test pair are compared; None without a recording."""
    return context.folder.reference_video("real", pair.name) if has_recording(pair) else None


def write_references(context: RunContext, inputs: Inputs) -> None:
    """Write the reference videos that do not exist yet, with the H.264 settings of the generated videos.

    The processes divide them. `real` exists for test pairs with a recording, `frozen` for all.
    """
    measures, every = context.config.measures, []
    for pair in inputs.dataset.tested:
        if has_recording(pair) and (measures.references or measures.recording):
            every.append(("real", pair))
        if measures.references:
            every.append(("frozen", pair))
    missing = []
    # Divided before a look at the disk: a process that has begun must not change the others' parts.
    for kind, pair in context.processes.shard(every):
        if not context.folder.reference_video(kind, pair.name).is_file():
            missing.append((kind, pair))
    show = context.processes.is_main
    for kind, pair in with_progress(missing, "writing references", len(missing), "video", show):
        write_reference(context, inputs, kind, pair)
    context.processes.barrier()


def write_reference(context: RunContext, inputs: Inputs, kind: str, pair: TestPair) -> None:
    """Write the reference video of a test pair."""
    config, held_out = context.config, inputs.dataset.held_out
    if kind == "real":
        frames = recorded_frames(pair, held_out, config.data, rollout_frames(config))
    else:
        count = num_conditioning_frames(config.generation.mode)
        frames = frozen_frames(pair_frames(pair, held_out, config.data, count), rollout_frames(config))
    path = context.folder.reference_video(kind, pair.name)
    write_video(path, frames, config.generation.fps, config.generation.crf)


# --- scores ---


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
    config, dataset = context.config, inputs.dataset
    if not config.measures.words or (len(config.generation.seeds) < 2 and not config.data.swaps):
        return  # the effect of a word is measured in units of the effect of another start noise
    pairs = one_word_apart(dataset.tested + dataset.probes, dataset.held_out)
    score_word_effect(pairs, videos, context.folder.scores, tiling_of(config.data))


def _summarise(context: RunContext) -> None:
    """Sort each scores.jsonl, record its hash, and write the means with their intervals to metrics.json."""
    folder, config = context.folder, context.config
    scenes = folder.manifest.get("data", {}).get("scenes", {})
    metrics = folder.read(folder.metrics)
    metrics.pop("chunks", None)
    metrics["measures"] = _sorted_summary(folder.scores, scenes)
    if config.measures.references:
        references: JsonObject = {}
        for kind in REFERENCES:
            references[kind] = _sorted_summary(folder.reference_scores(kind), scenes)
        metrics["references"] = references
    if config.generation.chunks > 1:
        metrics["chunks"] = summarize_chunks(read_scores(folder.scores), scenes, LIMITS)
    record_scores(context)
    write_json(folder.metrics, metrics)


def _sorted_summary(scores: Path, scenes: Scenes) -> dict[str, MeasureSummary]:
    rows = sorted(read_scores(scores), key=lambda r: (r["sample"], r["seed"], r["measure"]))
    if rows:
        write_json_lines(scores, rows)
    return summarize(rows, scenes, LIMITS)
