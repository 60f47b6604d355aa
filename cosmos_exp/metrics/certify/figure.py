"""The heat map of a certificate: AUC by fault and dose."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

from cosmos_exp.files import atomic_path
from cosmos_exp.metrics.certify.certificate import Certificate

matplotlib.use("Agg")
from matplotlib.figure import Figure


def draw(certificate: Certificate, path: Path) -> None:
    """Write the heat map as PNG: a row per fault and dose, a column per measure."""
    c = certificate
    first = c.measures[0]
    rows = [(f, i) for f in c.faults for i in range(len(c.responses[first, f].doses))]
    areas = np.array(
        [[np.nan if (a := c.responses[m, f].doses[i].auc) is None else a for m in c.measures] for f, i in rows]
    )
    figure = Figure(figsize=(2.6 + 0.42 * len(c.measures), 1.4 + 0.155 * len(rows)), layout="constrained")
    ax = figure.subplots()
    colors = matplotlib.colormaps["RdBu"].with_extremes(bad="0.8")
    image = ax.imshow(np.ma.masked_invalid(areas), cmap=colors, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    ax.set_xticks(range(len(c.measures)), c.measures, rotation=60, ha="left", rotation_mode="anchor", fontsize=7)
    ax.xaxis.tick_top()
    ax.set_yticks(range(len(rows)), [_label(c, f, i) for f, i in rows], fontsize=6)
    for number, (_, i) in enumerate(rows):
        if i == 0 and number:
            ax.axhline(number - 0.5, color="0.3", linewidth=0.6)
    figure.colorbar(image, ax=ax, label="AUC against clean clips", shrink=0.4)
    with atomic_path(path) as temporary:
        # No date and no version in the file: the same certificate gives the same bytes.
        figure.savefig(temporary, dpi=110, metadata={"Software": None})


def _label(c: Certificate, fault: str, number: int) -> str:
    response = c.responses[c.measures[0], fault]
    if len(response.doses) == 1:
        return fault
    dose = f"{response.doses[number].dose:g} {response.unit}".strip()
    return f"{fault}  {dose}" if number == 0 else dose
