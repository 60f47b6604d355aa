"""Reader `gr1_100`: metadata.csv (file name, prompt) beside gr1/*.mp4 or videos/*.mp4, the layout of nvidia/GR1-100."""

from __future__ import annotations

from pathlib import Path

from cosmos_exp.config.schema import Data
from cosmos_exp.data.readers.caption_tables import default_prompt, read_table
from cosmos_exp.data.readers.records import Clip, Episodes, list_videos
from cosmos_exp.errors import UserError


def read_gr1(data: Data, folder: Path) -> Episodes:
    """List the videos with the prompts of metadata.csv.

    Raises:
        UserError: there is no metadata.csv, or no folder with videos.
    """
    table = folder / "metadata.csv"
    if not table.is_file():
        raise UserError(
            f"{folder}: no metadata.csv, which data.reader=gr1_100 requires. For videos with captions set data=folder."
        )
    found = Episodes()
    prompts = read_table(table, found.problems)
    videos = next((folder / n for n in ("videos", "gr1") if (folder / n).is_dir()), folder / "videos")
    paths = list_videos(videos, found.problems)
    for path in paths:
        prompt = prompts.get(path.stem) or default_prompt(data, path)
        if prompt:
            found.clips.append(Clip(path.stem, path, data.prompt_prefix + prompt))
        else:
            found.problems.append(
                f"{path}: has no prompt in {table}; add a line for it, remove the video, or set data.prompt"
            )
    for stem in sorted(set(prompts) - {p.stem for p in paths}):
        found.problems.append(f"{table}: lists {stem}, but {videos} has no such video")
    return found
