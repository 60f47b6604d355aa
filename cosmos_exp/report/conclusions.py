"""What the tests of a report support, one sentence per comparison."""

from __future__ import annotations

from cosmos_exp.config.measures import measure_info, split_main
from cosmos_exp.report.formatting import number
from cosmos_exp.report.pairs import matched_values
from cosmos_exp.report.results import Results, is_different, is_equivalent
from cosmos_exp.report.variants import Variant
from cosmos_exp.statistics.comparisons import Difference, paired
from cosmos_exp.statistics.power import MOST_PROMPTS, prompts_needed

_FEW_PROMPTS = 6  # with fewer, no permutation test can reach 5 %


def conclusions(results: Results) -> list[str]:
    """One sentence per comparison in a main measure: better, worse, equivalent, or inconclusive."""
    by_name = {v.name: v for v in results.variants}
    main, _ = split_main(results.measures)
    own = [d for d in results.differences if d.mean is not None and d.measure in main]
    return [_sentence(d, by_name[d.a], by_name[d.b]) for d in own]


def _sentence(d: Difference, a: Variant, b: Variant) -> str:
    info, mean = measure_info(d.measure), d.mean or 0.0
    what = f"{d.measure} ({info.unit})" if info.unit else d.measure
    size = f"{mean:+.3g} [{number(d.ci_low)}, {number(d.ci_high)}]"
    if d.p is None:
        return f"{what}: {d.b} compared with {d.a}: {size}; a test needs at least two prompts."
    if abs(mean) < 1e-9 and d.ci_low == d.ci_high:
        return f"{what}: {d.b} and {d.a} have the same score for every prompt. If it is the end of the scale, it does not show that they are equal."
    if is_different(d):
        better = "better" if info.better * mean > 0 else "worse"
        return f"{what}: {d.b} is {better} than {d.a}: {size}, p = {number(d.p_holm)} (Holm)."
    if is_equivalent(d):
        return f"{what}: {d.b} and {d.a} are equivalent within ±{number(d.margin)}: {size}, p = {number(d.p_equivalent_holm)} (Holm)."
    return f"{what}: {d.b} compared with {d.a}: inconclusive: {size}, p = {number(d.p_holm)} (Holm).{_sample_size(d, a, b)}"


def _sample_size(d: Difference, a: Variant, b: Variant) -> str:
    """How many prompts an inconclusive comparison needs."""
    groups, _ = paired(matched_values(a, b, d.measure), b.values(d.measure))
    effect = d.margin or abs(d.mean or 0.0)
    seeds = max(1, round(d.pairs / d.n))
    least = f" With {d.n} prompts no p can be below {number(2.0 ** (1 - d.n))}." if d.n < _FEW_PROMPTS else ""
    need = prompts_needed(groups, effect, seeds)
    prompts = f"about {need} prompts" if need else f"more than {MOST_PROMPTS:,} prompts"
    each = f"{seeds} seed{'s' * (seeds > 1)} each"
    return f"{least} 80 % power for a true difference of {number(effect)} needs {prompts} with {each} (here: {d.n})."
