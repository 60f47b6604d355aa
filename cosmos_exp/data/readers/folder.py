"""Readers of folders of videos: `folder` (metas/NAME.txt, captions/NAME.json or captions.csv) and `gr1_100` (metadata.csv)."""

from __future__ import annotations

import json
from pathlib import Path

from cosmos_exp.config.schema import Data
from cosmos_exp.data.readers.records import (
    VIDEO_SUFFIXES,
    Clip,
    Episodes,
    default_prompt,
    list_videos,
    read_caption,
    read_table,
    read_text_of,
    usable_caption,
)
from cosmos_exp.errors import UserError

TABLE = "captions.csv"
_OTHER_WAYS = f"a line FILE,CAPTION in {TABLE}, or data.prompt=TEXT for all videos (file_name: the file's own name)"


def read_folder(data: Data, folder: Path) -> Episodes:
    """List the videos with their captions. A folder captions/ is used before metas/, and either before captions.csv.

    Without a folder videos/, the videos of the folder itself are used.

    Raises:
        UserError: there are no videos, or captions.csv is no table.
    """
    episodes = Episodes()
    videos = _videos_folder(folder)
    paths = list_videos(videos, episodes.problems)
    as_json = (folder / "captions").is_dir()
    captions, suffix = folder / "metas", ".txt"
    if as_json:
        captions, suffix = folder / "captions", ".json"
    elif not captions.is_dir() and videos == folder:
        captions = folder
    table, listed, without = folder / TABLE, dict[str, str](), 0
    if table.is_file():
        listed = read_table(table, episodes.problems)
    for path in paths:
        caption = captions / (path.stem + suffix)
        if caption.exists() and as_json:
            text = _json_caption(caption, data, episodes.problems)
        elif caption.exists():
            text = read_caption(caption, episodes.problems)
        elif path.stem in listed:
            text = listed[path.stem]
        else:
            text = default_prompt(data, path)
            without += 1
            if text is None:
                episodes.problems.append(f"{path}: has no caption; expected {caption}, {_OTHER_WAYS}")
        if text is not None:
            episodes.clips.append(Clip(path.stem, path, data.prompt_prefix + text))
    _report_absent(table, listed, videos, paths, episodes.problems)
    if without and data.prompt is not None:
        episodes.notes.append(f"{without} videos without a caption use data.prompt={data.prompt}")
    return episodes


def read_gr1(data: Data, folder: Path) -> Episodes:
    """List gr1/*.mp4 or videos/*.mp4 with the prompts of metadata.csv, the layout of nvidia/GR1-100.

    Raises:
        UserError: there is no metadata.csv, or no folder with videos.
    """
    table = folder / "metadata.csv"
    if not table.is_file():
        raise UserError(
            f"{folder}: no metadata.csv, which data.reader=gr1_100 requires. For videos with captions set data=folder."
        )
    episodes = Episodes()
    prompts = read_table(table, episodes.problems)
    videos = folder / "gr1"
    if (folder / "videos").is_dir() or not videos.is_dir():
        videos = folder / "videos"
    paths = list_videos(videos, episodes.problems)
    for path in paths:
        prompt = prompts.get(path.stem) or default_prompt(data, path)
        if prompt:
            episodes.clips.append(Clip(path.stem, path, data.prompt_prefix + prompt))
        else:
            episodes.problems.append(
                f"{path}: has no prompt in {table}; add a line for it, remove the video, or set data.prompt"
            )
    _report_absent(table, prompts, videos, paths, episodes.problems)
    return episodes


def _report_absent(table: Path, captions: dict[str, str], videos: Path, paths: list[Path], problems: list[str]) -> None:
    """Report the lines of a table that name no video."""
    for name in sorted(set(captions) - {path.stem for path in paths}):
        problems.append(f"{table}: lists {name}, but {videos} has no such video; remove the line")


def _videos_folder(folder: Path) -> Path:
    """videos/, or the folder itself if it has no such folder and holds videos."""
    videos = folder / "videos"
    if not videos.is_dir() and any(p.suffix.lower() in VIDEO_SUFFIXES for p in folder.iterdir()):
        return folder
    return videos


def _json_caption(path: Path, data: Data, problems: list[str]) -> str | None:
    """The caption that data.caption_model and data.caption_length choose from {model: {length: caption}}."""
    text = read_text_of(path, problems)
    if text is None:
        return None
    try:
        captions = json.loads(text)
        lengths = captions[data.caption_model or next(iter(captions))]
        length = data.caption_length or next(k for k in ("long", "short", "medium", *lengths) if k in lengths)
        caption = lengths[length]
    except (ValueError, LookupError, TypeError, StopIteration, RecursionError) as error:
        problems.append(
            f"{path}: no caption of model {data.caption_model or '(first)'}, length {data.caption_length or '(first)'}"
            f" ({type(error).__name__}: {error}); set data.caption_model and data.caption_length to ones in the file"
        )
        return None
    return usable_caption(path, caption.strip() if isinstance(caption, str) else "", problems)
