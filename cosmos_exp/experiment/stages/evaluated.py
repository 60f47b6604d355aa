"""Hashes of what was trained and scored, in the manifest: `cosmos-exp report --verify` checks the files against them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cosmos_exp.config.context import RunContext
from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.files import file_sha256
from cosmos_exp.metrics.interface import ScoredVideo
from cosmos_exp.metrics.words.effect import MEASURE as WORD_EFFECT
from cosmos_exp.provenance import now
from cosmos_exp.run_folder import ADAPTER_NAME, RunFolder, evaluated_hash
from cosmos_exp.statistics.scores import read_scores


def record_training(folder: RunFolder) -> None:
    """Record the hash of the adapter and of the logs at the end of the training."""
    files = (folder.adapter_file, folder.train_log, folder.validation_log)
    folder.update_manifest(trained={"files": {folder.name_of(p): file_sha256(p) for p in files if p.is_file()}})


def record_videos(context: RunContext, sets: Mapping[Path, Sequence[ScoredVideo]], probes: Iterable[Path]) -> None:
    """Record the hash of each video before it gets its first score.

    A video that has a score keeps the hash that it had then, so a video that is replaced later does not fit. Videos that
    an older version scored have no hash. Recorded, too: a score file that was changed after the stage had ended, the margins
    at the first score, and when the run was scored again under other settings.

    Args:
        sets: The videos by the file of their scores.
        probes: Videos that only word_effect reads, under the names of other prompts.
    """
    folder = context.folder
    before = folder.manifest.get("evaluated", {})
    scored = _scored(sets, folder)
    videos: dict[str, str] = {}
    for path in dict.fromkeys([*_files(sets), *probes]):
        name = folder.name_of(path)
        if path not in scored and path.is_file():
            videos[name] = file_sha256(path)
        elif name in before.get("videos", {}):
            videos[name] = before["videos"][name]
    found: dict[str, object] = {"videos": videos}
    if not scored and "margins" not in before:
        found["margins"] = {"values": dict(context.config.margins), "time": now()}
    again = {p.name: now() for path in sets for p in path.parent.glob(f"{path.stem}-*{path.suffix}")}
    if again:
        found["again"] = again | before.get("again", {})
    update_evaluated(context, **found)
    note_edits(context, sets)


def note_edits(context: RunContext, score_files: Iterable[Path]) -> None:
    """Record which score files were changed after the stage had ended, before the stage changes them itself."""
    folder = context.folder
    before = folder.manifest.get("evaluated", {})
    files = [folder.name_of(path) for path in score_files if path.is_file()]
    edited = {name: when for name, when in before.get("edited", {}).items() if name in files}
    if folder.stage_done("evaluate", stage_hash(context.config, "evaluate")):
        known = before.get("scores", {})
        changed = [n for n in files if n in known and file_sha256(folder.path / n) != known[n]]
        edited |= {name: now() for name in changed}
    update_evaluated(context, edited=edited)


def record_scores(context: RunContext, files: Iterable[Path]) -> None:
    """Record the hash of each score file that exists."""
    name_of = context.folder.name_of
    update_evaluated(context, scores={name_of(p): file_sha256(p) for p in files if p.is_file()})


def update_evaluated(context: RunContext, **entries: object) -> None:
    """Merge entries into `evaluated` of the manifest, with whose scores they are and a hash of the whole.

    So scores that were copied from another run with their hashes do not fit.
    """
    folder, config = context.folder, context.config
    manifest = folder.manifest
    adapter = manifest.get("trained", {}).get("files", {}).get(ADAPTER_NAME)
    own = {"run": {"config_hash": stage_hash(config, "evaluate"), "adapter": adapter}}
    found = manifest.get("evaluated", {}) | entries | own
    folder.update_manifest(evaluated=found | {"sha256": evaluated_hash(found)})


def _files(sets: Mapping[Path, Sequence[ScoredVideo]]) -> list[Path]:
    """All videos, and the recordings with which they are compared."""
    videos = [v for own in sets.values() for v in own]
    return [*(v.path for v in videos), *(v.recording for v in videos if v.recording)]


def _scored(sets: Mapping[Path, Sequence[ScoredVideo]], folder: RunFolder) -> set[Path]:
    """The files that a score was made from."""
    found: set[Path] = set()
    for scores, videos in sets.items():
        rows = read_scores(scores)
        keys = {(r["sample"], r["seed"]) for r in rows}
        for video in (v for v in videos if (v.sample, v.seed) in keys):
            found |= {video.path} | ({video.recording} if video.recording else set())
        effects = [r for r in rows if r["measure"] == WORD_EFFECT]
        found |= {folder.video(r["detail"]["other"], r["seed"]) for r in effects}
    return found
