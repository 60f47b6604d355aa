"""A study: all runs below a folder as one frame of scores, with means, differences and claims. Every output is a view of it.

study = load_study(Path("outputs/sweeps/rank"))
study.scores.query("measure == 'tse'").groupby("arm").value.mean()
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from cosmos_exp.config.measures import ARROWS, measure_info
from cosmos_exp.report.claims import claims_report
from cosmos_exp.report.margins import parse_margins
from cosmos_exp.report.results import cost, mark_of
from cosmos_exp.report.tuning import Tuning, tunings
from cosmos_exp.report.variants import Run, readable_runs, scenes_of
from cosmos_exp.report.writing import results_of
from cosmos_exp.run_folder import REFERENCES

MARK = "†"  # at the name of a measure that cannot be read as quality


@dataclass(frozen=True)
class ClaimRow:
    """A claim that was frozen before the runs, with its verdict.

    Attributes:
        text: As it was written, e.g. `instruction: lora-r32 > base`.
        verdict: confirmed, refuted, or not shown.
        measure, arm, reference: What it compares.
        difference, low, high: arm - reference with its 95 % interval; None if it cannot be tested.
        p: After Holm's correction over all claims; None if it cannot be tested.
        note: Why it is not shown, or under which condition the verdict holds; empty if there is nothing to say.
    """

    text: str
    verdict: str
    measure: str
    arm: str
    reference: str
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    note: str = ""


@dataclass(frozen=True)
class Study:
    """All runs at or below a folder.

    Attributes:
        path: The folder that was read.
        title: Its name.
        records: Each run by its path below `path`: folder, config, manifest, status, metrics as they are on disk.
        runs: One row per run; the index is the key of `records`. Columns: arm, phase (tune or test), state, error, seed, kind,
            rank, alpha, scaling, learning_rate, train_loss, validation_loss, steps, seconds, memory_gib, adapter_mib,
            copy_of (the run whose training it repeats; it does not count then, else empty).
        scores: One row per video and measure. Columns: run (key of `records`), arm, phase, seed (of the training), scene, prompt
            (its name), text (its words), noise (the generation seed), measure, value (NaN where the score is missing), video
            (its path in the run folder), reason (of a missing or doubtful score, else empty), detail (the dictionary of
            scores.jsonl: curve, chunks, answer, …). The recordings and the held first frames are the arms `real` and `frozen`.
        arms: One row per arm in the order of display, the base first; the index is the name. Columns: is_base, kind, rank,
            alpha, scaling, learning_rate, truncated_from (empty if it was trained), tuned (dictionary of the keys tuned for
            it), runs, done (finished runs that count), train_loss, validation_loss, hours, memory_gib, adapter_mib.
        means: Columns arm, measure, mean, low, high (95 %; NaN where unknown), n (scenes), scenes (= n), videos, missing,
            reason, runs, mark (against the base: + better, − worse, = equivalent; in brackets if it is about these adapters
            only, ° if it holds if no training run fails), best. Arms, then the references that were scored.
        differences: Columns measure, arm, reference, difference (arm − reference), low, high, p, p_holm, margin, p_equivalent,
            p_equivalent_holm, effect, n (scenes), prompts, pairs, left_out, arm_runs, reference_runs, recipe, few_runs,
            repeatability, verdict (better, worse, equivalent or inconclusive), mark (as in `means`).
        drift: Columns arm, measure, chunk (1, 2, …; 0 is last minus first), mean, low, high, n, reason, verdict (of chunk 0).
            Empty for videos of one chunk.
        claims: Empty if none were frozen.
        claims_heading: When they were frozen.
        claims_warnings: What limits them: a hand edit, changes after the first score, runs that are missing.
        tunings: How each arm's own values were chosen, per sweep (sweep.json).
        measures: In the order of tables.
        unreadable: Measures in which a still picture scores as well as the recordings (†), with the reason.
        not_compared: Why there are no differences; empty if there may be some.
        notes: Short sentences: what is missing or undefined and why, which prompts were dropped, what limits the tests.
    """

    path: Path
    title: str
    records: dict[str, Run]
    runs: pd.DataFrame
    scores: pd.DataFrame
    arms: pd.DataFrame
    means: pd.DataFrame
    differences: pd.DataFrame
    drift: pd.DataFrame
    claims: list[ClaimRow] = field(default_factory=list)
    tunings: list[Tuning] = field(default_factory=list)
    measures: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    not_compared: str = ""
    notes: list[str] = field(default_factory=list)
    claims_heading: str = ""
    claims_warnings: list[str] = field(default_factory=list)

    @property
    def base(self) -> str:
        """The name of the base; empty if there is none."""
        names = self.arms.index[self.arms["is_base"]]
        return str(names[0]) if len(names) else ""

    @property
    def references(self) -> list[str]:
        """`real` and `frozen`, as far as they were scored."""
        return [name for name in REFERENCES if name in set(self.scores["arm"])]

    def mean(self, arm: str, measure: str) -> pd.Series:
        """The row of `means` of an arm and a measure; all NaN if there are no scores."""
        table = self.means.set_index(["arm", "measure"])
        if (arm, measure) in table.index:
            return table.loc[(arm, measure)]
        return pd.Series(index=table.columns, dtype=object)

    def heading(self, measure: str) -> str:
        """The measure's name with an arrow in the better direction, and † if it cannot be read as quality."""
        mark = f" {MARK}" if measure in self.unreadable else ""
        return f"{measure}{ARROWS[measure_info(measure).better]}{mark}"


def load_study(
    path: Path, title: str | None = None, margins: Sequence[str] = (), margins_at: str | None = None
) -> Study:
    """Read all runs at or below a folder, each file once.

    Args:
        title: None: the folder's name.
        margins: Margins of equivalence as MEASURE=NUMBER, instead of those of the runs' configurations.
        margins_at: When they were given, UTC; None: now.

    Raises:
        UserError: There are no runs; a margin cannot be read; margins are given but the runs are not comparable.
    """
    records, damaged = readable_runs(path)
    title = title or path.absolute().name
    results, why = results_of(records, title, list(margins), margins_at, [d.note for d in damaged])
    keys = {id(r): r.folder.path.relative_to(path.absolute()).as_posix() for r in records}
    claims = claims_report(path, results.variants, parse_margins(list(margins), results.variants))
    own, arms, scores, scenes = [], [], [], scenes_of(results.variants)
    for v in results.variants:
        first = v.runs[0]
        training, money = first.config.get("training") or {}, cost(v)
        recipe = {k: v.adapter.get(k) for k in ("kind", "rank", "alpha", "scaling")}
        recipe["learning_rate"] = training.get("learning_rate")
        losses = {k: pd.Series(v.training(k), dtype=float).mean() for k in ("train_loss", "validation_loss")}
        arms.append(
            {"arm": v.name, "is_base": v.is_base, **recipe, "truncated_from": v.truncated_from or "", "tuned": v.tuned}
        )
        arms[-1] |= {"runs": len(v.runs), "done": len(v.done), **losses, **vars(money)}
        for run in v.runs:
            trained = run.metrics.get("training", {})
            stage = run.manifest.get("stages", {}).get("train", {})
            row = {"run": keys[id(run)], "arm": v.name, "phase": "tune" if run.is_tuning else "test", "seed": run.seed}
            row |= {"state": run.status.get("state"), "error": run.status.get("error") or "", **recipe}
            row |= {k: trained.get(k) for k in ("train_loss", "validation_loss", "steps", "adapter_mib")}
            row |= {"seconds": stage.get("seconds"), "memory_gib": stage.get("peak_memory_gib")}
            row["copy_of"] = keys.get(id(run.copy_of[0]), "") if run.copy_of else ""
            own.append(row)
            if not run.finished or run.copy_of:
                continue
            scores += _rows(run.scores, row, v.name, "videos", scenes)
            for kind in REFERENCES:
                scores += _rows(run.references(kind), row, kind, f"references/{kind}", scenes)
    frame = pd.DataFrame(scores, columns=SCORE_COLUMNS)
    frame["value"] = frame["value"].astype(float)
    is_reference = frame["arm"].isin(REFERENCES)  # they do not depend on the adapter: the first score counts
    frame = frame[~(is_reference & frame.duplicated(["arm", "prompt", "measure"]))].reset_index(drop=True)
    return Study(
        path, title, {keys[id(r)]: r for r in records},
        pd.DataFrame(own).set_index("run"), frame, pd.DataFrame(arms).set_index("arm"),
        _means(results), _differences(results), _drift(results), _claims(claims),
        tunings(results.variants), results.measures, results.warnings, why or "", results.notes,
        claims.heading if claims else "", claims.warnings if claims else [],
    )  # fmt: skip


SCORE_COLUMNS = [
    "run", "arm", "phase", "seed", "scene", "prompt", "text", "noise", "measure", "value", "video", "reason", "detail",
]  # fmt: skip


def _rows(rows, run, arm, folder, scenes):
    found = []
    for r in rows:
        detail = r.get("detail") or {}
        found.append(
            {
                "run": run["run"],
                "arm": arm,
                "phase": run["phase"],
                "seed": run["seed"],
                "prompt": r["sample"],
                "scene": scenes.get(r["sample"], r["sample"]),
                "text": r["prompt"] or r["sample"],
                "noise": r["seed"],
                "measure": r["measure"],
                "value": r["value"],
                "video": f"{folder}/{r['video']}",
                "reason": str(detail.get("reason") or ""),
                "detail": detail,
            }  # fmt: skip
        )
    return found


def _summary(s: Mapping[str, object]) -> dict[str, object]:
    found = {"mean": s["mean"], "low": s["ci_low"], "high": s["ci_high"], "n": s["n"], "scenes": s["n"]}
    return found | {"videos": s["videos"], "missing": s["missing"], "reason": s.get("reason", "")}


def _means(results):
    rows = []
    for v in results.variants:
        for m in results.measures:
            row = {"arm": v.name, "measure": m, **_summary(results.table[v.name][m]), "runs": len(v.done)}
            rows.append(row | {"mark": results.marks.get((v.name, m), ""), "best": v.name in results.best(m)})
    for r in results.references:
        for m, s in r.table.items():
            rows.append({"arm": r.name, "measure": m, **_summary(s), "runs": 0, "mark": "", "best": False})
    frame = pd.DataFrame(rows)
    if rows:
        frame[["mean", "low", "high"]] = frame[["mean", "low", "high"]].astype(float)
    return frame


def _differences(results):
    rows = []
    for d in results.differences:
        row = {k: getattr(d, k) for k in DIFFERENCE_COLUMNS if hasattr(d, k)}
        row |= {"arm": d.b, "reference": d.a, "difference": d.mean, "low": d.ci_low, "high": d.ci_high}
        row |= {"arm_runs": d.runs[1], "reference_runs": d.runs[0], "mark": mark_of(d)}
        row["verdict"] = "equivalent" if d.is_equivalent else "inconclusive"
        if d.is_different:
            row["verdict"] = "better" if (d.mean or 0) * measure_info(d.measure).better > 0 else "worse"
        rows.append(row)
    return pd.DataFrame(rows, columns=DIFFERENCE_COLUMNS)


DIFFERENCE_COLUMNS = [
    "measure", "arm", "reference", "difference", "low", "high", "p", "p_holm", "margin", "p_equivalent", "p_equivalent_holm",
    "effect", "n", "prompts", "pairs", "left_out", "arm_runs", "reference_runs", "recipe", "few_runs", "repeatability",
    "verdict", "mark",
]  # fmt: skip


def _drift(results):
    rows = []
    for d in results.drifts:
        for k, s in enumerate([d.change, *d.chunks]):
            row = {"arm": d.name, "measure": d.measure, "chunk": k, **_summary(s)}
            rows.append(row | {"verdict": "" if k else d.verdict})
    return pd.DataFrame(rows, columns=["arm", "measure", "chunk", "mean", "low", "high", "n", "reason", "verdict"])


def _claims(claims):
    found = []
    for r in claims.results if claims else []:
        d, tested = r.difference, r.reason is None
        verdict = r.verdict if r.verdict in ("confirmed", "refuted") else "not shown"
        note = r.reason or (r.obstacle if verdict == "not shown" else "") or ""
        c = r.claim
        mean, low, high = (d.mean, d.ci_low, d.ci_high) if d else (None, None, None)
        found.append(
            ClaimRow(c.text, verdict, c.measure, c.a, c.b, mean, low, high, r.p_holm if tested else None, note)
        )
    return found
