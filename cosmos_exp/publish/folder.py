"""The published folder: adapters, records without private text, examples, and the card; and its upload to the hub.

The folder appears complete or not at all.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from itertools import chain, islice, zip_longest
from operator import itemgetter
from pathlib import Path

import pandas as pd
import yaml
from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id

from cosmos_exp import __version__
from cosmos_exp.config.adapter_file import tensors_of
from cosmos_exp.config.registry import VAE_CLASSES
from cosmos_exp.data.video import read_video, write_image
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.files import atomic_folder, atomic_path, file_sha256, write_json, write_text
from cosmos_exp.publish.card import Example, model_card
from cosmos_exp.publish.neutral import neutral, neutral_config, neutral_text, shown
from cosmos_exp.publish.source import Arm, Source, comes_from_hub
from cosmos_exp.report.runs import Run
from cosmos_exp.run_folder import ADAPTER_FILE
from cosmos_exp.statistics.scores import ScoreRow
from cosmos_exp.text import one_line

VIDEOS, CONDITIONING, CARD = "videos", "conditioning", "README.md"
FEWEST, MOST = 3, 12  # examples of a run; of a sweep, one per adapter
NOTICE = "Licensed by NVIDIA Corporation under the NVIDIA Open Model License\n\nBuilt on NVIDIA Cosmos\n"
LOGIN = "Run `hf auth login` with a token that may write, or set HF_TOKEN"


def check_new(out: Path, repository: str | None) -> None:
    """Check that the folder does not exist, or is empty.

    Raises:
        UserError: it holds something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"--out {out}: exists already. Choose a new folder, remove it, or upload it as it is: "
            f"hf upload {repository or 'USER/NAME'} {out}"
        )


def write_folder(source: Source, out: Path, repository: str | None) -> list[str]:
    """Write the folder.

    Args:
        out: the new folder.
        repository: of the folder on the hub; None: it is not known yet.

    Returns:
        what its author should know.

    Raises:
        UserError: `out` exists, or a video is not the one that was scored.
        DiskError: the disk is full, or `out` cannot be written.
    """
    check_new(out, repository)
    notes, rows = [], []
    with atomic_folder(out) as work:
        for arm in source.arms:
            folder = work / arm.place
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / ADAPTER_FILE
            if copy_adapter(arm.adapter.file, file, source.names):
                notes.append(f"{arm.name}: private text in the file's header is hidden; its tensors are unchanged")
            digest = file_sha256(file)
            _write_records(arm.run, folder, source.names, {"adapter_sha256": digest})
            parameters = sum(values.size for values in tensors_of(arm.adapter.layers).values())
            rows.append((arm.place, digest[:16], parameters, file.stat().st_size / 2**20))
        if source.base_run:
            (work / "base").mkdir(exist_ok=True)
            _write_records(source.base_run, work / "base", source.names, {})
        examples = _write_examples(source, work)
        files = pd.DataFrame(rows, columns=["folder", "sha256", "parameters", "mib"])
        write_text(work / CARD, str(model_card(source, examples, files, repository)))
        if source.base.is_cosmos:
            write_text(work / "NOTICE", NOTICE)
        if source.base.autoencoder:
            code = VAE_CLASSES.source(source.base.autoencoder)
            shutil.copyfile(code, work / code.name)
    if source.base.licence["license"] == "unknown":
        notes.append(f"the licence of the base is not known: write it into `license` in {CARD}")
    return notes


def copy_adapter(file: Path, target: Path, names: Sequence[str]) -> bool:
    """Copy an adapter file. Returns whether private text in its metadata was hidden; its tensors are never changed."""
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    metadata = header.get("__metadata__", {})
    plain = {key: _plain_metadata(value, names) for key, value in metadata.items()}
    if plain != metadata:
        text = json.dumps(header | {"__metadata__": plain}, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        content = len(text).to_bytes(8, "little") + text + content[8 + size :]
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)
    return plain != metadata


def _plain_metadata(text: str, names: Sequence[str]) -> str:
    """An entry of the metadata without private text: JSON stays JSON."""
    try:
        content = json.loads(text)
    except ValueError:
        return neutral_text(text, names)
    plain = neutral(content, names)
    if plain == content:
        return text
    return json.dumps(plain, sort_keys=True)


def _write_records(run: Run, folder: Path, names: Sequence[str], published: dict[str, str]) -> None:
    """config.yaml, manifest.json and metrics.json of a run, without private text: enough to run it again."""
    config = neutral_config(run.config, comes_from_hub(run), names)
    write_text(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    manifest = neutral(run.manifest, names)
    if "model" in manifest:
        manifest["model"].pop("path", None)
        manifest["model"]["source"] = config["model"]["source"]
    manifest["published"] = {"by": f"cosmos-exp {__version__}", **published}
    write_json(folder / "manifest.json", manifest)
    write_json(folder / "metrics.json", neutral(run.metrics, names))


# --- examples ---


def _write_examples(source: Source, work: Path) -> list[Example]:
    """Copy the examples, and write the conditioning frames of the first.

    Raises:
        UserError: a video is not the one that was scored.
    """
    examples: list[Example] = []
    for number, (arm, row) in enumerate(_chosen_videos(source), 1):
        file = arm.run.folder.recorded_video(row["video"])
        digest = arm.run.manifest.get("evaluated", {}).get("videos", {}).get(f"{VIDEOS}/{row['video']}")
        if digest and digest != file_sha256(file):
            raise UserError(
                f"{file}: not the video that was scored. Delete it and resume the run, which makes it again."
            )
        name, frames, title = f"{VIDEOS}/{number}.mp4", 0, ""
        (work / VIDEOS).mkdir(exist_ok=True)
        shutil.copyfile(file, work / name)
        if number == 1:
            frames = _write_frames(source, arm, row["sample"], file, work / CONDITIONING)
        if source.is_sweep:
            title = arm.name
        prompt = shown(one_line(row.get("prompt") or ""), source.names)
        examples.append(Example(name, prompt, row["seed"], frames, title))
    return examples


def _chosen_videos(source: Source) -> list[tuple[Arm, ScoreRow]]:
    """The first prompts of the run; of a sweep, the first prompt of each adapter's first run, then the second …"""
    first_runs: dict[str, Arm] = {}
    for arm in source.arms:
        first_runs.setdefault(arm.run.arm, arm)
    videos = []
    for arm in first_runs.values():
        by_prompt: dict[str, tuple[Arm, ScoreRow]] = {}  # with the lowest seed of each prompt
        for row in sorted(arm.run.scores, key=itemgetter("sample", "seed")):
            if arm.run.folder.recorded_video(row["video"]).is_file():
                by_prompt.setdefault(row["sample"], (arm, row))
        videos.append(by_prompt.values())
    ordered = filter(None, chain.from_iterable(zip_longest(*videos)))
    return list(islice(ordered, min(MOST, max(FEWEST, len(first_runs)))))


def _write_frames(source: Source, arm: Arm, sample: str, video: Path, folder: Path) -> int:
    """The conditioning frames of an example as PNG: of the recording if it is there, else of the video itself."""
    for run in (source.base_run, arm.run):
        if run:
            recording = run.folder.reference_video("real", sample)
            if recording.is_file() and recording.resolve().is_relative_to(run.folder.path.resolve()):
                video = recording
    count = 1 if arm.run.settings.generation.mode == "image2world" else 5
    frames = read_video(video)[:count]
    folder.mkdir(exist_ok=True)
    for place, frame in enumerate(frames):
        write_image(folder / f"{place}.png", frame)
    return len(frames)


# --- upload ---


def check_target(repository: str) -> None:
    """Check what can be checked before anything is written or sent.

    Raises:
        UserError: the name is not USER/NAME, the hub is switched off, or there is no token.
    """
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UserError(f"--to {one_line(repository)}: {one_line(error)}") from error
    if repository.count("/") != 1:
        raise UserError(f"--to {repository}: write USER/NAME, the name of a user or an organisation first.")
    if constants.HF_HUB_OFFLINE:
        raise UserError("--to: HF_HUB_OFFLINE is set, so that nothing can be uploaded. Unset it, or leave --to out.")
    if not get_token():
        raise UserError(f"--to {repository}: there is no token for the hub. {LOGIN}.")


def upload(folder: Path, repository: str, private: bool) -> str:
    """Create the repository if it does not exist, and upload the folder. Returns its address.

    Raises:
        UserError: the hub refuses the token, the name or the card.
        RunError: the hub cannot be reached, or the upload failed.
    """
    api, where = HfApi(), f"--to {repository}: "
    then = f"Then: hf upload {repository} {folder} (the folder is complete)"
    try:
        url = api.create_repo(repository, private=private or None, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload with cosmos-exp publish")
    except Exception as error:  # of huggingface_hub, and of the package that it connects with
        reason = one_line(str(error).strip().partition("\n")[0])[:200]
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        if status == 401:
            raise UserError(f"{where}the hub does not accept the token. {LOGIN}. {then}") from error
        if status in (403, 404):
            raise UserError(
                f"{where}this token may not write there ({reason}). Use a token with the right to write to "
                f"{repository.partition('/')[0]}, or your own name before the slash. {then}"
            ) from error
        raise RunError(f"{where}the upload failed ({reason}). Try again later. {then}") from error
    return str(url)
