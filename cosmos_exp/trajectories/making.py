"""Make and score videos, a few at a time. What exists is never made again: a killed command continues where it was."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from cosmos_exp.config.hashing import own_keys
from cosmos_exp.config.measures import measure_info, measures_of
from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.registry import JUDGES, MEASURE_FUNCTIONS
from cosmos_exp.config.rollout import chunks_of, rollout_frames
from cosmos_exp.config.schema import Config
from cosmos_exp.data.pair_frames import has_recording, recorded_frames
from cosmos_exp.data.video import write_video
from cosmos_exp.distributed import Processes
from cosmos_exp.errors import UserError
from cosmos_exp.experiment.generate_adapters import AdaptedModel
from cosmos_exp.experiment.stages.tasks import video_tasks
from cosmos_exp.files import (
    append_json_line,
    cut_half_line,
    file_sha256,
    inside_by_name,
    json_sha256,
    read_json_lines,
    remove_leftovers,
    write_json,
)
from cosmos_exp.generation.videos import VideoTask, num_conditioning_frames
from cosmos_exp.metrics.interface import ScoredVideo
from cosmos_exp.metrics.judges.interface import Judge
from cosmos_exp.metrics.judges.rubric import load_rubrics
from cosmos_exp.metrics.score import CHUNK_FUNCTIONS, judge_videos, measure_videos
from cosmos_exp.provenance import available_cores
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.statistics.scores import read_scores
from cosmos_exp.trajectories.plan import Candidate, Prompts

WORK = ".made"  # folder of made videos and scores inside the data set's folder
REQUEST = "request.json"
HASHES = "videos.jsonl"  # in WORK: the hash of each made video
# The setting that turns a function of MEASURE_FUNCTIONS on, by its name. Others are always on.
SWITCHES = {
    "sampson": "sampson.enabled",
    "side": "measures.words",
    "recording": "measures.recording",
    "motion": "measures.motion",
}


def check_out(out: Path) -> None:
    """Check that a folder is new, empty or of this command.

    Raises:
        UserError: it holds something else.
    """
    if out.is_dir() and any(p.name != WORK for p in out.iterdir()) and not (out / WORK / REQUEST).is_file():
        raise UserError(f"--out {out}: is not empty, and has no {WORK}/ of this command. Choose a new folder.")


class Store:
    """The folder in which made videos and their scores are kept, inside the data set's folder.

    Args:
        out: the data set's folder.

    Raises:
        UserError: it holds something else, or another process uses it.
    """

    def __init__(self, out: Path):
        check_out(out)
        self.out, self.path = out, out / WORK
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = RunFolder(self.path).lock()
        self._hashes: dict[str, str] | None = None
        remove_leftovers(out)

    def begin(self, request: object) -> None:
        """Record the request: the mark of a folder of this command."""
        write_json(self.path / REQUEST, request)

    def close(self) -> None:
        """Let other processes use the folder."""
        self._lock.release()

    def video(self, candidate: Candidate) -> Path:
        """The file of a made video."""
        return inside_by_name(self.path / "videos", candidate.file)

    def check(self, candidate: Candidate) -> None:
        """Check that a made video is the one that was made.

        Raises:
            UserError: it was changed or cut short.
        """
        path = self.video(candidate)
        if self._hashes is None:
            self._hashes = {row["video"]: row["sha256"] for row in read_json_lines(self.path / HASHES)}
        if self._hashes.get(candidate.file, digest := file_sha256(path)) != digest:
            raise UserError(f"{path}: not the video that was made. Delete it and run the same command again.")

    def made(self, candidate: Candidate) -> None:
        """Record the hash of a video that was just made."""
        row = {"video": candidate.file, "sha256": file_sha256(self.video(candidate))}
        append_json_line(self.path / HASHES, row)
        if self._hashes is not None:
            self._hashes[candidate.file] = row["sha256"]

    def recording(self, name: str, key: str) -> Path:
        """The file of the recording with which the videos of a prompt are compared."""
        return inside_by_name(self.path / "real", f"{name}-{key}.mp4")

    def demonstration(self, name: str, key: str) -> Path:
        """The file of an original demonstration."""
        return inside_by_name(self.path / "demonstrations", f"{name}-{key}.mp4")

    def scores(self, key: str) -> Path:
        """The scores under one setting of measures and judge."""
        return self.path / "scores" / key / "scores.jsonl"


@dataclasses.dataclass(frozen=True)
class Scored:
    """A made video with its scores by measure; None: the measure is undefined."""

    candidate: Candidate
    video: Path
    scores: dict[str, float | None]


class Maker:
    """Makes and scores the videos of a request. Model and judge are loaded when the first video needs them.

    Args:
        prompts: of all candidates.
        adapters: adapter files by the name of their run.
    """

    def __init__(self, config: Config, store: Store, prompts: Prompts, adapters: dict[str, Path | None]):
        self.config, self.store, self.prompts, self.adapters = config, store, prompts, adapters
        identity = [own_keys(config.sampson), own_keys(config.measures), own_keys(config.judge), config.seed]
        self.scores_file = store.scores(json_sha256(identity)[:12])
        cut_half_line(self.scores_file)
        read_scores(self.scores_file)  # raises if a line is damaged
        self._rows: dict[str, dict[str, float | None]] = {}
        self._position = 0
        self._read_new_scores()

    @cached_property
    def _model(self) -> AdaptedModel:
        return AdaptedModel(self.config, self.adapters, [s.pair.prompt for s in self.prompts.starts])

    @cached_property
    def _judge(self) -> Judge | None:
        config = self.config
        device = Processes(config.hardware.device, 1, config.hardware.num_threads).device
        judge: Judge | None = JUDGES.get(config.judge.name)(
            config.judge, device, config.hardware.mixed_precision, config.seed
        )
        return judge

    def make(self, batch: Sequence[Candidate], made: Callable[[], None] = lambda: None) -> list[Scored]:
        """Make and score what is missing of some videos.

        Args:
            made: called after each video.

        Raises:
            RunError: the guardrail refuses a prompt, a video cannot be read, or the judge fails.
        """
        for candidate in sorted(
            batch, key=lambda c: list(self.adapters).index(c.run.name)
        ):  # one adapter after another
            if self.store.video(candidate).is_file():
                self.store.check(candidate)
            else:
                self._model.make(candidate.run.name, [self._task(candidate)], show=False)
                self.store.made(candidate)
            made()
        self._score(batch)
        return [Scored(c, self.store.video(c), self._rows.get(c.file, {})) for c in batch]

    def _task(self, candidate: Candidate) -> VideoTask:
        generation = dataclasses.replace(self.config.generation, seeds=[candidate.seed])
        config = dataclasses.replace(self.config, generation=generation)
        path = self.store.video(candidate)
        return video_tasks(config, [candidate.start.pair], self.prompts.held_out, lambda sample, seed: path)[0]

    def _score(self, batch: Sequence[Candidate]) -> None:
        rows, judged = self._rows, judged_measures(self.config)
        wanted = [*computed_measures(self.config), *judged]
        open_videos = [c for c in batch if any(m not in rows.get(c.file, {}) for m in wanted)]
        if not open_videos:
            return
        videos = [self._scored_video(c) for c in open_videos]
        done = {(c.name, c.seed, m) for c in open_videos for m in rows.get(c.file, {})}
        self.scores_file.parent.mkdir(parents=True, exist_ok=True)
        workers = self.config.hardware.num_threads or available_cores()
        measure_videos(videos, self.config, self.scores_file, done, False, workers)
        if any(m not in rows.get(c.file, {}) for c in open_videos for m in judged):
            assert self._judge is not None
            cache = cache_root(self.config) / "judged"
            judge_videos(videos, self.config, self._judge, self.scores_file, done, cache, False)
        self._read_new_scores()

    def _scored_video(self, candidate: Candidate) -> ScoredVideo:
        pair, recording = candidate.start.pair, None
        if self.config.measures.recording and has_recording(pair):
            generation, most = self.config.generation, rollout_frames(self.config)
            key = json_sha256([candidate.start.sha256, most, generation.fps, generation.crf])[:12]
            recording = self.store.recording(pair.name, key)
            if not recording.is_file():
                frames = recorded_frames(pair, self.prompts.held_out, self.config.data, most)
                write_video(recording, frames, generation.fps, generation.crf)
        given = num_conditioning_frames(self.config.generation.mode)
        path, chunks = self.store.video(candidate), chunks_of(self.config, pair.prompt, pair.name)
        return ScoredVideo(candidate.name, candidate.seed, pair.prompt, path, recording, given, chunks)

    def _read_new_scores(self) -> None:
        """Read the complete lines that were added to the scores since the last call."""
        if not self.scores_file.is_file():
            return
        with open(self.scores_file, "rb") as file:
            file.seek(self._position)
            lines = file.readlines()
            self._position = file.tell()
        for row in map(json.loads, lines):
            self._rows.setdefault(row["video"], {})[row["measure"]] = row["value"]


def computed_measures(config: Config) -> list[str]:
    """The measures that are computed from each video under a configuration; some may be undefined for a video."""
    names: list[str] = []
    for function in MEASURE_FUNCTIONS.names:
        switch = SWITCHES.get(function)
        if function not in CHUNK_FUNCTIONS and (switch is None or _is_on(config, switch)):
            names += measures_of(function)
    return names


def judged_measures(config: Config) -> list[str]:
    """The measures that the judge gives."""
    return [r.measure for r in load_rubrics(config.judge.rubrics)] if config.judge.name != "none" else []


def switch_of(measure: str) -> str | None:
    """The setting that turns on a measure that is off: `measures.motion=true`; None for an unknown measure."""
    function = measure_info(measure).function
    if function in SWITCHES:
        return f"{SWITCHES[function]}=true"
    return "judge=NAME" if measure in ("physics", "instruction") else None


def _is_on(config: Config, key: str) -> bool:
    group, _, name = key.partition(".")
    return bool(getattr(getattr(config, group), name))
