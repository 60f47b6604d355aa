"""The data set's folder: episodes in the LeRobot layout, first frames, contact sheet, figures and card."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cosmos_exp.config.schema import Config
from cosmos_exp.config.tiling import tiling_of
from cosmos_exp.data.video import read_video, write_image
from cosmos_exp.errors import RunError
from cosmos_exp.files import JsonObject, file_sha256, write_json, write_text
from cosmos_exp.hub import is_path
from cosmos_exp.report.sheet import Column, draw_sheet
from cosmos_exp.text import plain_json, redacted
from cosmos_exp.tracking.progress import with_progress
from cosmos_exp.trajectories.card import card
from cosmos_exp.trajectories.demonstrations import Demonstration, rate_note, write_demonstrations
from cosmos_exp.trajectories.lerobot_set import INFO, Episode, Layout, write_set
from cosmos_exp.trajectories.making import Scored, Store
from cosmos_exp.trajectories.plan import by_prompt
from cosmos_exp.trajectories.run import Job, Made

SUMMARY, CARD, SHEET, FRAMES = "trajectories.json", "README.md", "contact_sheet.png", "source_frames"
FORMAT = 1  # of trajectories.json
SHEET_PROMPTS, SHEET_KEPT, SHEET_DROPPED = 4, 3, 1
GENERATED, REAL = "generated", "real"
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


@dataclass(frozen=True)
class Written:
    """The finished data set."""

    out: Path
    generated: int
    real: int
    summary: JsonObject


def write_output(made: Made, store: Store, show: bool = True) -> Written:
    """Write everything into the data set's folder, in place of what an earlier request left there.

    Raises:
        RunError: the inverse dynamics model fails on a video.
    """
    job, out = made.job, store.out
    (out / INFO).unlink(missing_ok=True)  # until the new set is complete there is none
    dataset, notes = job.prompts.dataset, []
    demonstrations: list[Demonstration] = []
    if job.request.with_real:
        assert dataset is not None
        demonstrations = list(write_demonstrations(job.config, dataset, store))
        notes += [note for note in [rate_note(job.config, dataset)] if note]
    _write_frames(out / FRAMES, made.selection.kept)
    measures = list(dict.fromkeys(m for s in made.selection.kept for m in s.scores))
    episodes = _episodes(job, demonstrations, made.selection.kept, measures, show)
    summary = summarize(made, len(demonstrations), notes)
    write_json(out / SUMMARY, summary)
    draw_sheet(*_sheet(made), out / SHEET)
    write_text(out / CARD, card(summary, out.resolve().name))
    columns = COLUMNS | {f"scores/{m}": float for m in measures}
    actions = job.idm.declared.actions if job.idm else ()
    write_set(out, episodes, Layout(camera_name(job.config), job.config.generation.fps, actions, columns), show)
    return Written(out, len(made.selection.kept), len(demonstrations), summary)


def camera_name(config: Config) -> str:
    """The video feature: the camera of a LeRobot source, so that both sets can be merged."""
    if tiling_of(config.data).tiles > 1:
        return "observation.images.tiled"
    return config.data.camera or "observation.images.main"


def _write_frames(folder: Path, kept: Sequence[Scored]) -> None:
    """Write the first frame of each kept prompt, as the model saw it."""
    shutil.rmtree(folder, ignore_errors=True)
    for start in {s.candidate.start.sha256: s.candidate.start for s in kept}.values():
        write_image(folder / f"{start.sha256[:12]}.png", start.frames[0])


def _episodes(
    job: Job, demonstrations: Sequence[Demonstration], kept: Sequence[Scored], measures: Sequence[str], show: bool
) -> list[Episode]:
    """The original demonstrations, then the kept videos in the order in which they were made."""
    prefix = job.config.data.prompt_prefix
    found = []
    for d in demonstrations:
        notes = {"source": REAL, "prompt": d.prompt, "sample": d.name, "video_sha256": file_sha256(d.video)}
        found.append(Episode(d.video, d.prompt.removeprefix(prefix), None, notes))
    for scored in kept:
        prompt = scored.candidate.start.pair.prompt
        found.append(Episode(scored.video, prompt.removeprefix(prefix), None, _notes(scored, measures)))
    if not job.idm:
        return found
    done = []
    for episode in with_progress(found, "inferring actions", len(found), "episode", show):
        try:
            actions = job.idm.actions(read_video(episode.video))
        except RunError as error:
            raise RunError(f"--actions {job.request.actions}: {episode.video.name}: {error}") from error
        done.append(Episode(episode.video, episode.task, actions, episode.notes))
    return done


def _notes(scored: Scored, measures: Sequence[str]) -> dict[str, str | int | float | None]:
    """What the table of episodes says of a generated video."""
    candidate = scored.candidate
    run, start = candidate.run, candidate.start
    notes: dict[str, str | int | float | None] = {
        "source": GENERATED,
        "run": run.name,
        "adapter": run.label,
        "adapter_sha256": run.sha256,
        "seed": candidate.seed,
        "prompt": start.pair.prompt,
        "sample": start.pair.name,
        "scene": start.scene,
        "source_frame": f"{FRAMES}/{start.sha256[:12]}.png",
        "source_frame_sha256": start.sha256,
        "video_sha256": file_sha256(scored.video),
    }
    return notes | {f"scores/{m}": scored.scores.get(m) for m in measures}


def _sheet(made: Made) -> tuple[list[Column], list[str]]:
    """The columns and rows of the contact sheet: of the first prompts with a kept video, some kept ones and a dropped one."""
    outcomes = {o.scored.candidate.file: o for o in made.selection.outcomes}
    groups = []
    for group in by_prompt([o.scored.candidate for o in made.selection.outcomes]):
        own = [outcomes[c.file] for c in group]
        kept = [o.scored.video for o in own if o.reason is None]
        if kept:
            dropped = [o.scored.video for o in own if o.reason is not None]
            groups.append((group[0].start.pair.prompt, kept[:SHEET_KEPT], dropped[:SHEET_DROPPED]))
    shown = groups[:SHEET_PROMPTS]
    rows, below = max(len(k) for _, k, _ in shown), max(len(d) for _, _, d in shown)
    columns = [
        Column(prompt, [*kept, *[None] * (rows - len(kept)), *dropped, *[None] * (below - len(dropped))])
        for prompt, kept, dropped in shown
    ]
    return columns, [*["kept"] * rows, *["dropped"] * below]


def summarize(made: Made, demonstrations: int, notes: Sequence[str]) -> JsonObject:
    """The content of trajectories.json: every figure of the card."""
    job, generation = made.job, made.job.config.generation
    found: JsonObject = {
        "format": FORMAT,
        "request": job.request.recorded(),
        "model": {
            "name": job.config.model.name,
            "source": _neutral(job.config.model.source),
            "fingerprints": job.fingerprints,
        },
        "judge": job.config.judge.name,
        "video": {"fps": generation.fps, "steps": generation.num_steps, "guidance_scale": generation.guidance_scale},
        **(
            {"chunks": {"count": generation.chunks, "frames": job.config.data.num_frames}}
            if generation.chunks > 1
            else {}
        ),
        "seeds": sorted({c.seed for c in job.candidates}),
        "planned": len(job.candidates),
        **_yields(made),
        "real": demonstrations,
        "actions": {"names": list(job.idm.declared.actions), "sha256": job.idm.sha256} if job.idm else None,
        "selection": {"effects": [e.to_json() for e in made.effects], "words": made.words},
        "notes": list(notes),
    }
    return plain_json(redacted(found))


def _yields(made: Made) -> JsonObject:
    """How many were made, kept and dropped: in all, of each run and of each prompt."""
    selection = made.selection
    kept = {s.candidate.file for s in selection.kept}
    every = [o.scored.candidate for o in selection.outcomes]
    made_of = Counter(c.run.name for c in every)
    kept_of = Counter(c.run.name for c in every if c.file in kept)
    return {
        "made": len(every),
        "kept": len(kept),
        "dropped": selection.dropped(),
        "runs": [
            {
                "name": s.name,
                "adapter": s.label,
                "adapter_sha256": s.sha256,
                "made": made_of[s.name],
                "kept": kept_of[s.name],
            }
            for s in made.job.sources
        ],
        "prompts": [
            {
                "sample": group[0].start.pair.name,
                "scene": group[0].start.scene,
                "prompt": group[0].start.pair.prompt,
                "made": len(group),
                "kept": sum(c.file in kept for c in group),
            }
            for group in by_prompt(every)
        ],
    }


def _neutral(source: str) -> str:
    """A model's source without the folders of this machine."""
    return Path(source).name if is_path(source) else source
