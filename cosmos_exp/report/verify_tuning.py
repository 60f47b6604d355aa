"""The check of a sweep's first phase: are scores and choices of the tuning those of its runs, and were they used?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cosmos_exp.files import JsonObject
from cosmos_exp.report.checks import Check
from cosmos_exp.report.frozen_claims import CLAIMS_FILE, FrozenClaims
from cosmos_exp.report.numbers import mismatches
from cosmos_exp.report.tuning import PointScore, chosen_point, point_score
from cosmos_exp.report.variants import Run
from cosmos_exp.report.verify_frozen import NOT_FROZEN, has_frozen_tuning, tuning_as_frozen, tuning_complete

_RECORD_KEYS = ("score", "n", "missing")  # of a point; its interval belongs to the version that made it
Runs = Mapping[str, Run]  # by the path inside the sweep's folder


def check_tuning(sweep: JsonObject, runs: Runs, frozen: FrozenClaims | None) -> list[Check]:
    """The check of the tuning; none if neither sweep.json nor claims.json has one."""
    known = has_frozen_tuning(frozen)
    if "tuning" not in sweep:
        missing = f"sweep.json: no tuning, but {CLAIMS_FILE} froze one"
        return [Check("tuning", "", [missing])] if frozen and frozen.tuned else []
    record, arms = sweep["tuning"], sweep["arms"]
    found = _as_chosen(record, arms, runs)
    findings = [*(tuning_as_frozen(record, frozen) if frozen and known else []), *tuning_complete(record, arms, runs)]
    notes = [NOT_FROZEN] if frozen and not known else []
    return [Check(found.name, found.what, [*findings, *found.findings], [*found.notes, *notes])]


def _as_chosen(record: JsonObject, arms: Sequence[JsonObject], runs: Runs) -> Check:
    """Each point has the score of its runs, each arm the point that the rule chooses, and its tests were trained there.

    Args:
        record: The part `tuning` of sweep.json.
        arms: Its arms.
    """
    by, count = record["by"], 0
    findings: list[str] = []
    for choice in record["choices"]:
        scores: list[PointScore] = []
        for point in choice["points"]:
            where = f"sweep.json: {choice['arm']} at {point['values']}"
            findings += _as_planned(point, where, record, runs)
            scores.append(point_score([runs[n] for n in point["runs"] if n in runs and runs[n].finished], by))
            now = {k: getattr(scores[-1], k) for k in _RECORD_KEYS}
            findings += mismatches({k: point.get(k) for k in _RECORD_KEYS}, now, where)
            count += point["score"] is not None
        index = chosen_point(scores, by, record.get("rule", "best"))
        right = None if index is None else choice["points"][index]["values"]
        if choice["chosen"] != right and not (choice["chosen"] is None and _unfinished(choice, runs)):
            findings.append(f"sweep.json: {choice['arm']}: {choice['chosen']} was chosen, the rule gives {right}")
        findings += _tested_as_chosen(choice, arms, runs)
        findings += _tested_later(choice, arms, runs)
    used = {name for choice in record["choices"] for point in choice["points"] for name in point["runs"]}
    tested = {name for arm in arms for name in arm["runs"]}
    unused = sorted(name for name, run in runs.items() if name not in used | tested and run.is_tuning)
    notes = [f"{len(unused)} tuning runs belong to no point of sweep.json, e.g. {unused[0]}"] if unused else []
    return Check("tuning", f"{count} points by {by}", findings, notes)


def _unfinished(choice: JsonObject, runs: Runs) -> bool:
    names = [name for point in choice["points"] for name in point["runs"]]
    return any(name not in runs or not runs[name].finished for name in names)


def _as_planned(point: JsonObject, where: str, record: JsonObject, runs: Runs) -> Iterator[str]:
    """Runs of a point that are missing, or were not trained at its values with a tuning seed on selection prompts."""
    for name in point["runs"]:
        if name not in runs:
            yield f"{where}: {name} is missing"
            continue
        config = runs[name].config
        for key, value in point["values"].items():
            if _value(config, key) != value:
                yield f"{name}/config.yaml: {key} is {_value(config, key)}, but it is a run at {value}"
        if runs[name].seed not in record["seeds"]:
            yield f"{name}/config.yaml: seed is {runs[name].seed}, which is no tuning seed ({record['seeds']})"
        if not runs[name].is_tuning:
            yield f"{name}/config.yaml: a tuning run on test prompts"


def _tested_as_chosen(choice: JsonObject, arms: Sequence[JsonObject], runs: Runs) -> Iterator[str]:
    """Tested runs of an arm, or of one cut from it, that were not trained at its chosen values."""
    for arm in arms:
        if (arm.get("truncated_from") or arm["name"]) != choice["arm"]:
            continue
        if arm.get("tuned") != choice["chosen"]:
            yield f"sweep.json: {arm['name']}: tuned is {arm.get('tuned')}, but {choice['chosen']} was chosen"
        for name in arm["runs"]:
            for key, value in (choice["chosen"] or {}).items():
                used = _value(runs[name].config, key) if name in runs else value
                if used != value:
                    yield f"{name}/config.yaml: {key} is {used}, but {value} was chosen"


def _tested_later(choice: JsonObject, arms: Sequence[JsonObject], runs: Runs) -> Iterator[str]:
    """Tuning runs of an arm that first started after a test run of it: then the test's result was known to the choice."""
    tests = [n for arm in arms if (arm.get("truncated_from") or arm["name"]) == choice["arm"] for n in arm["runs"]]
    begun = [(start, name) for name in tests if (start := _first_start(runs, name))]
    if not begun:
        return
    first, test = min(begun)
    for name in (name for point in choice["points"] for name in point["runs"]):
        if (start := _first_start(runs, name)) and start > first:
            yield f"{name}/manifest.json: started {start}, after the test run {test} ({first})"


def _first_start(runs: Runs, name: str) -> str | None:
    """When a run was first started (ISO 8601, UTC); None if that is not recorded."""
    starts = runs[name].manifest.get("starts") if name in runs else None
    return str(starts[0]) if starts else None


def _value(config: JsonObject, key: str) -> object:
    """The value of a dotted key."""
    found: object = config
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found
