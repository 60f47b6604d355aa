"""What was scored: the hash of each video and score file in the manifest, which `cosmos-exp report --verify` compares.

A video that is cut short, replaced or missing is made again, together with its scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cosmos_exp.config.context import RunContext
from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.files import JsonObject, file_sha256, write_json_lines
from cosmos_exp.metrics.interface import ScoredVideo
from cosmos_exp.metrics.prompt_sensitivity import WORD_EFFECT
from cosmos_exp.provenance import now
from cosmos_exp.run_folder import REFERENCES, RunFolder
from cosmos_exp.statistics.scores import ScoreRow, read_scores


def score_files(folder: RunFolder) -> list[Path]:
    """The scores of the generated videos, and those of each kind of reference."""
    return [folder.scores, *map(folder.reference_scores, REFERENCES)]


def record_videos(context: RunContext, sets: Mapping[Path, Sequence[ScoredVideo]], probes: Iterable[Path]) -> None:
    """Record the hash of each video before it gets its first score.

    A video that has a score keeps the hash that it had then, so a video that is replaced later does not fit. Recorded,
    too: a score file that was changed after the stage had ended, the margins at the first score, and when the run was
    scored again under other settings.

    Args:
        sets: the videos by the file of their scores.
        probes: videos that only word_effect reads, under the names of other prompts.
    """
    folder = context.folder
    before = folder.manifest.get("evaluated", {})
    scored, paths = set[Path](), list[Path]()
    for file, videos in sets.items():
        keys = set()
        for row in read_scores(file):
            keys.add((row["sample"], row["seed"]))
            if row["measure"] == WORD_EFFECT:
                scored.add(folder.video(row["detail"]["other"], row["seed"]))
        for video in videos:
            used = [video.path, video.recording] if video.recording else [video.path]
            paths += used
            if (video.sample, video.seed) in keys:
                scored.update(used)
    hashes = folder.hashes(path for path in [*paths, *probes] if path not in scored)
    for path in scored:
        name = folder.name_of(path)
        if name in before.get("videos", {}):
            hashes[name] = before["videos"][name]
    entries: JsonObject = {"videos": hashes}
    if not scored and "margins" not in before:
        entries["margins"] = {"values": dict(context.config.margins), "time": now()}
    for file in sets:
        for older in file.parent.glob(f"{file.stem}-*{file.suffix}"):
            entries.setdefault("again", {})[older.name] = before.get("again", {}).get(older.name, now())
    folder.update_manifest(evaluated=entries)
    note_edits(context)


def note_edits(context: RunContext) -> None:
    """Record which score files were changed after the stage had ended, before the stage changes them itself."""
    folder = context.folder
    before = folder.manifest.get("evaluated", {})
    ended = folder.stage_done("evaluate", stage_hash(context.config, "evaluate"))
    edited = {}
    for name, digest in folder.hashes(score_files(folder)).items():
        if ended and digest != before.get("scores", {}).get(name, digest):
            edited[name] = now()
        elif name in before.get("edited", {}):
            edited[name] = before["edited"][name]
    folder.update_manifest(evaluated={"edited": edited})


def record_scores(context: RunContext) -> None:
    """Record the hash of each score file that exists."""
    folder = context.folder
    folder.update_manifest(evaluated={"scores": folder.hashes(score_files(folder))})


def drop_damaged(context: RunContext) -> None:
    """Remove the videos and references whose hash is not the one in the manifest, and all scores made from them.

    The stages that follow make what is missing.
    """
    folder = context.folder
    same = folder.manifest.get("generate_begun") == stage_hash(context.config, "generate")
    if context.processes.is_main and same:  # else set_aside keeps them as they are
        names = _damaged(folder)
        if names:
            print(f"{len(names)} videos, e.g. {names[0]}: missing or not as scored; made again with their scores")
            _drop(context, names)
    context.processes.barrier()


def _damaged(folder: RunFolder) -> list[str]:
    """Names inside the run folder, of the manifest, whose file is missing or has another hash."""
    names = []
    for name, known in folder.manifest.get("evaluated", {}).get("videos", {}).items():
        path = folder.recorded(name)
        if not (path.is_file() and file_sha256(path) == known):
            names.append(name)
    return sorted(names)


def _drop(context: RunContext, names: list[str]) -> None:
    """Remove scores, files and hashes, in this order: whenever this is interrupted, the next start finds the rest."""
    folder = context.folder
    note_edits(context)
    folder.update_manifest(evaluated={"scores": {}})
    for file in score_files(folder):
        rows = read_scores(file)
        kept = [row for row in rows if not _made_from(row, file, names, folder)]
        if len(kept) < len(rows):
            write_json_lines(file, kept)
    record_scores(context)
    for name in names:
        folder.recorded(name).unlink(missing_ok=True)
    hashes = folder.manifest.get("evaluated", {}).get("videos", {})
    for name in names:
        hashes.pop(name, None)
    folder.update_manifest(evaluated={"videos": hashes})


def _made_from(row: ScoreRow, file: Path, names: list[str], folder: RunFolder) -> bool:
    """Whether a score was made from one of the videos: of itself, its recording, or a prompt it is compared with."""
    real = f"references/real/{row['sample']}.mp4"
    if file != folder.scores:
        kind = file.parent.name
        return f"references/{kind}/{row['video']}" in names or (kind == "frozen" and real in names)
    if row["measure"] == WORD_EFFECT:  # it compares all videos of two prompts
        samples = (f"videos/{row['sample']}__seed", f"videos/{row['detail'].get('other')}__seed")
        return any(name.startswith(samples) for name in names)
    return f"videos/{row['video']}" in names or real in names
