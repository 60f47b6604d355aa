"""Reader `folder`: videos/NAME.mp4 with metas/NAME.txt, captions/NAME.json or captions.csv, or data.prompt for all."""

from __future__ import annotations

import json
from pathlib import Path

from cosmos_exp.config.schema import Data
from cosmos_exp.data.readers.caption_tables import default_prompt, read_table
from cosmos_exp.data.readers.records import (
    VIDEO_SUFFIXES,
    Clip,
    Episodes,
    list_videos,
    read_caption,
    read_text_of,
    whole_text,
)

TABLE = "captions.csv"
_OTHER_WAYS = f"a line FILE,CAPTION in {TABLE}, or data.prompt=TEXT for all videos (file_name: the file's own name)"


def read_folder(data: Data, folder: Path) -> Episodes:
    """List the videos with their captions. A folder captions/ is used before metas/, and either before captions.csv.

    Without a folder videos/, the videos of the folder itself are used.

    Raises:
        UserError: there are no videos, or captions.csv is no table.
    """
    found = Episodes()
    videos = _videos_folder(folder)
    paths = list_videos(videos, found.problems)
    as_json = (folder / "captions").is_dir()
    captions, suffix = (folder / "captions", ".json") if as_json else (folder / "metas", ".txt")
    if not captions.is_dir() and videos == folder:
        captions = folder
    table = folder / TABLE
    listed = read_table(table, found.problems) if table.is_file() else {}
    without = 0
    for path in paths:
        caption = captions / (path.stem + suffix)
        if caption.exists():
            text = _json_caption(caption, data, found.problems) if as_json else read_caption(caption, found.problems)
        else:
            text = listed.get(path.stem) or default_prompt(data, path)
            without += path.stem not in listed
            if text is None:
                found.problems.append(f"{path}: has no caption; expected {caption}, {_OTHER_WAYS}")
        if text is not None:
            found.clips.append(Clip(path.stem, path, data.prompt_prefix + text))
    absent = sorted(set(listed) - {p.stem for p in paths})
    found.problems += [f"{table}: lists {name}, but {videos} has no such video; remove the line" for name in absent]
    if without and data.prompt is not None:
        found.notes.append(f"{without} videos without a caption use data.prompt={data.prompt}")
    return found


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
        model = data.caption_model or next(iter(captions))
        lengths = captions[model]
        length = data.caption_length or next(k for k in ("long", "short", "medium", *lengths) if k in lengths)
        caption = lengths[length]
    except (ValueError, LookupError, TypeError, StopIteration, RecursionError) as error:
        problems.append(
            f"{path}: no caption of model {data.caption_model or '(first)'}, length {data.caption_length or '(first)'}"
            f" ({type(error).__name__}: {error}); set data.caption_model and data.caption_length to ones in the file"
        )
        return None
    if not isinstance(caption, str) or not caption.strip():
        problems.append(f"{path}: the caption is empty; write one or remove the video")
        return None
    return whole_text(path, caption.strip(), problems)
