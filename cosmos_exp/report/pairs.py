"""The pairs of variants that a report compares, whether they are comparable, and their differences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np

from cosmos_exp.config.hashing import with_added_keys
from cosmos_exp.config.measures import measure_info
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject
from cosmos_exp.report.variants import Run, Variant, fingerprint, measures_of, scenes_of
from cosmos_exp.statistics.cells import Scores
from cosmos_exp.statistics.comparisons import Difference, difference, holm

# Settings that cannot change a score.
_NEUTRAL_GENERATION = ("merge_adapter", "fps")  # fps has a check of its own
_NEUTRAL_JUDGE = ("batch", "timeout", "retries", "url")


def _test_set(run: Run) -> object:
    videos = sorted({(r["sample"], r["prompt"]) for r in run.scores}, key=str)
    return run.manifest.get("data", {}).get("test"), videos


def _generation(run: Run) -> object:
    settings = with_added_keys("generation", run.config.get("generation") or {})
    return {k: v for k, v in settings.items() if k not in _NEUTRAL_GENERATION}


def _judge(run: Run) -> object:
    names = {(r["measure"], str((r.get("detail") or {}).get("judge") or "")) for r in run.scores}
    settings = {k: v for k, v in run.config.get("judge", {}).items() if k not in _NEUTRAL_JUDGE}
    return sorted((n for n in names if n[1]), key=str), settings


def _size(run: Run) -> object:
    data = run.config.get("data") or {}
    return f"{data.get('height')}x{data.get('width')}"


def _rate(run: Run) -> object:
    """Frames per second that the model learns (null: as the files have them) and that the videos have."""
    data, generation = run.config.get("data") or {}, run.config.get("generation") or {}
    return f"data.fps={data.get('fps')}, generation.fps={generation.get('fps')}"


def _sampson(run: Run) -> object:
    return run.config.get("sampson")


# Sampson errors are in pixels between consecutive frames: half the size halves them, half the frame rate raises them by a third.
_MUST_AGREE: dict[str, Callable[[Run], object]] = {
    "frame sizes": _size,
    "frame rates": _rate,
    "numbers of frames": lambda run: str((run.config.get("data") or {}).get("num_frames")),
    "test sets": _test_set,
    "generation settings": _generation,
    "judges": _judge,
    "Sampson settings": _sampson,
    "base models": lambda run: run.manifest.get("model", {}).get("fingerprints"),
}


def why_not_comparable(a: Variant, b: Variant) -> str | None:
    """Why the scores of two finished variants are not comparable; None if they are."""
    for name, part in _MUST_AGREE.items():
        first, second = part(a.done[0]), part(b.done[0])
        if fingerprint(first) != fingerprint(second):
            return f"{a.name} and {b.name} have different {name}{_words(first, second)}"
    first_scenes, second_scenes = scenes_of([a]), scenes_of([b])
    other = [s for s, scene in first_scenes.items() if second_scenes.get(s, scene) != scene]
    return f"{a.name} and {b.name} have different first frames of {', '.join(other[:3])}" if other else None


def _words(first: object, second: object) -> str:
    """What differs, where it fits in a line: the two values, or the settings that differ."""
    if isinstance(first, str) and isinstance(second, str):
        return f" ({first}; {second})"
    if not isinstance(first, dict) or not isinstance(second, dict):
        return ""
    names = sorted(k for k in {*first, *second} if first.get(k) != second.get(k))
    said = ", ".join(f"{k}: {first.get(k)} and {second.get(k)}" for k in names)
    # Runs without this key were measured before tse and cse became the cookbook's call (OpenCV's defaults).
    old = "; tse and cse of the run without `repeats` have an older definition" if "repeats" in names else ""
    return f" ({said}{old})"


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
    """Fingerprint of data, training, model and adapter, without alpha, the given adapter keys, and the arm's tuned keys."""
    config = v.runs[0].config
    adapter = {k: x for k, x in v.adapter.items() if k not in (*without, "alpha", "truncate_from")}
    content = {k: config.get(k) for k in ("data", "training", "model")} | {"adapter": adapter}
    tuned = sorted(v.tuned)
    for name in tuned:
        content = _without(content, name.split("."))
    return fingerprint([content, tuned])


def _without(content: JsonObject, path: list[str]) -> JsonObject:
    """A nested dictionary without one entry."""
    kept = {k: x for k, x in content.items() if k != path[0]}
    if len(path) > 1 and isinstance(content.get(path[0]), dict):
        kept[path[0]] = _without(content[path[0]], path[1:])
    return kept


def compared_pairs(variants: list[Variant]) -> list[tuple[Variant, Variant]]:
    """The pairs (a, b) that a report compares.

    The base with each adapter; LoRA with DoRA of the same rank; the lowest with the highest rank of each kind; a truncated
    adapter with the one it was cut from and with the one trained at its rank. But for the tuned keys of their arms, the
    adapters of a pair are trained the same.
    """
    done = [v for v in variants if v.done]
    pairs = [(a, b) for a in done if a.is_base for b in done if not b.is_base]
    adapted = [v for v in done if not v.is_base and v.truncated_from is None]
    for i, a in enumerate(adapted):
        for b in adapted[i + 1 :]:
            kinds = {a.adapter.get("kind"), b.adapter.get("kind")}
            if kinds == {"lora", "dora"} and _rest(a, "kind") == _rest(b, "kind"):
                pairs.append((a, b) if a.adapter.get("kind") == "lora" else (b, a))
    for kind in ("lora", "dora"):
        own = [v for v in adapted if v.adapter.get("kind") == kind and v.adapter.get("alpha") == v.adapter.get("rank")]
        for rest in dict.fromkeys(_rest(v, "rank") for v in own):
            same = [v for v in own if _rest(v, "rank") == rest]
            ends = sorted(same, key=lambda v: v.adapter.get("rank", 0))
            if len({v.adapter.get("rank") for v in ends}) > 1:
                pairs.append((ends[0], ends[-1]))
    return pairs + [(a, b) for b in done if b.truncated_from for a in adapted if _is_counterpart(a, b)]


def _is_counterpart(trained: Variant, cut: Variant) -> bool:
    """Whether a truncated variant was cut from a trained one, or has its kind, rank and training."""
    same_sweep = trained.runs[0].folder.path.parent == cut.runs[0].folder.path.parent
    if same_sweep and trained.name == cut.truncated_from:
        return True
    same = all(trained.adapter.get(k) == cut.adapter.get(k) for k in ("kind", "rank"))
    return same and _rest(trained) == _rest(cut)


def differences(variants: list[Variant], margins: dict[str, float]) -> list[Difference]:
    """The differences of all compared pairs in all measures. The pairs of one measure are a family for Holm's correction."""
    pairs, scenes = compared_pairs(variants), scenes_of(variants)
    out: list[Difference] = []
    for measure in measures_of(variants):
        if measure_info(measure).better == 0:
            continue
        values = {v.name: values_of(v, measure) for pair in pairs for v in pair}
        family = [
            difference(
                a.name,
                b.name,
                measure,
                values[a.name],
                values[b.name],
                margins.get(measure),
                scenes,
                trained=(not a.is_base, not b.is_base),
                repeatability=repeatability(a, b, measure),
            )
            for a, b in pairs
        ]
        out += holm([d for d in family if d.n])
    return out


def values_of(variant: Variant, measure: str) -> Scores:
    """The values of one measure by video. The base has no training: its runs are averaged."""
    values = variant.values(measure)
    if not variant.is_base or len(variant.done) == 1:
        return values
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for (sample, (generation, _)), value in values.items():
        if value is not None:
            found[sample, generation].append(value)
    return {(sample, (generation, 0)): float(np.mean(own)) for (sample, generation), own in found.items()}


def repeatability(a: Variant, b: Variant, measure: str) -> float | None:
    """The median over videos of what the measure itself says of its repeatability (`detail`), in its unit; None if unknown."""
    rows = [row for v in (a, b) for run in v.done for row in run.scores if row["measure"] == measure]
    found = [(row.get("detail") or {}).get("repeatability", {}).get(measure) for row in rows]
    known = [float(x) for x in found if x is not None]
    return float(np.median(known)) if known else None
