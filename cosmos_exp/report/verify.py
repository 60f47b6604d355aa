"""`cosmos-exp report DIR --verify`: does a report follow from its run folders, and are these as the runs left them?

Every check compares a file with a hash or with what is computed anew. Somebody who rewrites records and hashes alike is not
found; docs/claims.md says what helps.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cosmos_exp.config.measures import LIMITS, measure_info
from cosmos_exp.config.record import load_config
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject, file_sha256, inside, read_json_lines
from cosmos_exp.report.frozen_claims import CLAIMS_FILE, FrozenClaims, arm_hash, changes, read_claims
from cosmos_exp.report.numbers import mismatches
from cosmos_exp.report.results import average
from cosmos_exp.report.tuning import VALIDATION
from cosmos_exp.report.variants import Run, find_runs, group_runs, read_sweep
from cosmos_exp.report.writing import Content, report_content
from cosmos_exp.run_folder import REFERENCES, RunFolder
from cosmos_exp.statistics.intervals import scene_scores, summarize
from cosmos_exp.statistics.scores import MeasureSummary, ScoreRow, read_scores
from cosmos_exp.statistics.selection import choose_point

NO_HASHES = "cannot be verified: made before hashes were recorded"
_RECORD_KEYS = ("mean", "videos", "missing")  # of metrics.json; older versions had other intervals and counted prompts


@dataclass(frozen=True)
class Check:
    """One check: what was looked at, and what is wrong."""

    name: str
    what: str
    findings: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.findings


def verify(folder: Path, out: Path | None = None, videos: bool = True) -> list[Check]:
    """All checks of a report and its run folders.

    Args:
        folder: Folder with run folders.
        out: Folder of the report; None: `folder`.
        videos: False: the videos are not looked at (they are often not published).

    Raises:
        UserError: There are no runs.
    """
    out = out or folder
    find_runs(folder)
    files = [p.parent for p in sorted(folder.rglob("status.json")) if (p.parent / "config.yaml").is_file()]
    runs = {str(p.relative_to(folder)): Run(RunFolder(p)) for p in files}  # also the tuning runs, which no report shows
    record, claims = _claims(folder, out)
    found = [claims, _guarded("runs", lambda: _runs(folder, out, runs, record))]
    found += [_guarded("scores", lambda: _scores(runs))]
    found += [_guarded("videos", lambda: _videos(runs))] if videos else []
    found += [_guarded("metrics", lambda: _metrics(runs))]
    sweep = read_sweep(folder)
    tuning, arms = sweep.get("tuning"), sweep.get("arms", [])
    found += [_guarded("tuning", lambda: _tuning(tuning, arms, runs))] if tuning else []
    return [*found, *_report(folder, out)]


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """The check; a record that cannot be read is its finding."""
    try:
        return check()
    except (UserError, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        return Check(name, "", [f"a record cannot be read: {type(error).__name__}: {error}"])


def _claims(folder: Path, out: Path) -> tuple[FrozenClaims | None, Check]:
    """claims.json is there if there were claims, has its hash, and was not changed after the first score."""
    try:
        record = read_claims(folder)
        planned = [str(c).strip() for c in read_sweep(folder).get("claims") or []]
    except UserError as error:
        return None, Check("claims", CLAIMS_FILE, [str(error)])
    if record is None:
        reported = _read_report(out).get("claims")
        missing = [f"{CLAIMS_FILE}: missing, although this sweep has claims"] if planned or reported else []
        return None, Check("claims", "no claim was frozen: all comparisons are exploratory", missing)
    findings = [] if record.intact else [f"{CLAIMS_FILE}: changed by hand (its hash does not fit its content)"]
    if record.changed_after_scores:
        findings += [f"{CLAIMS_FILE}: {words}" for words in changes(record) if "after the first score" in words]
    if planned and planned != record.claims:
        findings.append(f"{CLAIMS_FILE}: other claims than sweep.json")
    when = f"{len(record.claims)} claims, frozen {record.frozen}, sha256 {record.sha256[:12]}"
    return record, Check("claims", when, findings)


def _read_report(out: Path) -> JsonObject:
    try:
        content = json.loads((out / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _runs(folder: Path, out: Path, runs: Mapping[str, Run], record: FrozenClaims | None) -> Check:
    """Every run that sweep.json, claims.json or report.json lists is there, done, and has the planned configuration."""
    findings = [f"{name}: {r.status.get('state')}, not done" for name, r in runs.items() if not r.done]
    listed = [str(r) for arm in read_sweep(folder).get("arms", []) for r in arm["runs"]]
    empty = [a["name"] for a in read_sweep(folder).get("arms", []) if not a["runs"]]
    reported = _read_report(out).get("variants", {})
    listed += [r["folder"] for v in reported.values() for r in v["runs"]]
    findings += [f"{name}: missing" for name in dict.fromkeys(listed) if name not in runs]
    findings += [f"{arm}: its runs have not been planned yet (the tuning is unfinished)" for arm in empty]
    if record:
        findings += _planned(folder, record)
    return Check("runs", f"{len(runs)} runs", findings)


def _planned(folder: Path, record: FrozenClaims) -> Iterator[str]:
    """What differs between the frozen plan and the runs of the report."""
    variants = {v.name: v for v in group_runs(find_runs(folder))}
    prompts, noises = record.content["prompts"], record.content["generation_seeds"]
    for name, arm in record.content["arms"].items():
        own = variants[name].runs if name in variants else []
        seeds = [r.seed for r in own]
        base = bool(own) and variants[name].is_base
        planned = list(arm["training_seeds"])
        if not own or not base:
            yield from (f"{name}, training seed {s}: missing, but planned" for s in planned if s not in seeds)
            yield from (f"{name}, training seed {s}: not planned" for s in seeds if s not in planned)
        for run in own:
            where = run.folder.path.relative_to(folder.absolute())
            if arm_hash(load_config(run.folder.config), record.tuned) != arm["config_hash"]:
                yield f"{where}/config.yaml: another configuration than the frozen one"
            scored = {(r["sample"], r["seed"]) for r in run.scores}
            missing = [(p, s) for p in prompts or {} for s in noises if (p, s) not in scored]
            if missing:
                yield f"{where}/scores.jsonl: no score of {len(missing)} frozen prompts and seeds, e.g. {missing[0]}"
            other = {r["sample"] for r in run.scores if prompts and prompts.get(r["sample"]) != r["prompt"]}
            if other:
                yield f"{where}/scores.jsonl: other prompts than the frozen ones: {', '.join(sorted(other)[:3])}"


def _scores(runs: Mapping[str, Run]) -> Check:
    """Each score file has the hash that the evaluation recorded."""
    findings, count = [], 0
    for label, run in runs.items():
        recorded = run.manifest.get("evaluated", {})
        known = recorded.get("scores", {})
        files = [run.folder.scores, *(run.folder.reference_scores(k) for k in REFERENCES)]
        for name in dict.fromkeys([*(_inside(run, f) for f in files if f.is_file()), *known]):
            count += 1
            file, where = inside(run.folder.path, name), f"{label}/{name}"
            if not file.is_file():
                findings.append(f"{where}: missing")
            elif name not in known:
                findings.append(f"{where}: {NO_HASHES}")
            elif file_sha256(file) != known[name]:
                findings.append(f"{where}: changed since the evaluation")
        findings += [
            f"{label}/{name}: changed by hand, noticed {when}" for name, when in recorded.get("edited", {}).items()
        ]
    return Check("scores", f"{count} score files", findings)


def _inside(run: Run, file: Path) -> str:
    return file.relative_to(run.folder.path).as_posix()


def _videos(runs: Mapping[str, Run]) -> Check:
    """Each video is the one that was scored, and each score has such a video."""
    findings, count = [], 0
    for where, run in runs.items():
        known = run.manifest.get("evaluated", {}).get("videos", {})
        for name, digest in known.items():
            count += 1
            file = inside(run.folder.path, name)
            if not file.is_file():
                findings.append(f"{where}/{name}: missing")
            elif file_sha256(file) != digest:
                findings.append(f"{where}/{name}: not the video that was scored")
        unknown = sorted(_scored_videos(run) - set(known))
        if unknown:
            findings.append(f"{where}: {len(unknown)} videos, e.g. {unknown[0]}: {NO_HASHES}")
    return Check("videos", f"{count} videos", findings)


def _scored_videos(run: Run) -> set[str]:
    found = {f"videos/{r['video']}" for r in run.scores}
    return found | {f"references/{k}/{r['video']}" for k in REFERENCES for r in run.references(k)}


def _metrics(runs: Mapping[str, Run]) -> Check:
    """metrics.json holds the means of the scores."""
    findings = []
    for label, run in runs.items():
        sets: list[tuple[str, list[ScoreRow], JsonObject]] = [("measures", run.scores, run.metrics.get("measures", {}))]
        for kind, recorded in run.metrics.get("references", {}).items():
            sets.append((f"references.{kind}", read_scores(run.folder.reference_scores(kind)), recorded))
        for where, rows, recorded in sets:
            found = {m: _kept(s) for m, s in summarize(rows, run.scenes, LIMITS).items()}
            old = {m: _kept(s) for m, s in recorded.items()}
            findings += [f"{label}/metrics.json: {m}" for m in mismatches(old, found, where)]
        findings += _losses(label, run)
    return Check("metrics", f"metrics.json of {len(runs)} runs", findings)


def _kept(summary: MeasureSummary) -> JsonObject:
    return {k: summary.get(k) for k in _RECORD_KEYS}


def _losses(label: str, run: Run) -> Iterator[str]:
    """Losses of metrics.json that are not those of the logs: the mean of the last tenth of the steps; the last validation."""
    steps = [r["loss"] for r in read_json_lines(run.folder.train_log)]
    last = [r["validation_loss"] for r in read_json_lines(run.folder.validation_log)][-1:]
    tail = steps[-max(1, len(steps) // 10) :]
    training = run.metrics.get("training", {})
    for name, values in (("train_loss", tail), ("validation_loss", last)):
        if values and name in training:
            found = mismatches(training[name], sum(values) / len(values), name)
            yield from (f"{label}/metrics.json: {m} from the log" for m in found)


def _tested_as_chosen(choice: JsonObject, arms: Sequence[JsonObject], runs: Mapping[str, Run]) -> Iterator[str]:
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


def _value(config: JsonObject, key: str) -> object:
    """The value of a dotted key."""
    found: object = config
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _tuning(record: JsonObject, arms: Sequence[JsonObject], runs: Mapping[str, Run]) -> Check:
    """Each point of the tuning has the score of its runs, and each arm has the point that the rule chooses."""
    by, findings, count = record["by"], [], 0
    better = -1 if by == VALIDATION else measure_info(by).better or 1
    for choice in record["choices"]:
        found: list[dict[str, float]] = []
        for point in choice["points"]:
            missing = [name for name in point["runs"] if name not in runs]
            where = f"sweep.json: {choice['arm']} at {point['values']}"
            if point["score"] is None or missing:
                findings += [f"{where}: {', '.join(missing)} is missing"] if missing else []
                found.append({})
                continue
            count += 1
            score, by_scene = _tuned_score([runs[n] for n in point["runs"]], by)
            findings += mismatches(point["score"], score, where)
            found.append({} if score is None else by_scene or {"": score})
        index = choose_point(found, better, record.get("rule", "best"))
        right = None if index is None else choice["points"][index]["values"]
        if choice["chosen"] not in (None, right):
            findings.append(f"sweep.json: {choice['arm']}: {choice['chosen']} was chosen, the rule gives {right}")
        findings += _tested_as_chosen(choice, arms, runs)
    return Check("tuning", f"{count} points by {by}", findings)


def _tuned_score(runs: Sequence[Run], by: str) -> tuple[float | None, dict[str, float]]:
    """The score of a point and of its scenes: the mean validation loss, or the mean of a measure over all its runs."""
    if by == VALIDATION:
        return average([float(r.metrics["training"]["validation_loss"]) for r in runs]), {}
    scenes = {sample: scene for r in runs for sample, scene in r.scenes.items()}
    rows: list[ScoreRow] = [{**row, "run_seed": k} for k, r in enumerate(runs) for row in r.scores]
    own = [r for r in rows if r["measure"] == by]
    return summarize(own, scenes)[by]["mean"], scene_scores(own, scenes)


def _report(folder: Path, out: Path) -> list[Check]:
    """The files of the report are what the run folders give now."""
    names = ("report.json", "report.md", "table.tex", "scores.csv")
    missing = [n for n in names if not (out / n).is_file()]
    if missing:
        return [Check("report", ", ".join(names), [f"{n}: missing. `cosmos-exp report` writes it." for n in missing])]
    written = _read_report(out)
    try:
        content = report_content(folder, str(written.get("title", out.absolute().name)), written.get("margins") or [])
    except (UserError, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        return [Check("report", "", [f"cannot be recomputed: {type(error).__name__}: {error}"])]
    recomputed = json.loads(content.texts["report.json"])
    numbers = [f"report.json: {m}" for m in mismatches(written, recomputed)] if written else ["report.json: not JSON"]
    checks = [Check("numbers", f"report.json, {len(content.results.differences)} comparisons", numbers)]
    return [*checks, *(_text(out / n, content) for n in names[1:])]


def _text(file: Path, content: Content) -> Check:
    """A text file is what would be written now."""
    old, new = file.read_text(encoding="utf-8"), content.texts[file.name]
    before, now = Counter(old.splitlines()), Counter(new.splitlines())
    findings = [f"{file.name}: in the file: {line.strip()[:110]}" for line in before - now]
    findings += [f"{file.name}: recomputed: {line.strip()[:110]}" for line in now - before]
    return Check(
        file.name, "the same text", findings or ([] if old == new else [f"{file.name}: another order of lines"])
    )
