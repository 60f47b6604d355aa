"""What the tests of a report support, one sentence per comparison; and what limits all of them."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from cosmos_exp.config.measures import measure_info, split_main
from cosmos_exp.report.formatting import interval, minute, number
from cosmos_exp.report.pairs import values_of
from cosmos_exp.report.results import IF_NONE_FAILS, Results
from cosmos_exp.report.variants import Run, Variant, scenes_of
from cosmos_exp.statistics.cells import paired_cells
from cosmos_exp.statistics.comparisons import MIN_SCENES, Difference, contrast
from cosmos_exp.statistics.crossed import LEVEL
from cosmos_exp.statistics.intervals import MIN_RUNS, SURE_RUNS, unseen_failures
from cosmos_exp.statistics.power import MOST_RUNS, MOST_SCENES, measured_design, runs_needed, scenes_needed


def conclusions(results: Results, claimed: Set[tuple[str, frozenset[str]]] = frozenset()) -> list[str]:
    """One sentence per comparison in a main measure: better, worse, equivalent, or inconclusive.

    Args:
        claimed: Measure and adapters of the comparisons that are left out, since frozen claims are about them.
    """
    return [sentence for _, sentence in explorations(results, claimed)]


def explorations(results: Results, claimed: Set[tuple[str, frozenset[str]]]) -> list[tuple[Difference, str]]:
    """The comparisons that `conclusions` is about, each with its sentence."""
    by_name = {v.name: v for v in results.variants}
    scenes = scenes_of(results.variants)
    main, _ = split_main(results.measures)
    own = [d for d in results.differences if d.mean is not None and d.measure in main]
    own = [d for d in own if (d.measure, frozenset((d.a, d.b))) not in claimed]
    said = [(d, _sentence(d, by_name[d.a], by_name[d.b], scenes), results.untuned.get((d.a, d.b))) for d in own]
    return [(d, f"{sentence} {untuned_note(words)}" if words else sentence) for d, sentence, words in said]


def untuned_note(words: str) -> str:
    """What is said beside a comparison of arms that differ in more than what is compared."""
    return f"They also differ in {words}, which was not tuned, so this is not the effect of kind or rank alone."


def cautions(variants: list[Variant], differences: list[Difference]) -> list[str]:
    """What a reader must know of the statistics of these runs: copies, unknown scenes, too few training runs."""
    done = [v for v in variants if v.done]
    samples = {row["sample"] for v in done for run in v.done for row in run.scores}
    known = scenes_of(done)
    found = [
        f"{_folder(run)} holds the same training as {_folder(run.copy_of[0])} ({run.copy_of[1]}), so {v.name} counts it once. "
        "Remove the copy, or train it with its own seed."
        for v in variants
        for run in v.runs
        if run.copy_of
    ]
    for run in (run for v in done for run in v.done):
        for file, when in (run.manifest.get("evaluated", {}).get("again") or {}).items():
            found.append(
                f"{_folder(run)} was scored again with other measures, judge or videos on {minute(when)}; {file} has the earlier scores."
            )
    short = (n for v in done for run in v.done for n in run.manifest.get("data", {}).get("short_recordings") or [])
    found += dict.fromkeys(f"{note}." for note in short)
    if samples - set(known):
        found.append(
            f"The scenes of {len(samples - set(known))} prompts are unknown (older run folders do not record them), so each "
            "prompt counts as a scene. If prompts share a first frame, intervals are too narrow and p values too small."
        )
    few = [v for v in done if not v.is_base and len(v.done) < MIN_RUNS]
    if few and any(not d.recipe for d in differences):
        names = ", ".join(f"{v.name}: {len(v.done)}" for v in few)
        found.append(
            f"Fewer than {MIN_RUNS} training runs ({names}): statements and marks in brackets are about these trained "
            "adapters. They say nothing about another training of the same recipe, so nothing about rank, LoRA or DoRA. "
            "Add training seeds: seed=0,1,2."
        )
    runs = [r for d in differences if d.recipe for r in d.runs if r >= MIN_RUNS]  # the base has one
    if runs:
        found.append(few_runs_note(min(runs)))
    return found


def few_runs_note(runs: int) -> str:
    """What a statement about recipes does not know if no training run of few has failed."""
    condition = f" Statements with {IF_NONE_FAILS} hold if no training run fails." if runs < SURE_RUNS else ""
    return (
        f"{runs} training runs per adapter: if some trainings learn and others do not, all {runs} may be of one kind, and a run "
        f"that fails was not seen. 95 % upper bound on the share of such runs: {_percent(runs)} (with 5 runs {_percent(5)}, with "
        f"10 {_percent(10)}).{condition}"
    )


def _percent(runs: int) -> str:
    return f"{100 * unseen_failures(runs):.0f} %"


def _folder(run: Run) -> str:
    return f"{run.folder.path.parent.name}/{run.folder.path.name}"


def named(v: Variant, d: Difference) -> tuple[str, str]:
    """How a sentence names a variant, and the verb. The recipe by its name; trained adapters as `this … adapter`."""
    count = d.runs[0] if v.name == d.a else d.runs[1]
    if v.is_base or d.recipe:
        return v.name, "is"
    return (f"this {v.name} adapter", "is") if count == 1 else (f"these {count} {v.name} adapters", "are")


def _sentence(d: Difference, a: Variant, b: Variant, scenes: dict[str, str]) -> str:
    info, mean = measure_info(d.measure), d.mean or 0.0
    what = f"{d.measure} ({info.unit})" if info.unit else d.measure
    (first, _), (second, verb) = named(a, d), named(b, d)
    size = f"{'+' if mean >= 0 else ''}{interval(mean, d.ci_low, d.ci_high)}"
    compared = f"{what}: {second} compared with {first}"
    if d.p is None:
        return f"{compared}: {size}; a test needs at least two scenes."
    if abs(mean) < 1e-9 and d.ci_low == d.ci_high:
        return f"{what}: {second} and {first} have the same score in every scene. If it is the end of the scale, it does not show that they are equal."
    condition = f" It holds if no training run fails ({d.few_runs} runs)." if d.few_runs else ""
    if d.is_different:
        better = "better" if info.better * mean > 0 else "worse"
        return f"{what}: {second} {verb} {better} than {first}: {size}, p = {number(d.p_holm)} (Holm).{condition}"
    if d.is_equivalent:
        return f"{what}: {second} and {first} are equivalent within ±{number(d.margin)}: {size}, p = {number(d.p_equivalent_holm)} (Holm).{condition}"
    return f"{compared}: inconclusive: {size}, p = {number(d.p_holm)} (Holm).{_why(d)}{_sample_size(d, a, b, scenes)}"


def _why(d: Difference) -> str:
    """Why a comparison is inconclusive although one of its tests is significant."""
    if d.p_holm is not None and d.p_holm < LEVEL:
        return f" The difference is below the measure's own repeatability ({number(d.repeatability)})."
    if d.p_equivalent_holm is None or d.p_equivalent_holm >= LEVEL or d.may_be_equivalent:
        return ""
    if d.n < MIN_SCENES:
        return f" Too few scenes to call them equivalent: {d.n}, at least {MIN_SCENES} are needed."
    return f" The measure's repeatability ({number(d.repeatability)}) is not below the margin, so it cannot show equivalence."


def disagreement(d: Difference, family: int) -> str:
    """Why a 95 % interval excludes 0 beside a p value that is not significant; empty if it does not."""
    ends = d.ci_low, d.ci_high
    if d.p_holm is None or d.p_holm < LEVEL or None in ends or (d.ci_low or 0.0) <= 0 <= (d.ci_high or 0.0):
        return ""
    return (
        f"the interval excludes 0 because it is for this comparison alone (p = {number(d.p)}); "
        f"p = {number(d.p_holm)} counts all {family} comparisons of the measure"
    )


def _sample_size(d: Difference, a: Variant, b: Variant, scenes: dict[str, str]) -> str:
    """How many scenes, or training runs, an inconclusive comparison needs; empty without a margin, or if it has as many."""
    need = sample_size(d, a, b, scenes)
    if not d.margin or (need.scenes and need.scenes <= d.n):
        return ""
    each = f" with {max(d.runs)} training runs per adapter" if d.recipe else ""
    here = f"{d.n} scenes" if d.n == d.prompts else f"{d.n} scenes with {d.prompts} prompts"
    power = f" 80 % power for a true difference of {number(need.effect)} needs"
    if need.scenes:
        return f"{power} about {need.scenes} scenes{each} (here: {here})."
    rest = f"; about {need.runs} training runs per adapter on the {d.n} scenes would do" if need.runs else ""
    return f"{power} more than {MOST_SCENES:,} scenes{each} (here: {here}){rest}."


@dataclass(frozen=True)
class Need:
    """What shows a true difference of `effect` with 80 % power: scenes, or else training runs per adapter; None: too many."""

    effect: float
    scenes: int | None
    runs: int | None


def sample_size(d: Difference, a: Variant, b: Variant, scenes: dict[str, str]) -> Need:
    """What a comparison needs to show a difference of its margin, with the scenes that equivalence asks for; without one nothing."""
    cells = paired_cells(values_of(a, d.measure), values_of(b, d.measure), scenes)
    design = measured_design(cells, contrast(cells, d.recipe))
    effect = d.margin or 0.0
    need = scenes_needed(design, effect, max(d.runs))
    need = max(need, MIN_SCENES) if need else None
    more = runs_needed(design, effect, d.n) if d.recipe and not need else None
    return Need(effect, need, more if more and more <= MOST_RUNS else None)
