"""`certify`: plant every fault in every clip, measure all of it, and keep each value at once so that a stop loses nothing.

In the output folder: plan.json (what was asked for), values.jsonl (a line per clip, fault, dose and measure) and the
certificate. The videos are temporary.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from cosmos_exp.config.measures import measures_of
from cosmos_exp.config.registry import MEASURE_FUNCTIONS
from cosmos_exp.config.schema import Config
from cosmos_exp.data.video import read_video, write_video
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject, append_json_line, read_json_lines
from cosmos_exp.metrics.certify.clips import Clip, Footage
from cosmos_exp.metrics.certify.faults import Fault, fault_rng
from cosmos_exp.metrics.interface import MeasureFunction, ScoredVideo
from cosmos_exp.metrics.judges.asking import judge_all
from cosmos_exp.metrics.judges.interface import Judge, Question
from cosmos_exp.metrics.judges.rubric import Rubric, load_rubric, load_rubrics
from cosmos_exp.metrics.score import CHUNK_FUNCTIONS
from cosmos_exp.tracking.progress import progress

CLEAN = Fault("clean", "", (0.0,), lambda footage, dose, rng: footage.frames)
ValueKey = tuple[str, str, float, str]  # clip, fault, dose, measure


@dataclass(frozen=True)
class Material:
    """Clips and the faults that can be planted in them.

    Attributes:
        finish: applied to the frames of every scored video, clean or faulty, before it is encoded, for example the
            model's autoencoder; None: nothing. Can be pickled.
        finish_name: what it is, in words.
    """

    clips: Sequence[Clip]
    faults: Sequence[Fault]
    finish: Callable[[np.ndarray], np.ndarray] | None = None
    finish_name: str = "nothing"


@dataclass(frozen=True)
class Request:
    """What a certificate is about.

    Attributes:
        about: where the clips are from, in words.
        load_judge: builds the judge that `config` names; None: no judge. Can be pickled.
        measures: names; empty: all.
        workers: processes that share the clips.
    """

    about: str
    material: Material
    config: Config
    load_judge: Callable[[], Judge] | None = None
    measures: Sequence[str] = ()
    seed: int = 0
    workers: int = 1


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def whole_video_functions() -> list[str]:
    """The measure functions that need no chunks."""
    return [name for name in MEASURE_FUNCTIONS.names if name not in CHUNK_FUNCTIONS]


def known_measures(config: Config, judged: bool) -> list[str]:
    """The measures that a certificate can be about, in the order of MEASURE_FUNCTIONS; those of the judge come last."""
    names: list[str] = []
    for function in whole_video_functions():
        names += measures_of(function)
    return names + ([load_rubric(r).measure for r in config.judge.rubrics] if judged else [])


def chosen_measures(request: Request) -> list[str]:
    """The measures that a request asks for.

    Raises:
        UserError: a measure does not exist.
    """
    known = known_measures(request.config, request.load_judge is not None)
    unknown = [m for m in request.measures if m not in known]
    if unknown:
        raise UserError(f"--measures: no measure {', '.join(unknown)}. Choose from {', '.join(known)}.")
    return [m for m in known if m in request.measures or not request.measures]


def score(request: Request, out: Path, show: bool = True) -> list[JsonObject]:
    """Compute the values that `out` lacks and return all of them.

    Returns:
        The lines of values.jsonl: clip, recording, fault, dose, measure, value, reason.

    Raises:
        UserError: `out` has the values of another request; a measure does not exist.
        RunError: a clip cannot be read or measured.
    """
    wanted, clips = chosen_measures(request), request.material.clips
    faults = {c.name: _faults_of(c, request.material) for c in clips}
    _check_plan(request, out / "plan.json")
    values = out / "values.jsonl"
    done = {_key(r) for r in read_json_lines(values)}
    work = [c for c in clips if _missing(c, faults[c.name], wanted, done)]
    score_one = partial(_score_clip, request=request, wanted=wanted, done=done)
    total = sum(len(faults[c.name]) for c in work)
    with progress("certifying", total, "fault", show=show) as bar:
        for rows in _scored(score_one, work, request.workers):
            for row in rows:
                append_json_line(values, row)
            bar.update()
    asked = {(c.name, f.name, d, m) for c in clips for f in faults[c.name] for d in f.doses for m in wanted}
    return [r for r in read_json_lines(values) if _key(r) in asked]


def _scored(
    score_one: Callable[[Clip], Iterator[list[JsonObject]]], clips: Sequence[Clip], workers: int
) -> Iterator[list[JsonObject]]:
    """The results of all clips, fault by fault; with several processes, in the order in which clips are done."""
    if workers <= 1 or len(clips) <= 1:
        for clip in clips:
            yield from score_one(clip)
        return
    with ProcessPoolExecutor(min(workers, len(clips)), get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
        for future in as_completed([pool.submit(_score_whole, score_one, c) for c in clips]):
            yield from future.result()


def _key(row: JsonObject) -> ValueKey:
    return row["clip"], row["fault"], row["dose"], row["measure"]


def _check_plan(request: Request, path: Path) -> None:
    """Write what the values in the folder belong to, or compare with it. Clips, faults and measures may be added."""
    plan = {
        "about": request.about,
        "seed": request.seed,
        "through": request.material.finish_name,
        "judge": request.config.judge.name,
        "clips": {c.name: c.what for c in request.material.clips},
    }
    lines = read_json_lines(path)
    if not lines:
        path.parent.mkdir(parents=True, exist_ok=True)
        append_json_line(path, plan)
    elif lines[0] != plan:
        differ = ", ".join(k for k in plan if lines[0].get(k) != plan[k])
        raise UserError(
            f"{path.parent}: holds values of another request ({differ} differ). Set --out to another folder."
        )


def _faults_of(clip: Clip, material: Material) -> list[Fault]:
    """What is planted in a clip: nothing, and then each fault."""
    return [CLEAN] if clip.clean_only else [CLEAN, *material.faults]


def _missing(clip: Clip, faults: Sequence[Fault], wanted: Sequence[str], done: set[ValueKey]) -> bool:
    return any((clip.name, f.name, d, m) not in done for f in faults for d in f.doses for m in wanted)


def _score_whole(score_one: Callable[[Clip], Iterator[list[JsonObject]]], clip: Clip) -> list[list[JsonObject]]:
    return list(score_one(clip))


def _score_clip(clip: Clip, request: Request, wanted: list[str], done: set[ValueKey]) -> Iterator[list[JsonObject]]:
    """Yield the missing values of a clip, fault by fault, the clean clip first.

    The clean clip is encoded, and what is decoded from it is the footage for everything else: the clean video that is
    scored goes through the encoder as often as the faulty ones, and the recording that measures compare with once.
    """
    footage, material = clip.load(), request.material
    with TemporaryDirectory() as folder:
        recording = Path(folder) / "recording.mp4"
        write_video(recording, footage.frames, footage.fps)
        footage = Footage(read_video(recording), footage.after, footage.fps, footage.scene)
        for fault in _faults_of(clip, material):
            videos = {}
            for number, dose in enumerate(fault.doses):
                if not _missing(clip, [Fault(fault.name, "", (dose,), fault.plant)], wanted, done):
                    continue
                frames = fault.plant(footage, dose, fault_rng(request.seed, clip.name, fault.name))
                videos[dose] = Path(folder) / f"{fault.name.replace(' ', '_')}-{number}.mp4"
                write_video(videos[dose], material.finish(frames) if material.finish else frames, footage.fps)
            yield _measure(clip, fault, videos, recording, request, wanted, done)


def _measure(
    clip: Clip,
    fault: Fault,
    videos: dict[float, Path],
    recording: Path,
    request: Request,
    wanted: list[str],
    done: set[ValueKey],
) -> list[JsonObject]:
    """The missing values of the videos of one fault, as lines of values.jsonl."""
    found: dict[tuple[float, str], tuple[float | None, str | None]] = {}

    def missing(names: Sequence[str]) -> dict[float, Path]:
        """The videos that lack one of these measures, by dose."""
        asked = set(names) & set(wanted)
        return {d: p for d, p in videos.items() if any((clip.name, fault.name, d, n) not in done for n in asked)}

    for function in whole_video_functions():
        files = missing(measures_of(function))
        if not files:
            continue
        measure: MeasureFunction = MEASURE_FUNCTIONS.get(function)
        scored = [ScoredVideo(clip.name, request.seed, clip.prompt, f, recording) for f in files.values()]
        results = measure(scored, request.config, 1)
        for dose, result in zip(files, results or (), strict=results is not None):
            found |= {(dose, name): value for name, value in result.values.items()}
    if request.load_judge is not None:
        rubrics = load_rubrics(request.config.judge.rubrics)
        found |= _judge(
            clip, missing([r.measure for r in rubrics]), rubrics, _loaded(request.load_judge), request.config
        )
    return [
        {
            "clip": clip.name,
            "recording": clip.recording,
            "fault": fault.name,
            "dose": dose,
            "measure": name,
            **dict(zip(("value", "reason"), found.get((dose, name), (None, "not given for this clip")), strict=True)),
        }
        for dose in videos
        for name in wanted
        if (clip.name, fault.name, dose, name) not in done
    ]


def _judge(
    clip: Clip, videos: dict[float, Path], rubrics: Sequence[Rubric], judge: Judge, config: Config
) -> dict[tuple[float, str], tuple[float | None, str | None]]:
    """(dose, measure) -> score and, without a score, the answer."""
    doses = {path: dose for dose, path in videos.items()}
    usable = [r for r in rubrics if clip.prompt or not r.needs_instruction]
    questions = [Question(path, rubric, clip.prompt) for path in videos.values() for rubric in usable]
    verdicts = judge_all(judge, questions, config.judge, config.seed)
    return {
        (doses[q.video], q.rubric.measure): (v.score, v.answers[-1] if v.score is None else None) for q, v in verdicts
    }


@cache
def _loaded(load: Callable[[], Judge]) -> Judge:
    """The judge of this process."""
    return load()
