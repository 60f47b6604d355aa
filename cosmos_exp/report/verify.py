"""`cosmos-exp report DIR --verify`: does a report follow from its run folders, and are these as the runs left them?

Every figure is computed anew, and every recorded hash compared. Somebody who rewrites records and hashes alike is not found;
docs/claims.md says what helps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cosmos_exp.config.measures import LIMITS
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject, file_sha256, inside, read_json_lines
from cosmos_exp.report.claims import CLAIMS_FILE, read_claims
from cosmos_exp.report.runs import Run, read_sweep
from cosmos_exp.report.study import Study, load_study
from cosmos_exp.report.tables import mismatches, report_texts
from cosmos_exp.report.tuning import chosen_point, point_score
from cosmos_exp.run_folder import ADAPTER_NAME, REFERENCES
from cosmos_exp.statistics.chunks import summarize_chunks
from cosmos_exp.statistics.intervals import summarize

BROKEN = (UserError, ValueError, KeyError, TypeError, AttributeError, OSError)  # a record that cannot be read


@dataclass(frozen=True)
class Check:
    """What was looked at, and what is wrong; `findings` is empty if nothing is."""

    name: str
    findings: list[str]


def verify(folder: Path, out: Path | None = None, videos: bool = True) -> list[Check]:
    """All checks of a report and its run folders.

    Args:
        folder: Folder with run folders.
        out: Folder of the report; None: `folder`.
        videos: False: videos and adapters are not looked at (they are often not published).

    Raises:
        UserError: There are no runs.
    """
    out = out or folder
    written = _read_report(out)
    margins = written.get("margins") or []
    study = load_study(folder, str(written.get("title", "")), margins, str(written.get("margins_at", "")))
    checks: dict[str, Callable[[], Iterable[str]]] = {
        "claims": partial(claim_findings, folder, bool(written.get("claims"))),
        "runs": partial(run_findings, study, written),
        "hashes": partial(hash_findings, study, videos),
        "metrics": partial(metric_findings, study),
        "tuning": partial(tuning_findings, study),
        "report": partial(report_findings, study, out, written),
    }
    found = []
    for name, check in checks.items():
        try:
            found.append(Check(name, list(check())))
        except BROKEN as error:
            found.append(Check(name, [f"a record cannot be read: {type(error).__name__}: {error}"]))
    return found


def _read_report(out: Path) -> JsonObject:
    try:
        content = json.loads((out / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def claim_findings(folder: Path, reported: bool) -> Iterator[str]:
    """claims.json is there if there were claims, has its hash, and was not changed after the first score."""
    planned = [str(claim).strip() for claim in read_sweep(folder).get("claims") or []]
    record = read_claims(folder)
    if record is None:
        if planned or reported:
            yield f"{CLAIMS_FILE}: missing, although this sweep has claims"
        return
    if not record.intact:
        yield f"{CLAIMS_FILE}: changed by hand (its hash does not fit its content)"
    for version in record.changed_after_scores:
        yield f"{CLAIMS_FILE}: changed on {version['frozen']}, after the first score"
    if planned and planned != record.claims:
        yield f"{CLAIMS_FILE}: other claims than sweep.json"


def run_findings(study: Study, written: JsonObject) -> Iterator[str]:
    """Every run that sweep.json, claims.json or report.json lists is there and done, and each training once."""
    yield from study.damages
    for name, run in study.runs.iterrows():
        if run["state"] != "done":
            yield f"{name}: {run['state']}, not done"
        if run["copy_of"]:
            yield f"{name}: the same training as {run['copy_of']}: it is not another training run"
        data = study.records[str(name)].manifest.get("data", {})
        if both := sorted(set(data.get("train") or []) & set(data.get("test") or [])):
            yield f"{name}: {len(both)} samples, e.g. {both[0]}, are of the training and of the test"
    listed = [run["run"] for run in written.get("runs", [])]
    for arm in read_sweep(study.path).get("arms", []):
        listed += arm["runs"]
        if not arm["runs"]:
            yield f"{arm['name']}: its runs have not been planned yet (the tuning is unfinished)"
    for name in dict.fromkeys(listed):
        if name not in study.records:
            yield f"{name}: missing"
    for warning in study.claims_warnings:
        if not warning.startswith("Claims changed"):  # the check of the claims says so
            yield warning


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
    for name, digest in run.manifest.get("trained", {}).get("files", {}).items():
        file = inside(run.folder.path, name)
        if file.is_file():
            if file_sha256(file) != digest:
                yield f"{name}: changed since the training"
        elif videos or name != ADAPTER_NAME:
            yield f"{name}: missing"


def _evaluated(run: Run, videos: bool) -> Iterator[str]:
    """Score files and videos are those of the evaluation, and every scored video has a hash."""
    evaluated = run.manifest.get("evaluated", {})
    known = evaluated.get("videos", {})
    scored = {f"videos/{row['video']}" for row in run.scores}
    for kind, rows in run.reference_scores.items():
        scored |= {f"references/{kind}/{row['video']}" for row in rows}
    if unknown := sorted(scored - set(known)):
        yield f"{unknown[0]}: no recorded hash, like {len(unknown)} videos of this run"
    files = dict(evaluated.get("scores", {}))
    for file in (run.folder.scores, *map(run.folder.reference_scores, REFERENCES)):
        if file.is_file() and run.folder.name_of(file) not in files:
            yield f"{run.folder.name_of(file)}: no recorded hash"
    files |= known if videos else {}
    for name, digest in files.items():
        file = inside(run.folder.path, name)
        if not file.is_file():
            yield f"{name}: missing"
        elif file_sha256(file) != digest:
            yield f"{name}: changed since the evaluation"


def metric_findings(study: Study) -> Iterator[str]:
    """metrics.json holds means and counts of the scores, and the losses of the logs."""
    for name, run in study.records.items():
        pairs = [("measures", run.metrics.get("measures", {}), summarize(run.scores, run.scenes, LIMITS))]
        for kind, recorded in run.metrics.get("references", {}).items():
            pairs.append((f"references.{kind}", recorded, summarize(run.reference_scores[kind], run.scenes, LIMITS)))
        chunks = summarize_chunks(run.scores, run.scenes, LIMITS) if "chunks" in run.metrics else {}
        for measure, summaries in run.metrics.get("chunks", {}).items():
            by_chunk = zip(summaries, chunks.get(measure, []), strict=False)
            for number, (old, new) in enumerate(by_chunk):
                pairs.append((f"chunks[{number}]", {measure: old}, {measure: new}))
        for where, recorded, summaries in pairs:
            for finding in mismatches(_counts(recorded), _counts(summaries), where):
                yield f"{name}/metrics.json: {finding}"
        for finding in _losses(run):
            yield f"{name}/metrics.json: {finding} from the log"


def _counts(summaries: Mapping[str, Mapping[str, object]]) -> JsonObject:
    """Of each measure what has no other definition in any version: the mean and the counts."""
    found = {}
    for measure, summary in summaries.items():
        found[measure] = {key: summary.get(key) for key in ("mean", "n", "videos", "missing")}
    return found


def _losses(run: Run) -> Iterator[str]:
    """Losses that are not those of the logs: the mean of the last tenth of the steps; the last validation."""
    steps = [float(str(loss)) for loss in run.losses]
    last = [row["validation_loss"] for row in read_json_lines(run.folder.validation_log)][-1:]
    for key, values in (("train_loss", steps[-max(1, len(steps) // 10) :]), ("validation_loss", last)):
        if values and key in run.training:
            yield from mismatches(run.training[key], sum(values) / len(values), key)


def tuning_findings(study: Study) -> Iterator[str]:
    """Each point of the tuning has the score of its runs, and each arm the point that the rule chooses."""
    record = read_sweep(study.path).get("tuning")
    if not record:
        return
    arms = {}
    for arm in read_sweep(study.path)["arms"]:
        arms[arm["name"]] = arm
    for choice in record["choices"]:
        scores = []
        for point in choice["points"]:
            where = f"sweep.json: {choice['arm']} at {point['values']}"
            runs = [study.records[name] for name in point["runs"] if name in study.records]
            for name in point["runs"]:
                if name not in study.records:
                    yield f"{where}: {name} is missing"
            scores.append(point_score([run for run in runs if run.finished], record["by"]))
            for key in ("score", "n", "missing"):
                yield from mismatches(point.get(key), getattr(scores[-1], key), f"{where}.{key}")
        index = chosen_point(scores, record["by"], record.get("rule", "best"))
        right = None if index is None else choice["points"][index]["values"]
        if choice["chosen"] is not None and choice["chosen"] != right:
            yield f"sweep.json: {choice['arm']}: {choice['chosen']} was chosen, the rule gives {right}"
        for arm in arms.values():
            if (arm.get("truncated_from") or arm["name"]) == choice["arm"] and arm.get("tuned") != choice["chosen"]:
                yield f"sweep.json: {arm['name']}: tuned is {arm.get('tuned')}, but {choice['chosen']} was chosen"


def report_findings(study: Study, out: Path, written: JsonObject) -> Iterator[str]:
    """The files of the report are what the run folders give now."""
    texts = report_texts(study, written.get("margins") or [], str(written.get("margins_at", "")))
    numbers = json.loads(texts.pop("report.json"))
    if written:
        for finding in mismatches(written, numbers):
            yield f"report.json: {finding}"
    else:
        yield "report.json: missing, or not JSON. `cosmos-exp report` writes it."
    for name, text in texts.items():
        file = out / name
        if not file.is_file():
            yield f"{name}: missing. `cosmos-exp report` writes it."
        elif file.read_text(encoding="utf-8") != text:
            lines = zip(file.read_text(encoding="utf-8").splitlines(), text.splitlines(), strict=False)
            line = next((old for old, new in lines if old != new), "another number of lines")
            yield f"{name}: not what the runs give: {line.strip()[:110]}"
