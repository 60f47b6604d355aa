"""The videos of the page: by scene and prompt, with a picture of each to show before it plays."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import av
from PIL import Image

from cosmos_exp.report.formatting import number
from cosmos_exp.report.variants import Run, Variant, scenes_of
from cosmos_exp.statistics.scores import ScoreRow

MOST_MIB = 150  # of video in one page; the page says how many are left out
WIDEST = 320  # pixels of a picture


class Number(TypedDict):
    """A number as the page shows it, and as it sorts."""

    text: str
    value: float | None


class Score(Number):
    """A score with the judge's answer, or why there is no value."""

    why: str


@dataclass(frozen=True)
class Clip:
    """A video as data URLs: itself, its first and its middle frame. frames, fps: as the file has them."""

    video: str
    first: str
    middle: str
    frames: int
    fps: float


@dataclass(frozen=True)
class Cell:
    """One video on the page.

    Attributes:
        column: Position of the variant; -1 for the recording.
        run: Training seed of its run.
        seed: Generation seed; None for the recording.
    """

    column: int
    run: int
    seed: int | None
    clip: Clip | None
    scores: dict[str, Score]


@dataclass(frozen=True)
class Prompt:
    """The videos of one prompt: the recording if there is one, then those of each variant."""

    sample: str
    text: str
    cells: list[Cell]


@dataclass(frozen=True)
class Scene:
    """Prompts with the same first frame. `first` is that frame as a data URL; None if there is no video."""

    name: str
    first: str | None
    prompts: list[Prompt] = field(default_factory=list)


@dataclass(frozen=True)
class _Source:
    """A video that may go onto the page. `rank`: what is left out first has the highest."""

    rank: int
    column: int
    run: int
    seed: int | None
    rows: list[ScoreRow]
    file: Path


def scenes_with_videos(variants: list[Variant]) -> tuple[list[Scene], str | None]:
    """Every scored prompt with its videos, as far as `MOST_MIB` allows: first the lowest seeds of all prompts.

    Returns:
        The scenes, and a sentence about the videos that are left out; None if there are none.
    """
    texts: dict[str, str] = {}
    for row in (r for v in variants for run in v.done for r in run.scores):
        texts.setdefault(row["sample"], row["prompt"] or row["sample"])
    sources = {sample: list(_sources(variants, sample)) for sample in sorted(texts)}
    taken, left_out = _within_budget(sources)
    known, scenes = scenes_of(variants), dict[str, Scene]()
    for sample, own in sources.items():
        cells = [_cell(s, s.file in taken) for s in own]
        name = known.get(sample, sample)
        if name not in scenes:
            scenes[name] = Scene(name, next((c.clip.first for c in cells if c.clip), None))
        scenes[name].prompts.append(Prompt(sample, texts[sample], cells))
    note = f"{left_out} videos are not shown: a page holds at most {MOST_MIB} MiB of video." if left_out else None
    return list(scenes.values()), note


def _sources(variants: list[Variant], sample: str) -> Iterator[_Source]:
    """The recording and the videos of a prompt, in the order of the columns, the lowest seeds of a column first."""
    recording = _recording([r for v in variants for r in v.done], sample)
    if recording:
        yield recording
    for column, v in enumerate(variants):
        for i, run in enumerate(v.done):
            own = [r for r in run.scores if r["sample"] == sample]
            for k, seed in enumerate(sorted({r["seed"] for r in own})):
                rows = [r for r in own if r["seed"] == seed]
                yield _Source(i + k, column, run.seed, seed, rows, run.folder.recorded_video(rows[0]["video"]))


def _recording(runs: Iterable[Run], sample: str) -> _Source | None:
    """The recording of a prompt; None if there is none."""
    for run in runs:
        file = run.folder.recorded(f"references/real/{sample}.mp4")
        if file.is_file():
            rows = [r for r in run.references("real") if r["sample"] == sample]
            return _Source(0, -1, run.seed, None, rows, file)
    return None


def _within_budget(sources: dict[str, list[_Source]]) -> tuple[set[Path], int]:
    """The files that fit, and the number of those that do not. A prompt's videos of one rank are taken together."""
    found = [(s.rank, i, s.file) for i, own in enumerate(sources.values()) for s in own if s.file.is_file()]
    taken: set[Path] = set()
    used = left_out = 0
    for rank, i in sorted({(rank, i) for rank, i, _ in found}):
        files = [file for r, k, file in found if (r, k) == (rank, i)]
        size = sum(file.stat().st_size for file in files)
        if used + size > MOST_MIB * 2**20:
            left_out += len(files)
            continue
        used += size
        taken.update(files)
    return taken, left_out


def _cell(source: _Source, shown: bool) -> Cell:
    scores: dict[str, Score] = {}
    for r in source.rows:
        detail = r.get("detail") or {}
        why = str(detail.get("answer") or detail.get("reason") or "")[:600]
        scores[r["measure"]] = {"text": number(r["value"]), "value": r["value"], "why": why}
    return Cell(source.column, source.run, source.seed, read_clip(source.file) if shown else None, scores)


def read_clip(file: Path) -> Clip | None:
    """The video with the pictures of its first and its middle frame; None if it cannot be read."""
    try:
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            frames, fps = stream.frames, float(stream.average_rate or 8)
            first = middle = None
            for k, frame in enumerate(container.decode(stream)):
                first = first or _jpeg(frame.to_image())
                middle = frame
                if k >= frames // 2 > 0:
                    break
            if first is None or middle is None:
                return None
            picture = _jpeg(middle.to_image())
    except (OSError, IndexError, ValueError, av.error.FFmpegError):
        return None
    return Clip(data_url(file.read_bytes(), "video/mp4"), first, picture, frames or k + 1, round(fps, 6))


def _jpeg(picture: Image.Image) -> str:
    """A picture as a data URL, at most `WIDEST` pixels wide."""
    picture.thumbnail((WIDEST, WIDEST))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=80)
    return data_url(out.getvalue(), "image/jpeg")


def data_url(content: bytes, kind: str) -> str:
    """Bytes as a data URL."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
