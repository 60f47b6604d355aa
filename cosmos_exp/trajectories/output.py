"""The data set's folder: episodes in the LeRobot layout, first frames, figures (trajectories.json) and card."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import jinja2
import pandas as pd
import pyarrow as pa
from huggingface_hub import DatasetCard, DatasetCardData
from markupsafe import Markup

from cosmos_exp.config.layers import adapter_label
from cosmos_exp.config.schema import Config
from cosmos_exp.config.tiling import tiling_of
from cosmos_exp.data.scenes import scene_names
from cosmos_exp.data.video import read_video, write_image
from cosmos_exp.errors import RunError
from cosmos_exp.files import JsonObject, file_sha256, write_json, write_text
from cosmos_exp.hub import is_path
from cosmos_exp.text import markdown, one_line, plain_json, redacted
from cosmos_exp.tracking.progress import with_progress
from cosmos_exp.trajectories.actions import InverseDynamics
from cosmos_exp.trajectories.lerobot_set import INFO, Feature, write_set
from cosmos_exp.trajectories.plan import Job

SUMMARY, CARD, FRAMES = "trajectories.json", "README.md", "source_frames"
TEMPLATE = Path(__file__).parent / "card.md.j2"
# Columns of the table of episodes beside those of LeRobot and the scores.
COLUMNS = (
    "run",
    "adapter",
    "adapter_sha256",
    "seed",
    "prompt",
    "sample",
    "scene",
    "source_frame",
    "source_frame_sha256",
    "video_sha256",
)


def write_output(job: Job, videos: pd.DataFrame, scores: pd.DataFrame, out: Path) -> JsonObject:
    """Write everything into the data set's folder, in place of what an earlier request left there.

    Args:
        videos, scores: from `make_and_score`.

    Returns:
        the content of trajectories.json.

    Raises:
        RunError: the inverse dynamics model fails on a video.
    """
    config = job.config
    (out / INFO).unlink(missing_ok=True)  # until the new set is complete there is none
    videos = videos.assign(kept=videos["reason"].isna(), adapter=adapter_label(config.adapter))
    videos = videos.assign(run=job.folder.path.name, adapter_sha256=job.adapter_sha256)
    videos["scene"] = videos["sample"].map(scene_names(list(job.pairs.values()), config.data.recordings))
    videos["source_frame_sha256"] = videos["sample"].map(job.frame_hash)
    videos["source_frame"] = FRAMES + "/" + videos["source_frame_sha256"].str[:12] + ".png"
    kept = videos[videos["kept"]]
    shutil.rmtree(out / FRAMES, ignore_errors=True)
    for sample, file in kept.drop_duplicates("source_frame")[["sample", "source_frame"]].itertuples(index=False):
        write_image(out / file, job.frames[sample][0])  # as the model saw it
    episodes = kept.join(scores.add_prefix("scores/").loc[kept.index].dropna(axis=1, how="all"))
    episodes["video_sha256"] = episodes["video"].map(file_sha256)
    episodes["task"] = episodes["prompt"].str.removeprefix(config.data.prompt_prefix)
    features = _inferred(job.idm, list(episodes["video"])) if job.idm else {}
    summary = _summary(job, videos, scores)
    write_json(out / SUMMARY, summary)
    write_text(out / CARD, _card(summary, out.resolve().name))
    write_set(out, _typed(episodes), features, camera_name(config), config.generation.fps)
    return summary


def camera_name(config: Config) -> str:
    """The video feature: the camera of a LeRobot source, so that both sets can be merged."""
    if len(tiling_of(config.data).names) > 1:
        return "observation.images.tiled"
    return config.data.camera or "observation.images.main"


def _typed(episodes: pd.DataFrame) -> pd.DataFrame:
    """The columns of the set in their order, also right for a column without any value."""
    scores = list(episodes.filter(like="scores/"))
    episodes = episodes.reset_index(drop=True).reindex(columns=["video", "task", *COLUMNS, *scores])
    for name in COLUMNS:
        kind = pa.int64() if name == "seed" else pa.string()
        episodes[name] = episodes[name].astype(pd.ArrowDtype(kind))
    return episodes.astype(dict.fromkeys(scores, pd.ArrowDtype(pa.float64())))


def _inferred(idm: InverseDynamics, videos: Sequence[Path]) -> dict[str, Feature]:
    """The columns that the inverse dynamics model infers from the pictures of each video."""
    features = {name: Feature(names, []) for name, names in idm.declared.columns.items()}
    for video in with_progress(videos, "inferring actions", len(videos), "episode"):
        try:
            columns = idm.infer(read_video(video))
        except RunError as error:
            raise RunError(f"--actions: {video.name}: {error}") from error
        for name, feature in features.items():
            feature.values.append(columns[name])
    return features


def _summary(job: Job, videos: pd.DataFrame, scores: pd.DataFrame) -> JsonObject:
    """The content of trajectories.json: every figure of the card."""
    config, generation, request = job.config, job.config.generation, job.request
    source, fps = config.model.source, generation.fps
    selection = pd.DataFrame({"made": scores.mean(), "kept": scores[videos["kept"]].mean()}).dropna(how="all")
    prompts = videos.groupby(["sample", "scene", "prompt"], sort=False)["kept"].agg(made="size", kept="sum")
    content: JsonObject = {
        "run": job.folder.path.name,
        "adapter": {"name": adapter_label(config.adapter), "sha256": job.adapter_sha256},
        "model": {"name": config.model.name, "source": source, "fingerprints": job.fingerprints},
        "request": {"keep": request.keep, "target": request.target},
        "judge": config.judge.name,
        "video": {"fps": fps, "steps": generation.num_steps, "guidance_scale": generation.guidance_scale},
        "chunks": generation.chunks,
        "seeds": generation.seeds,
        "planned": len(generation.seeds) * len(job.pairs),
        "made": len(videos),
        "kept": int(videos["kept"].sum()),
        "dropped": videos["reason"].value_counts().to_dict(),
        "prompts": prompts.reset_index().to_dict("records"),
        "selection": selection.rename_axis("measure").reset_index().to_dict("records"),
        "actions": None,
    }
    if is_path(source):
        content["model"]["source"] = Path(source).name  # without the folders of this machine
    if job.idm:
        content["actions"] = {"columns": job.idm.declared.columns, "sha256": job.idm.sha256}
        content["actions"]["are_next_state"] = not job.idm.declared.actions
    return plain_json(redacted(content))


def _card(summary: JsonObject, name: str) -> str:
    """The data set card: README.md with the header that the hub reads.

    Args:
        summary: content of trajectories.json.
        name: of the data set's folder.
    """
    data = DatasetCardData(
        pretty_name=name,
        task_categories=["robotics"],
        tags=["LeRobot", "synthetic", "world-model", "cosmos_exp"],
        configs=[{"config_name": "default", "data_files": "data/*/*.parquet"}],
    )
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, finalize=_plain)
    environment.filters["code"] = lambda text: Markup(one_line(text).replace("`", "'").replace("|", "\\|"))
    body = environment.from_string(TEMPLATE.read_text()).render(summary, name=name)
    return str(DatasetCard(f"---\n{data.to_yaml()}\n---\n\n{body}"))


def _plain(value: object) -> object:
    """Text of a record for a line or a cell: no markup, no line breaks. Text inside a code span is `Markup`."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return markdown(one_line(value)).replace("|", "\\|")
    return value
