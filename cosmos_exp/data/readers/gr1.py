"""Readers: from a folder on disk to clips and test pairs. They list every problem they see and invent nothing."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from cosmos_exp.data.readers.records import Clip, Episodes, _videos
from cosmos_exp.errors import UserError


def _gr1(data: Any, folder: Path) -> Episodes:
    """metadata.csv (file name, prompt) beside gr1/*.mp4 or videos/*.mp4, as nvidia/GR1-100 comes."""
    table = folder / "metadata.csv"
    if not table.is_file():
        raise UserError(
            f"{folder}: no metadata.csv; data.reader=gr1_100 needs it (data=folder for videos with captions)"
        )
    found = Episodes()
    videos = next((folder / n for n in ("videos", "gr1") if (folder / n).is_dir()), folder / "videos")
    prompts: dict[str, str] = {}
    with open(table, newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.reader(file)):
            if number and len(row) >= 2:
                prompts[Path(row[0]).stem] = ",".join(row[1:]).strip()
            elif number and row:
                found.problems.append(f"{table}, line {number + 1}: expected file name and prompt")
    paths = _videos(videos, found)
    for path in paths:
        prompt = prompts.get(path.stem)
        if not prompt:
            found.problems.append(f"{path}: has no prompt in {table}; add a line for it or remove the video")
        else:
            found.clips.append(Clip(path.stem, path, data.prompt_prefix + prompt))
    for stem in sorted(set(prompts) - {p.stem for p in paths}):
        found.problems.append(f"{table}: names {stem}, but {videos} holds no such video")
    return found
