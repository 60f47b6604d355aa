"""What a report compares: whether the runs are comparable, which pairs of arms, with which margins, and their differences."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields

import pandas as pd

from cosmos_exp.config.hashing import differences as config_differences
from cosmos_exp.config.measures import MARGINS, MEASURES, OF_KEPT, measure_info
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject, json_sha256
from cosmos_exp.report.runs import Run
from cosmos_exp.statistics.cells import paired_cells, video_table
from cosmos_exp.statistics.comparisons import Difference, difference, holm

# Settings that cannot change a score.
NEUTRAL_GENERATION = ("merge_adapter",)
NEUTRAL_JUDGE = ("batch", "timeout", "retries", "url")
NEUTRAL_TRAINING = ("checkpoint_every_steps", "keep_checkpoints")
MOST_SHOWN = 3  # settings of an error that differ


def scoring_conditions(run: Run) -> JsonObject:
    """All that must be the same for the scores of two runs to be comparable.

    Sampson errors are in pixels between consecutive frames: half the size halves them, half the frame rate raises them.
    """
    groups: JsonObject = {name: dict(run.group(name)) for name in ("data", "generation", "judge", "sampson")}
    for key in NEUTRAL_GENERATION:
        groups["generation"].pop(key, None)
    for key in NEUTRAL_JUDGE:
        groups["judge"].pop(key, None)
    groups["data"] = {key: groups["data"].get(key) for key in ("height", "width", "num_frames", "fps")}
    prompts, scenes, judges = {}, {}, {}
    for row in run.scores:
        if row["measure"] in OF_KEPT:
            continue
        prompts[row["sample"]], scenes[row["sample"]] = row["prompt"], run.scenes.get(row["sample"])
        if judge := (row.get("detail") or {}).get("judge"):
            judges[f"{row['measure']} by {judge}"] = True
    base = run.manifest.get("model", {}).get("fingerprints") or {}
    return groups | {"prompts": prompts, "first_frames": scenes, "judged": judges, "base_model": base}


def check_comparable(runs: Sequence[Run]) -> None:
    """Check that the scores of all runs are comparable: each with the first.

    Raises:
        UserError: Two are not. It names them and what differs.
    """
    conditions = list(map(scoring_conditions, runs))
    for run, condition in zip(runs, conditions, strict=True):
        if different := config_differences(conditions[0], condition):
            shown = "; ".join(different[:MOST_SHOWN])
            raise UserError(
                f"{runs[0].folder.path.name} and {run.folder.path.name} have different prompts, settings or judges ({shown}; "
                f"{len(different)} in all), so their scores are not comparable. Report each alone, or run both the same way."
            )


# --- margins of equivalence ---
def margins_of(runs: Sequence[Run]) -> dict[str, float]:
    """The margins in the runs' configurations, the strictest where they differ."""
    margins: dict[str, float] = {}
    for run in runs:
        for measure, margin in (run.config.get("margins") or MARGINS).items():
            margins[measure] = min(margin, margins.get(measure, margin))
    return margins


def parse_margins(words: Sequence[str], runs: Sequence[Run], measures: Sequence[str] = ()) -> dict[str, float]:
    """The configured margins, replaced by those of the command line (`instruction=0.25`).

    Args:
        measures: Those of the runs.

    Raises:
        UserError: A word is not MEASURE=NUMBER with a positive number, or no report tests that measure.
    """
    margins = margins_of(runs)
    tested = [m for m in {**MEASURES, **margins, **dict.fromkeys(measures)} if measure_info(m).better]
    for word in words:
        name, _, value = word.partition("=")
        margins[name] = float(pd.to_numeric(value, errors="coerce"))
        if name not in tested or not margins[name] > 0:
            raise UserError(
                f"--margin {word}: write MEASURE=NUMBER with a positive number, e.g. instruction=0.25. The measures: {', '.join(tested)}"
            )
    return margins


# --- pairs ---
def pairs_of(arms: pd.DataFrame, first_runs: Mapping[str, Run]) -> list[tuple[str, str]]:
    """The pairs (reference, arm) that a report compares.

    The base with each adapter; LoRA with DoRA of the same rank; the lowest with the highest rank of each kind; a truncated
    adapter with the one it was cut from and with the one trained at its rank. But for the tuned keys of their arms, the
    adapters of a pair are trained the same.

    Args:
        arms: As in `Study.arms`.
        first_runs: The first run of each arm.
    """
    done = arms[arms["done"] > 0]
    adapted = done[~done["is_base"]].rename_axis("arm").reset_index()
    adapted["training"] = adapted["arm"].map(lambda arm: _training(first_runs[arm]))
    trained, cut = adapted[adapted["truncated_from"] == ""], adapted[adapted["truncated_from"] != ""]
    pairs = list(itertools.product(done.index[done["is_base"]], adapted["arm"]))
    lora, dora = trained[trained["kind"] == "lora"], trained[trained["kind"] == "dora"]
    same_rank = lora.merge(dora, on=["rank", "training"], suffixes=(None, "_dora"))
    pairs += zip(same_rank["arm"], same_rank["arm_dora"], strict=True)
    for of_kind in (lora, dora):
        by_rank = of_kind[of_kind["alpha"] == of_kind["rank"]].sort_values("rank", kind="stable")
        for _, same in by_rank.groupby("training"):
            if same["rank"].nunique() > 1:
                pairs.append((same["arm"].iloc[0], same["arm"].iloc[-1]))
    for arm in cut.itertuples():
        for other in trained.itertuples():
            folders = first_runs[other.arm].folder.path.parent, first_runs[arm.arm].folder.path.parent
            is_source = other.arm == arm.truncated_from and folders[0] == folders[1]
            if is_source or (other.kind, other.rank, other.training) == (arm.kind, arm.rank, arm.training):
                pairs.append((other.arm, arm.arm))
    return pairs


def _settings(run: Run) -> tuple[JsonObject, set[str]]:
    """Data, training, model and adapter with the factor of its update instead of alpha; and the keys tuned for the arm."""
    content = {group: dict(run.group(group)) for group in ("adapter", "training", "data", "model")}
    adapter = content["adapter"]
    rank, alpha = float(adapter.get("rank") or 1), float(adapter.pop("alpha", None) or 0.0)
    if adapter.get("scaling") == "rslora":
        rank = rank**0.5
    adapter["scale"] = alpha / rank
    for key in ("truncate_from", "method", "options"):  # the last two are the kind's own
        adapter.pop(key, None)
    for key in NEUTRAL_TRAINING:
        content["training"].pop(key, None)
    return content, set(run.entry.get("tuned") or {})


def _training(run: Run) -> str:
    """Fingerprint of what an arm is trained with, but for the kind, rank and scale of its adapter and its tuned keys."""
    content, tuned = _settings(run)
    for key in (*tuned, "adapter.kind", "adapter.rank", "adapter.scale"):
        group, _, name = key.partition(".")
        content.get(group, {}).pop(name, None)
    return json_sha256([content, sorted(tuned)])[:12]


def also_different(a: Run, b: Run) -> str:
    """`training.max_steps: 100 -> 200; …`: each key that could change the result and was not tuned in both.

    Then a difference is not the effect of the adapter's kind or rank alone. Empty for the base.
    """
    if a.is_base or b.is_base:
        return ""
    (first, tuned), (second, also_tuned) = _settings(a), _settings(b)
    both_tuned = tuned & also_tuned
    expected = {"adapter.kind", "adapter.rank", *both_tuned}
    if both_tuned & {"alpha", "rank", "adapter.alpha", "adapter.rank", "adapter.scaling"}:
        expected.add("adapter.scale")
    different = config_differences(first, second)
    return "; ".join(words for words in different if words.split(":")[0] not in expected)


# --- differences ---
def arm_tables(scores: pd.DataFrame, bases: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The `video_table` of each arm in the scores of one measure. The base has no training: its runs are averaged."""
    tables = {}
    for arm, rows in scores.groupby("arm"):
        table = video_table(rows)
        if arm in bases and table.shape[1] > 1:
            table = table.mean(axis="columns").to_frame()
        tables[str(arm)] = table
    return tables


def repeatability(scores: pd.DataFrame, measure: str, arms: Sequence[str]) -> float | None:
    """The median over videos of what the measure itself says of its repeatability, in its unit; None if unknown.

    Args:
        scores: Of one measure.
    """
    details = scores.loc[scores["arm"].isin(arms), "detail"]
    known = details.str.get("repeatability").str.get(measure).dropna().astype(float)
    if known.empty:
        return None
    return float(known.median())


def measures_in_order(scores: pd.DataFrame) -> list[str]:
    """The measures of a frame of scores, in the order of tables."""
    names = set(scores["measure"])
    return [m for m in MEASURES if m in names] + sorted(names - set(MEASURES))


def verdict_of(d: Difference) -> str:
    """better, worse, equivalent (within the margin), or inconclusive."""
    if d.is_different:
        is_better = measure_info(d.measure).better * (d.mean or 0.0) > 0
        return ("worse", "better")[is_better]
    return ("inconclusive", "equivalent")[d.is_equivalent]


def mark_of(d: Difference) -> str:
    """The mark of a difference: + − =; in brackets if it is about these adapters only, ° if it rests on few training runs."""
    mark = {"better": "+", "worse": "−", "equivalent": "="}.get(verdict_of(d), "")
    if mark and not d.recipe:
        return f"({mark})"
    if mark and d.few_runs:
        return f"{mark}°"
    return mark


COMPARED = ["mark", "verdict", "few_runs", "scenes_needed", "runs_needed", "also_different"]
DIFFERENCE_COLUMNS = [*(field.name for field in fields(Difference) if field.name != "design"), *COMPARED]


def difference_frame(
    scores: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    margins: Mapping[str, float],
    bases: Sequence[str],
    first_runs: Mapping[str, Run],
) -> pd.DataFrame:
    """The frame `Study.differences`: all pairs in all measures. The pairs of one measure are a family for Holm's correction."""
    rows = []
    for measure in measures_in_order(scores):
        if measure_info(measure).better == 0:
            continue
        of_measure = scores[scores["measure"] == measure]
        tables, family = arm_tables(of_measure, bases), []
        for a, b in pairs:
            if a in tables and b in tables:
                trained, noise = (a not in bases, b not in bases), repeatability(of_measure, measure, (a, b))
                cells = paired_cells(tables[a], tables[b])
                family.append(difference(a, b, measure, cells, margins.get(measure), trained, noise))
        for d in holm([d for d in family if d.n]):
            different = also_different(first_runs[d.reference], first_runs[d.arm])
            compared = (mark_of(d), verdict_of(d), d.few_runs, *d.needs(), different)
            rows.append(asdict(d) | dict(zip(COMPARED, compared, strict=True)))
    return pd.DataFrame(rows, columns=DIFFERENCE_COLUMNS).rename(columns={"mean": "difference"})
