"""What was scored: the hash of each video and score file in the manifest, which `cosmos-exp report --verify` compares.

A video that is cut short, replaced or missing is made again, together with its scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cosmos_exp.config.context import RunContext
from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.files import write_json_lines
from cosmos_exp.metrics.interface import ScoredVideo
from cosmos_exp.metrics.kept import JUDGED
from cosmos_exp.run_folder import REFERENCES, RunFolder
from cosmos_exp.statistics.scores import read_scores


def score_files(folder: RunFolder) -> list[Path]:
    """The scores of the generated videos, those of each kind of reference, and the judge's of the kept ones."""
    return [folder.scores, *map(folder.reference_scores, (*REFERENCES, JUDGED))]


def record_videos(folder: RunFolder, sets: Mapping[Path, Sequence[ScoredVideo]], probes: Iterable[Path]) -> None:
    """Record the hash of each video before it gets its first score; once there are scores, the hashes stay.

    Args:
        sets: the videos by the file of their scores.
        probes: videos that only word_effect reads, under the names of other prompts.
    """
    paths, begun = list(probes), False
    for file, videos in sets.items():
        begun = begun or bool(read_scores(file))
        for video in videos:
            paths += filter(None, (video.path, video.recording))
    known = _hashes(folder) if begun else {}
    new = folder.hashes(path for path in paths if folder.name_of(path) not in known)
    folder.update_manifest(evaluated={"videos": known | new})


def record_scores(folder: RunFolder) -> None:
    """Record the hash of each score file that exists."""
    folder.update_manifest(evaluated={"scores": folder.hashes(score_files(folder))})


def drop_stale(context: RunContext) -> None:
    """Remove the videos and references whose hash is not the one in the manifest, and all scores made from them.

    The stages that follow make what is missing.
    """
    folder = context.folder
    same = folder.manifest.get("generate_begun") == stage_hash(context.config, "generate")
    if context.processes.is_main and same:  # else set_aside keeps them as they are
        known = _hashes(folder)
        found = folder.hashes(map(folder.recorded, known))
        names = sorted(name for name in known if found.get(name) != known[name])
        if names:
            print(f"{len(names)} videos, e.g. {names[0]}: missing or not as scored; made again with their scores")
            _drop(folder, names)
    context.processes.barrier()


def _hashes(folder: RunFolder) -> dict[str, str]:
    """The recorded hash of each scored video by its name inside the run folder."""
    return dict(folder.manifest.get("evaluated", {}).get("videos", {}))


def _drop(folder: RunFolder, names: list[str]) -> None:
    """Remove scores, files and hashes, in this order: whenever this is interrupted, the next start finds the rest."""
    samples = set()
    for name in names:
        stem = Path(name).stem
        samples.add(stem.rpartition("__seed")[0] if name.startswith("videos/") else stem)
    folder.update_manifest(evaluated={"scores": {}})
    for file in score_files(folder):
        rows = read_scores(file)
        kept = []
        for row in rows:
            other = (row.get("detail") or {}).get("other")  # word_effect compares the videos of two prompts
            if row["sample"] not in samples and other not in samples:
                kept.append(row)
        if len(kept) < len(rows):
            write_json_lines(file, kept)
    record_scores(folder)
    hashes = _hashes(folder)
    for name in names:
        folder.recorded(name).unlink(missing_ok=True)
        hashes.pop(name)
    folder.update_manifest(evaluated={"videos": hashes})
