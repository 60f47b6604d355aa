"""Make and score videos. What exists is never made again: a killed command continues where it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import pandas as pd

from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.registry import JUDGES
from cosmos_exp.config.rollout import chunks_of, rollout_frames
from cosmos_exp.data.pairs import has_recording, recorded_frames
from cosmos_exp.data.video import write_video
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.experiment.generate import AdaptedPipeline, load_pipeline_for
from cosmos_exp.experiment.record import device_of, interruptible
from cosmos_exp.files import cut_half_line, inside_by_name, json_sha256, remove_leftovers
from cosmos_exp.generation.videos import VideoTask, num_conditioning_frames
from cosmos_exp.metrics.interface import ScoredVideo
from cosmos_exp.metrics.judges.interface import Judge
from cosmos_exp.metrics.score import judge_videos, measure_videos
from cosmos_exp.provenance import available_cores
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.statistics.scores import read_scores
from cosmos_exp.trajectories.plan import Job
from cosmos_exp.trajectories.selection import reasons_to_drop, scored_measures
from cosmos_exp.world.kernels import choose_kernels

WORK = (
    ".made"  # folder of made videos and scores inside the data set's folder, and the mark of a folder of this command
)


def check_out(out: Path) -> None:
    """Check that a folder is new, empty or of this command.

    Raises:
        UserError: it holds something else.
    """
    if out.is_dir() and any(out.iterdir()) and not (out / WORK).is_dir():
        raise UserError(f"--out {out}: is not empty, and has no {WORK}/ of this command. Choose a new folder.")


@contextlib.contextmanager
def open_store(out: Path) -> Iterator[Path]:
    """The folder of made videos and their scores inside the data set's folder; other processes are kept out of it.

    Raises:
        UserError: another process uses the folder.
    """
    store = out / WORK
    store.mkdir(parents=True, exist_ok=True)
    lock = RunFolder(store).lock()
    try:
        remove_leftovers(out)
        yield store
    finally:
        lock.release()


def make_and_score(job: Job, store: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make and score videos in order until the target is reached: as many at a time as are still needed.

    Args:
        store: from `open_store`.

    Returns:
        videos, one row each: sample, seed, prompt, video (its file), reason (why it is dropped; missing: it is kept); and
        their scores, one column per measure; NaN: undefined.

    Raises:
        RunError: no video is kept, or one cannot be made or scored. What was made before stays.
    """
    config, target, tasks = job.config, job.request.target, job.tasks(store / "videos")
    choose_kernels(config)
    maker, needed, count = Maker(job, store, tasks), target or len(tasks), 0
    with interruptible():
        while needed > 0 and count < len(tasks):
            count = min(count + needed, len(tasks))
            maker.make(tasks[:count])
            scores = maker.scores(tasks[:count])
            reasons = reasons_to_drop(job.request.keep, scores)
            needed = (target or 0) - int(reasons.isna().sum())
    if reasons.notna().all():
        dropped = "; ".join(f"{reason} ({number})" for reason, number in reasons.value_counts().items())
        raise RunError(
            f"none of {count} videos is kept: {dropped}. No data set is written; the videos stay. Loosen --keep, or give more "
            "--seeds or --prompts, then run the command again."
        )
    rows = [(task.sample, task.seed, task.prompt, task.path) for task in tasks[:count]]
    videos = pd.DataFrame(rows, columns=["sample", "seed", "prompt", "video"])
    return videos.assign(reason=reasons.to_numpy()), scores.reset_index(drop=True)


class Maker:
    """Makes and scores videos of a job. The model is loaded when the first video needs it, and so is the judge."""

    def __init__(self, job: Job, store: Path, tasks: Sequence[VideoTask]):
        self.job, self.config, self.store, self.tasks = job, job.config, store, tasks
        self.name = job.folder.path.name
        self.measures = scored_measures(job.config)
        config = job.config
        identity = [config.sampson.model_dump(), config.measures.model_dump(), config.judge.model_dump(), config.seed]
        self.scores_file = store / "scores" / json_sha256(identity)[:12] / "scores.jsonl"
        self.scores_file.parent.mkdir(parents=True, exist_ok=True)
        cut_half_line(self.scores_file)

    @cached_property
    def _pipeline(self) -> AdaptedPipeline:
        mix = [(self.job.adapter, 1.0)] if self.job.adapter else []
        return load_pipeline_for(self.config, {self.name: mix}, self.tasks)

    @cached_property
    def _judge(self) -> Judge:
        config = self.config
        device = device_of(config)
        judge: Judge = JUDGES.get(config.judge.name)(config.judge, device, config.hardware.mixed_precision, config.seed)
        return judge

    def make(self, tasks: Sequence[VideoTask]) -> None:
        """Make the videos that do not exist.

        Raises:
            RunError: the guardrail refuses a prompt.
        """
        if not all(task.path.is_file() for task in tasks):
            self._pipeline.make(self.name, tasks)

    def scores(self, tasks: Sequence[VideoTask]) -> pd.DataFrame:
        """The scores of made videos, one row each, one column per measure; those that are missing are computed.

        Raises:
            RunError: a video cannot be read, or the judge fails.
        """
        config, table = self.config, self._read_scores()
        done = set(table[["sample", "seed", "measure"]].itertuples(index=False, name=None))
        unscored = []
        for task in tasks:
            if not all((task.path.stem, task.seed, measure) in done for measure in self.measures):
                unscored.append(self._scored_video(task))
        if unscored:
            workers = config.hardware.num_threads or available_cores()
            measure_videos(unscored, config, self.scores_file, done, workers=workers)
            if config.judge.name != "none":
                cache = cache_root(config) / "judged"
                judge_videos(unscored, config, self._judge, self.scores_file, done, cache)
            table = self._read_scores()
        order = dict.fromkeys([*table["measure"], *self.measures])
        table = table.pivot(index="video", columns="measure", values="value").astype(float)
        return table.reindex(index=[task.path.name for task in tasks], columns=list(order))

    def _read_scores(self) -> pd.DataFrame:
        return pd.DataFrame(read_scores(self.scores_file), columns=["sample", "seed", "video", "measure", "value"])

    def _scored_video(self, task: VideoTask) -> ScoredVideo:
        """A made video with the recording of its prompt, if it has one."""
        config, job, pair, recording = self.config, self.job, self.job.pairs[task.sample], None
        if config.measures.recording and has_recording(pair):
            most, generation = rollout_frames(config), config.generation
            key = json_sha256([job.frame_hash(task.sample), most, generation.fps, generation.crf])[:12]
            recording = inside_by_name(self.store / "real", f"{task.sample}-{key}.mp4")
            if not recording.is_file():
                write_video(recording, recorded_frames(pair, config.data, most), generation.fps, generation.crf)
        conditioning = num_conditioning_frames(config)
        chunks = chunks_of(config, pair.prompt, task.sample)
        return ScoredVideo(task.path.stem, task.seed, pair.prompt, task.path, recording, conditioning, chunks)
