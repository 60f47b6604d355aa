"""One colour per adapter, the same in every figure and on the page; and the links from a result to the videos behind it."""

from __future__ import annotations

from collections.abc import Sequence

from cosmos_exp.config.measures import split_main
from cosmos_exp.report.results import Results
from cosmos_exp.report.variants import Variant

BASE, REAL, FROZEN = "#7d8590", "#2f9e5f", "#a371d8"
REFERENCES = {"real": REAL, "frozen": FROZEN}
# Legible on white and on the page's dark background (contrast at least 3 to 1 on both), and told apart by colour-blind
# readers as far as eight hues can be; markers and labels repeat what they say.
ADAPTERS = ("#3178e0", "#dd6b12", "#d2468c", "#0b97a5", "#a8820a", "#7b61d9", "#cf3f36", "#5f8f1a")

FIRST = ("instruction", "physics", "word_side", "word_effect")  # the measures that a reader asks for first


def asked_first(measures: Sequence[str]) -> list[str]:
    """The measures with those of `FIRST` in front."""
    return sorted(measures, key=lambda m: (FIRST.index(m) if m in FIRST else len(FIRST), measures.index(m)))


def adapter_colors(variants: Sequence[Variant]) -> dict[str, str]:
    """The colour of each variant by its name: grey for the base, the others in order."""
    adapters = [v.name for v in variants if not v.is_base]
    found = {name: ADAPTERS[i % len(ADAPTERS)] for i, name in enumerate(adapters)}
    return {v.name: found.get(v.name, BASE) for v in variants}


def shown_measures(results: Results) -> list[str]:
    """All measures in the order of the page: what a reader asks first, the main table's, the others."""
    main, others = split_main(results.measures)
    return asked_first(main) + others


def jump(results: Results, measure: str, a: str, b: str) -> str | None:
    """The page's link to the prompts behind b − a in a measure; None if one of the three is not on the page.

    It holds numbers only (`#show:MEASURE:A:B`, by position), so that no name has to be escaped.
    """
    names, measures = [v.name for v in results.variants], shown_measures(results)
    if a not in names or b not in names or measure not in measures:
        return None
    return f"#show:{measures.index(measure)}:{names.index(a)}:{names.index(b)}"
