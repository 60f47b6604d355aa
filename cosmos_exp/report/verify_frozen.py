"""The checks of the frozen plan: are the tuning and the margins of a sweep those that claims.json holds?"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from cosmos_exp.files import JsonObject
from cosmos_exp.report.frozen_claims import CLAIMS_FILE, FrozenClaims
from cosmos_exp.report.numbers import mismatches
from cosmos_exp.report.variants import Run

_PLAN = {
    "grid": {},
    "by": "validation_loss",
    "rule": "best",
    "seeds": [],
    "overrides": {},
}  # with what older records mean
NOT_FROZEN = "the tuning is not frozen (claims.json of an older version)"
Runs = Mapping[str, Run]  # by the path inside the sweep's folder


def has_frozen_tuning(frozen: FrozenClaims | None) -> bool:
    """Whether claims.json says how the tuning is done, or that there is none."""
    return frozen is not None and frozen.content.get("tuning") is not None


def tuning_as_frozen(record: JsonObject, frozen: FrozenClaims) -> list[str]:
    """What differs between the tuning of sweep.json and the one in claims.json."""
    planned = frozen.content["tuning"]
    if not planned:
        return [f"sweep.json: a tuning, but {CLAIMS_FILE} froze a sweep without one"]
    now, then = ({k: own.get(k, default) for k, default in _PLAN.items()} for own in (record, planned))
    return [f"sweep.json: {m} from {CLAIMS_FILE}" for m in mismatches(now, then, "tuning")]


def tuning_complete(record: JsonObject, arms: Sequence[JsonObject], runs: Runs) -> Iterator[str]:
    """Points of the grid that a trained arm lacks, and tuning seeds that are test seeds or were not used."""
    grid = record["grid"]
    whole = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    points = {c["arm"]: c["points"] for c in record["choices"]}
    for arm in arms:
        own = [runs[n] for n in arm["runs"] if n in runs]
        if arm.get("truncated_from") or any(r.is_base for r in own) or not (own or arm["name"] in points):
            continue
        tried = [p["values"] for p in points.get(arm["name"], [])]
        if tried != whole:
            lacking = [v for v in whole if v not in tried]
            words = f"no point at {lacking[0]}" if lacking else "other points, or another order of them"
            yield f"sweep.json: {arm['name']}: {words}, unlike the grid"
    tested = {runs[n].seed for arm in arms for n in arm["runs"] if n in runs and not runs[n].is_base}
    if both := sorted(tested & set(record["seeds"])):
        yield f"sweep.json: tuning.seeds: {both} are test seeds, too"
    for arm_name, own_points in points.items():
        for point in own_points:
            used = sorted(runs[n].seed for n in point["runs"] if n in runs)
            if len(point["runs"]) != len(record["seeds"]) or len(set(used)) != len(used):
                yield f"sweep.json: {arm_name} at {point['values']}: not one run per tuning seed"


def margins_as_frozen(runs: Runs, reported: Sequence[str], frozen: FrozenClaims) -> Iterator[str]:
    """Margins of the runs or of the report that are not those in claims.json.

    Args:
        reported: The margins that the report was written with, MEASURE=NUMBER.
    """
    planned = frozen.content["margins"]
    for label, run in runs.items():
        for measure, margin in (run.config.get("margins") or {}).items():
            if measure in planned and margin != planned[measure]:
                yield f"{label}/config.yaml: the margin of {measure} is {margin}, but {planned[measure]} was frozen"
    for word in reported:
        measure, _, margin = word.partition("=")
        if float(margin) != planned.get(measure):
            yield f"report.json: the margin {word} is not the frozen one ({planned.get(measure)})"


def samples_apart(runs: Runs) -> Iterator[str]:
    """Runs that were tested on samples that they were trained on."""
    for label, run in runs.items():
        data = run.manifest.get("data", {})
        if both := sorted(set(data.get("train") or []) & set(data.get("test") or [])):
            yield f"{label}/manifest.json: {len(both)} samples, e.g. {both[0]}, are of the training and of the test"


def one_base(runs: Runs) -> Iterator[str]:
    """Runs of a sweep whose base weights have another fingerprint than those of the first."""
    first: dict[str, tuple[object, str]] = {}  # fingerprint of a component, and the run that says so first
    for label, run in runs.items():
        for part, digest in run.manifest.get("model", {}).get("fingerprints", {}).items():
            known, other = first.setdefault(part, (digest, label))
            if known != digest:
                yield f"{label}/manifest.json: other weights of the base ({part}) than in {other}/manifest.json"
