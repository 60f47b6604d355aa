"""`cosmos-exp report DIR --verify`: does a report follow from its run folders, and are these as the runs left them?

Every check compares a file with a hash or with what is computed anew. Somebody who rewrites records and hashes alike is not
found; docs/claims.md says what helps.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject
from cosmos_exp.report.checks import Check, guarded, guarded_all
from cosmos_exp.report.frozen_claims import CLAIMS_FILE, FrozenClaims, arm_hash, changes, read_claims
from cosmos_exp.report.numbers import mismatches
from cosmos_exp.report.variants import Run, find_runs, group_runs, read_sweep, readable_runs
from cosmos_exp.report.verify_files import checks_of_files
from cosmos_exp.report.verify_frozen import margins_as_frozen, one_base, samples_apart
from cosmos_exp.report.verify_tuning import check_tuning
from cosmos_exp.report.writing import Content, report_content
from cosmos_exp.run_folder import RunFolder


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
    found = [claims, guarded("runs", lambda: _runs(folder, out, runs, record))]
    found += checks_of_files(runs, videos, record)
    sweep = read_sweep(folder)
    found += guarded_all("tuning", lambda: check_tuning(sweep, runs, record))
    return [*found, *_report(folder, out)]


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
    findings = [u.reason for u in readable_runs(folder)[1]]
    findings += [f"{name}: {r.status.get('state')}, not done" for name, r in runs.items() if not r.finished]
    listed = [str(r) for arm in read_sweep(folder).get("arms", []) for r in arm["runs"]]
    empty = [a["name"] for a in read_sweep(folder).get("arms", []) if not a["runs"]]
    reported = _read_report(out).get("variants", {})
    listed += [r["folder"] for v in reported.values() for r in v["runs"]]
    findings += [f"{name}: missing" for name in dict.fromkeys(listed) if name not in runs]
    findings += [f"{arm}: its runs have not been planned yet (the tuning is unfinished)" for arm in empty]
    findings += samples_apart(runs)
    findings += one_base(runs) if record or read_sweep(folder) else []
    if record:
        findings += _planned(folder, runs, record)
        findings += margins_as_frozen(runs, _read_report(out).get("margins") or [], record)
    return Check("runs", f"{len(runs)} runs", findings)


def _planned(folder: Path, runs: Mapping[str, Run], record: FrozenClaims) -> Iterator[str]:
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
            if arm_hash(runs[str(where)].settings, record.tuned) != arm["config_hash"]:
                yield f"{where}/config.yaml: another configuration than the frozen one"
            scored = {(r["sample"], r["seed"]) for r in run.scores}
            missing = [(p, s) for p in prompts or {} for s in noises if (p, s) not in scored]
            if missing:
                yield f"{where}/scores.jsonl: no score of {len(missing)} frozen prompts and seeds, e.g. {missing[0]}"
            other = {r["sample"] for r in run.scores if prompts and prompts.get(r["sample"]) != r["prompt"]}
            if other:
                yield f"{where}/scores.jsonl: other prompts than the frozen ones: {', '.join(sorted(other)[:3])}"


def _report(folder: Path, out: Path) -> list[Check]:
    """The files of the report are what the run folders give now."""
    names = ("report.json", "report.md", "table.tex", "scores.csv")
    missing = [n for n in names if not (out / n).is_file()]
    if missing:
        return [Check("report", ", ".join(names), [f"{n}: missing. `cosmos-exp report` writes it." for n in missing])]
    written = _read_report(out)
    at = written.get("margins_at")
    try:
        content = report_content(
            folder, str(written.get("title", out.absolute().name)), written.get("margins") or [], at
        )
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
