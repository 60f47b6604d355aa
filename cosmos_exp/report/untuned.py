"""In what two arms differ besides what is compared: then a difference is not the effect of the adapter's kind or rank alone."""

from __future__ import annotations

from cosmos_exp.config.hashing import differences, with_added_keys
from cosmos_exp.report.variants import Variant

_COMPARED = ("adapter.kind", "adapter.rank")
_NEUTRAL = ("adapter.truncate_from", "training.checkpoint_every_steps", "training.keep_checkpoints")
_SCALE = ("adapter.alpha", "adapter.scaling")  # seen as the scale of the update, alpha / rank


def also_different(a: Variant, b: Variant) -> list[str]:
    """`training.max_steps: 100 -> 200` for each key that could change the result and was not tuned in both. Empty for the base."""
    if a.is_base or b.is_base or not (a.runs and b.runs):
        return []
    tuned = set(a.tuned) & set(b.tuned)
    skipped = {*_COMPARED, *_NEUTRAL, *_SCALE, *tuned}
    found = []
    first, second = scale_of(a), scale_of(b)
    if first != second and not tuned & {"alpha", "rank", *_SCALE}:
        alphas = f"{a.adapter.get('alpha')} -> {b.adapter.get('alpha')}"
        found.append(f"scale of the update: {first:g} -> {second:g} (adapter.alpha: {alphas})")
    for group in ("adapter", "training", "data", "model"):
        old, new = (with_added_keys(group, v.runs[0].config.get(group) or {}) for v in (a, b))
        found += [words for words in differences(old, new, f"{group}.") if words.split(":")[0] not in skipped]
    return found


def scale_of(v: Variant) -> float:
    """The factor of the update B A."""
    rank, alpha = float(v.adapter.get("rank") or 1), float(v.adapter.get("alpha") or 0.0)
    return alpha / (rank**0.5 if v.adapter.get("scaling") == "rslora" else rank)
