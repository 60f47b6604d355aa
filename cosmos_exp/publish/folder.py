"""The published folder: adapters, records without private text, examples, and the card. It appears complete or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from huggingface_hub import ModelCard

from cosmos_exp import __version__
from cosmos_exp.config.adapter_file import tensors_of
from cosmos_exp.config.registry import VAE_CLASSES
from cosmos_exp.data.video import read_video, write_image
from cosmos_exp.errors import UserError
from cosmos_exp.files import atomic_folder, atomic_path, file_sha256, write_json, write_text
from cosmos_exp.publish.base import comes_from_hub
from cosmos_exp.publish.card import model_card
from cosmos_exp.publish.neutral import neutral, neutral_config, neutral_text, shown
from cosmos_exp.publish.snippet import CONDITIONING, Example
from cosmos_exp.publish.source import Arm, Source
from cosmos_exp.report.runs import Run
from cosmos_exp.run_folder import ADAPTER_FILE
from cosmos_exp.statistics.scores import ScoreRow
from cosmos_exp.text import one_line

VIDEOS = "videos"
FEWEST, MOST = 3, 12  # examples of a run; of a sweep, one per adapter
CARD = "README.md"
NOTICE = "Licensed by NVIDIA Corporation under the NVIDIA Open Model License\n\nBuilt on NVIDIA Cosmos\n"


@dataclass(frozen=True)
class Published:
    """A folder on disk.

    notes: what its author should know.
    """

    folder: Path
    card: ModelCard
    notes: list[str]

    @property
    def files(self) -> list[Path]:
        """Its files, relative to it."""
        return sorted(p.relative_to(self.folder) for p in self.folder.rglob("*") if p.is_file())


def write_folder(source: Source, out: Path, repository: str | None) -> Published:
    """Write the folder.

    Args:
        out: the new folder.
        repository: of the folder on the hub; None: it is not known yet.

    Raises:
        UserError: `out` exists, or a video is not the one that was scored.
        DiskError: the disk is full, or `out` cannot be written.
    """
    check_new(out, repository)
    with atomic_folder(out) as work:
        files, notes = _write_adapters(source, work)
        examples = _write_examples(source, work)
        card = model_card(source, examples, files, repository)
        _write_rest(source, card, work)
    return Published(out, card, [*notes, *_licence_notes(source)])


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


def _write_adapters(source: Source, work: Path) -> tuple[list[list[str]], list[str]]:
    """Write the adapters with their records, and the records of the base. Returns the rows of the card's table, and notes."""
    rows, notes = [], []
    for arm in source.arms:
        folder = work / arm.place
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / ADAPTER_FILE
        if copy_adapter(arm.file, file, source.names):
            notes.append(f"{arm.name}: private text in the file's header is hidden; its tensors are unchanged")
        digest = file_sha256(file)
        _write_records(arm.run, folder, source.names, {"adapter_sha256": digest})
        parameters = sum(values.size for values in tensors_of(arm.header.layers).values())
        rows.append([f"`{arm.place}`", f"`{digest[:16]}`", f"{parameters:,}", f"{file.stat().st_size / 2**20:.2f}"])
    if source.base_run:
        folder = work / "base"
        folder.mkdir(exist_ok=True)
        _write_records(source.base_run, folder, source.names, {})
    return rows, notes


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
        found = json.loads(text)
    except ValueError:
        return neutral_text(text, names)
    plain = neutral(found, names)
    return text if plain == found else json.dumps(plain, sort_keys=True)


def _write_records(run: Run, folder: Path, names: Sequence[str], published: dict[str, str]) -> None:
    """config.yaml, manifest.json and metrics.json of a run, without private text."""
    config = neutral_config(run.config, comes_from_hub(run), names)
    write_text(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    manifest = neutral({k: v for k, v in run.manifest.items() if k != "model"}, names)
    model = neutral({k: v for k, v in run.manifest.get("model", {}).items() if k not in ("path", "source")}, names)
    manifest["model"] = model | {"source": config["model"]["source"]} if model else {}
    manifest["published"] = {"by": f"cosmos-exp {__version__}", **published}
    write_json(folder / "manifest.json", manifest)
    write_json(folder / "metrics.json", neutral(run.metrics, names))


def _write_examples(source: Source, work: Path) -> list[Example]:
    """Copy the examples, and write the conditioning frames of the first."""
    found: list[Example] = []
    for arm, row in _examples(source):
        file = arm.run.folder.recorded_video(row["video"])
        _check_video(arm.run, file)
        name = f"{VIDEOS}/{len(found) + 1}.mp4"
        (work / VIDEOS).mkdir(exist_ok=True)
        shutil.copyfile(file, work / name)
        frames = [] if found else _write_frames(source, arm, row["sample"], file, work)
        prompt = shown(one_line(row.get("prompt") or ""), source.names)
        found.append(Example(name, prompt, row["seed"], frames, arm.name if source.is_sweep else ""))
    return found


def _examples(source: Source) -> Iterator[tuple[Arm, ScoreRow]]:
    """The first prompts of the run; of a sweep, the first prompt of each adapter's first run, then the second …"""
    first_runs = list({arm.run.folder.path: arm for arm in source.arms if _is_first(source, arm)}.values())
    most = min(MOST, max(FEWEST, len(first_runs)))
    rows = {arm.place: _videos(arm.run) for arm in first_runs}
    longest = max((len(own) for own in rows.values()), default=0)
    ordered = [(arm, rows[arm.place][k]) for k in range(longest) for arm in first_runs if k < len(rows[arm.place])]
    yield from ordered[:most]


def _is_first(source: Source, arm: Arm) -> bool:
    """Whether an adapter is that of its variant's first run."""
    return arm.run is source.study.runs_of(arm.run.arm)[0]


def _videos(run: Run) -> list[ScoreRow]:
    """A row of scores for each video that is there, with the lowest seed of its prompt, by prompt."""
    found: dict[str, ScoreRow] = {}
    for row in sorted(run.scores, key=lambda r: (r["sample"], r["seed"])):
        if row["sample"] not in found and run.folder.recorded_video(row["video"]).is_file():
            found[row["sample"]] = row
    return list(found.values())


def _check_video(run: Run, file: Path) -> None:
    """Check that a video is the one that was scored, as far as its hash was recorded.

    Raises:
        UserError: it is another.
    """
    recorded = run.video_hashes.get(run.folder.name_of(file))
    if recorded and recorded != file_sha256(file):
        raise UserError(f"{file}: not the video that was scored. Delete it and resume the run, which makes it again.")


def _write_frames(source: Source, arm: Arm, sample: str, video: Path, work: Path) -> list[str]:
    """The conditioning frames of an example as PNG: of the recording if it is there, else of the video itself."""
    recordings = [r.folder.reference_video("real", sample) for r in (arm.run, source.base_run) if r]
    inside = [f for r, f in zip((arm.run, source.base_run), recordings, strict=False) if r and _is_inside(r, f)]
    count = 1 if arm.run.settings.generation.mode == "image2world" else 5
    frames = read_video(next(iter(inside), video))[:count]
    (work / CONDITIONING).mkdir(exist_ok=True)
    names = [f"{CONDITIONING}/{k}.png" for k in range(len(frames))]
    for name, frame in zip(names, frames, strict=True):
        write_image(work / name, frame)
    return names


def _is_inside(run: Run, file: Path) -> bool:
    return file.is_file() and file.resolve().is_relative_to(run.folder.path.resolve())


def _write_rest(source: Source, card: ModelCard, work: Path) -> None:
    """The card, the notice of the base's licence, and the class of its autoencoder."""
    write_text(work / CARD, str(card))
    if source.base.is_cosmos:
        write_text(work / "NOTICE", NOTICE)
    if source.base.autoencoder:
        code = VAE_CLASSES.source(source.base.autoencoder)
        shutil.copyfile(code, work / code.name)


def _licence_notes(source: Source) -> list[str]:
    """What is left to the author."""
    if source.base.licence.id != "unknown":
        return []
    return [f"the licence of the base is not known: write it into `license` in {CARD}"]
