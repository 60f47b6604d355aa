"""`cosmos-exp report DIR --verify`: does a report follow from its run folders, and are these as the runs left them?

Every figure is computed anew, and every recorded hash compared. Somebody who rewrites records and hashes alike is not found;
docs/claims.md says what helps.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from cosmos_exp.config.arms import read_sweep
from cosmos_exp.config.measures import LIMITS
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject, file_sha256, inside, read_json_lines
from cosmos_exp.report.claims import CLAIMS_FILE, read_claims
from cosmos_exp.report.runs import Run
from cosmos_exp.report.study import Study, load_study
from cosmos_exp.report.tables import VERSIONS, report_texts
from cosmos_exp.report.tuning import chosen_point, point_score
from cosmos_exp.statistics.chunks import summarize_chunks
from cosmos_exp.statistics.intervals import summarize

REDEFINED = (".ci_low", ".ci_high", ".reason", ".doubtful", ".caution")  # by later versions than that of docs/ablation
BROKEN = (UserError, ValueError, KeyError, TypeError, AttributeError, OSError)  # a record that cannot be read


def verify(folder: Path, out: Path | None = None, videos: bool = True) -> dict[str, list[str]]:
    """What each check of a report and its run folders finds wrong; an empty list if nothing is.

    Args:
        folder: Folder with run folders.
        out: Folder of the report; None: `folder`.
        videos: False: videos and adapters are not looked at (they are often not published).

    Raises:
        UserError: There are no runs.
    """
    out, written = out or folder, {}
    with contextlib.suppress(OSError, ValueError, TypeError):
        written = dict(json.loads((out / "report.json").read_text(encoding="utf-8")))
    study = load_study(folder, str(written.get("title", "")), written.get("margins") or [])
    checks: dict[str, Iterable[str]] = {  # generators: each begins when it is listed below
        "claims": claim_findings(folder, bool(written.get("claims"))),
        "runs": run_findings(study, written),
        "hashes": hash_findings(study, videos),
        "metrics": metric_findings(study),
        "tuning": tuning_findings(study),
        "report": report_findings(study, out, written),
    }
    results = {}
    for name, findings in checks.items():
        try:
            results[name] = list(findings)
        except BROKEN as error:
            results[name] = [f"a record cannot be read: {type(error).__name__}: {error}"]
    return results


def claim_findings(folder: Path, reported: bool) -> Iterator[str]:
    """claims.json is there if there were claims, has its hash, and was not changed after the first score."""
    record = read_claims(folder)
    if record is None:
        if reported or read_sweep(folder).get("claims"):
            yield f"{CLAIMS_FILE}: missing, although this sweep has claims"
        return
    if not record.intact:
        yield f"{CLAIMS_FILE}: changed by hand (its hash does not fit its content)"
    for version in record.changed_after_scores:
        yield f"{CLAIMS_FILE}: changed on {version['frozen']}, after the first score"


def run_findings(study: Study, written: JsonObject) -> Iterator[str]:
    """Every run that sweep.json, claims.json or report.json lists is there and done."""
    yield from study.damages
    for name, run in study.runs[study.runs["state"] != "done"].iterrows():
        yield f"{name}: {run['state']}, not done"
    listed = [run["run"] for run in written.get("runs", [])]
    for arm in read_sweep(study.path).get("arms", []):
        listed += arm["runs"]
    for name in dict.fromkeys(listed):
        if name not in study.records:
            yield f"{name}: missing"
    yield from study.claims_warnings


# --- the files of single runs ---
def hash_findings(study: Study, videos: bool) -> Iterator[str]:
    """Adapter, logs, videos and scores have the hashes that the run recorded."""
    for name, run in study.records.items():
        for finding in (*trained_findings(run, videos), *_evaluated(run, videos)):
            yield f"{name}/{finding}"


def trained_findings(run: Run, videos: bool) -> Iterator[str]:
    """Files of the training that are missing or changed.

    Args:
        videos: False: the adapter may be missing.
    """
    files = dict(run.manifest.get("trained", {}).get("files", {}))
    if not videos and not run.folder.adapter_files():
        files = {name: digest for name, digest in files.items() if not name.startswith("adapter/")}
    yield from _changed(run, files, "training")


def _evaluated(run: Run, videos: bool) -> Iterator[str]:
    """Score files and videos are those of the evaluation, and every scored video has a hash."""
    evaluated = run.manifest.get("evaluated", {})
    known, files = evaluated.get("videos", {}), dict(evaluated.get("scores", {}))
    scored = {"scores.jsonl": ("videos", run.scores)}
    for kind, rows in run.reference_scores.items():
        scored[f"references/{kind}/scores.jsonl"] = (f"references/{kind}", rows)
    for name, (folder, rows) in scored.items():
        unknown = {f"{folder}/{row['video']}" for row in rows} - set(known)
        if unknown:
            yield f"{min(unknown)}: no recorded hash, like {len(unknown)} videos of this run"
        if rows and name not in files:
            yield f"{name}: no recorded hash"
    if videos:
        files |= known
    yield from _changed(run, files, "evaluation")


def _changed(run: Run, files: Mapping[str, str], since: str) -> Iterator[str]:
    for name, digest in files.items():
        file = inside(run.folder.path, name)
        if not file.is_file():
            yield f"{name}: missing"
        elif file_sha256(file) != digest:
            yield f"{name}: changed since the {since}"


def metric_findings(study: Study) -> Iterator[str]:
    """metrics.json holds the means and counts of the scores, and the losses of the logs."""
    for name, run in study.records.items():
        computed: JsonObject = {"measures": summarize(run.scores, run.scenes, LIMITS)}
        computed["chunks"] = summarize_chunks(run.scores, run.scenes, LIMITS)
        for kind, rows in run.reference_scores.items():
            computed.setdefault("references", {})[kind] = summarize(rows, run.scenes, LIMITS)
        losses = pd.DataFrame(read_json_lines(run.folder.train_log), columns=["loss"])["loss"]
        tail = losses.tail(max(1, len(losses) // 10)).tolist()
        if tail:
            computed["training"] = run.training | {"train_loss": sum(tail) / len(tail)}
        for row in read_json_lines(run.folder.validation_log):
            computed["training"]["validation_loss"] = row["validation_loss"]
        for key in set(computed) & set(run.metrics):
            for finding in mismatches(run.metrics[key], computed[key], key):
                if not finding.partition(":")[0].endswith(REDEFINED):
                    yield f"{name}/metrics.json: {finding}"


def tuning_findings(study: Study) -> Iterator[str]:
    """Each point of the tuning has the score of its runs, and each arm the point that the rule chooses."""
    sweep = read_sweep(study.path)
    record = sweep.get("tuning") or {}
    for choice in record.get("choices", []):
        arm, scores = choice["arm"], []
        for point in choice["points"]:
            runs = []
            for name in point["runs"]:
                if name in study.records and study.records[name].finished:
                    runs.append(study.records[name])
            scores.append(point_score(runs, record["by"]))
            computed = {"values": point["values"], "runs": point["runs"], **asdict(scores[-1])}
            for finding in mismatches(point, computed):
                yield f"sweep.json: {arm} at {point['values']}: {finding}"
        chosen = None
        index = chosen_point(scores, record["by"], record.get("rule", "best"))
        if index is not None:
            chosen = choice["points"][index]["values"]
        if choice["chosen"] not in (None, chosen):
            yield f"sweep.json: {arm}: {choice['chosen']} was chosen, the rule gives {chosen}"
        for entry in sweep["arms"]:
            if (entry.get("truncated_from") or entry["name"]) == arm and entry.get("tuned") != choice["chosen"]:
                yield f"sweep.json: {entry['name']}: tuned is {entry.get('tuned')}, but {choice['chosen']} was chosen"


def report_findings(study: Study, out: Path, written: JsonObject) -> Iterator[str]:
    """The files of the report are what the run folders give now."""
    texts = report_texts(study, written.get("margins") or [])
    numbers = json.loads(texts.pop("report.json"))
    if not written:
        yield "report.json: missing, or not JSON. `cosmos-exp report` writes it."
    else:
        for finding in mismatches(written | {VERSIONS: numbers[VERSIONS]}, numbers):
            yield f"report.json: {finding}"
    for name, text in texts.items():
        file = out / name
        if not file.is_file():
            yield f"{name}: missing. `cosmos-exp report` writes it."
        elif file.read_text(encoding="utf-8") != text:
            yield f"{name}: not what the runs give"


def mismatches(old: object, new: object, where: str = "") -> Iterator[str]:
    """`.differences.3.p: 0.04 in the file, 0.06 recomputed` for every entry in which two JSON values differ."""
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        old, new = dict(enumerate(old)), dict(enumerate(new))
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from mismatches(old.get(key, "nothing"), new.get(key, "nothing"), f"{where}.{key}")
    elif isinstance(old, float) and isinstance(new, float) and math.isclose(old, new, rel_tol=1e-9, abs_tol=1e-15):
        return  # the same number
    elif old != new:
        yield f"{where}: {json.dumps(old)[:60]} in the file, {json.dumps(new)[:60]} recomputed"
