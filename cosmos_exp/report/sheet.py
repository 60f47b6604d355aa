"""The contact sheet: one column per prompt; first frames in the top row, then one row per arm with three of its frames."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageFont

from cosmos_exp.report.study import Study

MOMENTS = (0.0, 0.3, 0.6, 1.0)  # fractions of the video; the first is in the top row
MARGIN, TEXT, GAP = 110, 13, 6


@dataclass(frozen=True)
class Column:
    """The videos of one prompt, from the same first frame: one file per row of the sheet; None leaves the cell empty."""

    text: str
    videos: Sequence[Path | None]


def contact_sheet(study: Study, out: Path, prompts: int = 4) -> bool:
    """Draw the sheet of the videos that the first runs of all arms have in common; of each prompt its lowest seed.

    Args:
        out: The image file.
        prompts: Maximum number of prompts.

    Returns:
        Whether there are such videos.
    """
    scores = study.scores[study.scores["arm"].isin(study.arms.index)]
    first_runs = scores.groupby("arm")["run"].first()
    scores = scores[scores["run"] == scores["arm"].map(first_runs)]
    videos = scores.drop_duplicates(["arm", "prompt", "noise"])
    files = []
    for row in videos.itertuples():
        file = study.records[row.run].folder.recorded(row.video)
        files.append(file if file.is_file() else None)
    table = videos.assign(file=files).pivot(index=["prompt", "noise"], columns="arm", values="file").dropna()
    lowest = table.groupby(level="prompt").first().head(prompts)
    texts = videos.drop_duplicates("prompt").set_index("prompt")["text"]
    arms = [arm for arm in study.arms.index if arm in table.columns]
    columns = [Column(texts[prompt], list(lowest.loc[prompt, arms])) for prompt in lowest.index]
    return draw_sheet(columns, arms, out)


def draw_sheet(columns: Sequence[Column], names: Sequence[str], out: Path, cell: int = 160) -> bool:
    """Draw a sheet of columns, one video in memory at a time.

    Args:
        columns: Each with as many videos as there are names.
        names: Label of each row.
        out: The image file.
        cell: Width of one frame in pixels.

    Returns:
        Whether there are videos.
    """
    sheet: Image.Image | None = None
    wide = cell * (len(MOMENTS) - 1)
    for index, column in enumerate(columns):
        left = MARGIN + index * (wide + GAP)
        for row, video in enumerate(column.videos):
            pictures = read_moments(video, cell) if video else []
            if not pictures:
                continue
            height = pictures[0].height
            if sheet is None:
                sheet = _empty_sheet(columns, names, cell, height)
            sheet.paste(pictures[0], (left, 0))  # the same in all rows
            for moment, picture in enumerate(pictures[1:]):
                sheet.paste(picture, (left + moment * cell, _top(row, height)))
    if sheet is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(out)
    return sheet is not None


def read_moments(path: Path, width: int) -> list[Image.Image]:
    """The frames of a video at `MOMENTS`, resized; none of a video that cannot be read, which `report --verify` names."""
    pictures: list[Image.Image] = []
    try:
        with av.open(str(path)) as container:
            last = max(container.streams.video[0].frames - 1, 0)
            for index, frame in enumerate(container.decode(video=0)):
                if index in [round(moment * last) for moment in MOMENTS]:
                    picture = frame.to_image()
                    pictures.append(picture.resize((width, round(width * picture.height / picture.width))))
    except (OSError, ValueError, IndexError, av.error.FFmpegError):
        return []
    return pictures


def _top(row: int, height: int) -> int:
    """The upper edge of a row of frames; row -1 holds the first frames and the prompts."""
    return height + 3 * TEXT + 8 + row * (height + 4) if row >= 0 else 0


def _empty_sheet(columns: Sequence[Column], names: Sequence[str], cell: int, height: int) -> Image.Image:
    """A white sheet with its prompts and the labels of its rows."""
    wide = cell * (len(MOMENTS) - 1)
    sheet = Image.new("RGB", (MARGIN + len(columns) * (wide + GAP), _top(len(names), height)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    for row, name in enumerate(["first frame", *names], -1):
        at = (4, _top(row, height) + height // 2 - TEXT)
        pen.multiline_text(at, textwrap.fill(name, 14), "black", font=font)
    for index, column in enumerate(columns):
        at = (MARGIN + index * (wide + GAP) + cell + GAP, 2)
        pen.multiline_text(at, textwrap.fill(column.text, max(12, (wide - cell) // 7)), "black", font=font)
    return sheet
