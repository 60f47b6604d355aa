"""Readers: from a folder on disk to clips and test pairs. They list every problem they see and invent nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cosmos_exp.data.readers.records import Clip, Episodes, _text, _videos


def _json_caption(path: Path, data: Any, found: Episodes) -> str | None:
    text = _text(path, found)
    if text is None:
        return None
    try:
        captions = json.loads(text)
        model = data.caption_model or next(iter(captions))
        lengths = captions[model]
        length = data.caption_length or next(k for k in ("long", "short", "medium", *lengths) if k in lengths)
        caption = lengths[length]
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        found.problems.append(
            f"{path}: no caption of model {data.caption_model or '(first)'}, length {data.caption_length or '(first)'}"
            f" ({type(error).__name__}: {error}); set data.caption_model and data.caption_length to what is there"
        )
        return None
    if not isinstance(caption, str) or not caption.strip():
        found.problems.append(f"{path}: the caption is empty; write one or remove the video")
        return None
    return caption.strip()


def _folder(data: Any, folder: Path) -> Episodes:
    found = Episodes()
    paths = _videos(folder / "videos", found)
    as_json = (folder / "captions").is_dir()
    captions, end = (folder / "captions", ".json") if as_json else (folder / "metas", ".txt")
    for path in paths:
        caption = captions / (path.stem + end)
        if not caption.exists():
            found.problems.append(f"{path}: has no caption; expected {caption}")
            continue
        text = _json_caption(caption, data, found) if as_json else _text(caption, found)
        if text is not None:
            found.clips.append(Clip(path.stem, path, data.prompt_prefix + text))
    return found
