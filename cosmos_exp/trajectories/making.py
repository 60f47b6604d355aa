"""Make and score videos, a few at a time. What exists is never made again: a killed command continues where it was."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.registry import JUDGES
from cosmos_exp.config.rollout import chunks_of, rollout_frames
from cosmos_exp.config.schema import Config
from cosmos_exp.config.tiling import tiling_of
from cosmos_exp.data.clips import CheckedClip, load_window
from cosmos_exp.data.pairs import has_recording, recorded_frames
from cosmos_exp.data.video import write_video
from cosmos_exp.distributed import Processes
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.experiment.generate import AdaptedPipeline, load_pipeline_for, video_tasks
from cosmos_exp.experiment.record import interruptible
from cosmos_exp.files import cut_half_line, inside_by_name, json_sha256, remove_leftovers, write_json
from cosmos_exp.generation.videos import VideoTask, num_conditioning_frames
from cosmos_exp.metrics.interface import ScoredVideo
from cosmos_exp.metrics.judges.interface import Judge
from cosmos_exp.metrics.score import judge_videos, measure_videos
from cosmos_exp.provenance import available_cores
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.statistics.scores import read_scores
from cosmos_exp.tracking.progress import progress
from cosmos_exp.trajectories.plan import Job
from cosmos_exp.trajectories.selection import Selection, computed_measures, judged_measures, names_of, selection_effects
from cosmos_exp.world.kernels import choose_kernels

WORK = ".made"  # folder of made videos and scores inside the data set's folder
REQUEST = "request.json"  # the mark of a folder of this command
SAME_RATE = 0.01  # frame rates that differ by a smaller share are the same


@contextlib.contextmanager
def open_store(out: Path, request: object) -> Iterator[Path]:
    """The folder of made videos and their scores inside the data set's folder; other processes are kept out of it.

    Raises:
        UserError: another process uses the folder.
    """
    store = out / WORK
    store.mkdir(parents=True, exist_ok=True)
    lock = RunFolder(store).lock()
    try:
        remove_leftovers(out)
        write_json(store / REQUEST, request)
        yield store
    finally:
        lock.release()


def check_out(out: Path) -> None:
    """Check that a folder is new, empty or of this command.

    Raises:
        UserError: it holds something else.
    """
    if (out / WORK / REQUEST).is_file() or not out.is_dir():
        return
    if {path.name for path in out.iterdir()} - {WORK}:
        raise UserError(f"--out {out}: is not empty, and has no {WORK}/ of this command. Choose a new folder.")


@dataclass(frozen=True)
class Made:
    """What was made and kept. `effects`: what the selection did, from `selection_effects`."""

    job: Job
    selection: Selection
    effects: pd.DataFrame


def make_and_select(job: Job, store: Path, show: bool = True) -> Made:
    """Make and score videos in order until the target is reached.

    Args:
        store: from `open_store`.

    Raises:
        RunError: no video is kept, or one cannot be made or scored. What was made before stays.
    """
    config, rule = job.config, job.request.rule
    choose_kernels(config.hardware.attention, config.approximate.tf32, config.training.deterministic)
    maker, selection = Maker(job, store), Selection(rule)
    stage, total = "making", len(job.candidates)
    if rule.target is not None:
        stage, total = "keeping", rule.target
    with interruptible(), progress(stage, total, "video", show=show) as bar:
        for batch in rule.batches(job.candidates):
            before = selection.kept
            for _ in maker.make(batch):
                if rule.target is None:
                    bar.update(f"{before} kept")
            selection.add(*maker.scored(batch))
            if rule.target is not None:
                for kept in range(before, selection.kept):
                    bar.update(f"{kept + 1} kept")
            if selection.is_complete:
                break
    if not selection.kept:
        raise RunError(_nothing_kept(selection))
    conditioning, tiling = num_conditioning_frames(config.generation.mode), tiling_of(config.data)
    return Made(job, selection, selection_effects(selection.videos, selection.scores, conditioning, tiling, show))


def _nothing_kept(selection: Selection) -> str:
    """Why, and the range of each measure that was asked for."""
    rule, scores = selection.rule, selection.scores
    reasons = [f"{reason} ({count})" for reason, count in selection.dropped().items()]
    ranges = ""
    for name in [*names_of(rule.keep or ""), rule.by]:
        if name in scores and scores[name].notna().any():
            ranges += f" {name} is {scores[name].min():.3g} to {scores[name].max():.3g}."
    return (
        f"none of {len(scores)} videos is kept: {'; '.join(reasons)}.{ranges} No data set is written; the videos stay. "
        "Loosen --keep, or give more --seeds or --prompts, then run the command again."
    )


class Maker:
    """Makes and scores the videos of a request. Model and judge are loaded when the first video needs them."""

    def __init__(self, job: Job, store: Path):
        self.config, self.store, self.prompts = job.config, store, job.prompts
        self.adapters = {source.name: source.adapter for source in job.sources}
        config = self.config
        identity = [config.sampson.model_dump(), config.measures.model_dump(), config.judge.model_dump(), config.seed]
        self.scores_file = store / "scores" / json_sha256(identity)[:12] / "scores.jsonl"
        self.scores_file.parent.mkdir(parents=True, exist_ok=True)
        self.scores_file.touch()
        self.measures = [*computed_measures(config), *judged_measures(config)]
        cut_half_line(self.scores_file)
        self._scores: dict[str, dict[str, float | None]] = {}  # by video file and measure
        for row in read_scores(self.scores_file):
            self._scores.setdefault(row["video"], {})[row["measure"]] = row["value"]
        self._read = self.scores_file.stat().st_size  # bytes of the file that are in `_scores`

    @cached_property
    def _model(self) -> AdaptedPipeline:
        prompts = [start.pair.prompt for start in self.prompts.starts.values()]
        return load_pipeline_for(self.config, self.adapters, prompts)

    @cached_property
    def _judge(self) -> Judge:
        config = self.config
        device = Processes(config.hardware.device, 1, config.hardware.num_threads).device
        judge: Judge = JUDGES.get(config.judge.name)(config.judge, device, config.hardware.mixed_precision, config.seed)
        return judge

    def make(self, batch: pd.DataFrame) -> Iterator[None]:
        """Make the missing ones of some videos, one adapter after another. Yields for each one that is there.

        Raises:
            RunError: the guardrail refuses a prompt.
        """
        for adapter, videos in batch.groupby("run", sort=False):
            for video in videos.itertuples():
                if not self._path(video.file).is_file():
                    self._model.make(adapter, [self._task(video.sample, video.seed, video.file)], show=False)
                yield

    def scored(self, batch: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Made videos, with the column `video`, and their scores; those that are missing are computed.

        Raises:
            RunError: a video cannot be read, or the judge fails.
        """
        videos = batch.assign(video=batch["file"].map(self._path))
        self._score(videos)
        scores = [self._scores.get(file, {}) for file in videos["file"]]
        return videos, pd.DataFrame(scores, index=videos.index, dtype=float)

    def _path(self, file: str) -> Path:
        return inside_by_name(self.store / "videos", file)

    def _task(self, sample: str, seed: int, file: str) -> VideoTask:
        config, pair = self.config.updated({"generation.seeds": [seed]}), self.prompts.starts[sample].pair
        return video_tasks(config, [pair], self.prompts.held_out, lambda *_: self._path(file))[0]

    def _score(self, videos: pd.DataFrame) -> None:
        """Score the videos that lack a score."""
        config, open_videos, done = self.config, [], set()
        for video in videos.itertuples():
            scores = self._scores.get(video.file, {})
            if not scores.keys() >= set(self.measures):
                name = f"{video.run}__{video.sample}"
                open_videos.append(self._scored_video(name, video.sample, video.seed, video.video))
                done |= {(name, video.seed, measure) for measure in scores}
        if not open_videos:
            return
        workers = config.hardware.num_threads or available_cores()
        measure_videos(open_videos, config, self.scores_file, done, False, workers)
        if judged_measures(config):
            cache = cache_root(config) / "judged"
            judge_videos(open_videos, config, self._judge, self.scores_file, done, cache, False)
        with open(self.scores_file, "rb") as file:
            file.seek(self._read)
            for line in file:
                row = json.loads(line)
                self._scores.setdefault(row["video"], {})[row["measure"]] = row["value"]
            self._read = file.tell()

    def _scored_video(self, name: str, sample: str, seed: int, path: Path) -> ScoredVideo:
        start, generation, recording = self.prompts.starts[sample], self.config.generation, None
        pair = start.pair
        if self.config.measures.recording and has_recording(pair):
            most = rollout_frames(self.config)
            key = json_sha256([start.sha256, most, generation.fps, generation.crf])[:12]
            recording = inside_by_name(self.store / "real", f"{sample}-{key}.mp4")
            if not recording.is_file():
                frames = recorded_frames(pair, self.prompts.held_out, self.config.data, most)
                write_video(recording, frames, generation.fps, generation.crf)
        conditioning = num_conditioning_frames(generation.mode)
        chunks = chunks_of(self.config, pair.prompt, sample)
        return ScoredVideo(name, seed, pair.prompt, path, recording, conditioning, chunks)


# --- original demonstrations ---


def write_demonstrations(config: Config, clips: Sequence[CheckedClip], store: Path) -> list[Path]:
    """Encode whole original clips in the size of the generated videos. Returns the video of each."""
    generation, videos = config.generation, []
    for clip in clips:
        data = config.data.updated({"num_frames": _frames_of(clip, config)})
        settings = [clip.sha256, clip.start, clip.stop, data.model_dump(), generation.fps, generation.crf]
        path = inside_by_name(store / "demonstrations", f"{clip.clip.name}-{json_sha256(settings)[:12]}.mp4")
        if not path.is_file():
            write_video(path, load_window(clip, data, 0), generation.fps, generation.crf)
        videos.append(path)
    return videos


def _frames_of(clip: CheckedClip, config: Config) -> int:
    """Frames of a whole clip at data.fps; all of its file's frames without it."""
    count = clip.stop - clip.start
    if config.data.fps is None:
        return count
    step = clip.info.fps / config.data.fps
    return int(np.floor((count - 0.5) / step - 1e-9)) + 1


def rate_notes(config: Config, clips: Sequence[CheckedClip]) -> list[str]:
    """What a reader has to know if the recordings have another frame rate than the set says."""
    fps = config.generation.fps
    rates = {config.data.fps or clip.info.fps for clip in clips}
    others = [f"{rate:g}" for rate in sorted(rates) if abs(rate - fps) > SAME_RATE * fps]
    if not others:
        return []
    return [
        f"The original demonstrations have {' and '.join(others[:3])} frames per second, the set says {fps:g} "
        "(generation.fps), for them and for the generated videos. Frames are as the model was trained on them."
    ]
