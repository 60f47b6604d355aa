"""The tables of a report in Markdown and LaTeX: variants as rows and measures as columns; all comparisons."""

from __future__ import annotations

from cosmos_exp.config.measures import measure_info, split_main
from cosmos_exp.report.claims import ClaimsReport, verdict_text
from cosmos_exp.report.drift import INTRODUCTION, drift_notes, drift_table, main_drifts
from cosmos_exp.report.formatting import interval, markdown_table, number, summary_text
from cosmos_exp.report.references import MARK, MEANINGS, footnote_lines, footnote_marks
from cosmos_exp.report.results import IF_NONE_FAILS, NO_SCORES, Results, average
from cosmos_exp.statistics.intervals import SURE_RUNS
from cosmos_exp.statistics.scores import MeasureSummary

INTERVAL_NOTE = "Mean [95 % interval over scenes and, from three training runs on, over runs]. Prompts with one first frame are one scene."
MARKS_NOTE = (
    "Marks compare with the base: paired by prompt and noise, Holm's correction over the comparisons of a measure, 5 %. "
    "+ better, − worse, = equivalent within the margin; no mark: inconclusive. "
    "In brackets: about these trained adapters only, not about another training. "
    f"{IF_NONE_FAILS}: fewer than {SURE_RUNS} training runs, it holds if no training run fails."
)
_LATEX_NOTE = (
    r"Mean and 95\,\% t interval over scenes and, from three on, training runs. "
    r"Marks: paired test against the base, Holm, 5\,\%; in brackets: these trained adapters only; "
    r"$^\circ$: few training runs, holds if none fails."
)
_LATEX_ARROWS = {1: r" $\uparrow$", -1: r" $\downarrow$", 0: ""}


def markdown(results: Results) -> str:
    """The main table: the references first, the best mean in bold, marks against the base. Then the other measures."""
    main, others = split_main(results.measures)
    notes = [f"{INTERVAL_NOTE} Bold: best mean."]
    if results.references:
        notes.append("; ".join(f"{r.name}: {MEANINGS[r.name]}" for r in results.references) + ".")
    if results.warnings:
        notes.append(f"{MARK} cannot be read as quality on these prompts, see the notes.")
    if results.base and results.differences:
        notes.append(MARKS_NOTE)
    parts = [_measure_table(results, main, with_runs=True), *notes]
    if others:
        parts += ["\n## Further measures\n", _measure_table(results, others, with_runs=False)]
    if lines := footnote_lines(results.footnotes):
        parts += ["", *(f"- {line}" for line in lines)]
    return "\n".join(parts) + "\n"


def _measure_table(results: Results, measures: list[str], with_runs: bool) -> str:
    """Variants and references as rows, measures as columns; `with_runs` adds the number of runs and the losses."""
    rows, marks = [], footnote_marks(results.footnotes)
    for r in results.references:
        cells = [summary_text(r.table.get(m)) + marks.get((r.name, m), "") for m in measures]
        rows.append([f"*{r.name}*", *(["-"] * 3 if with_runs else []), *cells])
    for v in results.variants:
        row = [v.name]
        if with_runs:
            row.append(f"{len(v.done)}/{len(v.runs)}" if len(v.done) < len(v.runs) else str(len(v.runs)))
            row += [number(average(v.training(k))) for k in ("train_loss", "validation_loss")]
        for m in measures:
            text = summary_text(results.table[v.name][m])
            text = f"**{text}**" if v.name in results.best(m) else text
            row.append(" ".join(filter(None, [text, results.marks.get((v.name, m))])))
        rows.append(row)
    first = ["adapter", "runs", "train loss", "validation loss"] if with_runs else ["adapter"]
    return markdown_table([*first, *(results.heading(m) for m in measures)], rows)


def drift_markdown(results: Results) -> str:
    """The section of the chunks: what the paired comparisons say of the main measures, all numbers, what is undefined."""
    names = {v.name for v in results.variants}
    said = [d.sentence for d in main_drifts(results.drifts) if d.name in names]
    head, rows = drift_table(results.drifts)
    lines = ["## Drift over the chunks\n", f"{INTRODUCTION}\n", *(f"- {s}" for s in said), ""]
    lines += [markdown_table(head, rows, left=2), *(f"- {n}" for n in drift_notes(results.drifts))]
    return "\n".join(lines) + "\n"


def claims_markdown(claims: ClaimsReport) -> str:
    """The section of the frozen claims: what limits them, the table, and why some are not shown."""
    head, rows = claims.table()
    parts = [f"## {claims.heading}\n", *(f"**{w}**\n" for w in claims.warnings)]
    parts.append(markdown_table(head, [[f"`{row[0]}`", *row[1:]] for row in rows]))
    parts += [claims.introduction, *claims.remarks()]
    return "\n".join(parts) + "\n"


def _latex_claims(claims: ClaimsReport) -> list[str]:
    """The verdicts as comments below the table."""
    lines = [f"% {claims.heading} (sha256 {claims.record.sha256[:12]})."]
    for r in claims.results:
        p = f", p = {number(r.p_holm)} (Holm over {len(claims.results)})" if r.reason is None else ""
        lines.append(f"% {r.claim.text}: {verdict_text(r)}{p}")
    return [*lines, *(f"% {w}" for w in claims.warnings)]


def latex(results: Results, claims: ClaimsReport | None = None) -> str:
    """The main table for LaTeX (booktabs), and the verdicts of the claims as comments."""
    names, _ = split_main(results.measures)
    lines = [r"\begin{tabular}{l" + "r" * (1 + len(names)) + "}", r"\toprule"]
    heads = ["adapter", "train loss", *(_escape(m) + _LATEX_ARROWS[measure_info(m).better] for m in names)]
    lines += [" & ".join(heads) + r" \\", r"\midrule"]
    for r in results.references:
        cells = [_latex_summary(r.table.get(m, NO_SCORES)) for m in names]
        lines.append(" & ".join([rf"\emph{{{r.name}}}", "--", *cells]) + r" \\")
    lines += [r"\midrule"] if results.references else []
    for v in results.variants:
        row = [_escape(v.name), number(average(v.training("train_loss")))]
        row += [_latex_cell(results, v.name, m) for m in names]
        lines.append(" & ".join(row) + r" \\")
    notes = [f"% {_LATEX_NOTE}", *(_latex_claims(claims) if claims else [])]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *notes]) + "\n"


def _latex_cell(results: Results, variant: str, measure: str) -> str:
    text = _latex_summary(results.table[variant][measure], bold=variant in results.best(measure))
    mark = results.marks.get((variant, measure), "").replace("−", "-").replace(IF_NONE_FAILS, r"\circ")
    return text + (f"$^{{{mark}}}$" if mark else "")


def _latex_summary(summary: MeasureSummary, bold: bool = False) -> str:
    """The mean and its interval in small type."""
    text = "--" if summary["mean"] is None else number(summary["mean"])
    text = rf"\textbf{{{text}}}" if bold else text
    low, high = summary.get("ci_low"), summary.get("ci_high")
    if summary["mean"] is not None and low is not None and high is not None:
        text += rf" {{\scriptsize [{number(low)}, {number(high)}]}}"
    return text


def _escape(text: str) -> str:
    for a, b in (("\\", r"\textbackslash{}"), ("_", r"\_"), ("%", r"\%"), ("&", r"\&"), ("#", r"\#")):
        text = text.replace(a, b)
    return text


def differences_markdown(results: Results) -> str:
    """All comparisons with their numbers; a last column where arms differ in more than what is compared."""
    head = [
        "measure",
        "b − a",
        "mean [95 %]",
        "d_z",
        "p (Holm)",
        "margin",
        "p equivalent (Holm)",
        "scenes (prompts)",
        "runs",
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
            f"{d.n} ({d.prompts})",
            f"{d.runs[0]}, {d.runs[1]}",
            str(d.left_out),
        ]
        for d in results.differences
    ]
    if results.untuned:
        head.append("also different, not tuned")
        rows = [[*row, results.untuned.get((d.a, d.b), "")] for row, d in zip(rows, results.differences, strict=True)]
    return markdown_table(head, rows, left=2)
