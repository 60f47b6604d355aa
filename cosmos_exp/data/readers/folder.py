"""Reader `folder`: videos/NAME.mp4 with metas/NAME.txt or captions/NAME.json."""

from __future__ import annotations

import json
from pathlib import Path

from cosmos_exp.config.schema import Data
from cosmos_exp.data.readers.records import Clip, Episodes, list_videos, read_caption


def read_folder(data: Data, folder: Path) -> Episodes:
    """List videos/ with their captions. A folder captions/ is used before metas/.

    Raises:
        UserError: there is no folder videos/.
    """
    found = Episodes()
    paths = list_videos(folder / "videos", found.problems)
    as_json = (folder / "captions").is_dir()
    captions, suffix = (folder / "captions", ".json") if as_json else (folder / "metas", ".txt")
    for path in paths:
        caption = captions / (path.stem + suffix)
        if not caption.exists():
            found.problems.append(f"{path}: has no caption; expected {caption}")
            continue
        text = _json_caption(caption, data, found.problems) if as_json else read_caption(caption, found.problems)
        if text is not None:
            found.clips.append(Clip(path.stem, path, data.prompt_prefix + text))
    return found


def _json_caption(path: Path, data: Data, problems: list[str]) -> str | None:
    """The caption that data.caption_model and data.caption_length choose from {model: {length: caption}}."""
    text = read_caption(path, problems)
    if text is None:
        return None
    try:
        captions = json.loads(text)
        model = data.caption_model or next(iter(captions))
        lengths = captions[model]
        length = data.caption_length or next(k for k in ("long", "short", "medium", *lengths) if k in lengths)
        caption = lengths[length]
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        problems.append(
            f"{path}: no caption of model {data.caption_model or '(first)'}, length {data.caption_length or '(first)'}"
            f" ({type(error).__name__}: {error}); set data.caption_model and data.caption_length to ones in the file"
        )
        return None
    if not isinstance(caption, str) or not caption.strip():
        problems.append(f"{path}: the caption is empty; write one or remove the video")
        return None
    return caption.strip()
