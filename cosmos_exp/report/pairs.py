"""The pairs of variants that a report compares, whether they are comparable, and their differences."""

from __future__ import annotations

from collections.abc import Callable

from cosmos_exp.config.measures import MARGINS, measure_info
from cosmos_exp.errors import UserError
from cosmos_exp.report.variants import Run, Variant, VideoKey, fingerprint, measures_of
from cosmos_exp.statistics.comparisons import Difference, difference, holm

# Settings that cannot change a score.
_NEUTRAL_GENERATION = ("merge_adapter", "fps", "crf")
_NEUTRAL_JUDGE = ("batch", "timeout", "retries", "url")


def margins_of(variants: list[Variant]) -> dict[str, float]:
    """The margins in the runs' configurations, the strictest where they differ; the defaults for older runs."""
    found: dict[str, float] = {}
    for run in (r for v in variants for r in v.runs):
        for measure, margin in (run.config.get("margins") or MARGINS).items():
            found[measure] = min(margin, found.get(measure, margin))
    return found


def parse_margins(words: list[str], configured: dict[str, float]) -> dict[str, float]:
    """The configured margins, replaced by those of the command line (`instruction=0.25`).

    Raises:
        UserError: A word is not MEASURE=NUMBER with a positive number.
    """
    margins = dict(configured)
    for word in words:
        name, sign, value = word.partition("=")
        try:
            margins[name] = float(value)
        except ValueError:
            sign = ""
        if not sign or not margins[name] > 0:
            raise UserError(f"--margin {word}: write MEASURE=NUMBER with a positive number, e.g. instruction=0.25")
    return margins


def _test_set(run: Run) -> object:
    videos = sorted({(r["sample"], r["prompt"]) for r in run.scores}, key=str)
    return run.manifest.get("data", {}).get("test"), videos


def _generation(run: Run) -> object:
    return {k: v for k, v in run.config.get("generation", {}).items() if k not in _NEUTRAL_GENERATION}


def _judge(run: Run) -> object:
    names = {(r["measure"], (r.get("detail") or {}).get("judge")) for r in run.scores}
    settings = {k: v for k, v in run.config.get("judge", {}).items() if k not in _NEUTRAL_JUDGE}
    return sorted((n for n in names if n[1]), key=str), settings


_MUST_AGREE: dict[str, Callable[[Run], object]] = {
    "test sets": _test_set,
    "generation settings": _generation,
    "judges": _judge,
    "Sampson settings": lambda run: run.config.get("sampson"),
    "base models": lambda run: run.manifest.get("model", {}).get("fingerprints"),
}


def why_not_comparable(a: Variant, b: Variant) -> str | None:
    """Why the scores of two finished variants are not comparable; None if they are."""
    for name, part in _MUST_AGREE.items():
        if fingerprint(part(a.done[0])) != fingerprint(part(b.done[0])):
            return f"{a.name} and {b.name} have different {name}"
    return None


def check_comparable(variants: list[Variant]) -> None:
    """Check that all finished variants are comparable.

    Raises:
        UserError: Two are not; names them and what differs.
    """
    done = [v for v in variants if v.done]
    for other in done[1:]:
        why = why_not_comparable(done[0], other)
        if why:
            raise UserError(f"{why}, so their scores are not comparable. Report each alone, or run both the same way.")


def _rest(v: Variant, *without: str) -> str:
    """Fingerprint of data, training, model and adapter, without alpha and the given adapter keys."""
    config = v.runs[0].config
    adapter = {k: x for k, x in v.adapter.items() if k not in (*without, "alpha")}
    return fingerprint({k: config.get(k) for k in ("data", "training", "model")} | {"adapter": adapter})


def compared_pairs(variants: list[Variant]) -> list[tuple[Variant, Variant]]:
    """The pairs (a, b) that a report compares.

    The base with each adapter; LoRA with DoRA of the same rank; the lowest with the highest rank of each kind.
    """
    done = [v for v in variants if v.done]
    pairs = [(a, b) for a in done if a.is_base for b in done if not b.is_base]
    adapted = [v for v in done if not v.is_base]
    for i, a in enumerate(adapted):
        for b in adapted[i + 1 :]:
            kinds = {a.adapter.get("kind"), b.adapter.get("kind")}
            if kinds == {"lora", "dora"} and _rest(a, "kind") == _rest(b, "kind"):
                pairs.append((a, b) if a.adapter.get("kind") == "lora" else (b, a))
    for kind in ("lora", "dora"):
        own = [v for v in adapted if v.adapter.get("kind") == kind and v.adapter.get("alpha") == v.adapter.get("rank")]
        own = [v for v in own if _rest(v, "rank") == _rest(own[0], "rank")]
        ends = sorted(own, key=lambda v: v.adapter.get("rank", 0))
        if len({v.adapter.get("rank") for v in ends}) > 1:
            pairs.append((ends[0], ends[-1]))
    return pairs


def differences(variants: list[Variant], margins: dict[str, float]) -> list[Difference]:
    """The differences of all compared pairs in all measures. The pairs of one measure are a family for Holm's correction."""
    pairs = compared_pairs(variants)
    out: list[Difference] = []
    for measure in measures_of(variants):
        if measure_info(measure).better == 0:
            continue
        family = [
            difference(a.name, b.name, measure, matched_values(a, b, measure), b.values(measure), margins.get(measure))
            for a, b in pairs
        ]
        out += holm([d for d in family if d.n])
    return out


def matched_values(a: Variant, b: Variant, measure: str) -> dict[VideoKey, float | None]:
    """a's values with the keys of b's. The base has no training seed: it is compared with each training seed of b."""
    values = a.values(measure)
    if not a.is_base:
        return values
    seeds = {r.seed for r in b.done}
    own = {(sample, generation): value for (sample, (generation, _)), value in values.items()}
    return {(s, (g, seed)): value for (s, g), value in own.items() for seed in seeds}
