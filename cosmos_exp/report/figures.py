"""A study's figures, PNG and PDF: loss curves, measures by rank, differences, cost, singular values of the update."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from cosmos_exp.config.measures import BETTER
from cosmos_exp.files import read_json_lines
from cosmos_exp.report.spectrum import effective_rank, update_spectra
from cosmos_exp.report.study import Variant, measures_of
from cosmos_exp.report.study_tables import UNITS, cells, cost
from cosmos_exp.statistics.comparisons import Difference

matplotlib.use("Agg")
from matplotlib.figure import Figure

COLORS = {"lora": "tab:blue", "dora": "tab:orange", "base": "0.45"}
MARKERS = {"lora": "o", "dora": "s"}


def draw_all(variants: list[Variant], differences: list[Difference], out: Path) -> list[Path]:
    """Every figure there is something for, as NAME.png and NAME.pdf; the PNG files."""
    out.mkdir(parents=True, exist_ok=True)
    kinds: dict[str, Callable[[], Figure | None]] = {
        "loss": lambda: loss_curves(variants),
        "rank": lambda: by_rank(variants),
        "differences": lambda: forest(differences),
        "cost": lambda: cost_against_score(variants),
        "spectrum": lambda: spectra(variants),
    }
    written = []
    for name, make in kinds.items():
        figure = make()
        if figure is None:
            continue
        for suffix in ("png", "pdf"):
            # No date in the file: the same runs give the same bytes.
            data: dict[str, Any] = {"CreationDate": None} if suffix == "pdf" else {"Software": None}
            figure.savefig(out / f"{name}.{suffix}", dpi=130, metadata=data)
        written.append(out / f"{name}.png")
    return written


def _grid(count: int, width: float = 3.6, height: float = 2.9) -> tuple[Figure, list[Any]]:
    columns = min(count, 3)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[count:]:
        ax.axis("off")
    return figure, list(axes[:count])


def _smooth(values: np.ndarray, width: int) -> np.ndarray:
    if len(values) < 2 * width:
        return values
    kernel = np.ones(width) / width
    return np.convolve(values, kernel, mode="valid")


def loss_curves(variants: list[Variant]) -> Figure | None:
    """Training loss (running mean) and validation loss over steps; a line a run."""
    runs = [(v, r) for v in variants for r in v.runs if r.folder.train_log.is_file()]
    if not runs:
        return None
    figure, (left, right) = _grid(2, 5.2, 3.6)
    cycle = [f"C{i}" for i in range(10)]
    names = [v.name for v in variants]
    for v, run in runs:
        color = cycle[names.index(v.name) % 10]
        label = v.name if run is v.runs[0] else None
        rows = read_json_lines(run.folder.train_log)
        loss = _smooth(np.array([r["loss"] for r in rows]), max(1, len(rows) // 50))
        steps = np.array([r["step"] for r in rows])[-len(loss) :]
        left.plot(steps, loss, color=color, lw=1, alpha=0.85, label=label)
        held = read_json_lines(run.folder.validation_log)
        if held:
            right.plot(
                [r["step"] for r in held],
                [r["validation_loss"] for r in held],
                color=color,
                marker=".",
                lw=1,
                label=label,
            )
    for ax, title in ((left, "training loss, running mean"), (right, "validation loss")):
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("optimizer step")
        ax.grid(alpha=0.3)
    left.legend(fontsize=7)
    return figure


def by_rank(variants: list[Variant]) -> Figure | None:
    """Each measure over the rank with its interval; LoRA, DoRA, and the base as a band."""
    adapted = [v for v in variants if not v.is_base and v.done]
    names = measures_of(variants)
    if not adapted or not names:
        return None
    table = cells(variants)
    figure, axes = _grid(len(names))
    for ax, measure in zip(axes, names, strict=True):
        for v in variants:
            entry = table[v.name][measure]
            if v.is_base and entry["mean"] is not None:
                ax.axhline(entry["mean"], color=COLORS["base"], lw=1, ls="--", label="base")
                if entry["ci_low"] is not None:
                    ax.axhspan(entry["ci_low"], entry["ci_high"], color=COLORS["base"], alpha=0.15, lw=0)
        for kind in ("lora", "dora"):
            _points(ax, [v for v in adapted if v.adapter.get("kind") == kind], table, measure, kind)
        ax.set_xscale("log", base=2)
        ranks = sorted({v.adapter["rank"] for v in adapted})
        ax.set_xticks(ranks, [str(r) for r in ranks])
        ax.minorticks_off()
        arrow = {1: "higher is better", -1: "lower is better", 0: ""}[BETTER.get(measure, 1)]
        ax.set_title(f"{measure} ({UNITS.get(measure, '')})  {arrow}", fontsize=9)
        ax.set_xlabel("rank")
        ax.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    return figure


def _points(ax: Any, own: list[Variant], table: dict, measure: str, kind: str) -> None:
    shift = {"lora": 0.97, "dora": 1.03}[kind]
    there = [(v.adapter["rank"], table[v.name][measure]) for v in own]
    there = sorted(((r, e) for r, e in there if e["mean"] is not None), key=lambda p: p[0])
    if not there:
        return
    x, y = [r * shift for r, _ in there], [e["mean"] for _, e in there]
    low = [e["mean"] - e["ci_low"] if e["ci_low"] is not None else 0 for _, e in there]
    high = [e["ci_high"] - e["mean"] if e["ci_high"] is not None else 0 for _, e in there]
    ax.errorbar(
        x,
        y,
        [low, high],
        color=COLORS[kind],
        marker=MARKERS[kind],
        ms=5,
        capsize=3,
        lw=1.2,
        label=kind.replace("lora", "LoRA").replace("dora", "DoRA"),
    )


def forest(differences: list[Difference]) -> Figure | None:
    """Paired differences with intervals and the margin of equivalence, a panel a measure."""
    names = list(dict.fromkeys(d.measure for d in differences if d.ci_low is not None))
    if not names:
        return None
    most = max(sum(d.measure == m for d in differences) for m in names)
    figure, axes = _grid(len(names), 4.6, 1.2 + 0.28 * most)
    for ax, measure in zip(axes, names, strict=True):
        own = [d for d in differences if d.measure == measure and d.ci_low is not None]
        for i, d in enumerate(reversed(own)):
            sure = d.p_holm is not None and d.p_holm < 0.05
            ax.plot([d.ci_low, d.ci_high], [i, i], color="tab:red" if sure else "0.3", lw=1.6)
            ax.plot(d.mean, i, "o", color="tab:red" if sure else "0.3", ms=5)
        ax.set_yticks(range(len(own)), [f"{d.b} − {d.a}" for d in reversed(own)], fontsize=7)
        ax.axvline(0, color="0.2", lw=0.8)
        if own[0].margin:
            ax.axvspan(-own[0].margin, own[0].margin, color="tab:green", alpha=0.12, lw=0)
        ax.set_title(f"{measure}: difference, 95 %", fontsize=9)
        ax.grid(alpha=0.3, axis="x")
    return figure


def cost_against_score(variants: list[Variant]) -> Figure | None:
    """Training hours, peak memory and adapter size against the first judged measure (else the first measure)."""
    adapted = [v for v in variants if not v.is_base and v.done]
    names = measures_of(variants)
    if not adapted or not names:
        return None
    measure = next((m for m in ("instruction", "physics") if m in names), names[0])
    table = cells(variants)
    figure, axes = _grid(3)
    words = {"hours": "training, hours", "memory_gib": "peak memory, GiB", "adapter_mib": "adapter, MiB"}
    for ax, (key, label) in zip(axes, words.items(), strict=True):
        for v in adapted:
            x, entry = cost(v)[key], table[v.name][measure]
            if x is None or entry["mean"] is None:
                continue
            kind = v.adapter["kind"]
            low = entry["mean"] - (entry["ci_low"] if entry["ci_low"] is not None else entry["mean"])
            high = (entry["ci_high"] if entry["ci_high"] is not None else entry["mean"]) - entry["mean"]
            ax.errorbar(x, entry["mean"], [[low], [high]], color=COLORS[kind], marker=MARKERS[kind], capsize=3)
            ax.annotate(v.name, (x, entry["mean"]), textcoords="offset points", xytext=(5, 4), fontsize=6)
        ax.set_xlabel(label)
        ax.set_ylabel(measure)
        ax.grid(alpha=0.3)
    return figure


def spectra(variants: list[Variant]) -> Figure | None:
    """Singular values of each update by layer kind, mean over layers, with the effective rank in the legend."""
    own = [v for v in variants if not v.is_base and v.done and v.done[0].folder.adapter_file.is_file()]
    if not own:
        return None
    all_spectra = {}
    for v in own:
        adapter = v.adapter
        scale = adapter["alpha"] / (adapter["rank"] if adapter["scaling"] == "standard" else adapter["rank"] ** 0.5)
        all_spectra[v.name] = update_spectra(v.done[0].folder.adapter_file, scale)
    kinds = sorted({k for s in all_spectra.values() for k in s})
    if not kinds:
        return None
    figure, axes = _grid(len(kinds), 3.4, 2.6)
    for ax, kind in zip(axes, kinds, strict=True):
        for i, v in enumerate(own):
            values = all_spectra[v.name].get(kind)
            if values is None:
                continue
            effective = float(np.mean([effective_rank(row) for row in values]))
            style = "-" if v.adapter["kind"] == "lora" else "--"
            ax.plot(
                np.arange(1, values.shape[1] + 1),
                np.maximum(values.mean(0), 1e-12),
                style,
                color=f"C{i % 10}",
                lw=1.2,
                label=f"{v.name}: {effective:.1f}",
            )
        ax.set_yscale("log")
        ax.set_title(kind, fontsize=9)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=6, title="effective rank", title_fontsize=6)
    figure.supxlabel("singular value of scale x B A, mean over layers", fontsize=9)
    return figure
