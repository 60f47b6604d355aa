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

from cosmos_exp.config.arms import read_sweep
from cosmos_exp.config.measures import ARROWS, LIMITS, main_measures, measure_info
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject
from cosmos_exp.report import comparisons
from cosmos_exp.report.claims import CLAIM_COLUMNS, claim_warnings, read_claims, tested_claims
from cosmos_exp.report.runs import Run, read_runs
from cosmos_exp.report.tuning import Tuning
from cosmos_exp.run_folder import REFERENCES
from cosmos_exp.statistics.chunks import change_frame, chunk_frame
from cosmos_exp.statistics.intervals import MIN_RUNS, summarize_frame
from cosmos_exp.statistics.scores import MeasureSummary, score_frame

MARK = "†"  # at the name of a measure that cannot be read as quality
FIRST = ("instruction", "physics", "word_side", "word_effect")  # the measures that a reader asks for first


@dataclass
class Study:
    """All runs at or below a folder.

    Attributes:
        path: The folder that was read.
        title: Its name.
        records: Each run by its path below `path`: folder, config, manifest, status, metrics as they are on disk.
        runs: One row per run; the index is the key of `records`. Columns: arm, phase (tune or test), state, error, seed, is_base,
            kind, rank, alpha, scaling, learning_rate, truncated_from, tuned, train_loss, validation_loss, steps, seconds,
            memory_gib, adapter_mib.
        scores: One row per video and measure of the finished runs. Columns: run (key of `records`), arm, phase, seed (of the
            training), scene, prompt (its name), text (its words), noise (the generation seed), measure, value (NaN where the
            score is missing), video (its path in the run folder), reason (of a missing or doubtful score, else empty), detail
            (the dictionary of scores.jsonl: curve, chunks, answer, …). The recordings and the held first frames are the arms
            `real` and `frozen`; they do not depend on the adapter, so each is there once.
        phase: What is compared: `test`, or `tune` in a folder that has tuning runs only.
        arms: One row per arm of this phase in the order of display, the base first; the index is the name. Columns: is_base,
            kind, rank, alpha, scaling, learning_rate, truncated_from (empty if it was trained), tuned (dictionary of the keys
            tuned for it), runs, done (training seeds with a finished run), train_loss, validation_loss, hours, memory_gib, adapter_mib.
        means: Columns arm, measure, mean, low, high (95 %; NaN where unknown), n (scenes), videos, missing, reason, doubtful,
            caution, runs, mark (against the base: + better, − worse, = equivalent; in brackets if it is about these adapters
            only, ° if it holds if no training run fails). Arms, then the references that were scored.
        differences: Columns measure, arm, reference, difference (arm − reference), low, high, p, p_holm, margin, p_equivalent,
            p_equivalent_holm, n (scenes), prompts, pairs, left_out, arm_runs, reference_runs,
            recipe, few_runs, repeatability, verdict (better, worse, equivalent or inconclusive), mark (as in `means`),
            also_different (in what else the arms differ without having been tuned; else empty), dropped (the prompts that
            `left_out` counts: not all runs have a score of them), scenes_needed, runs_needed (for 80 % power to see a
            difference of the margin, where it is inconclusive).
        drift: Columns arm, measure, chunk (1, 2, …; 0 is last minus first), mean, low, high, n, reason, verdict (of chunk 0).
            Empty for videos of one chunk.
        claims: Columns text (as it was written), verdict (confirmed, refuted or not shown), measure, arm, reference, difference
            (arm − reference), low, high, p (one-sided, for `=` two one-sided tests, after Holm's correction over all claims; NaN
            if it cannot be tested), p_opposite (of the opposite), about_recipe (about new trainings, not these trained adapters
            only), note (why it is not shown, or when the verdict holds). Empty if none were frozen. `claims_heading` says when
            they were.
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
    means: pd.DataFrame = field(default_factory=pd.DataFrame)
    differences: pd.DataFrame = field(default_factory=pd.DataFrame)
    drift: pd.DataFrame = field(default_factory=pd.DataFrame)
    measures: list[str] = field(default_factory=list)
    margins: dict[str, float] = field(default_factory=dict)
    claims: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=CLAIM_COLUMNS))
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
        return "".join(self.arms.index[self.arms["is_base"]][:1])

    @property
    def references(self) -> list[str]:
        """`real` and `frozen`, as far as they were scored."""
        scored, kinds = pd.Index(self.scores["arm"].unique()), pd.Index(REFERENCES)
        return list(kinds[kinds.isin(scored)])

    @property
    def shown_runs(self) -> pd.DataFrame:
        """The rows of `runs` that belong to the arms: without the tuning runs of a sweep."""
        return self.runs[self.runs["phase"] == self.phase]

    def heading(self, measure: str) -> str:
        """The measure's name with an arrow in the better direction, and † if it cannot be read as quality."""
        mark = f" {MARK}" * (measure in self.unreadable)
        return f"{measure}{ARROWS[measure_info(measure).better]}{mark}"

    @property
    def main_measures(self) -> list[str]:
        """The measures of the first table and figures: what a reader asks for first, those of the claims and the tuning."""
        main = main_measures(self.measures)
        order = [*FIRST, *main, *self.claims["measure"]]
        for tuning in self.tunings:
            order.append(tuning.by)
        return [m for m in dict.fromkeys(order) if m in self.measures]


def load_study(path: Path, title: str = "", margins: Sequence[str] = ()) -> Study:
    """Read all runs at or below a folder, each file once.

    Args:
        title: Empty: the folder's name.
        margins: Margins of equivalence as MEASURE=NUMBER, instead of those of the runs' configurations.

    Raises:
        UserError: There are no runs; a margin cannot be read; margins are given but the runs are not comparable.
    """
    below, damages = read_runs(path)
    records = {}
    for run in below:
        records[run.folder.path.relative_to(path.absolute()).as_posix()] = run
    runs, scores = run_frame(records), all_scores(records)
    phase = min(runs["phase"], key=("test", "tune").index)
    shown_runs = runs[runs["phase"] == phase]
    arms = arm_frame(shown_runs)
    tested = scores[(scores["phase"] == phase) & ~scores["arm"].isin(REFERENCES)]
    shown = scores[(scores["phase"] == phase) | scores["arm"].isin(REFERENCES)]
    done = shown_runs[shown_runs["state"] == "done"]
    finished = [records[name] for name in done.index]
    first_runs = {arm: records[names[0]] for arm, names in done.groupby("arm").groups.items()}
    study = Study(path, title or path.absolute().name, records, runs, scores, phase, arms, damages=damages)
    study.measures = comparisons.measures_in_order(tested)
    study.margins = comparisons.parse_margins(margins, list(records.values()), study.measures)
    pairs: list[tuple[str, str]] = []
    try:
        comparisons.check_comparable(finished)
        pairs = comparisons.pairs_of(arms, first_runs)
    except UserError as error:
        if margins:
            raise
        study.not_compared = str(error)
    bases = list(arms.index[arms["is_base"]])
    study.differences = comparisons.difference_frame(tested, pairs, study.margins, bases, first_runs)
    study.unreadable = unreadable_measures(shown, study.measures)
    study.means = mean_frame(shown, arms, study.differences)
    study.drift = drift_frame(shown)
    for parent in dict.fromkeys(run.folder.path.parent for run in finished if run.entry):
        if record := read_sweep(parent).get("tuning"):
            study.tunings.append(Tuning(record["by"], list(record["grid"]), record))
    if frozen := read_claims(path):
        study.claims_heading = frozen.heading
        study.claims = tested_claims(frozen, tested, arms, first_runs, study.not_compared)
        study.claims_warnings = list(claim_warnings(frozen, arms, shown_runs, study.margins))
    study.notes = list(_notes(study, margins))
    return study


# --- frames ---
def run_frame(records: Mapping[str, Run]) -> pd.DataFrame:
    """The frame `Study.runs`, in the order of display: the base first, then by kind, rank and name."""
    rows = []
    for name, run in records.items():
        row = {"run": name, "arm": run.arm, "phase": run.phase, "seed": run.seed}
        row |= {"state": run.status.get("state"), "error": str(run.status.get("error") or ""), "is_base": run.is_base}
        for key in ("kind", "rank", "alpha", "scaling"):
            row[key] = run.adapter.get(key)
        row["learning_rate"] = run.group("training").get("learning_rate")
        row |= {"truncated_from": run.entry.get("truncated_from") or "", "tuned": run.entry.get("tuned") or {}}
        for key in ("train_loss", "validation_loss", "steps", "adapter_mib"):
            row[key] = run.training.get(key)
        stage = run.manifest.get("stages", {}).get("train", {})
        rows.append(row | {"seconds": stage.get("seconds"), "memory_gib": stage.get("peak_memory_gib")})
    frame = pd.DataFrame(rows).set_index("run")
    numbers = ["learning_rate", "train_loss", "validation_loss", "steps", "adapter_mib", "seconds", "memory_gib"]
    frame[numbers] = frame[numbers].astype(float)
    order = frame.assign(adapted=~frame["is_base"], cut=frame["truncated_from"] != "", folder=frame.index)
    order = order.sort_values(["adapted", "kind", "cut", "rank", "arm", "seed", "folder"], kind="stable")
    return frame.loc[order.index]


def arm_frame(runs: pd.DataFrame) -> pd.DataFrame:
    """The frame `Study.arms`: of each arm the settings of its first run, and the means of what its finished runs took."""
    by_arm, done = runs.groupby("arm", sort=False), runs[runs["state"] == "done"].groupby("arm")
    arms = by_arm[["is_base", "kind", "rank", "alpha", "scaling", "learning_rate", "truncated_from", "tuned"]].first()
    arms["runs"] = by_arm["seed"].nunique()
    arms["done"] = done["seed"].nunique().reindex(arms.index, fill_value=0)
    means = ["train_loss", "validation_loss", "adapter_mib"]
    arms[means] = done[means].mean()
    arms["hours"] = done["seconds"].mean() / 3600
    arms["memory_gib"] = done["memory_gib"].max()
    return arms


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
    "detail",
]


def all_scores(records: Mapping[str, Run]) -> pd.DataFrame:
    """The frame `Study.scores`."""
    scenes: dict[str, str] = {}
    for run in records.values():
        scenes |= run.scenes
    frames = [score_frame([]).reindex(columns=SCORE_COLUMNS)]
    for name, run in records.items():
        if not run.finished:
            continue
        parts = {"videos": (run.scores, run.arm, run.seed)}
        for kind, rows in run.reference_scores.items():
            parts[f"references/{kind}"] = (rows, kind, 0)
        for folder, (rows, arm, seed) in parts.items():
            frame = score_frame(rows, scenes).assign(run=name, arm=arm, phase=run.phase, seed=seed)
            frame["video"] = folder + "/" + frame["video"].astype(object)
            frames.append(frame)
    scores = pd.concat([frame for frame in frames if len(frame)] or frames, ignore_index=True)[SCORE_COLUMNS]
    scores["text"] = scores["text"].fillna(scores["prompt"])
    again = scores["arm"].isin(REFERENCES) & scores.duplicated(["arm", "prompt", "measure"])
    return scores[~again].reset_index(drop=True)


MEAN_COLUMNS = ["arm", "measure", "mean", "low", "high", "n", "videos", "missing", "reason", "doubtful", "caution"]


def _mean_row(arm: str, measure: str, summary: MeasureSummary) -> JsonObject:
    row = dict(summary) | {"arm": arm, "measure": measure, "low": summary["ci_low"], "high": summary["ci_high"]}
    return {"reason": "", "doubtful": 0, "caution": ""} | row


def mean_frame(scores: pd.DataFrame, arms: pd.DataFrame, differences: pd.DataFrame) -> pd.DataFrame:
    """The frame `Study.means`."""
    rows, by_arm = [], scores.groupby("arm")
    measures = comparisons.measures_in_order(scores)
    for arm in (*arms.index, *REFERENCES):
        if arm in by_arm.groups:
            summaries = summarize_frame(by_arm.get_group(arm), LIMITS)
            rows += [_mean_row(arm, measure, summaries[measure]) for measure in measures if measure in summaries]
    keys = ["arm", "measure"]
    means = pd.DataFrame(rows, columns=MEAN_COLUMNS).astype({"mean": float, "low": float, "high": float})
    why = scores[scores["value"].isna()].groupby(keys)["reason"].first()
    means["reason"] = means[keys].merge(why, "left", on=keys)["reason"].fillna("")
    means["runs"] = means["arm"].map(arms["done"]).fillna(0).astype(int)
    against_base = differences[differences["reference"].isin(arms.index[arms["is_base"]][:1])]
    means["mark"] = means[keys].merge(against_base[[*keys, "mark"]], "left", on=keys)["mark"].fillna("")
    return means


def drift_frame(scores: pd.DataFrame) -> pd.DataFrame:
    """The frame `Study.drift`."""
    rows = []
    for arm, of_arm in scores.groupby("arm", sort=False):
        chunks = chunk_frame(of_arm)
        for chunk, part in chunks.groupby("chunk"):
            for measure, summary in summarize_frame(part, LIMITS).items():
                rows.append(_mean_row(str(arm), measure, summary) | {"chunk": chunk, "verdict": ""})
        for measure, summary in summarize_frame(change_frame(chunks)).items():
            verdict = drift_verdict(summary, measure)
            rows.append(_mean_row(str(arm), measure, summary) | {"chunk": 0, "verdict": verdict})
    return pd.DataFrame(rows, columns=["arm", "measure", "chunk", "mean", "low", "high", "n", "reason", "verdict"])


def drift_verdict(change: MeasureSummary, measure: str) -> str:
    """better or worse (changed, where neither is better), inconclusive, or undefined."""
    mean, low, high = change["mean"], change["ci_low"], change["ci_high"]
    if mean is None:
        return "undefined"
    if low is None or high is None or low <= 0 <= high:
        return "inconclusive"
    sign = np.sign(mean * measure_info(measure).better)
    return {1: "better", -1: "worse"}.get(sign, "changed")


def unreadable_measures(scores: pd.DataFrame, measures: Sequence[str]) -> dict[str, str]:
    """For each measure that cannot be read as quality on these prompts: why.

    A measure is unreadable where the frozen videos score as well as the recordings or better. Where the recording is part of
    the measure (PSNR), real has no value, and the frozen videos are compared with the arms instead.
    """
    unreadable: dict[str, str] = {}
    by_prompt = scores.groupby(["measure", "prompt", "arm"])["value"].mean().unstack("arm")
    if "frozen" not in by_prompt:
        return unreadable
    for measure in measures:
        better, table = measure_info(measure).better, by_prompt.loc[measure].dropna(subset="frozen")
        rivals, frozen = table.drop(columns=list(REFERENCES), errors="ignore"), table["frozen"]
        if "real" in table and table["real"].notna().any():
            rivals = table[["real"]].dropna()
            frozen = frozen[rivals.index]
        ahead = better * rivals.sub(frozen, axis="index").mean()
        if better and ahead.max() <= 0:
            best = rivals[ahead.idxmax()].mean()
            unreadable[measure] = (
                f"{MARK} {measure}: the frozen videos score {frozen.mean():.3g} and {ahead.idxmax()} {best:.3g} ({len(rivals)} prompt{'s' * (len(rivals) != 1)}). "
                "A still picture is not beaten here: read it only beside a measure on which it loses."
            )
    return unreadable


# --- notes ---
def _notes(study: Study, margins: Sequence[str]) -> Iterator[str]:
    """What a reader must know beside the numbers: what is missing or undefined and why, and what limits the tests."""
    yield from study.damages
    shown = study.shown_runs
    of_runs: dict[str, None] = {}
    for name in shown.index[shown["state"] == "done"]:
        manifest = study.records[name].manifest
        if manifest.get("labels", {}).get("random_weights"):
            of_runs["The base model's weights are random: these numbers only show that the pipeline runs"] = None
        of_runs |= dict.fromkeys(manifest.get("data", {}).get("short_recordings") or [])
    yield from map("{}.".format, of_runs)
    models = {str(run.group("model").get("name")) for run in study.records.values()}
    if len(models) > 1:
        yield f"The runs are of different models ({', '.join(sorted(models))}): compare no row with another model's."
    for name, run in shown[shown["error"] != ""].iterrows():
        yield f"{name}: {run['state']}: {run['error'].splitlines()[0]}"
    trained = study.arms[~study.arms["is_base"] & (study.arms["done"] > 0)]
    few = trained.loc[trained["done"] < MIN_RUNS, "done"]
    if len(few) and len(study.differences):
        yield (
            f"Fewer than {MIN_RUNS} training runs ({', '.join(few.index + ': ' + few.astype(str))}): marks in brackets are about these "
            "trained adapters, not about rank, LoRA or DoRA. Add training seeds: seed=0,1,2."
        )
    untuned = trained[~trained["tuned"].map(lambda tuned: "training.learning_rate" in tuned)]
    if len(untuned) > 1 and len(study.differences) and untuned["learning_rate"].notna().any():
        rates = ", ".join(untuned["learning_rate"].dropna().drop_duplicates().sort_values().map("{:g}".format))
        yield (
            f"Untuned: {', '.join(untuned.index)} were trained at the learning rate {rates}. Rank, alpha and DoRA shift the best rate. "
            "Tune it for each arm: sweep.tune.grid={training.learning_rate: [...]}."
        )
    for tuning in study.tunings:
        yield from tuning.notes
    for margin in margins:
        yield f"The margin {margin} was given on the command line, after the scores."
    yield from study.unreadable.values()
    if study.not_compared:
        yield f"No differences are reported: {study.not_compared}"
    for count, reason, words in (
        ("missing", "reason", "missing for"),
        ("doubtful", "caution", "to be read with caution for"),
    ):
        rows = study.means[study.means[count] > 0]
        for (arm, number, of, why), group in rows.groupby(["arm", count, "videos", reason], sort=False):
            yield f"{arm}: {', '.join(group['measure'])} {words} {number} of {of} videos ({why or 'no reason given'})."
