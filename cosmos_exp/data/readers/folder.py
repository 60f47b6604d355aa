"""Readers of folders of videos: `folder` (metas/NAME.txt, captions/NAME.json or captions.csv) and `gr1_100` (metadata.csv)."""

from __future__ import annotations

import mimetypes
import unicodedata
from collections import Counter
from pathlib import Path

from cosmos_exp.config.schema import Data
from cosmos_exp.data.readers.captions import default_prompt, read_caption, read_json_caption, read_table, video_name
from cosmos_exp.data.readers.records import VIDEO_SUFFIXES, Clip, Episodes
from cosmos_exp.errors import RunError, UserError

# Files in which other trainers keep captions; read is the one table of the layout.
TABLE_NAMES = ("caption", "captions", "metadata", "prompts", "videos")
TABLE_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".txt", ".parquet", ".xlsx")


def read_folder(data: Data, folder: Path) -> Episodes:
    """List videos/* with their captions; without a folder videos/, the videos of the folder itself.

    The caption of a video is captions/NAME.json, else metas/NAME.txt, else NAME.txt beside it, else its line in captions.csv,
    else data.prompt.

    Raises:
        UserError: there are no videos, or captions.csv is no table.
    """
    videos = folder / "videos"
    if not videos.is_dir() and any(p.suffix.lower() in VIDEO_SUFFIXES for p in folder.iterdir()):
        videos = folder
    return _list(data, folder, videos, folder / "captions.csv")


def read_gr1(data: Data, folder: Path) -> Episodes:
    """List gr1/*.mp4 or videos/*.mp4 with the prompts of metadata.csv, the layout of nvidia/GR1-100.

    Raises:
        UserError: there is no metadata.csv, or no folder with videos.
    """
    table, videos = folder / "metadata.csv", folder / "gr1"
    if not table.is_file():
        raise UserError(
            f"{folder}: no metadata.csv, which data.reader=gr1_100 requires. For videos with captions set data=folder."
        )
    try:
        return _list(data, folder, videos if videos.is_dir() else folder / "videos", table)
    except UserError as error:
        raise UserError(
            f"{error}. The reader is gr1_100, which reads metadata.csv; set data=folder to read metas/*.txt or captions.csv"
        ) from error


def _list(data: Data, folder: Path, videos: Path, table: Path) -> Episodes:
    if not videos.is_dir():
        raise UserError(
            f"{videos}: no such folder; expected videos/*.mp4 with metas/*.txt, captions/*.json or captions.csv"
        )
    episodes, listed = Episodes(), dict[str, str]()
    if table.is_file():
        listed = read_table(table, episodes.problems, {video_name(path.name) for path in videos.iterdir()})
    paths: dict[str, Path] = {}
    for path in sorted(videos.iterdir()):
        if path.suffix.lower() not in VIDEO_SUFFIXES or path.name.startswith("._"):  # macOS: no video, but its tags
            continue
        other = paths.setdefault(path.stem, path)
        try:
            if not path.is_file():
                raise RunError(f"{path}: no file, or a link that is broken or circular; remove or replace it")
            if path.name.encode(errors="replace").decode() != path.name:
                raise RunError(f"{path}: its name is not UTF-8; rename it")
            if other != path:
                raise RunError(f"{path}: same name as {other.name}; rename one, a caption belongs to one video")
            prompt = (
                _caption(data, folder, path) or listed.get(video_name(path.name)) or default_prompt(data, path.stem)
            )
            if not prompt:
                raise RunError(
                    f"{path}: has no caption; write metas/{path.stem}.txt, or a line FILE,CAPTION in {table}, or set "
                    "data.prompt=TEXT for all videos (file_name: the file's own name)"
                )
        except RunError as error:
            episodes.problems.append(str(error))
        else:
            episodes.clips.append(Clip(path.stem, path, data.prompt_prefix + prompt))
    left_out, read = Counter[str](), set(paths.values())
    for path in videos.rglob("*"):
        kind = mimetypes.guess_type(path.name)[0] or ""
        if path not in read and (path.suffix.lower() in VIDEO_SUFFIXES or kind.startswith("video/")):
            left_out[f"{path.parent.relative_to(videos)}/*{path.suffix}"] += 1
    for where, count in sorted(left_out.items()):
        episodes.notes.append(
            f"{videos}: {count} videos {where} are left out; read are {', '.join(VIDEO_SUFFIXES)} in the folder itself"
        )
    unread = []
    for path in sorted([*folder.glob("*.*"), *videos.glob("*.*"), *(folder / "metas").glob("*.*")]):
        ending = path.suffix.lower()
        is_table = path.stem.lower() in TABLE_NAMES and ending in TABLE_SUFFIXES and path != table
        if is_table or (ending == ".txt" != path.suffix and path.stem in paths):
            unread.append(path.name)
    if unread:
        episodes.notes.append(
            f"{folder}: {len(set(unread))} files are not read as captions ({', '.join(dict.fromkeys(unread))[:80]}); "
            "read are metas/NAME.txt, NAME.txt, captions/NAME.json and captions.csv"
        )
    for name in sorted(listed.keys() - set(map(video_name, paths))):
        episodes.problems.append(f"{table}: lists {name}, but {videos} has no such video; remove the line")
    return episodes


def _caption(data: Data, folder: Path, path: Path) -> str | None:
    """The caption in a file of its own; None: there is no such file."""
    for kind in (path.stem, *(unicodedata.normalize(form, path.stem) for form in ("NFC", "NFD"))):
        captions = folder / "captions" / f"{kind}.json"
        if captions.exists():
            return read_json_caption(captions, data)
        for file in (folder / "metas" / f"{kind}.txt", path.with_name(f"{kind}.txt")):
            if file.exists():
                return read_caption(file)
    return None
