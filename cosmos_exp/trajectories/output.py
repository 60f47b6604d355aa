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

from cosmos_exp.config.schema import Config
from cosmos_exp.config.tiling import tiling_of
from cosmos_exp.data.video import read_video, write_image
from cosmos_exp.errors import RunError
from cosmos_exp.files import JsonObject, file_sha256, write_json, write_text
from cosmos_exp.hub import is_path
from cosmos_exp.report.sheet import Column, draw_sheet
from cosmos_exp.text import markdown, one_line, plain_json, redacted
from cosmos_exp.tracking.progress import with_progress
from cosmos_exp.trajectories.lerobot_set import INFO, Episode, Layout, write_set
from cosmos_exp.trajectories.making import Demonstration, Made, Scored, Store, rate_note, write_demonstrations
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


def write_output(made: Made, store: Store, show: bool = True) -> JsonObject:
    """Write everything into the data set's folder, in place of what an earlier request left there.

    Returns:
        the content of trajectories.json.

    Raises:
        RunError: the inverse dynamics model fails on a video.
    """
    job, out, kept = made.job, store.out, made.selection.kept
    (out / INFO).unlink(missing_ok=True)  # until the new set is complete there is none
    demonstrations: list[Demonstration] = []
    note = None
    if job.request.with_real:
        assert job.prompts.dataset is not None
        demonstrations = write_demonstrations(job.config, job.prompts.dataset, store)
        note = rate_note(job.config, job.prompts.dataset)
    _write_frames(out / FRAMES, kept)
    measures = list(dict.fromkeys(measure for scored in kept for measure in scored.scores))
    episodes = _episodes(job, demonstrations, kept, measures)
    actions: tuple[str, ...] = ()
    if job.idm:
        actions = tuple(job.idm.declared.actions)
        episodes = _with_actions(job, episodes, show)
    summary = _summary(made, len(demonstrations), note)
    write_json(out / SUMMARY, summary)
    draw_sheet(*_sheet(made), out / SHEET)
    write_text(out / CARD, _card(summary, out.resolve().name))
    columns = COLUMNS | {f"scores/{measure}": float for measure in measures}
    write_set(out, episodes, Layout(camera_name(job.config), job.config.generation.fps, actions, columns), show)
    return summary


def camera_name(config: Config) -> str:
    """The video feature: the camera of a LeRobot source, so that both sets can be merged."""
    if tiling_of(config.data).tiles > 1:
        return "observation.images.tiled"
    return config.data.camera or "observation.images.main"


def _write_frames(folder: Path, kept: Sequence[Scored]) -> None:
    """Write the first frame of each kept prompt, as the model saw it."""
    shutil.rmtree(folder, ignore_errors=True)
    starts = {scored.candidate.start.sha256: scored.candidate.start for scored in kept}
    for digest, start in starts.items():
        write_image(folder / f"{digest[:12]}.png", start.frames[0])


def _episodes(
    job: Job, demonstrations: Sequence[Demonstration], kept: Sequence[Scored], measures: Sequence[str]
) -> list[Episode]:
    """The original demonstrations, then the kept videos in the order in which they were made."""
    prefix = job.config.data.prompt_prefix
    episodes = []
    for clip in demonstrations:
        notes = {"source": "real", "prompt": clip.prompt, "sample": clip.name, "video_sha256": file_sha256(clip.video)}
        episodes.append(Episode(clip.video, clip.prompt.removeprefix(prefix), None, notes))
    for scored in kept:
        run, start = scored.candidate.run, scored.candidate.start
        columns: dict[str, str | int | float | None] = {
            "source": "generated",
            "run": run.name,
            "adapter": run.label,
            "adapter_sha256": run.sha256,
            "seed": scored.candidate.seed,
            "prompt": start.pair.prompt,
            "sample": start.pair.name,
            "scene": start.scene,
            "source_frame": f"{FRAMES}/{start.sha256[:12]}.png",
            "source_frame_sha256": start.sha256,
            "video_sha256": file_sha256(scored.video),
        }
        for measure in measures:
            columns[f"scores/{measure}"] = scored.scores.get(measure)
        episodes.append(Episode(scored.video, start.pair.prompt.removeprefix(prefix), None, columns))
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


def _sheet(made: Made) -> tuple[list[Column], list[str]]:
    """The columns and rows of the contact sheet: of the first prompts with a kept video, some kept ones and a dropped one."""
    kept: dict[str, list[Path | None]] = {}
    dropped: dict[str, list[Path | None]] = {}
    for outcome in made.selection.outcomes:
        videos = dropped if outcome.reason else kept
        videos.setdefault(outcome.scored.candidate.start.pair.prompt, []).append(outcome.scored.video)
    prompts = list(kept)[:SHEET_PROMPTS]
    rows = min(SHEET_KEPT, max(len(kept[prompt]) for prompt in prompts))
    below = min(SHEET_DROPPED, max(len(dropped.get(prompt, [])) for prompt in prompts))
    columns = []
    for prompt in prompts:
        upper, lower = kept[prompt][:rows], dropped.get(prompt, [])[:below]
        upper += [None] * (rows - len(upper))
        lower += [None] * (below - len(lower))
        columns.append(Column(prompt, [*upper, *lower]))
    return columns, ["kept"] * rows + ["dropped"] * below


def _summary(made: Made, demonstrations: int, note: str | None) -> JsonObject:
    """The content of trajectories.json: every figure of the card."""
    job, config, generation = made.job, made.job.config, made.job.config.generation
    source = config.model.source
    videos = _videos(made)
    effects = made.effects.rename_axis("figure").reset_index().astype(object)
    content: JsonObject = {
        "request": job.request.recorded(),
        "model": {
            "name": config.model.name,
            "source": Path(source).name if is_path(source) else source,  # without the folders of this machine
            "fingerprints": job.fingerprints,
        },
        "judge": config.judge.name,
        "video": {"fps": generation.fps, "steps": generation.num_steps, "guidance_scale": generation.guidance_scale},
        "chunks": None,
        "seeds": sorted({candidate.seed for candidate in job.candidates}),
        "planned": len(job.candidates),
        "made": len(videos),
        "kept": int(videos["kept"].sum()),
        "dropped": made.selection.dropped(),
        "runs": _counts(videos, ["name", "adapter", "adapter_sha256"]),
        "prompts": _counts(videos, ["sample", "scene", "prompt"]),
        "real": demonstrations,
        "actions": None,
        "effects": effects.where(effects.notna(), None).to_dict("records"),
        "notes": [note] if note else [],
    }
    if generation.chunks > 1:
        content["chunks"] = {"count": generation.chunks, "frames": config.data.num_frames}
    if job.idm:
        content["actions"] = {"names": list(job.idm.declared.actions), "sha256": job.idm.sha256}
    return plain_json(redacted(content))


def _videos(made: Made) -> pd.DataFrame:
    """One row per made video: its run, its prompt, and whether it is kept."""
    rows = []
    for outcome in made.selection.outcomes:
        run, start = outcome.scored.candidate.run, outcome.scored.candidate.start
        rows.append(
            (run.name, run.label, run.sha256, start.pair.name, start.scene, start.pair.prompt, not outcome.reason)
        )
    columns = ["name", "adapter", "adapter_sha256", "sample", "scene", "prompt", "kept"]
    return pd.DataFrame(rows, columns=columns)


def _counts(videos: pd.DataFrame, by: list[str]) -> list[JsonObject]:
    """How many videos of each run or prompt were made and kept."""
    counts = videos.groupby(by, sort=False)["kept"].agg(made="size", kept="sum").reset_index()
    return counts.to_dict("records")


class _Code(str):
    """Text inside a code span of Markdown, where nothing is a tag."""


def _card(summary: JsonObject, name: str) -> str:
    """The data set card: README.md with the header that the hub reads.

    Args:
        summary: content of trajectories.json.
        name: of the data set's folder.
    """
    episodes = summary["kept"] + summary["real"]
    size = next((text for limit, text in SIZES.items() if episodes < limit), "100K<n<1M")
    data = DatasetCardData(
        pretty_name=name,
        task_categories=["robotics"],
        tags=["LeRobot", "synthetic", "world-model", "cosmos_exp"],
        size_categories=[size],
        configs=[{"config_name": "default", "data_files": "data/*/*.parquet"}],
    )
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, finalize=_plain, autoescape=False)
    environment.filters["code"] = lambda text: _Code(one_line(text).replace("`", "'").replace("|", "\\|"))
    body = environment.from_string(TEMPLATE.read_text()).render(summary, name=name, draws=DRAWS)
    return str(DatasetCard(f"---\n{data.to_yaml()}\n---\n\n{body}"))


def _plain(value: Any) -> Any:  # Any: whatever the template shows
    """Text of a record for a line or a cell: no markup, no line breaks."""
    if isinstance(value, str) and not isinstance(value, _Code):
        return markdown(one_line(value)).replace("|", "\\|")
    return value
