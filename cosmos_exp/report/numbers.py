"""report.json: every number of a report for machines, and the comparison of two of them."""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from cosmos_exp.files import JsonObject
from cosmos_exp.report.claims import ClaimsReport
from cosmos_exp.report.results import Results
from cosmos_exp.statistics.comparisons import Difference

FORMAT = 1
VERSIONS = "versions"  # the only entry that may differ when a report is recomputed
RELATIVE, ABSOLUTE = 1e-9, 1e-15  # numbers that differ by less are the same


def report_numbers(results: Results, claims: ClaimsReport | None, folder: Path, margins: list[str]) -> JsonObject:
    """The content of report.json.

    Args:
        folder: The folder of the runs.
        margins: The margins of the command line, MEASURE=NUMBER.
    """
    content = {
        "format": FORMAT,
        VERSIONS: {name: importlib.metadata.version(name) for name in ("cosmos-exp", "numpy", "scipy")},
        "title": results.title,
        "margins": margins,
        "variants": {
            v.name: {
                "runs": [
                    {"folder": _inside(r.folder.path, folder), "seed": r.seed, "state": r.status.get("state")}
                    for r in v.runs
                ],
                "training": {k: v.training(k) for k in ("train_loss", "validation_loss")},
                "measures": results.table[v.name],
            }
            for v in results.variants
        },
        "references": {r.name: r.table for r in results.references},
        "claims": claims.as_json() if claims else None,
        "differences": [_difference(d) for d in results.differences],
        "notes": results.notes,
    }
    if results.drifts:
        content["drift"] = [asdict(d) | {"verdict": d.verdict} for d in results.drifts]
    return {k: _finite(v) for k, v in json.loads(json.dumps(content)).items()}


def _inside(path: Path, folder: Path) -> str:
    return path.relative_to(folder.absolute()).as_posix()


def _difference(d: Difference) -> JsonObject:
    return asdict(d) | {"different": d.is_different, "equivalent": d.is_equivalent}


def _finite(value: object) -> object:
    """The value with null for what JSON has no word for (an infinite loss)."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def mismatches(old: object, new: object, where: str = "") -> Iterator[str]:
    """`differences[3].p: 0.04 in the file, 0.06 recomputed` for every entry in which two JSON values differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            name = f"{where}.{key}" if where else str(key)
            if key not in old or key not in new:
                yield f"{name}: only {'recomputed' if key in new else 'in the file'}"
            elif name != VERSIONS:
                yield from mismatches(old[key], new[key], name)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for k, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from mismatches(a, b, f"{where}[{k}]")
    elif not _same(old, new):
        yield f"{where}: {_short(old)} in the file, {_short(new)} recomputed"


def _same(old: object, new: object) -> bool:
    numbers = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (old, new))
    try:
        return math.isclose(old, new, rel_tol=RELATIVE, abs_tol=ABSOLUTE) if numbers else old == new  # type: ignore[arg-type]
    except OverflowError:  # an integer beyond a float
        return old == new


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
