"""The certificate as Markdown and as a heat map: every fault (rows) against every measure (columns)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from benchmarks.certificate.faults import Fault
from benchmarks.certificate.response import FALSE_ALARMS, FEWEST, FOUND, Clean, Response
from cosmos_exp.files import atomic_path

LEGEND = f"""Each cell is one measure against one fault:

- **a dose**, such as `2 px`: the smallest dose from which on the fault is found in {FOUND:.0%} of the clips at
  {FALSE_ALARMS:.0%} false alarms.
- `partly`: clips score worse than their own clean versions on average (t interval over recordings), but one threshold for
  all clips does not find them. In brackets the highest AUC.
- **`better`**: the fault improves the score. `better at 1 px` beside another entry: it does so at this dose.
- `-`: invisible, no difference from the clean versions could be shown.
- `too few`: fewer than {FEWEST} recordings have a value, so that no difference can be shown.
- `30% undefined at 4 px`: so many clips lose their value there; they are not found.
- `*` at a measure: it has a value in too few clean clips for a threshold at {FALSE_ALARMS:.0%} false alarms.

Measures that compare with the recording are compared with the clean clip itself. A clean clip is then a perfect prediction,
so their doses are lower bounds: no model repeats a recording pixel by pixel."""

Responses = Mapping[tuple[str, str], Response]  # by measure and fault


def cell(response: Response, fault: Fault) -> str:
    """A response in a few words; see LEGEND."""
    text = {"found": f"**{_dose(response.smallest, fault)}**", "better": "**better**", "invisible": "-"}
    text["partly"] = f"partly ({max((at.auc or 0 for at in response.doses), default=0):.2f})"
    notes = [text.get(response.verdict, response.verdict)]
    if response.better_at and response.verdict != "better":
        notes.append("better at " + ", ".join(_dose(d, fault) for d in response.better_at))
    for at in response.doses:
        clips = at.n + at.undefined
        if at.n and at.undefined > (1 - FOUND) * clips:
            notes.append(f"{at.undefined / clips:.0%} undefined at {_dose(at.dose, fault)}")
            break
    return "; ".join(notes)


def fault_table(faults: list[Fault], clean: Mapping[str, Clean], responses: Responses) -> str:
    """One row per fault, one column per measure."""
    rows = [["fault"]]
    for measure, of_clean in clean.items():
        few = of_clean.false_alarms is None or of_clean.false_alarms > FALSE_ALARMS
        rows[0].append(f"`{measure}`" + " \\*" * few)
    for fault in faults:
        rows.append([fault.name, *(cell(responses[measure, fault.name], fault) for measure in clean)])
    return markdown_table(rows)


def clean_table(clean: Mapping[str, Clean]) -> str:
    """The clean clips under each measure, and the threshold."""
    rows = [["measure", "clips", "undefined", "called faulty", "expected false alarms"]]
    for measure, of_clean in clean.items():
        row = [f"`{measure}`", str(len(of_clean.badness)), str(of_clean.undefined), "-", "-"]
        if of_clean.threshold is not None:
            sign = "<" if of_clean.better > 0 else ">"
            row[3] = f"{sign} {-of_clean.better * of_clean.threshold:.3g}"
            if of_clean.center is not None:
                row[3] = f"outside {of_clean.center:.3g} ± {of_clean.threshold:.3g}"
            row[4] = f"{of_clean.false_alarms:.1%}"
        rows.append(row)
    return markdown_table(rows)


def draw(path: Path, faults: list[Fault], measures: list[str], responses: Responses) -> None:
    """Write the AUC against clean clips as a heat map: a row per fault and dose, a column per measure."""
    labels, areas = [], []
    for fault in faults:
        for number, dose in enumerate(fault.doses):
            labels.append(f"{fault.name}  {_dose(dose, fault)}")
            row = []
            for measure in measures:
                doses = responses[measure, fault.name].doses
                row.append(doses[number].auc if doses else None)
            areas.append(row)
    figure = Figure(figsize=(2.6 + 0.42 * len(measures), 1.4 + 0.155 * len(labels)), layout="constrained")
    ax = figure.subplots()
    colors = colormaps["RdBu"].with_extremes(bad="0.8")
    image = ax.imshow(
        np.ma.masked_invalid(np.array(areas, float)),
        cmap=colors,
        vmin=0,
        vmax=1,
        aspect="auto",
        interpolation="nearest",
    )
    ax.set_xticks(range(len(measures)), measures, rotation=60, ha="left", rotation_mode="anchor", fontsize=7)
    ax.xaxis.tick_top()
    ax.set_yticks(range(len(labels)), labels, fontsize=6)
    figure.colorbar(image, ax=ax, label="AUC against clean clips", shrink=0.4)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _dose(dose: float | None, fault: Fault) -> str:
    if dose is None:
        return "none"
    return f"{dose:g} {fault.unit}".strip() if len(fault.doses) > 1 else "its dose"


def markdown_table(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])
