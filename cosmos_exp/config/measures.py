"""Every measure that scores.jsonl may hold: which function gives it, and its place in the tables and tests of a report."""

from __future__ import annotations

from dataclasses import dataclass


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
        main: Whether the measure is in a report's main table; the others are in a table of their own.
    """

    better: int = 1
    margin: float | None = None
    unit: str = ""
    limits: tuple[float | None, float | None] = (None, None)
    main: bool = False
    function: str = ""


LOSSES = ("validation_loss", "train_loss")  # of the training; lower is better
ARROWS = {1: " ↑", -1: " ↓", 0: ""}  # by Measure.better, in headings

# The order is the order of the columns in tables. A measure that is not listed comes last and is taken as `Measure()`.
MEASURES = {
    "tse": Measure(better=-1, margin=0.05, unit="px", limits=(0, None), main=True, function="sampson"),
    "tse_robust": Measure(better=-1, margin=0.05, unit="px", limits=(0, None), main=True, function="sampson"),
    "tse_moving": Measure(better=-1, margin=0.05, unit="px", limits=(0, None), function="sampson"),
    "static_share": Measure(better=0, unit="share", limits=(0, 1), function="sampson"),
    "cse": Measure(better=-1, margin=0.05, unit="px", limits=(0, None), main=True),
    "cse_robust": Measure(better=-1, margin=0.05, unit="px", limits=(0, None), main=True),
    "cse_moving": Measure(better=-1, margin=0.05, unit="px", limits=(0, None)),
    "psnr": Measure(better=1, unit="dB", function="recording"),
    "ssim": Measure(better=1, unit="-1 to 1", limits=(-1, 1), function="recording"),
    "psnr_moving": Measure(better=1, unit="dB", function="recording"),
    "mask_iou_space": Measure(better=1, unit="0 to 1", limits=(0, 1), function="recording"),
    "mask_iou_spacetime": Measure(better=1, unit="0 to 1", limits=(0, 1), main=True, function="recording"),
    "mask_iou_weighted": Measure(better=1, unit="0 to 1", limits=(0, 1), function="recording"),
    "motion_ratio": Measure(better=0, unit="ratio", limits=(0, None), function="recording"),
    "flow_error": Measure(better=-1, unit="grey levels", limits=(0, None), function="motion"),
    "flow_inconsistency": Measure(better=-1, unit="share", limits=(0, 1), function="motion"),
    "track_survival": Measure(better=1, unit="share", limits=(0, 1), function="motion"),
    "track_roughness": Measure(better=-1, unit="0 to 1", limits=(0, 1), function="motion"),
    "word_side": Measure(better=1, unit="share", limits=(0, 1), main=True, function="side"),
    "word_effect": Measure(better=1, unit="noise effects", limits=(0, None), main=True),
    "scene_drift": Measure(
        better=-1, unit="grey levels", limits=(0, None), main=True, function="scene"
    ),  # videos of several chunks only
    "physics": Measure(better=1, margin=0.25, unit="1 to 5", limits=(1, 5), main=True),
    "instruction": Measure(better=1, margin=0.25, unit="1 to 5", limits=(1, 5), main=True),
}

# The default of the configuration key `margins`. Sorted by unit: config.yaml lists the judged measures first.
MARGINS: dict[str, float] = {}
for _name in sorted(MEASURES, key=lambda name: MEASURES[name].unit):
    _margin = MEASURES[_name].margin
    if _margin is not None:
        MARGINS[_name] = _margin


LIMITS = {name: info.limits for name, info in MEASURES.items()}


def measures_of(function: str) -> list[str]:
    """The measures that a function of `registry.MEASURE_FUNCTIONS` gives for every video."""
    return [name for name, info in MEASURES.items() if info.function == function]


def split_main(names: list[str]) -> tuple[list[str], list[str]]:
    """The measures of the main table, and the others. A measure that is not in MEASURES is a main one."""
    main: list[str] = []
    others: list[str] = []
    for name in names:
        chosen = main if name not in MEASURES or MEASURES[name].main else others
        chosen.append(name)
    return (main, others) if main else (names, [])


def measure_info(name: str) -> Measure:
    """The entry of a measure; `Measure()` for one that is not listed."""
    return MEASURES.get(name, Measure())
