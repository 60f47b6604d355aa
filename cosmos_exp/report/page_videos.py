"""The videos of the page: by scene and prompt, with a picture of each to show before it plays.

Few videos are inside of the page, so that it is one file. Of many only the pictures are beside it, in `page_files`, and the
videos are played from the run folders: the page stays small whatever the number of runs.
"""

from __future__ import annotations

import base64
import io
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import av
import pandas as pd
from PIL import Image

from cosmos_exp.report.study import Study
from cosmos_exp.report.tables import number

MOST_INSIDE = 300  # videos inside of a page
MOST_MIB = 100  # of them
WIDEST = 320  # pixels of a picture
PICTURES = "page_files"
REAL = -1  # the column of the recordings


@dataclass(frozen=True)
class Clip:
    """A video as the page needs it.

    Attributes:
        video: Its address.
        picture: The address of its middle frame.
        frames, fps: As the file has them.
    """

    video: str
    picture: str
    frames: int
    fps: float


@dataclass(frozen=True)
class Cell:
    """One video on the page.

    Attributes:
        column: Position of the arm; `REAL` for the recording.
        run: Training seed of its run.
        seed: Generation seed; None for the recording.
        scores: Each measure with its value as text.
        reasons: Each measure with the judge's answer, or why there is no value.
    """

    column: int
    run: int
    seed: int | None
    clip: Clip | None
    scores: dict[str, str]
    reasons: dict[str, str]


@dataclass(frozen=True)
class Prompt:
    """The videos of one prompt: the recording if there is one, then those of each arm."""

    sample: str
    text: str
    cells: list[Cell]


@dataclass
class Scene:
    """Prompts with the same first frame. `first` is the address of that frame; empty if there is no video."""

    first: str = ""
    prompts: list[Prompt] = field(default_factory=list)


def scenes_with_videos(study: Study, out: Path) -> tuple[list[Scene], bool]:
    """Every scored prompt with its videos.

    Args:
        out: The folder of the page. Pictures that an earlier page left there are removed.

    Returns:
        The scenes, and whether the page holds the videos itself.
    """
    shutil.rmtree(out / PICTURES, ignore_errors=True)
    rows = _shown_rows(study)
    sizes = []
    for run, video in set(zip(rows["run"], rows["video"], strict=True)):
        file = study.records[run].folder.recorded(video)
        if file.is_file():
            sizes.append(file.stat().st_size)
    store = _Store(out, inside=len(sizes) <= MOST_INSIDE and sum(sizes) <= MOST_MIB * 2**20)
    scenes: dict[str, Scene] = {}
    for (_, prompt), of_prompt in rows.groupby(["scene", "prompt"]):
        scene = scenes.setdefault(of_prompt["scene"].iloc[0], Scene())
        cells = []
        for _, of_video in of_prompt.groupby(["column", "run", "noise"], sort=False):
            cell, first = _cell(of_video, study, store, not scene.first)
            scene.first = scene.first or first
            cells.append(cell)
        scene.prompts.append(Prompt(prompt, of_prompt["text"].iloc[0], cells))
    return list(scenes.values()), store.inside


def _shown_rows(study: Study) -> pd.DataFrame:
    """The scores of the arms, with those of the recordings of the same prompts, in the order of the columns."""
    columns = pd.Series(range(len(study.arms)), study.arms.index)
    columns["real"] = REAL
    rows = study.scores.assign(column=study.scores["arm"].map(columns)).dropna(subset=["column"])
    generated = rows.loc[rows["column"] != REAL, "prompt"]
    rows = rows[rows["prompt"].isin(set(generated))].astype({"column": int})
    return rows.sort_values(["column", "seed", "noise"], kind="stable")


def _cell(rows: pd.DataFrame, study: Study, store: _Store, with_first: bool) -> tuple[Cell, str]:
    """The cell of the scores of one video, and the address of its first frame if that is asked for."""
    scores, reasons = {}, {}
    for row in rows.itertuples():
        scores[row.measure] = number(row.value)
        if why := row.detail.get("answer") or row.reason:
            reasons[row.measure] = str(why)[:600]
    video = rows.iloc[0]
    clip, first = store.clip(study.records[video["run"]].folder.recorded(video["video"]), with_first)
    seed = None if video["column"] == REAL else int(video["noise"])
    return Cell(int(video["column"]), int(video["seed"]), seed, clip, scores, reasons), first


@dataclass
class _Store:
    """Where the page finds videos and pictures."""

    out: Path
    inside: bool
    pictures: int = 0

    def clip(self, file: Path, with_first: bool) -> tuple[Clip | None, str]:
        """A video, None if it is missing or cannot be read; and the address of its first frame if that is asked for."""
        try:
            with av.open(str(file)) as container:
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                length, fps = stream.frames, float(stream.average_rate or 8)
                first, middle = "", None
                for index, frame in enumerate(container.decode(stream)):
                    if with_first and not first:
                        first = self.picture(frame.to_image())
                    middle = frame
                    if index >= length // 2 > 0:
                        break
                if middle is None:
                    return None, ""
                picture = self.picture(middle.to_image())
        except (OSError, IndexError, ValueError, av.error.FFmpegError):
            return None, ""
        address = link_to(file, self.out)
        if self.inside:
            address = data_url(file.read_bytes(), "video/mp4")
        return Clip(address, picture, length or index + 1, round(fps, 6)), first

    def picture(self, image: Image.Image) -> str:
        """The address of a picture, at most `WIDEST` pixels wide."""
        image.thumbnail((WIDEST, WIDEST))
        content = io.BytesIO()
        image.save(content, "JPEG", quality=80)
        if self.inside:
            return data_url(content.getvalue(), "image/jpeg")
        self.pictures += 1
        file = self.out / PICTURES / f"{self.pictures}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.getvalue())
        return link_to(file, self.out)


def data_url(content: bytes, kind: str) -> str:
    """Bytes as a data URL."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def link_to(file: Path, out: Path) -> str:
    """A relative link: never a scheme, a host or a script, whatever the name is."""
    return quote(Path(os.path.relpath(file, out)).as_posix())
