"""The first sentences of the page: what the tests of the report say, one sentence per measure, each part with its link.

They use the same statistics as the tables. Claims that were frozen before the runs come first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cosmos_exp.config.measures import measure_info, split_main
from cosmos_exp.report.claims import ClaimsReport, verdict_text
from cosmos_exp.report.colors import FIRST, asked_first, jump
from cosmos_exp.report.conclusions import disagreement, named, sample_size, untuned_note
from cosmos_exp.report.formatting import interval, number, summary_text, undefined_text
from cosmos_exp.report.results import Results
from cosmos_exp.report.variants import Variant, scenes_of
from cosmos_exp.statistics.claims import CONFIRMED, REFUTED, UNTESTABLE, ClaimResult
from cosmos_exp.statistics.comparisons import Difference

MOST = 6  # sentences
STAR = "*"


@dataclass(frozen=True)
class Part:
    """A piece of a sentence. `link`: the prompts behind it. `kind`: good, bad or empty."""

    text: str
    link: str | None = None
    kind: str = ""


@dataclass(frozen=True)
class Sentence:
    """A sentence of the verdict about a measure; `about` is empty where it is about all."""

    about: str
    parts: list[Part]


def verdict(results: Results, claims: ClaimsReport | None = None) -> list[Sentence]:
    """Three to six sentences: the claims, then each main measure against the base, then what was not shown."""
    order = asked_first(split_main(results.measures)[0])
    found = _claims(claims, results, order) if claims else []
    spoken = {s.about for s in found}
    rest = [m for m in order if m not in spoken and any(d.measure == m for d in results.differences)]
    silent = [m for m in rest if not _decided(results, m) and m not in FIRST[:2]]
    found += [_measure(results, m) for m in rest if m not in silent]
    if not found and not silent:
        return [_summary(results, m) for m in order[:MOST]]
    if silent:
        found.append(_undecided(results, silent))
    return found[:MOST]


def _decided(results: Results, measure: str) -> bool:
    """Whether a comparison with the base is better, worse or equivalent."""
    return any(d.is_different or d.is_equivalent for d in _with_base(results, measure))


def _with_base(results: Results, measure: str) -> list[Difference]:
    """The comparisons of a measure with the base; all of them if there is no base."""
    own = [d for d in results.differences if d.measure == measure and d.p_holm is not None]
    return [d for d in own if d.a == results.base] if results.base else own


def _family(results: Results, measure: str) -> int:
    return sum(d.measure == measure and d.p is not None for d in results.differences)


def _numbers(d: Difference, results: Results) -> str:
    """`+0.79 [0.35, 1.23], p = 0.02`; for an equivalence its own p. A star: the interval excludes 0, see `_starred`."""
    mean, equivalent = d.mean or 0.0, d.is_equivalent and not d.is_different
    star = "" if equivalent or not disagreement(d, 0) else STAR
    size = f"{'+' if mean >= 0 else ''}{interval(mean, d.ci_low, d.ci_high)}{star}"
    return f"{size}, {p_text(d.p_equivalent_holm if equivalent else d.p_holm)}"


def p_text(p: float | None) -> str:
    """`p = 0.02`, and `p < 0.001` for all that is smaller."""
    return "p < 0.001" if p is not None and p < 0.001 else f"p = {number(p)}"


def _starred(own: list[Difference], family: int) -> list[Part]:
    """What a star says, where there is one."""
    if not any(disagreement(d, family) and not d.is_equivalent for d in own):
        return []
    return [
        Part(
            f"{STAR} This interval is for one comparison alone and excludes 0; p counts all {family} comparisons of the "
            "measure (Holm), and with that many the difference is not shown. "
        )
    ]


def _measure(results: Results, measure: str) -> Sentence:
    """`Better than base: …. Worse: …. Equivalent: …. Inconclusive: …` for the comparisons with the base."""
    groups: dict[str, list[Part]] = {}
    better = measure_info(measure).better
    for d in _with_base(results, measure):
        other = f" than {d.a}" if results.base else ""
        if d.is_different:
            good = better * (d.mean or 0.0) > 0
            word, kind = (f"better{other}", "good") if good else (f"worse{other}", "bad")
        elif d.is_equivalent:
            word, kind = f"equivalent to {d.a} within ±{number(d.margin)}", ""
        else:
            word, kind = "inconclusive", ""
        if d.few_runs and word != "inconclusive":
            word += " if no training run fails"
        text = f"{_name(d, results)} ({_numbers(d, results)})"
        groups.setdefault(word, []).append(Part(text, jump(results, measure, d.a, d.b), kind))
    ranked = sorted(groups, key=lambda w: ("better" not in w, "worse" not in w, "equivalent" not in w))
    own = _with_base(results, measure)
    remarks = [*_needs(own, results), *_starred(own, _family(results, measure)), *_warned(results, measure)]
    return Sentence(measure, [*_listed((w, groups[w]) for w in ranked), *remarks])


def _listed(groups: Iterable[tuple[str, list[Part]]]) -> list[Part]:
    """`Better than base: A, B. Inconclusive: C.` as parts."""
    parts: list[Part] = []
    for word, own in groups:
        parts.append(Part(f"{word[0].upper()}{word[1:]}: "))
        for k, part in enumerate(own):
            parts += [part, Part(", " if k < len(own) - 1 else ". ")]
    return parts


def _name(d: Difference, results: Results) -> str:
    """How a sentence names b, and a if it is not the base."""
    by_name = {v.name: v for v in results.variants}
    text, _ = named(by_name[d.b], d)
    return text if d.a == results.base else f"{text} against {named(by_name[d.a], d)[0]}"


def _needs(own: list[Difference], results: Results) -> list[Part]:
    """How many scenes, or training runs, the inconclusive comparisons need for 80 % power."""
    by_name: dict[str, Variant] = {v.name: v for v in results.variants}
    open_ones = [d for d in own if not d.is_different and not d.is_equivalent]
    needs = [(d, sample_size(d, by_name[d.a], by_name[d.b], scenes_of(results.variants))) for d in open_ones]
    scenes = [n.scenes for d, n in needs if n.scenes and n.scenes > d.n]
    runs = [n.runs for d, n in needs if n.runs and n.runs > max(d.runs)]
    text = ""
    if scenes:
        text += f"About {_range(scenes)} scenes would be needed, here are {max(d.n for d in open_ones)}. "
    if runs:
        text += f"About {_range(runs)} training runs per adapter would be needed. "
    return [Part(text)] if text else []


def _range(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _undecided(results: Results, measures: list[str]) -> Sentence:
    """One sentence for all measures in which no comparison with the base is decided."""
    against = results.base or "each other"
    parts = [Part(f"No adapter is shown to differ from {against}, or to equal it, in ")]
    for k, m in enumerate(measures):
        parts += [Part(m, _largest(results, m)), Part(", " if k < len(measures) - 1 else ". ")]
    return Sentence("", parts)


def _largest(results: Results, measure: str) -> str | None:
    """The link to the comparison with the largest difference."""
    own = _with_base(results, measure)
    largest = max(own, key=lambda d: abs(d.mean or 0.0), default=None)
    return jump(results, measure, largest.a, largest.b) if largest else None


def _warned(results: Results, measure: str) -> list[Part]:
    if measure not in results.warnings:
        return []
    return [Part("Read it with care: a still picture scores as well as the recordings.", kind="bad")]


def _summary(results: Results, measure: str) -> Sentence:
    """The means of a measure where nothing is compared."""
    own = [(v.name, results.table[v.name][measure]) for v in results.variants if v.done]
    means = [
        f"{name} {summary_text(s) if s['mean'] is not None else undefined_text(s)}" for name, s in own if s["videos"]
    ]
    return Sentence(measure, [Part((", ".join(means) or "no scores") + ".")])


# --- claims ---
def _claims(claims: ClaimsReport, results: Results, order: list[str]) -> list[Sentence]:
    """How many claims are confirmed, then one sentence per measure with its claims, the confirmed first."""
    counts = {word: sum(r.verdict == word for r in claims.results) for word in (CONFIRMED, REFUTED)}
    total = len(claims.results)
    frozen = claims.heading.split(":")[0] == "Confirmatory"
    text = (
        f"Of {total} claim{'s' if total != 1 else ''}{' frozen before the runs' if frozen else ''}, "
        f"{counts[CONFIRMED]} {'is' if counts[CONFIRMED] == 1 else 'are'} confirmed and {counts[REFUTED]} refuted."
    )
    head = [Part(text, "#claims")]
    if any(r.verdict != UNTESTABLE and not r.is_about_recipe for r in claims.results):
        head.append(Part(" In brackets: about these trained adapters, not about another training of the same recipe."))
    measures = sorted({r.claim.measure for r in claims.results}, key=lambda m: order.index(m) if m in order else 99)
    return [Sentence("", head), *(_claimed(claims, results, m) for m in measures)]


def _claimed(claims: ClaimsReport, results: Results, measure: str) -> Sentence:
    """The claims of one measure, grouped by verdict."""
    groups: dict[str, list[Part]] = {}
    for r in (r for r in claims.results if r.claim.measure == measure):
        kind = {CONFIRMED: "good", REFUTED: "bad"}.get(r.verdict, "")
        link = jump(results, measure, r.claim.b, r.claim.a)
        groups.setdefault(verdict_text(r), []).append(Part(_claim(r, results, len(claims.results)), link, kind))
    ranked = sorted(groups, key=lambda w: (CONFIRMED not in w, REFUTED not in w, w))
    own = {r.claim.text for r in claims.results if r.claim.measure == measure}
    notes = [Part(f"{text}: {untuned_note(words)} ") for text, words in claims.untuned.items() if text in own]
    return Sentence(measure, [*_listed((w, groups[w]) for w in ranked), *notes, *_warned(results, measure)])


def _claim(r: ClaimResult, results: Results, total: int) -> str:
    """`lora-r32 is above base by more than 0.25 (0.908 [0.787, 1.03], p = 3.8e-07)`."""
    words, d = r.claim, r.difference
    first, second = (_claimant(name, r, results) for name in (words.a, words.b))
    by = f" by more than {number(words.amount)}" if words.amount else ""
    better = {">": 1, "<": -1}.get(words.sign, 0) * measure_info(words.measure).better
    word = {1: "better than", -1: "worse than"}.get(better, {">": "above", "<": "below"}.get(words.sign, ""))
    said = f"{first} is {word} {second}{by}" if word else words.text
    if words.sign == "=":
        said = f"{first} equals {second} within {number(words.amount)}"
    if d is None or r.reason is not None:
        return f"{said} ({r.reason})"
    return f"{said} ({interval(d.mean, d.ci_low, d.ci_high)}, {p_text(r.p_holm)}{claim_note(r, total)})"


def _claimant(name: str, r: ClaimResult, results: Results) -> str:
    """How a sentence names an adapter of a claim: `this lora-r8 adapter` where the verdict is not about the recipe."""
    variant = next((v for v in results.variants if v.name == name), None)
    return named(variant, r.difference)[0] if variant and r.difference else name


def claim_note(r: ClaimResult, total: int) -> str:
    """Why the interval of a claim lies inside of what is claimed beside a p value that is not significant; else empty."""
    d, words = r.difference, r.claim
    if d is None or r.verdict in (CONFIRMED, REFUTED) or r.p_holm < 0.05 or d.ci_low is None or d.ci_high is None:
        return ""
    inside = {">": d.ci_low > words.bound, "<": d.ci_high < words.bound}.get(words.sign, False)
    if not inside:
        return ""
    return f"; the interval is for this claim alone ({p_text(r.p)}), p counts all {total} claims"
