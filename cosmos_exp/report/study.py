"""A study: all runs below a folder as one frame of scores, with means, differences and claims. Every output is a view of it.

study = load_study(Path("outputs/sweeps/rank"))
study.scores.query("measure == 'tse'").groupby("arm").value.mean()
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from cosmos_exp.config.measures import ARROWS, LIMITS, measure_info, split_main
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject
from cosmos_exp.provenance import now
from cosmos_exp.report import comparisons
from cosmos_exp.report.claims import ClaimRow, claim_warnings, minute, read_claims, tested_claims
from cosmos_exp.report.runs import Run, read_runs, read_sweep
from cosmos_exp.report.tuning import Tuning
from cosmos_exp.run_folder import REFERENCES
from cosmos_exp.statistics.chunks import change_frame, chunk_frame
from cosmos_exp.statistics.intervals import MIN_RUNS, summarize_frame, unseen_failures
from cosmos_exp.statistics.scores import MeasureSummary, score_frame

MEANINGS = {"real": "the recorded continuation", "frozen": "the first frame, held"}
MARK = "†"  # at the name of a measure that cannot be read as quality
FIRST = ("instruction", "physics", "word_side", "word_effect")  # the measures that a reader asks for first


@dataclass(frozen=True)
class Study:
    """All runs at or below a folder.

    Attributes:
        path: The folder that was read.
        title: Its name.
        records: Each run by its path below `path`: folder, config, manifest, status, metrics as they are on disk.
        runs: One row per run; the index is the key of `records`. Columns: arm, phase (tune or test), state, error, seed, is_base,
            kind, rank, alpha, scaling, learning_rate, truncated_from, tuned, train_loss, validation_loss, steps, seconds,
            memory_gib, adapter_mib, copy_of (the run whose training it repeats; it does not count then, else empty).
        scores: One row per video and measure of the runs that count. Columns: run (key of `records`), arm, phase, seed (of the
            training), scene, prompt (its name), text (its words), noise (the generation seed), measure, value (NaN where the
            score is missing), video (its path in the run folder), reason (of a missing or doubtful score, else empty), detail
            (the dictionary of scores.jsonl: curve, chunks, answer, …). The recordings and the held first frames are the arms
            `real` and `frozen`; they do not depend on the adapter, so each is there once.
        phase: What is compared: `test`, or `tune` in a folder that has tuning runs only.
        arms: One row per arm of this phase in the order of display, the base first; the index is the name. Columns: is_base,
            kind, rank, alpha, scaling, learning_rate, truncated_from (empty if it was trained), tuned (dictionary of the keys
            tuned for it), runs, done (finished runs that count), train_loss, validation_loss, hours, memory_gib, adapter_mib.
        means: Columns arm, measure, mean, low, high (95 %; NaN where unknown), n (scenes), videos, missing, reason, doubtful,
            caution, runs, mark (against the base: + better, − worse, = equivalent; in brackets if it is about these adapters
            only, ° if it holds if no training run fails), best. Arms, then the references that were scored.
        differences: Columns measure, arm, reference, difference (arm − reference), low, high, p, p_holm, margin, p_equivalent,
            p_equivalent_holm, effect, effect_low, effect_high, n (scenes), prompts, pairs, left_out, arm_runs, reference_runs,
            recipe, few_runs, repeatability, verdict (better, worse, equivalent or inconclusive), mark (as in `means`),
            also_different (in what else the arms differ without having been tuned; else empty), dropped (the prompts that
            `left_out` counts: not all runs have a score of them), scenes_needed, runs_needed (for 80 % power to see a
            difference of the margin, where it is inconclusive).
        drift: Columns arm, measure, chunk (1, 2, …; 0 is last minus first), mean, low, high, n, reason, verdict (of chunk 0).
            Empty for videos of one chunk.
        claims: Empty if none were frozen. `claims_heading` says when they were.
        claims_warnings: What limits them: changes after the first score, planned runs that are missing, ….
        tunings: How each arm's own values were chosen, per sweep (sweep.json).
        measures: In the order of tables.
        unreadable: Measures in which a still picture scores as well as the recordings (†), with the reason.
        not_compared: Why there are no differences; empty if there may be some.
        notes: Short sentences: what is missing or undefined and why, which prompts were dropped, what limits the tests.
        damages: The runs that could not be read, and why.
    """

    path: Path
    title: str
    records: dict[str, Run]
    runs: pd.DataFrame
    scores: pd.DataFrame
    phase: str
    arms: pd.DataFrame
    means: pd.DataFrame
    differences: pd.DataFrame
    drift: pd.DataFrame
    measures: list[str]
    margins: dict[str, float]
    claims: list[ClaimRow] = field(default_factory=list)
    claims_heading: str = ""
    claims_warnings: list[str] = field(default_factory=list)
    tunings: list[Tuning] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    not_compared: str = ""
    notes: list[str] = field(default_factory=list)
    damages: list[str] = field(default_factory=list)

    @property
    def base(self) -> str:
        """The name of the base; empty if there is none."""
        return next(iter(self.arms.index[self.arms["is_base"]]), "")

    @property
    def references(self) -> list[str]:
        """`real` and `frozen`, as far as they were scored."""
        scored = set(self.scores["arm"])
        return [name for name in REFERENCES if name in scored]

    @property
    def shown_runs(self) -> pd.DataFrame:
        """The rows of `runs` that belong to the arms: without the tuning runs of a sweep."""
        return self.runs[self.runs["phase"] == self.phase]

    def runs_of(self, arm: str) -> list[Run]:
        """The runs of an arm that count, by seed."""
        own = self.runs[(self.runs["arm"] == arm) & (self.runs["state"] == "done") & (self.runs["copy_of"] == "")]
        return [self.records[name] for name in own.index]

    def mean(self, arm: str, measure: str) -> pd.Series:
        """The row of `means` of an arm and a measure; all NaN if there are no scores."""
        own = self.means[(self.means["arm"] == arm) & (self.means["measure"] == measure)]
        return own.iloc[0] if len(own) else pd.Series(index=own.columns, dtype=object)

    def heading(self, measure: str) -> str:
        """The measure's name with an arrow in the better direction, and † if it cannot be read as quality."""
        mark = f" {MARK}" if measure in self.unreadable else ""
        return f"{measure}{ARROWS[measure_info(measure).better]}{mark}"

    @property
    def main_measures(self) -> list[str]:
        """The measures of the first table and figures: what a reader asks for first, those of the claims and the tuning."""
        main, _ = split_main(self.measures)
        named = [claim.measure for claim in self.claims] + [tuning.by for tuning in self.tunings]
        order = [m for m in (*FIRST, *main, *named) if m in self.measures]
        return list(dict.fromkeys(order))


def load_study(path: Path, title: str = "", margins: Sequence[str] = (), margins_at: str = "") -> Study:
    """Read all runs at or below a folder, each file once.

    Args:
        title: Empty: the folder's name.
        margins: Margins of equivalence as MEASURE=NUMBER, instead of those of the runs' configurations.
        margins_at: When they were given, UTC; empty: now.

    Raises:
        UserError: There are no runs; a margin cannot be read; margins are given but the runs are not comparable.
    """
    own, damages = read_runs(path)
    records = {}
    for run in own:
        records[run.folder.path.relative_to(path.absolute()).as_posix()] = run
    runs, scores = run_frame(records), all_scores(records)
    phase = "test" if (runs["phase"] == "test").any() else "tune"
    arms = arm_frame(runs[runs["phase"] == phase])
    shown = scores[(scores["phase"] == phase) | scores["arm"].isin(REFERENCES)]
    tested = shown[~shown["arm"].isin(REFERENCES)]
    counted = [records[name] for name in runs.index[(runs["phase"] == phase) & runs["counts"]]]
    first_runs: dict[str, Run] = {}
    for run in counted:
        first_runs.setdefault(run.arm, run)
    measures = comparisons.measures_in_order(tested)
    used_margins = comparisons.parse_margins(margins, list(records.values()), measures)
    not_compared, found = "", []
    try:
        comparisons.check_comparable(counted)
        pairs = comparisons.pairs_of(arms, first_runs)
        found = comparisons.differences(tested, pairs, used_margins, list(arms.index[arms["is_base"]]))
    except UserError as error:
        if margins:
            raise
        not_compared = str(error)
    differences = comparisons.difference_frame(found, first_runs)
    unreadable = unreadable_measures(shown, measures)
    means = mean_frame(shown, arms, differences, set(unreadable), bool(not_compared))
    drift = drift_frame(shown)
    tunings = [*_tunings(counted)]
    notes = [*damages, *_notes(means, runs[runs["phase"] == phase], differences, counted)]
    notes += [note for tuning in tunings for note in tuning.notes]
    claims, heading, warnings = [], "", []
    record = read_claims(path)
    if record:
        claims, heading = tested_claims(record, tested, arms, first_runs, not_compared), record.heading
        warnings = claim_warnings(record, arms, runs[runs["phase"] == phase], used_margins)
    notes += _margin_notes(counted, margins, margins_at or now())
    notes += unreadable.values()
    if not_compared:
        notes.append(f"No differences are reported: {not_compared}")
    return Study(
        path, title or path.absolute().name, records, runs, scores, phase, arms, means, differences, drift, measures,
        used_margins, claims, heading, warnings, tunings, unreadable, not_compared, notes, damages,
    )  # fmt: skip


# --- frames ---
def run_frame(records: Mapping[str, Run]) -> pd.DataFrame:
    """The frame `Study.runs`, in the order of display: the base first, then by kind, rank and name."""
    rows = []
    for name, run in records.items():
        stage, entry = run.manifest.get("stages", {}).get("train", {}), run.entry or {}
        row = {"run": name, "arm": run.arm, "phase": run.phase, "seed": run.seed}
        row |= {"state": run.status.get("state"), "error": str(run.status.get("error") or ""), "is_base": run.is_base}
        for key in ("kind", "rank", "alpha", "scaling"):
            row[key] = run.adapter.get(key)
        row["learning_rate"] = (run.config.get("training") or {}).get("learning_rate")
        row |= {"truncated_from": entry.get("truncated_from") or "", "tuned": entry.get("tuned") or {}}
        for key in ("train_loss", "validation_loss", "steps", "adapter_mib"):
            row[key] = run.training.get(key)
        row |= {"seconds": stage.get("seconds"), "memory_gib": stage.get("peak_memory_gib")}
        row |= {"copy_of": "", "counts": run.counts}
        if run.copy_of is not None:
            row["copy_of"] = run.copy_of.folder.path.name
        rows.append(row)
    frame = pd.DataFrame(rows).set_index("run")
    numbers = ["learning_rate", "train_loss", "validation_loss", "steps", "adapter_mib", "seconds", "memory_gib"]
    frame[numbers] = frame[numbers].astype(float)
    order = frame.assign(adapted=~frame["is_base"], cut=frame["truncated_from"] != "", folder=frame.index)
    order = order.sort_values(["adapted", "kind", "cut", "rank", "arm", "seed", "folder"], kind="stable")
    return frame.loc[order.index]


def arm_frame(runs: pd.DataFrame) -> pd.DataFrame:
    """The frame `Study.arms`: of each arm the settings of its first run, and the means of what its finished runs took."""
    by_arm = runs.groupby("arm", sort=False)
    arms = by_arm[["is_base", "kind", "rank", "alpha", "scaling", "learning_rate", "truncated_from", "tuned"]].first()
    done = runs[runs["counts"]].groupby("arm")
    arms["runs"] = by_arm.size()
    arms["done"] = done.size().reindex(arms.index, fill_value=0)
    arms[["train_loss", "validation_loss", "adapter_mib"]] = done[
        ["train_loss", "validation_loss", "adapter_mib"]
    ].mean()
    arms["hours"] = done["seconds"].mean() / 3600
    arms["memory_gib"] = done["memory_gib"].max()
    return arms


def all_scores(records: Mapping[str, Run]) -> pd.DataFrame:
    """The frame `Study.scores`."""
    scenes: dict[str, str] = {}
    for run in records.values():
        scenes |= run.scenes
    frames = []
    for name, run in records.items():
        if not run.counts:
            continue
        own = {"run": name, "arm": run.arm, "phase": run.phase, "seed": run.seed}
        frames.append(score_frame(run.scores, scenes).assign(folder="videos", **own))
        for kind, rows in run.reference_scores.items():
            frames.append(
                score_frame(rows, scenes).assign(folder=f"references/{kind}", **own | {"arm": kind, "seed": 0})
            )
    frames = [frame for frame in frames if len(frame)]
    scores = pd.concat(frames or [score_frame([])], ignore_index=True).reindex(columns=[*SCORE_COLUMNS, "folder"])
    scores["video"] = scores.pop("folder").astype(object) + "/" + scores["video"].astype(object)
    scores["text"] = scores["text"].fillna(scores["prompt"])
    again = scores["arm"].isin(REFERENCES) & scores.duplicated(["arm", "prompt", "measure"])
    return scores[~again].reset_index(drop=True)


SCORE_COLUMNS = [
    "run",
    "arm",
    "phase",
    "seed",
    "scene",
    "prompt",
    "text",
    "noise",
    "measure",
    "value",
    "video",
    "reason",
]
SCORE_COLUMNS += ["detail"]
MEAN_COLUMNS = ["arm", "measure", "mean", "low", "high", "n", "videos", "missing", "reason", "doubtful", "caution"]


def _mean_row(arm: str, measure: str, summary: MeasureSummary) -> JsonObject:
    row = dict(summary) | {"arm": arm, "measure": measure, "low": summary["ci_low"], "high": summary["ci_high"]}
    return {"reason": "", "doubtful": 0, "caution": ""} | row


def mean_frame(
    scores: pd.DataFrame, arms: pd.DataFrame, differences: pd.DataFrame, unreadable: set[str], not_comparable: bool
) -> pd.DataFrame:
    """The frame `Study.means`."""
    rows, by_arm = [], dict(iter(scores.groupby("arm")))
    measures = comparisons.measures_in_order(scores)
    for arm in (*arms.index, *REFERENCES):
        summaries = summarize_frame(by_arm[arm], LIMITS) if arm in by_arm else {}
        rows += [_mean_row(arm, measure, summaries[measure]) for measure in measures if measure in summaries]
    means = pd.DataFrame(rows, columns=MEAN_COLUMNS).astype({"mean": float, "low": float, "high": float})
    why = scores[scores["value"].isna()].groupby(["arm", "measure"])["reason"].first()
    means["reason"] = [why.get(key, "") for key in zip(means["arm"], means["measure"], strict=True)]
    means["runs"] = means["arm"].map(arms["done"]).fillna(0).astype(int)
    base = arms.index[arms["is_base"]]
    against_base = differences[differences["reference"].isin(base[:1])]
    marks = dict(zip(zip(against_base["arm"], against_base["measure"], strict=True), against_base["mark"], strict=True))
    means["mark"] = [marks.get(key, "") for key in zip(means["arm"], means["measure"], strict=True)]
    means["best"] = False
    for measure, own in means[means["arm"].isin(arms.index)].groupby("measure"):
        known = own["mean"].dropna() * measure_info(str(measure)).better
        is_best = np.isclose(known, known.max(), rtol=1e-12, atol=0)
        if known.abs().sum() and not is_best.all() and measure not in unreadable and not not_comparable:
            means.loc[known.index[is_best], "best"] = True
    return means


def drift_frame(scores: pd.DataFrame) -> pd.DataFrame:
    """The frame `Study.drift`."""
    rows = []
    for arm, own in scores.groupby("arm", sort=False):
        chunks = chunk_frame(own)
        parts = dict(iter(chunks.groupby("chunk"))) | {0: change_frame(chunks)}
        for chunk, part in parts.items():
            for measure, summary in summarize_frame(part, LIMITS if chunk else None).items():
                row = _mean_row(str(arm), measure, summary) | {"chunk": chunk, "verdict": ""}
                if not chunk:
                    row["verdict"] = drift_verdict(summary, measure)
                rows.append(row)
    return pd.DataFrame(rows, columns=["arm", "measure", "chunk", "mean", "low", "high", "n", "reason", "verdict"])


def drift_verdict(change: MeasureSummary, measure: str) -> str:
    """better or worse (higher or lower, where neither is better), equal in every scene, inconclusive, or undefined."""
    mean, low, high = change["mean"], change["ci_low"], change["ci_high"]
    if mean is None:
        return "undefined"
    if mean == 0 and low is None and change["n"] > 1:
        return "equal"
    if low is None or high is None or low <= 0 <= high:
        return "inconclusive"
    better = measure_info(measure).better
    if not better:
        return "higher" if mean > 0 else "lower"
    return "better" if mean * better > 0 else "worse"


def unreadable_measures(scores: pd.DataFrame, measures: Sequence[str]) -> dict[str, str]:
    """For each measure that cannot be read as quality on these prompts: why.

    A measure is unreadable where the frozen videos score as well as the recordings or better. Where the recording is part of
    the measure (PSNR), real has no value, and the frozen videos are compared with the arms instead.
    """
    found: dict[str, str] = {}
    by_prompt = scores.groupby(["measure", "prompt", "arm"])["value"].mean().unstack("arm")
    if "frozen" not in by_prompt:
        return found
    for measure in measures:
        better, own = measure_info(measure).better, by_prompt.loc[measure]
        own = own[own["frozen"].notna()]
        if not better or own.empty:
            continue
        both = own[["real", "frozen"]].dropna() if "real" in own else own.iloc[:0]
        if len(both):
            real, frozen = both.mean()
            if better * (frozen - real) >= 0:
                found[measure] = (
                    f"{MARK} {measure}: the frozen videos score {frozen:.3g} and the recordings {real:.3g} ({len(both)} prompts). "
                    "A still picture wins here: read it only beside a measure on which it loses."
                )
            continue
        others = own.drop(columns=list(REFERENCES), errors="ignore")
        ahead = better * others.sub(own["frozen"], axis="index").mean()
        if ahead.notna().any() and ahead.max() <= 0:
            found[measure] = (
                f"{MARK} {measure}: the frozen videos ({own['frozen'].mean():.3g}) score at least as well as every adapter. A still "
                "picture wins here."
            )
    return found


def _tunings(runs: Sequence[Run]) -> Iterator[Tuning]:
    """The tunings of the sweeps that the runs belong to."""
    parents = [run.folder.path.parent for run in runs if run.entry]
    for parent in dict.fromkeys(parents):
        record = read_sweep(parent).get("tuning")
        if record:
            rule = record.get("rule", "best")
            yield Tuning(record["by"], rule, list(record["grid"]), record["seeds"], record["choices"])


# --- notes ---
def _notes(means: pd.DataFrame, runs: pd.DataFrame, differences: pd.DataFrame, counted: Sequence[Run]) -> Iterator[str]:
    """What a reader must know beside the numbers."""
    if any(run.manifest.get("labels", {}).get("random_weights") for run in counted):
        yield "The base model's weights are random: these numbers only show that the pipeline runs."
    for name, run in runs.iterrows():
        if run["error"]:
            yield f"{name}: {run['state']}: {run['error'].splitlines()[0]}"
        if run["copy_of"]:
            yield (
                f"{name} holds the same training as {run['copy_of']}, so {run['arm']} counts it once. Remove the copy, or train it "
                "with its own seed."
            )
    missing = means[means["missing"] > 0]
    for (arm, count, of, reason), own in missing.groupby(["arm", "missing", "videos", "reason"], sort=False):
        why = f" ({reason})" if reason else ""
        yield f"{arm}: {', '.join(own['measure'])} missing for {count} of {of} videos{why}."
    doubtful = means[means["doubtful"] > 0]
    for (arm, count, of, reason), own in doubtful.groupby(["arm", "doubtful", "videos", "caution"], sort=False):
        yield f"{arm}: {', '.join(own['measure'])} of {count} of {of} videos to be read with caution ({reason})."
    dropped = differences[differences["dropped"] != ""]
    for (arm, reference, count, prompts), own in dropped.groupby(
        ["arm", "reference", "left_out", "dropped"], sort=False
    ):
        measures = ", ".join(own["measure"])
        yield f"{arm} − {reference}: {count} videos dropped from {measures}, of the prompts {prompts}: not all runs have a score."
    if len(differences):
        yield from _limits(runs, differences)
    for run in counted:
        again = run.manifest.get("evaluated", {}).get("again") or {}
        for file, when in again.items():
            name = run.folder.path.name
            yield f"{name} was scored again with other measures, judge or videos on {minute(when)}; {file} has the earlier scores."
    short: dict[str, None] = {}
    for run in counted:
        short |= dict.fromkeys(run.manifest.get("data", {}).get("short_recordings") or [])
    for note in short:
        yield f"{note}."


def _limits(runs: pd.DataFrame, differences: pd.DataFrame) -> Iterator[str]:
    """What limits all tests: few training runs, and learning rates that were not tuned."""
    trained = runs[runs["counts"] & ~runs["is_base"]]
    counts = trained.groupby("arm", sort=False).size()
    few = counts[counts < MIN_RUNS]
    if len(few):
        names = ", ".join(f"{arm}: {count}" for arm, count in few.items())
        yield (
            f"Fewer than {MIN_RUNS} training runs ({names}): marks in brackets are about these trained adapters. They say nothing "
            "about another training of the same recipe, so nothing about rank, LoRA or DoRA. Add training seeds: seed=0,1,2."
        )
    least = counts[counts >= MIN_RUNS].min()
    if differences["recipe"].any() and least == least:
        yield (
            f"{least} training runs per adapter: a run that fails may not have been seen. 95 % upper bound on the share of such runs: "
            f"{100 * unseen_failures(int(least)):.0f} %."
        )
    untuned = trained[~trained["tuned"].map(lambda tuned: "training.learning_rate" in tuned)]
    if untuned["arm"].nunique() > 1 and untuned["learning_rate"].notna().any():
        rates = ", ".join(f"{rate:g}" for rate in sorted(untuned["learning_rate"].dropna().unique()))
        yield (
            f"Untuned: {', '.join(untuned['arm'].unique())} were trained at the learning rate {rates}. Rank, alpha and DoRA shift the "
            "best rate. Tune it for each arm: sweep.tune.grid={training.learning_rate: [...]}."
        )


def _margin_notes(runs: Sequence[Run], margins: Sequence[str], margins_at: str) -> Iterator[str]:
    """Margins that came after the scores, with the date."""
    configured = comparisons.margins_of(runs)
    for word in margins:
        was = configured.get(word.partition("=")[0])
        yield f"The margin {word} was given on {minute(margins_at)}, after the scores; the runs have {was}."
    for run in runs:
        first = run.manifest.get("evaluated", {}).get("margins") or {"values": {}}
        current = run.config.get("margins") or {}
        for measure, margin in first["values"].items():
            if current.get(measure, margin) != margin:
                yield (
                    f"{run.folder.path.name}: the margin of {measure} was {margin:g} at the first score ({minute(first['time'])}) and is "
                    f"{current[measure]:g} now."
                )
