"""A study's tables: variants as rows, measures as columns, in Markdown and LaTeX; differences; cost; words."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cosmos_exp.config.measures import BETTER
from cosmos_exp.report.study import Variant, measures_of
from cosmos_exp.statistics.comparisons import Difference
from cosmos_exp.statistics.intervals import mean_interval, prompt_groups
from cosmos_exp.statistics.power import prompts_needed

LEVEL = 0.05
UNITS = {
    "tse": "px",
    "tse_moving": "px",
    "cse": "px",
    "cse_moving": "px",
    "static_share": "share",
    "physics": "1 to 5",
    "instruction": "1 to 5",
}


def cell(variant: Variant, measure: str) -> tuple[float | None, float | None, float | None, int, int]:
    """Mean, interval, prompts, and videos without a value."""
    rows = variant.rows()
    groups = list(prompt_groups(rows, measure).values())
    missing = sum(r["measure"] == measure and r["value"] is None for r in rows)
    return *mean_interval(groups), len(groups), missing


def cells(variants: list[Variant]) -> dict[str, dict[str, Any]]:
    """{variant: {measure: mean, ci_low, ci_high, n, missing}}."""
    out: dict[str, dict[str, Any]] = {}
    for variant in variants:
        out[variant.name] = {}
        for measure in measures_of(variants):
            mean, low, high, n, missing = cell(variant, measure)
            out[variant.name][measure] = {"mean": mean, "ci_low": low, "ci_high": high, "n": n, "missing": missing}
    return out


def best(table: dict[str, dict[str, Any]], measure: str) -> set[str]:
    """The variants with the best mean."""
    way = BETTER.get(measure, 1)
    values = {v: row[measure]["mean"] for v, row in table.items() if row[measure]["mean"] is not None}
    if not values or not way or len(values) < 2:
        return set()
    top = max(values.values(), key=lambda x: way * x)
    return {v for v, x in values.items() if math.isclose(x, top, rel_tol=1e-12)}


def marks(differences: list[Difference], base: str) -> dict[tuple[str, str], str]:
    """{(variant, measure): mark} against the base: + better, - worse (Holm p < 0.05), = equivalent within the margin."""
    out = {}
    for d in differences:
        if d.a != base or d.mean is None:
            continue
        way = BETTER.get(d.measure, 1)
        if d.p_holm is not None and d.p_holm < LEVEL:
            out[(d.b, d.measure)] = "+" if way * d.mean > 0 else "−"
        elif d.p_equivalent_holm is not None and d.p_equivalent_holm < LEVEL:
            out[(d.b, d.measure)] = "="
    return out


def number(value: float | None) -> str:
    """Three significant figures; a dash for None."""
    return "-" if value is None else f"{value:.3g}"


def interval(entry: dict[str, Any]) -> str:
    """`0.42 [0.31, 0.55]`."""
    if entry["mean"] is None:
        return "-"
    if entry["ci_low"] is None:
        return number(entry["mean"])
    return f"{number(entry['mean'])} [{number(entry['ci_low'])}, {number(entry['ci_high'])}]"


def _average(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def cost(variant: Variant) -> dict[str, float | None]:
    """Hours of training, peak memory in GiB and adapter size in MiB, averaged over the variant's runs."""
    stages = [r.manifest.get("stages", {}) for r in variant.done]
    train = [s["train"] for s in stages if "train" in s]
    return {
        "hours": _average([t["seconds"] / 3600 for t in train]),
        "memory_gib": max((t["peak_memory_gib"] for t in train), default=None),
        "adapter_mib": _average(variant.training("adapter_mib")),
    }


def header(variants: list[Variant]) -> list[str]:
    """Column heads with arrows for the better direction."""
    arrows = {1: " ↑", -1: " ↓", 0: ""}
    heads = [f"{m}{arrows[BETTER.get(m, 1)]}" for m in measures_of(variants)]
    return ["adapter", "runs", "train loss", "validation loss", *heads]


def markdown(variants: list[Variant], differences: list[Difference]) -> str:
    """The study table: best mean bold, marks against the base."""
    table, base = cells(variants), next((v.name for v in variants if v.is_base), "")
    marked = marks(differences, base)
    head = header(variants)
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    top = {m: best(table, m) for m in measures_of(variants)}
    for v in variants:
        row = [v.name, f"{len(v.done)}/{len(v.runs)}" if len(v.done) < len(v.runs) else str(len(v.runs))]
        row += [number(_average(v.training(k))) for k in ("train_loss", "validation_loss")]
        for m in measures_of(variants):
            text = interval(table[v.name][m])
            text = f"**{text}**" if v.name in top[m] else text
            row.append(text + (f" {marked[v.name, m]}" if (v.name, m) in marked else ""))
        lines.append("| " + " | ".join(row) + " |")
    said = ["", "Mean [95 % bootstrap interval over prompts, seeds within them]. Bold: best mean."]
    if base and differences:
        said.append(
            "Against the base, paired by prompt and seed, Holm over the claims of a measure, 5 %: + better, − worse, = equivalent "
            "within the margin; no mark: the data do not say."
        )
    return "\n".join([*lines, *said]) + "\n"


def latex(variants: list[Variant], differences: list[Difference]) -> str:
    """The same as a booktabs table."""
    table, base = cells(variants), next((v.name for v in variants if v.is_base), "")
    marked, names = marks(differences, base), measures_of(variants)
    arrows = {1: r" $\uparrow$", -1: r" $\downarrow$", 0: ""}
    signs = {"+": r"$^{+}$", "−": r"$^{-}$", "=": r"$^{=}$"}

    def escape(text: str) -> str:
        for a, b in (("\\", r"\textbackslash{}"), ("_", r"\_"), ("%", r"\%"), ("&", r"\&"), ("#", r"\#")):
            text = text.replace(a, b)
        return text

    lines = [r"\begin{tabular}{l" + "r" * (1 + len(names)) + "}", r"\toprule"]
    heads = ["adapter", "train loss", *(escape(m) + arrows[BETTER.get(m, 1)] for m in names)]
    lines += [" & ".join(heads) + r" \\", r"\midrule"]
    top = {m: best(table, m) for m in names}
    for v in variants:
        row = [escape(v.name), number(_average(v.training("train_loss")))]
        for m in names:
            e = table[v.name][m]
            text = number(e["mean"]).replace("-", "--") if e["mean"] is None else number(e["mean"])
            text = rf"\textbf{{{text}}}" if v.name in top[m] else text
            if e["mean"] is not None and e["ci_low"] is not None:
                text += rf" {{\scriptsize [{number(e['ci_low'])}, {number(e['ci_high'])}]}}"
            row.append(text + signs.get(marked.get((v.name, m), ""), ""))
        lines.append(" & ".join(row) + r" \\")
    note = "Mean and 95\\,\\% bootstrap interval over prompts. Marks: paired permutation test against the base, Holm, 5\\,\\%."
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", f"% {note}"]) + "\n"


def differences_markdown(differences: list[Difference]) -> str:
    """Every claim with its figures."""
    head = [
        "measure",
        "b − a",
        "mean [95 %]",
        "d_z",
        "p (Holm)",
        "margin",
        "p equivalent (Holm)",
        "prompts",
        "left out",
    ]
    lines = ["| " + " | ".join(head) + " |", "| --- | --- |" + " ---: |" * (len(head) - 2)]
    for d in differences:
        entry = {"mean": d.mean, "ci_low": d.ci_low, "ci_high": d.ci_high}
        row = [
            d.measure,
            f"{d.b} − {d.a}",
            interval(entry),
            number(d.effect),
            number(d.p_holm),
            number(d.margin),
            number(d.p_equivalent_holm),
            str(d.n),
            str(d.left_out),
        ]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def words(variants: list[Variant], differences: list[Difference]) -> list[str]:
    """What the data support and what not, a sentence a claim."""
    from cosmos_exp.report.study import _matched
    from cosmos_exp.statistics.comparisons import paired

    by_name = {v.name: v for v in variants}
    said = []
    for d in differences:
        if d.mean is None:
            continue
        way, unit = BETTER.get(d.measure, 1), UNITS.get(d.measure, "")
        what = f"{d.measure} ({unit})" if unit else d.measure
        size = f"{d.mean:+.3g} [{number(d.ci_low)}, {number(d.ci_high)}]"
        if d.p is None:
            said.append(f"{what}: {d.b} against {d.a}: one prompt allows no test ({size}).")
        elif abs(d.mean) < 1e-9 and d.ci_low == d.ci_high:
            said.append(
                f"{what}: {d.b} and {d.a} score the same in every prompt; at the end of a scale that says nothing."
            )
        elif d.p_holm is not None and d.p_holm < LEVEL:
            better = "better" if way * d.mean > 0 else "worse"
            said.append(f"{what}: {d.b} is {better} than {d.a}: {size}, p = {number(d.p_holm)} (Holm).")
        elif d.p_equivalent_holm is not None and d.p_equivalent_holm < LEVEL:
            said.append(
                f"{what}: {d.b} and {d.a} are equivalent within ±{number(d.margin)}: {size}, p = {number(d.p_equivalent_holm)} (Holm)."
            )
        else:
            a, b = by_name[d.a], by_name[d.b]
            groups, _ = paired(_matched(a, b, d.measure), b.values(d.measure))
            effect = d.margin or abs(d.mean)
            seeds = max(1, round(d.pairs / d.n))
            least = f" {d.n} prompts allow no p below {number(2.0 ** (1 - d.n))}." if d.n < 6 else ""
            need = prompts_needed(groups, effect, seeds)
            wish = f"about {need} prompts" if need else "more than 4,096 prompts"
            why = f" To see a true difference of {number(effect)} four times in five, with {seeds} seed{'s' * (seeds > 1)} each: {wish} (here {d.n})."
            said.append(
                f"{what}: {d.b} against {d.a}: the data do not say: {size}, p = {number(d.p_holm)} (Holm).{least}{why}"
            )
    return said
