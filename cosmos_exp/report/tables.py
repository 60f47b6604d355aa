"""Run folders to rows, rows to tables."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from cosmos_exp.config.measures import BETTER
from cosmos_exp.files import read_json_lines
from cosmos_exp.run_folder import RunFolder


def run_row(run: RunFolder) -> dict[str, Any]:
    """What the table says of one run."""
    manifest, metrics, status = run.read(run.manifest_file), run.read(run.metrics), run.read(run.status_file)
    labels = manifest.get("labels", {})
    return {
        "run": str(run.path),
        "state": status.get("state", "?"),
        "error": status.get("error"),
        "adapter": labels.get("adapter", "?"),
        "training": metrics.get("training", {}),
        "measures": metrics.get("measures", {}),
        "random_weights": labels.get("random_weights", False),
    }


def figure(entry: dict[str, Any] | None) -> str:
    """`0.42 [0.31, 0.55]`, or a dash when there is nothing to say."""
    if not entry or entry.get("mean") is None:
        return "-"
    if entry.get("ci_low") is None:
        return f"{entry['mean']:.3g}"
    return f"{entry['mean']:.3g} [{entry['ci_low']:.3g}, {entry['ci_high']:.3g}]"


def table_rows(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and cells; only measures that some run has."""
    measures = [m for m in BETTER if any(m in r["measures"] for r in rows)]
    header = ["adapter", "state", "train loss", "validation loss", *measures, "run"]
    cells = []
    for row in rows:
        training = row["training"]
        losses = [
            f"{training[k]:.4f}" if training.get(k) is not None else "-" for k in ("train_loss", "validation_loss")
        ]
        cells.append(
            [
                row["adapter"],
                row["state"],
                *losses,
                *[figure(row["measures"].get(m)) for m in measures],
                Path(row["run"]).name,
            ]
        )
    return header, cells


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table as Markdown, with what must be said beside it."""
    header, cells = table_rows(rows)
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(c) + " |" for c in cells]
    return "\n".join(lines) + "\n\n" + "\n".join(notes(rows)) + "\n"


def notes(rows: list[dict[str, Any]]) -> list[str]:
    """Sentences that keep the figures from being misread."""
    said = ["Mean [95 % bootstrap interval over prompts]; Sampson errors in pixels."]
    if any(r["random_weights"] for r in rows):
        said.append(
            "The base model's weights are random: these figures show that the walk works, not what an adapter buys."
        )
    for row in rows:
        for measure, entry in row["measures"].items():
            if entry.get("missing"):
                why = f" ({entry['reason']})" if entry.get("reason") else ""
                said.append(
                    f"{Path(row['run']).name}: {measure} is missing for {entry['missing']} of {entry['videos']} videos{why}."
                )
        if row["error"]:
            said.append(f"{Path(row['run']).name}: {row['state']}: {row['error'].splitlines()[0]}")
    return said


def scores_csv(runs: list[RunFolder]) -> str:
    """Every score of every run, long form."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", "sample", "seed", "measure", "value", "prompt", "video", "detail"])
    for run in runs:
        for r in read_json_lines(run.scores):
            writer.writerow(
                [
                    run.path.name,
                    r["sample"],
                    r["seed"],
                    r["measure"],
                    r["value"],
                    r["prompt"],
                    r["video"],
                    json.dumps(r["detail"]),
                ]
            )
    return out.getvalue()
