"""What a report compares: whether the runs are comparable, which pairs of arms, with which margins, and their differences."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import pandas as pd

from cosmos_exp.config.hashing import differences as config_differences
from cosmos_exp.config.measures import MARGINS, MEASURES, measure_info
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject
from cosmos_exp.report.runs import Run, fingerprint
from cosmos_exp.statistics.cells import video_table
from cosmos_exp.statistics.comparisons import Difference, difference, holm

IF_NONE_FAILS = "°"  # after the mark of a statement that rests on few training runs: it holds if none fails
# Settings that cannot change a score. The frame rate of the videos is compared with that of the data.
NEUTRAL_GENERATION = ("merge_adapter", "fps")
NEUTRAL_JUDGE = ("batch", "timeout", "retries", "url")
COMPARED = ("adapter.kind", "adapter.rank")
SCALE = ("adapter.alpha", "adapter.scaling")  # seen as the scale of the update
NEUTRAL = ("adapter.truncate_from", "training.checkpoint_every_steps", "training.keep_checkpoints")


def scoring_conditions(run: Run) -> dict[str, object]:
    """All that must be the same for the scores of two runs to be comparable.

    Sampson errors are in pixels between consecutive frames: half the size halves them, half the frame rate raises them.
    """
    data, generation, judge = (dict(run.config.get(name) or {}) for name in ("data", "generation", "judge"))
    rates = f"data.fps={data.get('fps')}, generation.fps={generation.get('fps')}"
    for key in NEUTRAL_GENERATION:
        generation.pop(key, None)
    for key in NEUTRAL_JUDGE:
        judge.pop(key, None)
    prompts, judges = {}, set()
    for row in run.scores:
        prompts[row["sample"]] = row["prompt"]
        if name := (row.get("detail") or {}).get("judge"):
            judges.add((row["measure"], str(name)))
    judge["answered"] = sorted(judges)
    return {
        "frame sizes": f"{data.get('height')}x{data.get('width')}",
        "frame rates": rates,
        "numbers of frames": str(data.get("num_frames")),
        "test prompts": prompts,
        "generation settings": generation,
        "judges": judge,
        "Sampson settings": run.config.get("sampson") or {},
        "base models": run.manifest.get("model", {}).get("fingerprints") or {},
    }


def check_comparable(runs: Sequence[Run]) -> None:
    """Check that the scores of all runs are comparable: each with the first.

    Raises:
        UserError: Two are not. It names them and what differs.
    """
    scenes: dict[str, str] = {}
    for run in runs:
        own, first = scoring_conditions(run), scoring_conditions(runs[0])
        for name, value in own.items():
            if fingerprint(value) != fingerprint(first[name]):
                raise UserError(
                    f"{runs[0].folder.path.name} and {run.folder.path.name} have different {name} "
                    f"({_what_differs(first[name], value)}), so their scores are not comparable. Report each alone, or run "
                    "both the same way."
                )
        for prompt, scene in run.scenes.items():
            if scenes.setdefault(prompt, scene) != scene:
                raise UserError(f"{run.folder.path.name} has another first frame of {prompt} than the runs before it.")


def _what_differs(first: object, second: object) -> str:
    """The two values; of settings those that differ; of prompts how many only one run has."""
    if not isinstance(first, dict) or not isinstance(second, dict):
        return f"{first}; {second}"
    words = []
    for key in sorted({*first, *second}):
        if first.get(key) != second.get(key):
            words.append(f"{key}: {first.get(key, 'missing')} and {second.get(key, 'missing')}")
    rest = f"; {len(words)} in all" if len(words) > 3 else ""
    return "; ".join(words[:3]) + rest


# --- margins of equivalence ---
def margins_of(runs: Sequence[Run]) -> dict[str, float]:
    """The margins in the runs' configurations, the strictest where they differ."""
    found: dict[str, float] = {}
    for run in runs:
        for measure, margin in (run.config.get("margins") or MARGINS).items():
            found[measure] = min(margin, found.get(measure, margin))
    return found


def parse_margins(words: Sequence[str], runs: Sequence[Run], measures: Sequence[str] = ()) -> dict[str, float]:
    """The configured margins, replaced by those of the command line (`instruction=0.25`).

    Args:
        measures: Those of the runs.

    Raises:
        UserError: A word is not MEASURE=NUMBER with a positive number, or no report tests that measure.
    """
    margins = margins_of(runs)
    tested = [m for m in dict.fromkeys((*MEASURES, *margins, *measures)) if measure_info(m).better]
    for word in words:
        name, _, value = word.partition("=")
        if name not in tested:
            near = "".join(f"Did you mean {m}? " for m in difflib.get_close_matches(name, tested, n=1))
            raise UserError(f"--margin {word}: no such measure is tested. {near}The tested ones: {', '.join(tested)}")
        try:
            margins[name] = float(value)
        except ValueError:
            margins[name] = -1.0
        if not margins[name] > 0:
            raise UserError(f"--margin {word}: write MEASURE=NUMBER with a positive number, e.g. instruction=0.25")
    return margins


# --- pairs ---
def pairs_of(arms: pd.DataFrame, first_runs: dict[str, Run]) -> list[tuple[str, str]]:
    """The pairs (reference, arm) that a report compares.

    The base with each adapter; LoRA with DoRA of the same rank; the lowest with the highest rank of each kind; a truncated
    adapter with the one it was cut from and with the one trained at its rank. But for the tuned keys of their arms, the
    adapters of a pair are trained the same.

    Args:
        arms: As in `Study.arms`.
        first_runs: The first run of each arm.
    """
    done = arms[arms["done"] > 0]
    adapted = done[~done["is_base"]]
    trained = adapted[adapted["truncated_from"] == ""]
    found = []
    for base in done.index[done["is_base"]]:
        found += [(base, name) for name in adapted.index]
    same_but_kind = pd.Series({name: _training(first_runs[name], "kind") for name in trained.index}, dtype=object)
    for lora in trained.index[trained["kind"] == "lora"]:
        for dora in trained.index[trained["kind"] == "dora"]:
            if same_but_kind[lora] == same_but_kind[dora]:
                found.append((lora, dora))
    found += _ends_of_rank(trained, first_runs)
    for cut in adapted.index[adapted["truncated_from"] != ""]:
        for name in trained.index:
            if _is_counterpart(first_runs[name], first_runs[cut], arms.loc[cut, "truncated_from"]):
                found.append((name, cut))
    return found


def _ends_of_rank(trained: pd.DataFrame, first_runs: dict[str, Run]) -> list[tuple[str, str]]:
    """The lowest and the highest rank of adapters that are trained the same, with alpha = rank."""
    own = trained[(trained["alpha"] == trained["rank"]) & trained["kind"].isin(["lora", "dora"])]
    rest = [_training(first_runs[name], "rank") for name in own.index]
    found = []
    for _, same in own.sort_values("rank", kind="stable").groupby(["kind", pd.Series(rest, own.index)], sort=False):
        if same["rank"].nunique() > 1:
            found.append((str(same.index[0]), str(same.index[-1])))
    return sorted(found, key=lambda pair: (trained.loc[pair[0], "kind"] != "lora", pair))


def _training(run: Run, *without: str) -> str:
    """Fingerprint of data, training, model and adapter, without alpha, the given adapter keys, and the arm's tuned keys."""
    content = {group: dict(run.config.get(group) or {}) for group in ("data", "training", "model", "adapter")}
    for key in (*without, "alpha", "truncate_from"):
        content["adapter"].pop(key, None)
    tuned = sorted((run.entry or {}).get("tuned") or {})
    for name in tuned:
        group, _, key = name.partition(".")
        content.get(group, {}).pop(key, None)
    return fingerprint([content, tuned])


def _is_counterpart(trained: Run, cut: Run, source: str) -> bool:
    """Whether a truncated arm was cut from a trained one, or has its kind, rank and training."""
    if trained.folder.path.parent == cut.folder.path.parent and trained.arm == source:
        return True
    same = all(trained.adapter.get(key) == cut.adapter.get(key) for key in ("kind", "rank"))
    return same and _training(trained) == _training(cut)


def also_different(a: Run, b: Run) -> list[str]:
    """`training.max_steps: 100 -> 200` for each key that could change the result and was not tuned in both.

    Then a difference is not the effect of the adapter's kind or rank alone. Empty for the base.
    """
    if a.is_base or b.is_base:
        return []
    tuned = set((a.entry or {}).get("tuned") or {}) & set((b.entry or {}).get("tuned") or {})
    found = []
    if _scale(a) != _scale(b) and not tuned & {"alpha", "rank", *SCALE}:
        alphas = f"{a.adapter.get('alpha')} -> {b.adapter.get('alpha')}"
        found.append(f"scale of the update: {_scale(a):g} -> {_scale(b):g} (adapter.alpha: {alphas})")
    for group in ("adapter", "training", "data", "model"):
        for words in config_differences(a.config.get(group) or {}, b.config.get(group) or {}, f"{group}."):
            if words.split(":")[0] not in (*COMPARED, *NEUTRAL, *SCALE, *tuned):
                found.append(words)
    return found


def _scale(run: Run) -> float:
    """The factor of the update B A."""
    rank, alpha = float(run.adapter.get("rank") or 1), float(run.adapter.get("alpha") or 0.0)
    return alpha / (rank**0.5 if run.adapter.get("scaling") == "rslora" else rank)


# --- differences ---
def arm_tables(scores: pd.DataFrame, bases: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The `video_table` of each arm in the scores of one measure. The base has no training: its runs are averaged."""
    tables = {}
    for arm, own in scores.groupby("arm"):
        table = video_table(own)
        if arm in bases and table.shape[1] > 1:
            table = table.mean(axis="columns").to_frame()
        tables[str(arm)] = table
    return tables


def repeatability(scores: pd.DataFrame, measure: str, arms: Sequence[str]) -> float | None:
    """The median over videos of what the measure itself says of its repeatability, in its unit; None if unknown.

    Args:
        scores: Of one measure.
    """
    known = scores.loc[scores["arm"].isin(arms), "detail"].map(lambda detail: _repeatability(detail, measure)).dropna()
    return float(known.median()) if len(known) else None


def _repeatability(detail: JsonObject, measure: str) -> float | None:
    found = (detail.get("repeatability") or {}).get(measure)
    return None if found is None else float(found)


def differences(
    scores: pd.DataFrame, pairs: Sequence[tuple[str, str]], margins: dict[str, float], bases: Sequence[str]
) -> list[Difference]:
    """The differences of all pairs in all measures. The pairs of one measure are a family for Holm's correction."""
    found: list[Difference] = []
    for measure in measures_in_order(scores):
        if measure_info(measure).better == 0:
            continue
        own = scores[scores["measure"] == measure]
        tables, family = arm_tables(own, bases), []
        for a, b in pairs:
            if a in tables and b in tables:
                trained, noise = (a not in bases, b not in bases), repeatability(own, measure, (a, b))
                family.append(difference(a, b, measure, tables[a], tables[b], margins.get(measure), trained, noise))
        found += holm([d for d in family if d.n])
    return found


def measures_in_order(scores: pd.DataFrame) -> list[str]:
    """The measures of a frame of scores, in the order of tables."""
    names = set(scores["measure"])
    return [m for m in MEASURES if m in names] + sorted(names - set(MEASURES))


def verdict_of(d: Difference) -> str:
    """better, worse, equivalent (within the margin), or inconclusive."""
    if d.is_different:
        return "better" if measure_info(d.measure).better * (d.mean or 0.0) > 0 else "worse"
    return "equivalent" if d.is_equivalent else "inconclusive"


def mark_of(d: Difference) -> str:
    """The mark of a difference: + − =; in brackets if it is about these adapters only, ° if it rests on few training runs."""
    mark = {"better": "+", "worse": "−", "equivalent": "="}.get(verdict_of(d), "")
    if mark and not d.recipe:
        return f"({mark})"
    return f"{mark}{IF_NONE_FAILS}" if mark and d.few_runs else mark


def difference_frame(found: Sequence[Difference], first_runs: dict[str, Run]) -> pd.DataFrame:
    """The frame `Study.differences`."""
    return pd.DataFrame(_rows(found, first_runs), columns=DIFFERENCE_COLUMNS)


def _rows(found: Sequence[Difference], first_runs: dict[str, Run]) -> Iterator[JsonObject]:
    for d in found:
        row = asdict(d) | {"arm": d.b, "reference": d.a, "difference": d.mean, "low": d.ci_low, "high": d.ci_high}
        row |= {"reference_runs": d.runs[0], "arm_runs": d.runs[1], "few_runs": d.few_runs}
        row |= {"verdict": verdict_of(d), "mark": mark_of(d)}
        row["scenes_needed"], row["runs_needed"] = d.needs()
        row["dropped"] = ", ".join(d.dropped)
        row["also_different"] = "; ".join(also_different(first_runs[d.a], first_runs[d.b]))
        yield row


DIFFERENCE_COLUMNS = [
    "measure",
    "arm",
    "reference",
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
    "margin",
    "p_equivalent",
]
DIFFERENCE_COLUMNS += ["p_equivalent_holm", "effect", "effect_low", "effect_high", "n", "prompts", "pairs", "left_out"]
DIFFERENCE_COLUMNS += ["arm_runs", "reference_runs", "recipe", "few_runs", "repeatability", "verdict", "mark"]
DIFFERENCE_COLUMNS += ["also_different", "dropped", "scenes_needed", "runs_needed"]
