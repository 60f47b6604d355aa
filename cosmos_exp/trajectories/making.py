"""Make and score videos, a few at a time. What exists is never made again: a killed command continues where it was."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
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
from cosmos_exp.data.dataset import Dataset
from cosmos_exp.data.pairs import has_recording, recorded_frames
from cosmos_exp.data.video import write_video
from cosmos_exp.distributed import Processes
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.experiment.generate import AdaptedPipeline, video_tasks
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
from cosmos_exp.trajectories.plan import Candidate, Job
from cosmos_exp.trajectories.selection import Selection, computed_measures, judged_measures, selection_effects
from cosmos_exp.world.kernels import choose_kernels

WORK = ".made"  # folder of made videos and scores inside the data set's folder
REQUEST = "request.json"
RATE_DIFFERS = 0.01  # share


def check_out(out: Path) -> None:
    """Check that a folder is new, empty or of this command.

    Raises:
        UserError: it holds something else.
    """
    if out.is_dir() and any(path.name != WORK for path in out.iterdir()) and not (out / WORK / REQUEST).is_file():
        raise UserError(f"--out {out}: is not empty, and has no {WORK}/ of this command. Choose a new folder.")


class Store:
    """The folder in which made videos and their scores are kept, inside the data set's folder."""

    def __init__(self, out: Path):
        self.out, self.path = out, out / WORK

    @contextlib.contextmanager
    def open(self, request: object) -> Iterator[Store]:
        """Keep other processes out inside the block, and record the request: the mark of a folder of this command.

        Raises:
            UserError: another process uses the folder.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = RunFolder(self.path).lock()
        try:
            remove_leftovers(self.out)
            write_json(self.path / REQUEST, request)
            yield self
        finally:
            lock.release()

    def file(self, folder: str, name: str) -> Path:
        """A file of a made video (`videos`), of a recording (`real`) or of an original demonstration (`demonstrations`)."""
        return inside_by_name(self.path / folder, name)


@dataclasses.dataclass(frozen=True)
class Made:
    """What was made and kept. `effects`: what the selection did, from `selection_effects`."""

    job: Job
    selection: Selection
    effects: pd.DataFrame


def make_and_select(job: Job, store: Store, show: bool = True) -> Made:
    """Make and score videos in order until the target is reached.

    Raises:
        RunError: no video is kept, or one cannot be made or scored. What was made before stays.
    """
    config, target = job.config, job.rule.target
    choose_kernels(config.hardware.attention, config.approximate.tf32, config.training.deterministic)
    maker, selection = Maker(job, store), Selection(job.rule)
    stage, total = "making", len(job.candidates)
    if target is not None:
        stage, total = "keeping", target
    with interruptible(), progress(stage, total, "video", show=show) as bar:
        for batch in job.rule.batches(job.candidates):
            before = selection.kept
            for _ in maker.make(batch):
                if target is None:
                    bar.update(f"{before} kept")
            selection.add(*maker.scored(batch))
            if target is not None:
                for made in range(before, selection.kept):
                    bar.update(f"{made + 1} kept")
            if selection.is_complete:
                break
    if not selection.kept:
        raise RunError(_nothing_kept(selection))
    conditioning, tiling = num_conditioning_frames(config.generation.mode), tiling_of(config.data)
    effects = selection_effects(selection.videos, selection.scores, conditioning, tiling, show)
    return Made(job, selection, effects)


def _nothing_kept(selection: Selection) -> str:
    """Why, and the range of each measure that was asked for."""
    reasons = []
    for reason, count in selection.dropped().items():
        reasons.append(f"{reason} ({count})")
    scores, ranges = selection.scores, ""
    for name in selection.rule.named:
        if name in scores and scores[name].notna().any():
            ranges += f" {name} is {scores[name].min():.3g} to {scores[name].max():.3g}."
    return (
        f"none of {len(scores)} videos is kept: {'; '.join(reasons)}.{ranges} No data set is written; the videos stay. "
        "Loosen --keep, or give more --seeds or --prompts, then run the command again."
    )


class Maker:
    """Makes and scores the videos of a request. Model and judge are loaded when the first video needs them."""

    def __init__(self, job: Job, store: Store):
        self.config, self.store, self.prompts = job.config, store, job.prompts
        self.adapters = {source.name: source.adapter for source in job.sources}
        config = self.config
        identity = [config.sampson.model_dump(), config.measures.model_dump(), config.judge.model_dump(), config.seed]
        self.scores_file = store.path / "scores" / json_sha256(identity)[:12] / "scores.jsonl"
        self.computed, self.judged = computed_measures(config), judged_measures(config)
        cut_half_line(self.scores_file)
        read_scores(self.scores_file)  # raises if a line is damaged
        self._scores: dict[str, dict[str, float | None]] = {}
        self._position = 0
        self._read_new_scores()

    @cached_property
    def _model(self) -> AdaptedPipeline:
        return AdaptedPipeline(self.config, self.adapters, [start.pair.prompt for start in self.prompts.starts])

    @cached_property
    def _judge(self) -> Judge:
        config = self.config
        device = Processes(config.hardware.device, 1, config.hardware.num_threads).device
        judge: Judge = JUDGES.get(config.judge.name)(config.judge, device, config.hardware.mixed_precision, config.seed)
        return judge

    def make(self, batch: Sequence[Candidate]) -> Iterator[Candidate]:
        """Make the missing ones of some videos, and yield each one that is there.

        Raises:
            RunError: the guardrail refuses a prompt.
        """
        order = list(self.adapters)
        for candidate in sorted(
            batch, key=lambda candidate: order.index(candidate.run.name)
        ):  # one adapter after another
            if not self._video(candidate).is_file():
                self._model.make(candidate.run.name, [self._task(candidate)], show=False)
            yield candidate

    def scored(self, batch: Sequence[Candidate]) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Made videos, one row each, and their scores; those that are missing are computed.

        Raises:
            RunError: a video cannot be read, or the judge fails.
        """
        self._score(batch)
        videos, scores = [], []
        for candidate in batch:
            videos.append(candidate.columns | {"video": self._video(candidate)})
            scores.append(self._scores.get(candidate.file, {}))
        return pd.DataFrame(videos), pd.DataFrame(scores, dtype=float)

    def _video(self, candidate: Candidate) -> Path:
        return self.store.file("videos", candidate.file)

    def _task(self, candidate: Candidate) -> VideoTask:
        config = self.config.updated({"generation.seeds": [candidate.seed]})
        path = self._video(candidate)
        return video_tasks(config, [candidate.start.pair], self.prompts.held_out, lambda sample, seed: path)[0]

    def _score(self, batch: Sequence[Candidate]) -> None:
        """Score the videos of a batch that lack a score."""
        config, wanted = self.config, {*self.computed, *self.judged}
        open_videos, done = [], set()
        for candidate in batch:
            scores = self._scores.get(candidate.file, {})
            if not wanted <= scores.keys():
                open_videos.append(self._scored_video(candidate))
                for measure in scores:
                    done.add((candidate.name, candidate.seed, measure))
        if not open_videos:
            return
        self.scores_file.parent.mkdir(parents=True, exist_ok=True)
        workers = config.hardware.num_threads or available_cores()
        measure_videos(open_videos, config, self.scores_file, done, False, workers)
        if self.judged:
            cache = cache_root(config) / "judged"
            judge_videos(open_videos, config, self._judge, self.scores_file, done, cache, False)
        self._read_new_scores()

    def _scored_video(self, candidate: Candidate) -> ScoredVideo:
        pair, generation, recording = candidate.start.pair, self.config.generation, None
        if self.config.measures.recording and has_recording(pair):
            most = rollout_frames(self.config)
            key = json_sha256([candidate.start.sha256, most, generation.fps, generation.crf])[:12]
            recording = self.store.file("real", f"{pair.name}-{key}.mp4")
            if not recording.is_file():
                frames = recorded_frames(pair, self.prompts.held_out, self.config.data, most)
                write_video(recording, frames, generation.fps, generation.crf)
        conditioning = num_conditioning_frames(generation.mode)
        path, chunks = self._video(candidate), chunks_of(self.config, pair.prompt, pair.name)
        return ScoredVideo(candidate.name, candidate.seed, pair.prompt, path, recording, conditioning, chunks)

    def _read_new_scores(self) -> None:
        """Read the complete lines that were added to the scores since the last call."""
        if not self.scores_file.is_file():
            return
        with open(self.scores_file, "rb") as file:
            file.seek(self._position)
            lines = file.readlines()
            self._position = file.tell()
        for row in map(json.loads, lines):
            self._scores.setdefault(row["video"], {})[row["measure"]] = row["value"]


# --- original demonstrations ---


@dataclasses.dataclass(frozen=True)
class Demonstration:
    """One original clip, encoded as the generated videos are."""

    name: str
    prompt: str
    video: Path


def write_demonstrations(config: Config, dataset: Dataset, store: Store) -> list[Demonstration]:
    """Encode whole clips of the training and validation, in the size of the generated videos. The test stays out."""
    generation, demonstrations = config.generation, []
    for clip in dataset.train + dataset.validation:
        data = config.data.updated({"num_frames": _frames_of(clip, config)})
        settings = [clip.sha256, clip.start, clip.stop, data.model_dump(), generation.fps, generation.crf]
        path = store.file("demonstrations", f"{clip.clip.name}-{json_sha256(settings)[:12]}.mp4")
        if not path.is_file():
            write_video(path, load_window(clip, data, 0), generation.fps, generation.crf)
        demonstrations.append(Demonstration(clip.clip.name, clip.clip.prompt, path))
    return demonstrations


def _frames_of(clip: CheckedClip, config: Config) -> int:
    """Frames of a whole clip at data.fps; all of its file's frames without it."""
    count = clip.stop - clip.start
    if config.data.fps is None:
        return count
    step = clip.info.fps / config.data.fps
    return int(np.floor((count - 0.5) / step - 1e-9)) + 1


def rate_note(config: Config, dataset: Dataset) -> list[str]:
    """What a reader has to know if the recordings have another frame rate than the set says."""
    fps, other = config.generation.fps, set()
    for clip in dataset.train + dataset.validation:
        rate = config.data.fps or clip.info.fps
        if abs(rate - fps) > RATE_DIFFERS * fps:
            other.add(f"{rate:g}")
    if not other:
        return []
    return [
        f"The original demonstrations have {' and '.join(sorted(other)[:3])} frames per second, the set says {fps:g} "
        "(generation.fps), for them and for the generated videos. Frames are as the model was trained on them."
    ]
