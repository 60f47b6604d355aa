"""The contact sheet: one column per prompt; first frames in the top row, then one row per run with three of its frames."""

from __future__ import annotations

import textwrap
from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageFont

from cosmos_exp.run_folder import RunFolder
from cosmos_exp.statistics.scores import ScoreRow, read_scores

MOMENTS = (0.3, 0.6, 1.0)  # fractions of the video
MARGIN, TEXT = 110, 13


def read_frames(path: Path) -> list[Image.Image]:
    """All frames of a video."""
    with av.open(str(path)) as container:
        return [frame.to_image() for frame in container.decode(video=0)]


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
    picked = _common_rows(runs, samples)
    if not picked:
        return False
    columns = [[read_frames(run.recorded_video(row["video"])) for run in runs] for row in picked]
    width, height = columns[0][0][0].size
    rows_height = round(cell * height / width)
    wide = cell * len(MOMENTS)
    top = rows_height + 3 * TEXT + 8
    sheet = Image.new("RGB", (MARGIN + len(picked) * (wide + 6), top + len(runs) * (rows_height + 4)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    pen.text((4, rows_height // 2), "first frame", "black", font=font)
    for i, (row, videos) in enumerate(zip(picked, columns, strict=True)):
        left = MARGIN + i * (wide + 6)
        sheet.paste(videos[0][0].resize((cell, rows_height)), (left, 0))
        prompt = textwrap.fill(row["prompt"] or row["sample"], width=max(12, (wide - cell) // 7))
        pen.multiline_text((left + cell + 6, 2), prompt, "black", font=font)
        for k, frames in enumerate(videos):
            for m, moment in enumerate(MOMENTS):
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
    scored = [
        {(r["sample"], r["seed"]): r for r in read_scores(run.scores) if run.recorded_video(r["video"]).is_file()}
        for run in runs
    ]
    common = sorted(set.intersection(*(set(s) for s in scored))) if scored else []
    first_seeds = {sample: (sample, seed) for sample, seed in reversed(common)}
    return [scored[0][first_seeds[s]] for s in sorted(first_seeds)[:samples]]
