"""Every measure that scores.jsonl may hold, from measures.yaml: which function gives it, and its place in a report."""

from __future__ import annotations

from importlib.resources import files

import yaml
from pydantic.dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """What tables and tests need to know of a measure.

    Attributes:
        better: 1 if higher is better, -1 if lower is better, 0 if neither (such a measure is not tested).
        margin: Differences smaller than this do not matter (test of equivalence), in the measure's unit; None: not tested.
        unit: Unit or scale, as tables show it.
        limits: Smallest and largest possible value; None: no limit. Intervals of means are cut there.
        function: The name in `registry.MEASURE_FUNCTIONS` of the function that gives it for every video; empty for a measure
            that only some videos have, or that a judge or the comparison of videos gives.
        says: What it says, in a few words, for the page.
        main: Whether the measure is in a report's main table; the others are in a table of their own.
    """

    better: int = 1
    margin: float | None = None
    unit: str = ""
    limits: tuple[int | float | None, int | float | None] = (None, None)
    says: str = ""
    main: bool = False
    function: str = ""


OF_KEPT = ("kept", "kept_physics")  # measures of prompts that only a run with an adapter has
LOSSES = ("validation_loss", "train_loss")  # of the training; lower is better
ARROWS = {1: " ↑", -1: " ↓", 0: ""}  # by Measure.better, in headings

# In the order of columns in tables. A measure that is not listed comes last and is taken as `Measure()`.
_ENTRIES = yaml.safe_load(files(__package__).joinpath("measures.yaml").read_text())
MEASURES = {name: Measure(**fields) for name, fields in _ENTRIES.items()}

MARGINS = {name: info.margin for name, info in MEASURES.items() if info.margin is not None}  # default of `margins`
LIMITS = {name: info.limits for name, info in MEASURES.items()}


def measures_of(function: str) -> list[str]:
    """The measures that a function of `registry.MEASURE_FUNCTIONS` gives for every video."""
    return [name for name, info in MEASURES.items() if info.function == function]


def measure_info(name: str) -> Measure:
    """The entry of a measure; `Measure()` for one that is not listed."""
    return MEASURES.get(name, Measure())


def main_measures(names: list[str]) -> list[str]:
    """The measures of the main table, or all if none is one. A measure that is not in MEASURES is a main one."""
    return [name for name in names if name not in MEASURES or MEASURES[name].main] or names
