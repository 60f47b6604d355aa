"""Every measure that scores.jsonl may hold. To add a measure to the tables and the tests of a report, add one line to `MEASURES`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """What tables and tests need to know of a measure.

    Attributes:
        better: 1 if higher is better, -1 if lower is better, 0 if neither (such a measure is not tested).
        margin: Differences smaller than this do not matter (test of equivalence), in the measure's unit; None: not tested.
        unit: Unit or scale, as tables show it.
    """

    better: int = 1
    margin: float | None = None
    unit: str = ""


# The order is the order of the columns in tables. A measure that is not listed comes last and is taken as `Measure()`.
MEASURES = {
    "tse": Measure(better=-1, margin=0.05, unit="px"),
    "tse_moving": Measure(better=-1, margin=0.05, unit="px"),
    "static_share": Measure(better=0, unit="share"),
    "cse": Measure(better=-1, margin=0.05, unit="px"),
    "cse_moving": Measure(better=-1, margin=0.05, unit="px"),
    "physics": Measure(better=1, margin=0.25, unit="1 to 5"),
    "instruction": Measure(better=1, margin=0.25, unit="1 to 5"),
}

# The default of the configuration key `margins`. Sorted by unit: config.yaml lists the judged measures first.
MARGINS = {
    name: margin
    for name, margin in ((n, MEASURES[n].margin) for n in sorted(MEASURES, key=lambda n: MEASURES[n].unit))
    if margin is not None
}


def measure_info(name: str) -> Measure:
    """The entry of a measure; `Measure()` for one that is not listed."""
    return MEASURES.get(name, Measure())
