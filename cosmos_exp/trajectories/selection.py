"""Which of the made videos are kept: all that pass a condition, or the best of each prompt; until a target is reached."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from cosmos_exp.config.measures import measure_info
from cosmos_exp.errors import UserError
from cosmos_exp.trajectories.keep import NO_SCORE, Keep
from cosmos_exp.trajectories.making import Scored
from cosmos_exp.trajectories.plan import Candidate, by_prompt

BATCH = 16  # videos that are made before they are scored, where the number that is made is known beforehand


@dataclass(frozen=True)
class Rule:
    """What is kept.

    Attributes:
        keep: the condition; None: all.
        best: of each prompt, keep so many; None: all.
        by: the measure that ranks them.
        target: stop as soon as so many are kept; None: make all.
    """

    keep: Keep | None = None
    best: int | None = None
    by: str | None = None
    target: int | None = None

    def batches(self, candidates: Sequence[Candidate]) -> list[list[Candidate]]:
        """The videos to make at a time: with a ranking those of a prompt, with a target one."""
        if self.best is not None:
            return by_prompt(candidates)
        size = BATCH if self.target is None else 1
        return [list(candidates[i : i + size]) for i in range(0, len(candidates), size)]


@dataclass(frozen=True)
class Outcome:
    """A made video. `reason`: why it is dropped; None: it is kept."""

    scored: Scored
    reason: str | None


@dataclass
class Selection:
    """What was made and kept so far."""

    rule: Rule
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def kept(self) -> list[Scored]:
        """The videos that are kept, in the order in which they were made."""
        return [o.scored for o in self.outcomes if o.reason is None]

    @property
    def is_complete(self) -> bool:
        """Whether the target is reached."""
        return self.rule.target is not None and len(self.kept) >= self.rule.target

    def add(self, batch: Sequence[Scored]) -> None:
        """Decide on a batch of `Rule.batches`."""
        rule, left = self.rule, None if self.rule.target is None else self.rule.target - len(self.kept)
        reasons = [rule.keep.refusal(s.scores) if rule.keep else None for s in batch]
        if rule.best is not None:
            assert rule.by is not None
            reasons = _ranked(batch, reasons, rule.best, rule.by, left)
        self.outcomes += [Outcome(s, r) for s, r in zip(batch, reasons, strict=True)]

    def dropped(self) -> dict[str, int]:
        """How many were dropped for each reason, the most frequent first."""
        return dict(Counter(o.reason for o in self.outcomes if o.reason is not None).most_common())


def _ranked(
    batch: Sequence[Scored], reasons: list[str | None], best: int, by: str, left: int | None
) -> list[str | None]:
    """The reasons with those of the ranking: only the best of the videos that have none keep none. Ties: the first made."""
    found = [
        r or (f"{NO_SCORE}: {by}" if s.scores.get(by) is None else None) for s, r in zip(batch, reasons, strict=True)
    ]
    sign = -measure_info(by).better
    order = sorted(
        (i for i, r in enumerate(found) if r is None), key=lambda i: (sign * float(batch[i].scores[by] or 0), i)
    )
    for place, i in enumerate(order):
        if place >= best:
            found[i] = f"not among the best {best} of its prompt by {by}"
        elif left is not None and place >= left:
            found[i] = "not needed: the target was reached"
    return found


def check_ranking(best: int | None, by: str | None, videos: int) -> None:
    """Check --best and --by.

    Args:
        videos: of each prompt.

    Raises:
        UserError: one is given without the other, there is nothing to choose from, or the measure has no better end.
    """
    if best is None and by is None:
        return
    if best is None or by is None:
        raise UserError("--best N and --by MEASURE go together: the N best videos of each prompt by a measure.")
    if best < 1:
        raise UserError(f"--best {best}: must be at least 1")
    if videos < 2:
        raise UserError(f"--best {best}: one video of each prompt is made. Give more --seeds, e.g. --seeds 0..9.")
    if best >= videos:
        raise UserError(f"--best {best}: {videos} videos of each prompt are made. Choose 1 to {videos - 1}.")
    if not measure_info(by).better:
        raise UserError(f"--by {by}: neither high nor low is better. Choose another measure, or use it in --keep.")
