"""The published folder: the adapter, records without private text, examples, and the card; and its upload to the hub.

The folder appears complete or not at all.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path

import yaml
from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from cosmos_exp import __version__
from cosmos_exp.config.adapter_file import (
    LORA_METADATA_KEY,
    OWN_METADATA_KEY,
    RECORD_FILE,
    adapter_sha256,
    join_file,
    split_file,
)
from cosmos_exp.config.measures import OF_KEPT
from cosmos_exp.config.rollout import OVERLAP
from cosmos_exp.data.video import read_video, write_image
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.files import atomic_folder, file_sha256, write_json, write_text
from cosmos_exp.publish.card import Example, model_card
from cosmos_exp.publish.neutral import neutral, neutral_config, neutral_text
from cosmos_exp.publish.source import Source, comes_from_hub
from cosmos_exp.run_folder import ADAPTER_FILE
from cosmos_exp.text import one_line

CARD = "README.md"
EXAMPLES = 3
TRANSFORMER = "transformer"  # folder of a full fine-tuning
NOTICE = "Licensed by NVIDIA Corporation under the NVIDIA Open Model License\n\nBuilt on NVIDIA Cosmos\n"
LOGIN = "Run `hf auth login` with a token that may write, or set HF_TOKEN"


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
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"--out {out}: exists already. Choose a new folder, remove it, or upload it: hf upload USER/NAME {out}"
        )
    notes = []
    with atomic_folder(out) as work:
        if source.adapter.kind == "full":
            _copy_full(source, work)
        elif copy_adapter(source.adapter.file, work / ADAPTER_FILE, source.names):
            notes.append("private text in the adapter file's header is hidden; its tensors are unchanged")
        _write_records(source, work)
        card = model_card(source, _write_examples(source, work), repository)
        write_text(work / CARD, str(card))
        if source.base.is_cosmos:
            write_text(work / "NOTICE", NOTICE)
        if source.base.code:
            shutil.copyfile(source.base.code, work / source.base.code.name)
    if source.base.licence["license"] == "unknown":
        notes.append(f"the licence of the base is not known: write it into `license` in {CARD}")
    return notes


def copy_adapter(file: Path, target: Path, names: Sequence[str]) -> bool:
    """Copy an adapter file. Returns whether private text in its metadata was hidden; its tensors are never changed."""
    content = file.read_bytes()
    header, data = split_file(content)
    metadata = header.get("__metadata__", {})
    plain = dict(metadata)
    for key in (LORA_METADATA_KEY, OWN_METADATA_KEY):
        record = json.loads(metadata.get(key, "{}"))
        if neutral(record, names) != record:
            plain[key] = json.dumps(neutral(record, names), sort_keys=True)
    if plain != metadata:
        content = join_file(header | {"__metadata__": plain}, data)
    target.write_bytes(content)
    return plain != metadata


def _copy_full(source: Source, folder: Path) -> None:
    """Copy the weights and the configuration of a full fine-tuning; its record without private text."""
    target = folder / TRANSFORMER
    target.mkdir()
    for file in source.run.folder.adapter_files():
        if file.name != RECORD_FILE:
            shutil.copyfile(file, target / file.name)
    write_json(target / RECORD_FILE, neutral(source.adapter.record, source.names))


def _write_records(source: Source, folder: Path) -> None:
    """config.yaml, manifest.json and metrics.json, without private text: enough to run it again."""
    run = source.run
    config = neutral_config(run.settings, comes_from_hub(run), source.names)
    write_text(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    manifest = neutral(run.manifest, source.names)
    if "model" in manifest:
        manifest["model"]["source"] = config["model"]["source"]
    published = folder / ADAPTER_FILE
    if source.adapter.kind == "full":
        published = folder / TRANSFORMER
    manifest["published"] = {"by": f"cosmos-exp {__version__}", "adapter_sha256": adapter_sha256(published)}
    write_json(folder / "manifest.json", manifest)
    write_json(folder / "metrics.json", neutral(run.metrics, source.names))


def _write_examples(source: Source, work: Path) -> list[Example]:
    """Copy the videos of the first prompts, and write the conditioning frames of the first.

    Raises:
        UserError: a video is not the one that was scored.
    """
    run = source.run
    examples: list[Example] = []
    samples: set[str] = set()
    hashes = run.manifest.get("evaluated", {}).get("videos", {})
    for row in sorted(run.scores, key=itemgetter("sample", "seed")):
        file = run.folder.recorded_video(row["video"])
        if row["measure"] in OF_KEPT or row["sample"] in samples or len(examples) == EXAMPLES or not file.is_file():
            continue
        samples.add(row["sample"])
        digest = hashes.get(f"videos/{row['video']}")
        if digest and digest != file_sha256(file):
            raise UserError(
                f"{file}: not the video that was scored. Delete it and resume the run, which makes it again."
            )
        name, frames = f"videos/{len(examples) + 1}.mp4", 0
        (work / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(file, work / name)
        if not examples:
            frames = _write_frames(source, row["sample"], file, work / "conditioning")
        prompt = neutral_text(one_line(row.get("prompt") or ""), source.names)
        examples.append(Example(name, prompt, row["seed"], frames))
    return examples


def _write_frames(source: Source, sample: str, video: Path, folder: Path) -> int:
    """The conditioning frames of an example as PNG: of the recording if it is there, else of the video itself."""
    for run in (source.base_run, source.run):
        if run:
            recording = run.folder.reference_video("real", sample)
            if recording.is_file() and recording.resolve().is_relative_to(run.folder.path.resolve()):
                video = recording
    count = 1 if source.run.settings.generation.mode == "image2world" else OVERLAP
    frames = read_video(video)[:count]
    folder.mkdir()
    for place, frame in enumerate(frames):
        write_image(folder / f"{place}.png", frame)
    return len(frames)


# --- upload ---


def check_target(repository: str) -> None:
    """Check what can be checked before anything is written or sent.

    Raises:
        UserError: the name is not USER/NAME, or there is no token.
    """
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UserError(f"--to {one_line(repository)}: {one_line(error)}") from error
    if repository.count("/") != 1:
        raise UserError(f"--to {repository}: write USER/NAME, the name of a user or an organisation first.")
    if not get_token():
        raise UserError(f"--to {repository}: there is no token for the hub. {LOGIN}.")


def upload(folder: Path, repository: str, private: bool) -> str:
    """Create the repository if it does not exist, and upload the folder. Returns its address.

    Raises:
        RunError: the hub refuses the token, the name or the card, or cannot be reached.
    """
    api = HfApi()
    try:
        url = api.create_repo(repository, private=private or None, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload with cosmos-exp publish")
    except Exception as error:  # of huggingface_hub, and of the package that it connects with
        reason = one_line(str(error).strip().partition("\n")[0])[:200]
        raise RunError(
            f"--to {repository}: the upload failed ({reason}). {LOGIN}. The folder is complete: hf upload {repository} {folder}"
        ) from error
    return str(url)
