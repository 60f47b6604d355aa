"""The tables of a report in Markdown and LaTeX: variants as rows and measures as columns; all comparisons."""

from __future__ import annotations

from cosmos_exp.config.measures import measure_info
from cosmos_exp.report.formatting import interval, number, summary_text
from cosmos_exp.report.results import ARROWS, Results, average
from cosmos_exp.statistics.comparisons import Difference

INTERVAL_NOTE = "Mean [95 % bootstrap interval over prompts, seeds nested in prompts]."
MARKS_NOTE = (
    "Marks compare with the base: paired by prompt and seed, Holm's correction over the comparisons of a measure, 5 %. "
    "+ better, − worse, = equivalent within the margin; no mark: inconclusive."
)
_LATEX_NOTE = (
    r"Mean and 95\,\% bootstrap interval over prompts. Marks: paired permutation test against the base, Holm, 5\,\%."
)
_LATEX_ARROWS = {1: r" $\uparrow$", -1: r" $\downarrow$", 0: ""}
_LATEX_MARKS = {"+": r"$^{+}$", "−": r"$^{-}$", "=": r"$^{=}$"}


def _markdown_table(head: list[str], rows: list[list[str]], left: int = 1) -> str:
    """A Markdown table; the first `left` columns are aligned left, the others right."""
    rule = "|" + " --- |" * left + " ---: |" * (len(head) - left)
    return "\n".join(["| " + " | ".join(head) + " |", rule, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def markdown(results: Results) -> str:
    """The main table: the best mean in bold, marks against the base."""
    heads = [f"{m}{ARROWS[measure_info(m).better]}" for m in results.measures]
    rows = []
    for v in results.variants:
        row = [v.name, f"{len(v.done)}/{len(v.runs)}" if len(v.done) < len(v.runs) else str(len(v.runs))]
        row += [number(average(v.training(k))) for k in ("train_loss", "validation_loss")]
        for m in results.measures:
            text = summary_text(results.table[v.name][m])
            text = f"**{text}**" if v.name in results.best(m) else text
            row.append(" ".join(filter(None, [text, results.marks.get((v.name, m))])))
        rows.append(row)
    notes = [f"{INTERVAL_NOTE} Bold: best mean."]
    if results.base and results.differences:
        notes.append(MARKS_NOTE)
    table = _markdown_table(["adapter", "runs", "train loss", "validation loss", *heads], rows)
    return "\n".join([table, *notes]) + "\n"


def latex(results: Results) -> str:
    """The main table for LaTeX (booktabs)."""
    names = results.measures
    lines = [r"\begin{tabular}{l" + "r" * (1 + len(names)) + "}", r"\toprule"]
    heads = ["adapter", "train loss", *(_escape(m) + _LATEX_ARROWS[measure_info(m).better] for m in names)]
    lines += [" & ".join(heads) + r" \\", r"\midrule"]
    for v in results.variants:
        row = [_escape(v.name), number(average(v.training("train_loss")))]
        row += [_latex_cell(results, v.name, m) for m in names]
        lines.append(" & ".join(row) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", f"% {_LATEX_NOTE}"]) + "\n"


def _latex_cell(results: Results, variant: str, measure: str) -> str:
    summary = results.table[variant][measure]
    text = "--" if summary["mean"] is None else number(summary["mean"])
    text = rf"\textbf{{{text}}}" if variant in results.best(measure) else text
    if summary["mean"] is not None and summary["ci_low"] is not None:
        text += rf" {{\scriptsize [{number(summary['ci_low'])}, {number(summary['ci_high'])}]}}"
    return text + _LATEX_MARKS.get(results.marks.get((variant, measure), ""), "")


def _escape(text: str) -> str:
    for a, b in (("\\", r"\textbackslash{}"), ("_", r"\_"), ("%", r"\%"), ("&", r"\&"), ("#", r"\#")):
        text = text.replace(a, b)
    return text


def differences_markdown(differences: list[Difference]) -> str:
    """All comparisons with their numbers."""
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
    rows = [
        [
            d.measure,
            f"{d.b} − {d.a}",
            interval(d.mean, d.ci_low, d.ci_high),
            number(d.effect),
            number(d.p_holm),
            number(d.margin),
            number(d.p_equivalent_holm),
            str(d.n),
            str(d.left_out),
        ]
        for d in differences
    ]
    return _markdown_table(head, rows, left=2)
