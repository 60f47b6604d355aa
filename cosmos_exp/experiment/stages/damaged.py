"""Videos that are not what was scored: cut short, replaced or missing. They are made again, together with their scores."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cosmos_exp.config.context import RunContext
from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.experiment.stages.evaluated import note_edits, record_scores, update_evaluated
from cosmos_exp.files import file_sha256, write_json_lines
from cosmos_exp.metrics.words.effect import MEASURE as WORD_EFFECT
from cosmos_exp.run_folder import REFERENCES, RunFolder
from cosmos_exp.statistics.scores import ScoreRow, read_scores


def drop_damaged(context: RunContext) -> None:
    """Remove the videos and references whose hash is not the one in the manifest, and all scores made from them.

    The stages that follow make what is missing. Videos without a hash (of older versions) are left alone.
    """
    folder = context.folder
    same = folder.manifest.get("generate_begun") == stage_hash(context.config, "generate")
    if context.processes.is_main and same:  # else set_aside keeps them as they are
        names = _damaged(folder)
        if names:
            shown = ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            print(f"{shown}: missing or not as scored; made again with their scores")
            _drop(context, names)
    context.processes.barrier()


def _damaged(folder: RunFolder) -> set[str]:
    """Names inside the run folder, of the manifest, whose file is missing or has another hash."""
    recorded = folder.manifest.get("evaluated", {}).get("videos", {})
    places = ("videos/", *(f"references/{kind}/" for kind in REFERENCES))
    found = set()
    for name, known in recorded.items():
        path = folder.recorded(name)
        if name.startswith(places) and not (path.is_file() and file_sha256(path) == known):
            found.add(name)
    return found


def _drop(context: RunContext, names: set[str]) -> None:
    """Remove scores, files and hashes, in this order: whenever this is interrupted, the next start finds the rest."""
    folder = context.folder
    files = [folder.scores, *(folder.reference_scores(kind) for kind in REFERENCES)]
    note_edits(context, files)
    update_evaluated(context, scores={})
    for scores in files:
        rows = read_scores(scores)
        kept = [r for r in rows if not _made_from(r, scores, names, folder)]
        if len(kept) < len(rows):
            write_json_lines(scores, kept)
    record_scores(context, files)
    for name in names:
        folder.recorded(name).unlink(missing_ok=True)
    recorded = folder.manifest.get("evaluated", {}).get("videos", {})
    update_evaluated(context, videos={k: v for k, v in recorded.items() if k not in names})


def _made_from(row: ScoreRow, scores: Path, names: Iterable[str], folder: RunFolder) -> bool:
    """Whether a score was made from one of the files: of the video itself, its recording, or a prompt it is compared with."""
    real = f"references/real/{row['sample']}.mp4"
    if scores != folder.scores:
        return f"references/{scores.parent.name}/{row['video']}" in names or (
            scores.parent.name == "frozen" and real in names
        )
    if row["measure"] == WORD_EFFECT:  # it compares all videos of two prompts
        samples = (f"videos/{row['sample']}__seed", f"videos/{row['detail'].get('other')}__seed")
        return any(name.startswith(samples) for name in names)
    return f"videos/{row['video']}" in names or real in names
