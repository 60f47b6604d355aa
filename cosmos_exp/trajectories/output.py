"""The data set's folder: episodes in the LeRobot layout, first frames, contact sheet, figures (trajectories.json) and card."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from huggingface_hub import DatasetCard, DatasetCardData
from markupsafe import Markup

from cosmos_exp.config.schema import Config
from cosmos_exp.config.tiling import tiling_of
from cosmos_exp.data.clips import CheckedClip
from cosmos_exp.data.video import read_video, write_image
from cosmos_exp.errors import RunError
from cosmos_exp.files import JsonObject, file_sha256, write_json, write_text
from cosmos_exp.hub import is_path
from cosmos_exp.report.sheet import Column, draw_sheet
from cosmos_exp.text import markdown, one_line, plain_json, redacted
from cosmos_exp.tracking.progress import with_progress
from cosmos_exp.trajectories.lerobot_set import INFO, Episode, Layout, write_set
from cosmos_exp.trajectories.making import WORK, Made, rate_notes, write_demonstrations
from cosmos_exp.trajectories.plan import Job
from cosmos_exp.trajectories.selection import DRAWS

SUMMARY, CARD, SHEET, FRAMES = "trajectories.json", "README.md", "contact_sheet.png", "source_frames"
TEMPLATE = Path(__file__).parent / "card.md.j2"
SHEET_PROMPTS, SHEET_KEPT, SHEET_DROPPED = 4, 3, 1
SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K"}
COLUMNS: dict[str, type] = {
    "source": str,
    "run": str,
    "adapter": str,
    "adapter_sha256": str,
    "seed": int,
    "prompt": str,
    "sample": str,
    "scene": str,
    "source_frame": str,
    "source_frame_sha256": str,
    "video_sha256": str,
}


def write_output(made: Made, out: Path, show: bool = True) -> JsonObject:
    """Write everything into the data set's folder, in place of what an earlier request left there.

    Returns:
        the content of trajectories.json.

    Raises:
        RunError: the inverse dynamics model fails on a video.
    """
    job, config = made.job, made.job.config
    (out / INFO).unlink(missing_ok=True)  # until the new set is complete there is none
    clips: list[CheckedClip] = []
    if job.request.with_real:  # the test stays out
        assert job.prompts.dataset is not None
        clips = job.prompts.dataset.train + job.prompts.dataset.validation
    is_kept = made.selection.videos["reason"].isna()
    kept, scores = made.selection.videos[is_kept], made.selection.scores[is_kept].dropna(axis=1, how="all")
    shutil.rmtree(out / FRAMES, ignore_errors=True)
    for start in job.prompts.starts.values():  # the first frame of each kept prompt, as the model saw it
        if start.sha256 in set(kept["source_frame_sha256"]):
            write_image(out / _frame_file(start.sha256), start.frames[0])
    scores = scores.add_prefix("scores/")
    episodes = [*_original(config, clips, out / WORK), *_generated(config, kept.join(scores))]
    actions: tuple[str, ...] = ()
    if job.idm:
        actions = tuple(job.idm.declared.actions)
        episodes = _with_actions(job, episodes, show)
    summary = _summary(made, len(clips), rate_notes(config, clips))
    write_json(out / SUMMARY, summary)
    draw_sheet(*_sheet(made.selection.videos), out / SHEET)
    write_text(out / CARD, _card(summary, out.resolve().name))
    columns = COLUMNS | dict.fromkeys(scores.columns, float)
    write_set(out, episodes, Layout(camera_name(config), config.generation.fps, actions, columns), show)
    return summary


def camera_name(config: Config) -> str:
    """The video feature: the camera of a LeRobot source, so that both sets can be merged."""
    if tiling_of(config.data).tiles > 1:
        return "observation.images.tiled"
    return config.data.camera or "observation.images.main"


def _frame_file(sha256: str) -> str:
    return f"{FRAMES}/{sha256[:12]}.png"


def _original(config: Config, clips: Sequence[CheckedClip], store: Path) -> list[Episode]:
    """The original demonstrations."""
    episodes = []
    for clip, video in zip(clips, write_demonstrations(config, clips, store), strict=True):
        name, prompt = clip.clip.name, clip.clip.prompt
        notes = {"source": "real", "prompt": prompt, "sample": name, "video_sha256": file_sha256(video)}
        episodes.append(Episode(video, prompt.removeprefix(config.data.prompt_prefix), None, notes))
    return episodes


def _generated(config: Config, kept: pd.DataFrame) -> list[Episode]:
    """The kept videos, in the order in which they were made."""
    episodes = []
    for video in kept.astype(object).where(kept.notna(), None).to_dict("records"):
        video["source"], video["source_frame"] = "generated", _frame_file(video["source_frame_sha256"])
        video["video_sha256"] = file_sha256(video["video"])
        episodes.append(Episode(video["video"], video["prompt"].removeprefix(config.data.prompt_prefix), None, video))
    return episodes


def _with_actions(job: Job, episodes: Sequence[Episode], show: bool) -> list[Episode]:
    """The episodes with the actions that the inverse dynamics model infers from their pictures."""
    assert job.idm is not None
    acted = []
    for episode in with_progress(episodes, "inferring actions", len(episodes), "episode", show):
        try:
            acted.append(replace(episode, actions=job.idm.actions(read_video(episode.video))))
        except RunError as error:
            raise RunError(f"--actions {job.request.actions}: {episode.video.name}: {error}") from error
    return acted


def _sheet(videos: pd.DataFrame) -> tuple[list[Column], list[str]]:
    """The columns and rows of the contact sheet: of the first prompts with a kept video, some kept ones and a dropped one."""
    is_kept = videos["reason"].isna()
    prompts = videos.loc[is_kept, "prompt"].unique()[:SHEET_PROMPTS]
    cells = {}
    for prompt in prompts:
        of_prompt = videos["prompt"] == prompt
        kept, dropped = videos.loc[of_prompt & is_kept, "video"], videos.loc[of_prompt & ~is_kept, "video"]
        cells[prompt] = list(kept[:SHEET_KEPT]), list(dropped[:SHEET_DROPPED])
    sizes = pd.DataFrame(cells).map(len).max(axis=1)
    columns = []
    for prompt, parts in cells.items():
        column: list[Path | None] = []
        for part, size in zip(parts, sizes, strict=True):
            column += part + [None] * (size - len(part))
        columns.append(Column(prompt, column))
    return columns, ["kept"] * sizes[0] + ["dropped"] * sizes[1]


def _summary(made: Made, demonstrations: int, notes: list[str]) -> JsonObject:
    """The content of trajectories.json: every figure of the card."""
    job, config, generation = made.job, made.job.config, made.job.config.generation
    source = config.model.source
    if is_path(source):
        source = Path(source).name  # without the folders of this machine
    videos = made.selection.videos
    videos["kept"] = videos["reason"].isna()
    effects = made.effects.rename_axis("figure").reset_index().astype(object)
    content: JsonObject = {
        "request": job.request.recorded(),
        "model": {"name": config.model.name, "source": source, "fingerprints": job.fingerprints},
        "judge": config.judge.name,
        "video": {"fps": generation.fps, "steps": generation.num_steps, "guidance_scale": generation.guidance_scale},
        "chunks": None,
        "seeds": sorted(job.candidates["seed"].unique().tolist()),
        "planned": len(job.candidates),
        "made": len(videos),
        "kept": made.selection.kept,
        "dropped": made.selection.dropped(),
        "runs": _counts(videos, ["run", "adapter", "adapter_sha256"]),
        "prompts": _counts(videos, ["sample", "scene", "prompt"]),
        "real": demonstrations,
        "actions": None,
        "effects": effects.where(effects.notna(), None).to_dict("records"),
        "notes": notes,
    }
    if generation.chunks > 1:
        content["chunks"] = {"count": generation.chunks, "frames": config.data.num_frames}
    if job.idm:
        content["actions"] = {"names": list(job.idm.declared.actions), "sha256": job.idm.sha256}
    return plain_json(redacted(content))


def _counts(videos: pd.DataFrame, by: list[str]) -> list[JsonObject]:
    """How many videos of each run or prompt were made and kept."""
    counts = videos.groupby(by, sort=False)["kept"].agg(made="size", kept="sum").reset_index()
    return counts.to_dict("records")


def _card(summary: JsonObject, name: str) -> str:
    """The data set card: README.md with the header that the hub reads.

    Args:
        summary: content of trajectories.json.
        name: of the data set's folder.
    """
    episodes = summary["kept"] + summary["real"]
    data = DatasetCardData(
        pretty_name=name,
        task_categories=["robotics"],
        tags=["LeRobot", "synthetic", "world-model", "cosmos_exp"],
        size_categories=[next((size for most, size in SIZES.items() if episodes < most), "100K<n<1M")],
        configs=[{"config_name": "default", "data_files": "data/*/*.parquet"}],
    )
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, finalize=_plain, autoescape=False)
    environment.filters["code"] = lambda text: Markup(one_line(text).replace("`", "'").replace("|", "\\|"))
    body = environment.from_string(TEMPLATE.read_text()).render(summary, name=name, draws=DRAWS)
    return str(DatasetCard(f"---\n{data.to_yaml()}\n---\n\n{body}"))


def _plain(value: Any) -> Any:  # Any: whatever the template shows
    """Text of a record for a line or a cell: no markup, no line breaks. Text inside a code span is `Markup`."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return markdown(one_line(value)).replace("|", "\\|")
    return value
