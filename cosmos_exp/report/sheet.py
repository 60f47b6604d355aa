"""The contact sheet: a column a prompt; a row for the first frames, then one a run, each with moments of its video."""

from __future__ import annotations

import textwrap
from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageFont

from cosmos_exp.files import read_json_lines
from cosmos_exp.run_folder import RunFolder

MOMENTS = (0.3, 0.6, 1.0)  # shares of the video
MARGIN, TEXT = 110, 13


def read_frames(path: Path) -> list[Image.Image]:
    """All frames of a video."""
    with av.open(str(path)) as container:
        return [frame.to_image() for frame in container.decode(video=0)]


def contact_sheet(runs: list[RunFolder], names: list[str], out: Path, samples: int = 4, cell: int = 160) -> bool:
    """Draw the sheet of the videos that all `runs` have in common; False when there are none.

    Args:
        names: what each run is called, beside its row.
        samples: prompts at most; of each, the first seed.
        cell: width of one moment in pixels.
    """
    scored = [{(r["sample"], r["seed"]): r for r in read_json_lines(run.scores)} for run in runs]
    common = sorted(set.intersection(*(set(s) for s in scored))) if scored else []
    first_seeds = {sample: (sample, seed) for sample, seed in reversed(common)}
    picked = [scored[0][first_seeds[s]] for s in sorted(first_seeds)[:samples]]
    if not picked:
        return False
    columns = [[read_frames(run.path / "videos" / row["video"]) for run in runs] for row in picked]
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
        words = textwrap.fill(row["prompt"] or row["sample"], width=max(12, (wide - cell) // 7))
        pen.multiline_text((left + cell + 6, 2), words, "black", font=font)
        for k, frames in enumerate(videos):
            for m, share in enumerate(MOMENTS):
                picture = frames[round(share * (len(frames) - 1))].resize((cell, rows_height))
                sheet.paste(picture, (left + m * cell, top + k * (rows_height + 4)))
    for k, name in enumerate(names):
        pen.text(
            (4, top + k * (rows_height + 4) + rows_height // 2 - TEXT), textwrap.fill(name, 14), "black", font=font
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out)
    return True
