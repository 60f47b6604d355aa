"""The contact sheet: one column per prompt; first frames in the top row, then one row per video with three of its frames."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageFont

MOMENTS = (0.0, 0.3, 0.6, 1.0)  # fractions of the video; the first is in the top row
MARGIN, TEXT, GAP = 110, 13, 6


@dataclass(frozen=True)
class Column:
    """The videos of one prompt, from the same first frame: one file per row of the sheet; None leaves the cell empty."""

    text: str
    videos: Sequence[Path | None]


def draw_sheet(columns: Sequence[Column], names: Sequence[str], out: Path, cell: int = 160) -> None:
    """Draw a sheet of columns; none where no video can be read.

    Args:
        columns: Each with as many videos as there are names.
        names: Label of each row.
        out: The image file.
        cell: Width of one frame in pixels.
    """
    pictures: dict[tuple[int, int], list[Image.Image]] = {}
    for index, column in enumerate(columns):
        for row, video in enumerate(column.videos):
            if video and (frames := read_moments(video, cell)):
                pictures[index, row] = frames
    if not pictures:
        return
    wide, height = cell * (len(MOMENTS) - 1) + GAP, next(iter(pictures.values()))[0].height
    top = height + 3 * TEXT + 8  # of the first row of videos
    sheet = Image.new("RGB", (MARGIN + len(columns) * wide, top + len(names) * (height + 4)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    pen.multiline_text((4, height // 2 - TEXT), "first frame", "black", font=font)
    for row, name in enumerate(names):
        at = (4, top + row * (height + 4) + height // 2 - TEXT)
        pen.multiline_text(at, textwrap.fill(name, 14), "black", font=font)
    for index, column in enumerate(columns):
        at = (MARGIN + index * wide + cell + GAP, 2)
        pen.multiline_text(at, textwrap.fill(column.text, max(12, (wide - cell) // 7)), "black", font=font)
    for (index, row), frames in pictures.items():
        left = MARGIN + index * wide
        sheet.paste(frames[0], (left, 0))  # the same in all rows
        for moment, picture in enumerate(frames[1:]):
            sheet.paste(picture, (left + moment * cell, top + row * (height + 4)))
    sheet.save(out)


def read_moments(path: Path, width: int) -> list[Image.Image]:
    """The frames of a video at `MOMENTS`, resized; none of a video that cannot be read."""
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
