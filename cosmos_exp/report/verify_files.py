"""Checks of single run folders: are configuration, adapter, logs, videos, scores and means as the run left them?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cosmos_exp.config.adapter_file import read_adapter
from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.config.measures import LIMITS
from cosmos_exp.files import JsonObject, file_sha256, inside, read_json_lines
from cosmos_exp.report.checks import Check, guarded
from cosmos_exp.report.copies import copies
from cosmos_exp.report.frozen_claims import FrozenClaims
from cosmos_exp.report.margins import margins_changed
from cosmos_exp.report.numbers import mismatches
from cosmos_exp.report.variants import Run
from cosmos_exp.report.verify_scenes import check_scenes
from cosmos_exp.run_folder import ADAPTER_NAME, REFERENCES, evaluated_hash
from cosmos_exp.statistics.chunks import chunk_rows, num_chunks
from cosmos_exp.statistics.intervals import summarize
from cosmos_exp.statistics.scores import MeasureSummary, ScoreRow, read_scores
from cosmos_exp.text import HIDDEN, one_line

NOT_HASHED = "not hashed (made before these hashes were recorded)"
NOT_RECORDED = "not recorded (made before that was recorded)"
NO_HASHES = "cannot be verified: made before hashes were recorded"
_RECORD_KEYS = ("mean", "videos", "missing")  # of metrics.json
_INTERVAL_KEYS = ("ci_low", "ci_high", "n")  # very old records lack them
Runs = Mapping[str, Run]  # by the path inside the reported folder


def checks_of_files(runs: Runs, videos: bool, record: FrozenClaims | None) -> list[Check]:
    """All checks of the files of single runs.

    Args:
        videos: False: videos and adapters may be missing, and videos are not read.
        record: The frozen claims, with the scenes of their prompts.
    """
    found = [guarded("records", lambda: _records(runs, videos)), guarded("scenes", lambda: check_scenes(runs, record))]
    found += [guarded("copies", lambda: _copies(runs)), guarded("scores", lambda: _scores(runs))]
    found += [guarded("videos", lambda: _videos(runs))] if videos else []
    return [*found, guarded("metrics", lambda: _metrics(runs))]


def _records(runs: Runs, videos: bool) -> Check:
    """Configuration, adapter and logs are those that the run recorded."""
    findings, unhashed, hidden = [], [], []
    for label, run in runs.items():
        findings += [f"{label}/{words}" for words in _configuration(run)]
        findings += [f"{label}/{words}" for words in trained_findings(run, videos)]
        findings += [f"{label}/config.yaml: {words}" for words in margins_changed(run)]
        if HIDDEN in run.folder.config.read_text(encoding="utf-8"):
            hidden.append(label)
        if not run.is_base and run.finished and "trained" not in run.manifest:
            unhashed.append(label)
    findings += _sources(runs)
    notes = [f"adapter and logs of {len(unhashed)} runs, e.g. {unhashed[0]}: {NOT_HASHED}"] if unhashed else []
    notes += [f"the configuration of {len(hidden)} runs, e.g. {hidden[0]}: it holds hidden values"] if hidden else []
    return Check("records", f"configuration, adapter and logs of {len(runs)} runs", findings, notes)


def _configuration(run: Run) -> Iterator[str]:
    """What shows that config.yaml is not the one of the run, or of one of its stages."""
    if HIDDEN in run.folder.config.read_text(encoding="utf-8"):
        return
    config = run.settings
    recorded = run.manifest.get("config_hash")
    if recorded and recorded != stage_hash(config):
        yield "config.yaml: not the configuration that the run recorded (config_hash in manifest.json)"
    for stage, entry in run.manifest.get("stages", {}).items():
        if entry.get("config_hash") and entry["config_hash"] != stage_hash(config, stage):
            yield f"config.yaml: the stage {stage} ran with another configuration"


def trained_findings(run: Run, videos: bool) -> Iterator[str]:
    """Files of the training that are missing or changed, and an adapter whose header names another training."""
    trained = run.manifest.get("trained")
    files = trained.get("files") if isinstance(trained, dict) else None
    for name, digest in (files if isinstance(files, dict) else {}).items():
        file = inside(run.folder.path, name)
        if file.is_file():
            if file_sha256(file) != digest:
                yield f"{name}: changed since the training"
        elif videos or name != ADAPTER_NAME:
            yield f"{name}: missing"
    if "train_loss" in run.metrics.get("training", {}) and not run.folder.train_log.is_file():
        yield "train_log.jsonl: missing"
    if run.folder.adapter_file.is_file() and not run.is_base:
        record = read_adapter(run.folder.adapter_file).record
        for key, own in (("seed", run.seed), ("config_hash", stage_hash(run.settings, "train"))):
            if record.get(key, own) != own:
                yield f"{ADAPTER_NAME}: trained with {key} {one_line(str(record[key]))}, not {own}"


def _sources(runs: Runs) -> Iterator[str]:
    """Truncated adapters that were not cut from the adapter of the run that they name."""
    by_path = {run.folder.path: run for run in runs.values()}
    for label, run in runs.items():
        name = run.adapter.get("truncate_from")
        source = by_path.get((run.folder.path / str(name)).resolve()) if name else None
        known = source.manifest.get("trained", {}).get("files", {}).get(ADAPTER_NAME) if source else None
        cut = run.metrics.get("training", {}).get("truncated_from")
        if known and cut and known != cut:
            yield f"{label}/metrics.json: cut from another adapter than that of {name}"


def _copies(runs: Runs) -> Check:
    """No training is there twice, under another seed or another configuration."""
    labels = {run.folder.path: label for label, run in runs.items()}
    findings = [
        f"{labels[b.folder.path]}: the same training as {labels[a.folder.path]} ({why}): it is not another training run"
        for a, b, why in copies(list(runs.values()))
    ]
    return Check("copies", f"{len(runs)} runs", findings)


def _scores(runs: Runs) -> Check:
    """Each score file has the hash that the evaluation recorded, and each scored video has one."""
    findings, unbound, count = [], [], 0
    for label, run in runs.items():
        recorded = run.manifest.get("evaluated", {})
        findings += [f"{label}/manifest.json: {words}" for words in _owner(run)]
        if recorded and "run" not in recorded:
            unbound.append(label)
        unknown = sorted(_scored_videos(run) - set(recorded.get("videos", {})))
        if unknown:
            findings.append(f"{label}: {len(unknown)} videos, e.g. {unknown[0]}: {NO_HASHES}")
        known = recorded.get("scores", {})
        files = [run.folder.scores, *(run.folder.reference_scores(k) for k in REFERENCES)]
        for name in dict.fromkeys([*(run.folder.name_of(f) for f in files if f.is_file()), *known]):
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
    notes = [f"whose scores those of {len(unbound)} runs are, e.g. {unbound[0]}: {NOT_RECORDED}"] if unbound else []
    return Check("scores", f"{count} score files", findings, notes)


def _owner(run: Run) -> Iterator[str]:
    """What shows that the hashes of the scores were changed, or belong to another run."""
    recorded: JsonObject = dict(run.manifest.get("evaluated", {}))
    if "run" not in recorded:
        return
    if recorded.get("sha256") != evaluated_hash(recorded):
        yield "evaluated: changed by hand (its hash does not fit its content)"
    own, trained = recorded["run"], run.manifest.get("trained", {}).get("files", {})
    if own.get("config_hash") != stage_hash(run.settings, "evaluate"):
        yield "evaluated: the scores of a run with another configuration"
    if own.get("adapter") != trained.get(ADAPTER_NAME):
        yield "evaluated: the scores of another adapter"


def _videos(runs: Runs) -> Check:
    """Each video is the one that was scored."""
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
    return Check("videos", f"{count} videos", findings)


def _scored_videos(run: Run) -> set[str]:
    found = {f"videos/{r['video']}" for r in run.scores}
    return found | {f"references/{k}/{r['video']}" for k in REFERENCES for r in run.references(k)}


def _metrics(runs: Runs) -> Check:
    """metrics.json holds the means of the scores."""
    findings = []
    for label, run in runs.items():
        sets: list[tuple[str, list[ScoreRow], JsonObject]] = [("measures", run.scores, run.metrics.get("measures", {}))]
        for kind, recorded in run.metrics.get("references", {}).items():
            sets.append((f"references.{kind}", read_scores(run.folder.reference_scores(kind)), recorded))
        if chunks := run.metrics.get("chunks"):
            for k in range(num_chunks(run.scores)):
                sets.append(
                    (f"chunks[{k}]", chunk_rows(run.scores, k), {m: s[k] for m, s in chunks.items() if len(s) > k})
                )
        for where, rows, recorded in sets:
            findings += [f"{label}/metrics.json: {m}" for m in _summary_mismatches(run, rows, recorded, where)]
        findings += _losses(label, run)
    return Check("metrics", f"metrics.json of {len(runs)} runs", findings)


def _summary_mismatches(run: Run, rows: list[ScoreRow], recorded: JsonObject, where: str) -> list[str]:
    """What differs from the scores. Older versions did not cut intervals at the ends of the scale, which is right, too."""
    old = {m: _kept(s, s) for m, s in recorded.items()}
    found: list[str] = []
    for limits in (None, LIMITS):
        now = {m: _kept(s, recorded.get(m, s)) for m, s in summarize(rows, run.scenes, limits).items()}
        found = list(mismatches(old, now, where))
        if not found:
            break
    return found


def _kept(summary: MeasureSummary, recorded: MeasureSummary) -> JsonObject:
    """What is compared of a summary: means and counts, and of the interval what was recorded."""
    return {k: summary.get(k) for k in (*_RECORD_KEYS, *(k for k in _INTERVAL_KEYS if k in recorded))}


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
