"""The table of runs, one row per run, with the notes that belong to it; scores.csv."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, field
from typing import cast

from cosmos_exp.config.measures import ARROWS, MEASURES, measure_info, split_main
from cosmos_exp.files import JsonObject
from cosmos_exp.report.formatting import summary_text
from cosmos_exp.report.references import footnote_marks, footnotes
from cosmos_exp.report.variants import Run
from cosmos_exp.run_folder import REFERENCES, RunFolder
from cosmos_exp.statistics.scores import MeasureSummary, read_scores
from cosmos_exp.text import cell


@dataclass(frozen=True)
class RunRow:
    """What the table shows of one run. `training` is the training summary of metrics.json.

    `footnotes` belong to cells of the references, by reference and measure.
    """

    name: str
    state: str
    error: str | None
    adapter: str
    training: JsonObject
    measures: dict[str, MeasureSummary]
    references: dict[str, dict[str, MeasureSummary]]
    random_weights: bool
    footnotes: dict[tuple[str, str], str] = field(default_factory=dict)


def run_row(run: RunFolder) -> RunRow:
    """The row of one run."""
    metrics, status, labels = run.read(run.metrics), run.status, run.manifest.get("labels", {})
    measures = cast(dict[str, MeasureSummary], metrics.get("measures", {}))
    scored = {kind: read_scores(run.reference_scores(kind)) for kind in REFERENCES}
    return RunRow(
        name=run.path.name,
        state=status.get("state", "?"),
        error=status.get("error"),
        adapter=labels.get("adapter", "?"),
        training=metrics.get("training", {}),
        measures=measures,
        references=cast(dict[str, dict[str, MeasureSummary]], metrics.get("references", {})),
        random_weights=labels.get("random_weights", False),
        footnotes=footnotes(scored, list(measures)),
    )


def table_rows(rows: list[RunRow]) -> tuple[list[str], list[list[str]]]:
    """Header and cells, one row per run, with the main measures that at least one run has."""
    measures, _ = split_main(measures_of_rows(rows))
    header = ["adapter", "state", "train loss", "validation loss", *measures, "run"]
    return header, [_cells(row, measures) for row in rows]


def table_columns(rows: list[RunRow]) -> tuple[list[str], list[list[str]]]:
    """Header and cells, one column per run and then one per reference, one row per measure that at least one has."""
    main, others = split_main(measures_of_rows(rows))
    first = first_with_references(rows)
    references = {kind: summaries for kind, summaries in first.references.items() if summaries} if first else {}
    marks = footnote_marks(first.footnotes) if first else {}
    cells = [["run", *(r.name for r in rows), *("" for _ in references)]]
    cells.append(["state", *(r.state for r in rows), *("" for _ in references)])
    for key in ("train_loss", "validation_loss"):
        losses = [r.training.get(key) for r in rows]
        cells.append(
            [key.replace("_", " "), *("-" if x is None else f"{x:.4f}" for x in losses), *("" for _ in references)]
        )
    for m in main + others:
        name = f"{m}{ARROWS[measure_info(m).better]}"
        cells.append(
            [
                name,
                *(summary_text(r.measures.get(m)) for r in rows),
                *(summary_text(x.get(m)) + marks.get((kind, m), "") for kind, x in references.items()),
            ]
        )
    return ["", *(r.adapter for r in rows), *references], cells


def first_with_references(rows: list[RunRow]) -> RunRow | None:
    """The run whose references the table shows; None if none has any."""
    return next((r for r in rows if any(r.references.values())), None)


def measures_of_rows(rows: list[RunRow]) -> list[str]:
    """The measures that at least one run has, in the order of the tables."""
    found = {m for r in rows for m in r.measures}
    return [m for m in MEASURES if m in found] + sorted(found - set(MEASURES))


def _cells(row: RunRow, measures: list[str]) -> list[str]:
    losses = [row.training.get(k) for k in ("train_loss", "validation_loss")]
    return [
        row.adapter,
        row.state,
        *("-" if loss is None else f"{loss:.4f}" for loss in losses),
        *(summary_text(row.measures.get(m)) for m in measures),
        row.name,
    ]


def notes(rows: list[RunRow]) -> list[str]:
    """What a reader must know beside the numbers: random weights, missing scores, errors."""
    found = ["Mean [95 % interval over scenes: prompts with one first frame are one scene]."]
    if any(r.random_weights for r in rows):
        found.append("The base model's weights are random: these numbers only show that the pipeline runs.")
    for row in rows:
        for measure, summary in row.measures.items():
            if summary.get("missing"):
                why = f" ({summary['reason']})" if summary.get("reason") else ""
                found.append(
                    f"{row.name}: {measure} is missing for {summary['missing']} of {summary['videos']} videos{why}."
                )
            if summary.get("doubtful"):
                of = f"{summary['doubtful']} of {summary['videos']} videos"
                found.append(f"{row.name}: {measure} of {of} is to be read with caution ({summary['caution']}).")
        if row.error:
            found.append(f"{row.name}: {row.state}: {row.error.splitlines()[0]}")
    return found


def scores_csv(runs: list[Run]) -> str:
    """Every score of every run and of its references in long form."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", "sample", "seed", "measure", "value", "prompt", "video", "detail"])
    for run in runs:
        own = run.folder.path.name
        for name, rows in {own: run.scores, **{f"{own}/references/{k}": run.references(k) for k in REFERENCES}}.items():
            for r in rows:
                values = [name, r["sample"], r["seed"], r["measure"], r["value"], r.get("prompt"), r["video"]]
                values.append(json.dumps(r.get("detail")))
                writer.writerow([cell(v) if isinstance(v, str) else v for v in values])
    return out.getvalue()
