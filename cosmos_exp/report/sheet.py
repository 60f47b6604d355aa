"""The contact sheet: one column per prompt; first frames in the top row, then one row per run with three of its frames."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageFont

from cosmos_exp.run_folder import RunFolder
from cosmos_exp.statistics.scores import ScoreRow, read_scores

MOMENTS = (0.3, 0.6, 1.0)  # fractions of the video
MARGIN, TEXT = 110, 13


def read_frames(path: Path) -> list[Image.Image]:
    """All frames of a video; none of one that cannot be read, which `report --verify` and a resume of its run name."""
    try:
        with av.open(str(path)) as container:
            return [frame.to_image() for frame in container.decode(video=0)]
    except (OSError, ValueError, IndexError, av.error.FFmpegError):
        return []


def contact_sheet(runs: list[RunFolder], names: list[str], out: Path, samples: int = 4, cell: int = 160) -> bool:
    """Draw the sheet of the videos that all `runs` have in common.

    Args:
        runs: Run folders, one row each.
        names: Label of each row.
        out: The image file.
        samples: Maximum number of prompts; of each, the first seed is drawn.
        cell: Width of one frame in pixels.

    Returns:
        Whether there are such videos.
    """
    columns = [
        Column(row["prompt"] or row["sample"], [run.recorded_video(row["video"]) for run in runs])
        for row in _common_rows(runs, samples)
    ]
    return draw_sheet(columns, names, out, cell)


@dataclass(frozen=True)
class Column:
    """The videos of one prompt, from the same first frame: one file per row of the sheet; None leaves the cell empty."""

    text: str
    videos: Sequence[Path | None]


def draw_sheet(columns: Sequence[Column], names: Sequence[str], out: Path, cell: int = 160) -> bool:
    """Draw a sheet of columns.

    Args:
        columns: Each with as many videos as there are names.
        names: Label of each row.
        out: The image file.
        cell: Width of one frame in pixels.

    Returns:
        Whether there are videos.
    """
    read = [[read_frames(v) if v else [] for v in column.videos] for column in columns]
    shown = [frames for videos in read for frames in videos if frames]
    if not shown:
        return False
    width, height = shown[0][0].size
    rows_height = round(cell * height / width)
    wide = cell * len(MOMENTS)
    top = rows_height + 3 * TEXT + 8
    sheet = Image.new("RGB", (MARGIN + len(columns) * (wide + 6), top + len(names) * (rows_height + 4)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    pen.text((4, rows_height // 2), "first frame", "black", font=font)
    for i, (column, videos) in enumerate(zip(columns, read, strict=True)):
        left = MARGIN + i * (wide + 6)
        first = next((frames[0] for frames in videos if frames), None)
        if first:
            sheet.paste(first.resize((cell, rows_height)), (left, 0))
        prompt = textwrap.fill(column.text, width=max(12, (wide - cell) // 7))
        pen.multiline_text((left + cell + 6, 2), prompt, "black", font=font)
        for k, frames in enumerate(videos):
            for m, moment in enumerate(MOMENTS if frames else ()):
                picture = frames[round(moment * (len(frames) - 1))].resize((cell, rows_height))
                sheet.paste(picture, (left + m * cell, top + k * (rows_height + 4)))
    for k, name in enumerate(names):
        at = (4, top + k * (rows_height + 4) + rows_height // 2 - TEXT)
        pen.text(at, textwrap.fill(name, 14), "black", font=font)
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out)
    return True


def _common_rows(runs: list[RunFolder], samples: int) -> list[ScoreRow]:
    """One score of the first run for each prompt of which all runs have a video, with its lowest common seed."""
    scored = []
    for run in runs:
        rows = {(r["sample"], r["seed"]): r for r in read_scores(run.scores)}  # one per video: a look at the disk each
        scored.append({key: r for key, r in rows.items() if run.recorded_video(r["video"]).is_file()})
    common = sorted(set.intersection(*(set(s) for s in scored))) if scored else []
    first_seeds = {sample: (sample, seed) for sample, seed in reversed(common)}
    return [scored[0][first_seeds[s]] for s in sorted(first_seeds)[:samples]]
