"""The videos of the page, by scene and prompt.

Few videos are inside of the page, so that it is one file. Of many there are links to the run folders: the page stays small.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cosmos_exp.files import JsonObject
from cosmos_exp.report.study import Study
from cosmos_exp.report.tables import number

MOST_INSIDE = 300  # videos inside of a page
MOST_MIB = 100  # of them
REAL = -1  # the column of the recordings


def scenes_with_videos(study: Study, out: Path) -> tuple[list[list[JsonObject]], bool]:
    """Every scored prompt with its videos: the recording if there is one, then those of each arm.

    Args:
        out: The folder of the page.

    Returns:
        For each scene (prompts with the same first frame) its prompts with sample, text and cells: column (position of the
        arm, or `REAL`), run (training seed), seed (of the generation; None for the recording), video (its address), fps,
        scores and reasons (the judge's answer, or why there is no value) by measure. And whether the page holds the videos.
    """
    columns = {"real": REAL} | {arm: column for column, arm in enumerate(study.arms.index)}
    rows = study.scores.assign(column=study.scores["arm"].map(columns)).dropna(subset=["column"])
    generated = rows.loc[rows["column"] != REAL, "prompt"]
    rows = rows[rows["prompt"].isin(set(generated))].astype({"column": int})
    rows = rows.sort_values(["column", "seed", "noise"], kind="stable")
    files, size = dict[tuple[str, str], Path](), 0
    for row in rows.drop_duplicates(["run", "video"]).itertuples():
        file = study.records[row.run].folder.recorded(row.video)
        if file.is_file():
            files[row.run, row.video] = file
            size += file.stat().st_size
    inside = len(files) <= MOST_INSIDE and size <= MOST_MIB * 2**20
    scenes: dict[str, list[JsonObject]] = {}
    for (scene, prompt), of_prompt in rows.groupby(["scene", "prompt"]):
        by_video: dict[tuple[object, ...], list[Any]] = {}
        for row in of_prompt.itertuples():
            by_video.setdefault((row.column, row.run, row.noise), []).append(row)
        entry: JsonObject = {"sample": prompt, "text": of_prompt["text"].iloc[0], "cells": []}
        for of_video in by_video.values():
            entry["cells"].append(_cell(of_video, study, files, out, inside))
        scenes.setdefault(scene, []).append(entry)
    return list(scenes.values()), inside


def _cell(
    rows: Sequence[Any], study: Study, files: Mapping[tuple[str, str], Path], out: Path, inside: bool
) -> JsonObject:
    """The scores of one video. rows: of `Study.scores`, as tuples."""
    scores, reasons, video = {}, {}, rows[0]
    for row in rows:
        scores[row.measure] = number(row.value)
        if why := row.detail.get("answer") or row.reason:
            reasons[row.measure] = str(why)[:600]
    run, file, fps, address = study.records[video.run], files.get((video.run, video.video)), 8, ""
    for group in ("data", "generation"):
        fps = (run.config.get(group) or {}).get("fps") or fps
    if file:
        address = link_to(file, out)
    if file and inside:
        address = f"data:video/mp4;base64,{base64.b64encode(file.read_bytes()).decode()}"
    cell = {"column": video.column, "run": video.seed, "seed": video.noise, "video": address, "fps": fps}
    if cell["column"] == REAL:
        cell["seed"] = None
    return cell | {"scores": scores, "reasons": reasons}


def link_to(file: Path, out: Path) -> str:
    """A relative link: never a scheme, a host or a script, whatever the name is."""
    return quote(Path(os.path.relpath(file, out)).as_posix())
