"""Run folders that hold the same training: copies under another seed or name are no further training runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from cosmos_exp.run_folder import ADAPTER_NAME

if TYPE_CHECKING:
    from cosmos_exp.report.variants import Run

MIN_STEPS = 3  # fewer losses could agree by chance


def same_training(a: Run, b: Run) -> str | None:
    """What shows that two runs hold one training; None if nothing does. Another seed never gives the same file.

    The same adapter, the same losses, or more than half of the common videos byte for byte, unless adapters and losses are
    known to differ (two trainings that change nothing give the base's videos).
    """
    adapters = [r.manifest.get("trained", {}).get("files", {}).get(ADAPTER_NAME) for r in (a, b)]
    if adapters[0] and adapters[0] == adapters[1]:
        return "the same adapter"
    if len(a.losses) >= MIN_STEPS and a.losses == b.losses:
        return "the same training losses"
    if all(adapters) and min(len(a.losses), len(b.losses)) >= MIN_STEPS:
        return None
    first, second = a.video_hashes, b.video_hashes
    common = set(first) & set(second)
    same = sum(first[name] == second[name] for name in common)
    return f"{same} of {len(common)} videos are identical" if 2 * same > len(common) else None


def mark_copies(runs: Sequence[Run]) -> None:
    """Mark each finished run of a variant that holds the training of an earlier one: it does not count."""
    kept: list[Run] = []
    for run in (r for r in runs if r.finished):
        found = ((other, same_training(other, run)) for other in kept)
        run.copy_of = next(((other, why) for other, why in found if why), None)
        if run.copy_of is None:
            kept.append(run)


def copies(runs: Sequence[Run]) -> Iterator[tuple[Run, Run, str]]:
    """Pairs of trained runs with the same training under another seed or configuration, and what shows it.

    Runs that differ in what comes after the training only, with one seed, are no copies.
    """
    trained = [r for r in runs if r.finished and not r.is_base]
    for a, b in itertools.combinations(trained, 2):
        if a.training_identity != b.training_identity:
            why = same_training(a, b)
            if why:
                yield a, b, why
