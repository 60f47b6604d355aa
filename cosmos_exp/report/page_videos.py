"""The videos of the page, by scene and prompt.

Few videos are inside of the page, so that it is one file. Of many there are links to the run folders, and a small picture of
each beside the page, which is shown until the video plays.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import av
from PIL import Image

from cosmos_exp.files import JsonObject, atomic_path
from cosmos_exp.provenance import available_cores
from cosmos_exp.report.study import Study
from cosmos_exp.report.tables import number

MOST_INSIDE = 300  # videos inside of a page
MOST_MIB = 100  # of them
PREVIEW_WIDTH = 240  # pixels
MOST_SECONDS = 30  # that a report spends on previews; the next one makes those that are missing
REAL = -1  # the column of the recordings


def scenes_with_videos(study: Study, out: Path) -> tuple[list[list[JsonObject]], bool]:
    """Every scored prompt with its videos: the recording if there is one, then those of each arm.

    Args:
        out: The folder of the page.

    Returns:
        For each scene (prompts with the same first frame) its prompts with sample, text and cells: column (position of the
        arm, or `REAL`), run (training seed), seed (of the generation; None for the recording), video and poster (their
        addresses, as far as they are there), fps, scores (text by the position of the measure; None: not scored) and reasons
        by measure (the judge's answer, or why there is no value). And whether the page holds the videos.
    """
    columns = {"real": REAL} | {arm: column for column, arm in enumerate(study.arms.index)}
    rows = study.scores.assign(column=study.scores["arm"].map(columns)).dropna(subset=["column"])
    generated = rows.loc[rows["column"] != REAL, "prompt"]
    rows = rows[rows["prompt"].isin(set(generated))].astype({"column": int})
    rows = rows.sort_values(["column", "seed", "noise"], kind="stable")
    files, size = dict[tuple[str, str], Path](), 0
    # In this order the previews are made: first those that the page shows when it opens.
    for row in rows.sort_values(["noise", "seed"], kind="stable").drop_duplicates(["run", "video"]).itertuples():
        file = study.records[row.run].folder.recorded(row.video)
        if file.is_file():
            files[row.run, row.video] = file
            size += file.stat().st_size
    inside = len(files) <= MOST_INSIDE and size <= MOST_MIB * 2**20
    previews = {} if inside else ensure_previews(files, out)
    addresses = dict[tuple[str, str], JsonObject]()
    for key, file in files.items():
        video = link_to(file, out)
        if inside:
            video = f"data:video/mp4;base64,{base64.b64encode(file.read_bytes()).decode()}"
        addresses[key] = {"video": video, "poster": previews.get(key)}
    scenes: dict[str, list[JsonObject]] = {}
    for (scene, prompt), of_prompt in rows.groupby(["scene", "prompt"]):
        by_video: dict[tuple[object, ...], list[Any]] = {}
        for row in of_prompt.itertuples():
            by_video.setdefault((row.column, row.run, row.noise), []).append(row)
        entry: JsonObject = {"sample": prompt, "text": of_prompt["text"].iloc[0], "cells": []}
        for of_video in by_video.values():
            address = addresses.get((of_video[0].run, of_video[0].video), {})
            entry["cells"].append(_cell(of_video, study) | address)
        scenes.setdefault(scene, []).append(entry)
    return list(scenes.values()), inside


def _cell(rows: Sequence[Any], study: Study) -> JsonObject:
    """The scores of one video. rows: of `Study.scores`, as tuples."""
    scores, reasons, video = {}, {}, rows[0]
    for row in rows:
        scores[row.measure] = number(row.value)
        if why := row.detail.get("answer") or row.reason:
            reasons[row.measure] = str(why)[:600]
    run, fps = study.records[video.run], 8
    for group in ("data", "generation"):
        fps = run.group(group).get("fps") or fps
    cell = {"column": video.column, "run": video.seed, "seed": video.noise, "fps": fps, "reasons": reasons}
    if cell["column"] == REAL:
        cell["seed"] = None
    return cell | {"scores": list(map(scores.get, study.measures))}


def ensure_previews(files: Mapping[tuple[str, str], Path], out: Path) -> dict[tuple[str, str], str]:
    """Make a picture of each video in previews/ beside the page, where there is none that is newer than the video.

    Args:
        files: The videos by run and path in it.
        out: The folder of the page.

    Returns:
        Their addresses, by the same keys. A video that does not decode has none, nor have those after `MOST_SECONDS`.
    """
    end, addresses = time.monotonic() + MOST_SECONDS, {}

    def ensure(key: tuple[str, str]) -> None:
        preview = out.joinpath("previews", *key).with_suffix(".jpg")
        if not preview.is_file() or preview.stat().st_mtime < files[key].stat().st_mtime:
            picture = time.monotonic() < end and _middle_picture(files[key])
            if not picture:
                return
            with atomic_path(preview) as temporary:
                picture.save(temporary, quality=70)
        addresses[key] = link_to(preview, out)

    with ThreadPoolExecutor(available_cores()) as pool:
        list(pool.map(ensure, files))  # an error of the disk is raised here
    return addresses


def _middle_picture(video: Path) -> Image.Image | None:
    """The picture in the middle of an MP4 file or a few frames later, small; None if the file does not decode."""
    try:
        with av.open(str(video), format="mp4") as container:  # a playlist of that name would lead to other files
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            stream.codec_context.skip_frame = "NONREF"  # those that no other frame needs: half of the time
            middle = (stream.duration or 0) // 2
            container.seek(middle, stream=stream)
            for frame in container.decode(stream):
                if (frame.pts or 0) >= middle:
                    break
            return frame.to_image(width=PREVIEW_WIDTH, height=PREVIEW_WIDTH * frame.height // frame.width)
    except (av.FFmpegError, OSError, ValueError, LookupError, AttributeError, NameError):  # what damaged files raise
        return None


def link_to(file: Path, out: Path) -> str:
    """A relative link: never a scheme, a host or a script, whatever the name is."""
    return quote(Path(os.path.relpath(file, out)).as_posix())
