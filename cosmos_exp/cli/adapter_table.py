"""The text of `cosmos-exp adapter info`, at most 80 columns wide."""

from __future__ import annotations

from collections.abc import Collection

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cosmos_exp.files import JsonObject
from cosmos_exp.text import printable

WIDTH = 80
COLUMNS = 6  # ranks that the table has room for; the highest are left out first
KINDS = {"lora": "LoRA", "dora": "DoRA"}
LEGEND = """norm: Frobenius norm of the update s B A, all n layers together.
kept at rank: share of the energy (squared norm) that the best approximation of
that rank keeps. 95 %: the smallest rank that keeps 95 % of a layer's energy,
lowest to highest layer. eff.: effective rank (Roy and Vetterli 2007), mean."""
DORA_NOTE = "DoRA: the spectrum is that of the direction's update; magnitudes are not in it."


def info_text(found: JsonObject) -> str:
    """A description of an adapter.

    Args:
        found: from `report.adapter_info.describe_adapter`.
    """
    console = Console(width=WIDTH, highlight=False)
    with console.capture() as shown:
        console.print(_facts(found))
        console.print(_spectrum(found["spectrum"]))
        console.print(LEGEND, markup=False)
        if found["kind"] == "dora":
            console.print(DORA_NOTE, markup=False)
    return "\n".join(line.rstrip() for line in shown.get().splitlines()).rstrip()


def _facts(found: JsonObject) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    alpha, bias, rule = "not recorded; diffusers assumes the rank", "", "alpha / rank"
    if found["alpha_recorded"]:
        alpha = span(found["alphas"])
    if found["bias"]:
        bias = ", with biases"
    if found["scaling"] == "rslora":
        rule = "alpha / sqrt(rank)"
    rows = {
        "file": found["file"],
        "size": f"{found['bytes'] / 2**20:.2f} MiB, {'/'.join(found['types'])}, sha256 {found['sha256'][:16]}",
        "kind": f"{KINDS[found['kind']]}{bias}, rank {span(found['ranks'])}, alpha {alpha}",
        "scale": f"{span(found['scales'])} ({rule})",
        "parameters": f"{found['parameters']:,} in {found['layers']} layers",
    }
    for name, value in (rows | _record_rows(found["record"])).items():
        table.add_row(name, Text(printable(value)))  # no markup and no escapes of the file's author
    return table


def _record_rows(record: JsonObject) -> dict[str, str]:
    """What it was trained on and what it was made from."""
    if not record:
        return {"trained on": "not recorded (another tool's file)"}
    transformer = record.get("fingerprints", {}).get("transformer")
    model = {"": str(record.get("base_model")), "revision ": record.get("revision"), "transformer ": transformer}
    training = {
        "data ": record.get("data_fingerprint"),
        "config ": record.get("config_hash"),
        "seed ": record.get("seed"),
    }
    rows = {"trained on": _listed(model), "training": _listed(training)}
    if not rows["training"]:
        del rows["training"]
    cut = record.get("truncated")
    if cut:
        how = f"rank {cut.get('rank')}"
        if "energy" in cut:
            how = f"{cut['energy']:.4g} of each layer's energy"
        source = cut["from"]["sha256"][:16]
        rows["truncated"] = f"to {how}, from sha256 {source}; {cut['kept_energy']:.2%} of the energy kept"
    return rows


def _listed(entries: JsonObject) -> str:
    """The entries that have a value, separated by commas."""
    return ", ".join(f"{name}{value}" for name, value in entries.items() if value is not None)


def _spectrum(rows: JsonObject) -> Table:
    ranks = list(rows["all layers"]["energy_at_rank"])[:COLUMNS]
    # Narrow padding: the table of a rank above 16 just fits the width.
    table = Table(
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title="kept at rank, %", title_justify="right", title_style=""
    )
    table.add_column("layers", overflow="fold")
    for name in ("n", "norm", *ranks, "95 %", "eff."):
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in rows.items():
        cells = [str(row["layers"]), f"{row['norm']:.3g}"]
        for rank in ranks:
            cells.append(_percent(row["energy_at_rank"][rank]))
        cells += [span(row["rank_for_energy"]["0.95"]), f"{row['effective_rank']:.1f}"]
        table.add_row(Text(name), *cells)
    return table


def _percent(fraction: float) -> str:
    """Rounded down, so that 100 means everything."""
    if fraction > 1 - 1e-9:
        return "100"
    return f"{int(fraction * 1000) / 10:.1f}"


def span(values: Collection[float]) -> str:
    """`8`, or `2-8` for different values."""
    return "-".join(dict.fromkeys((f"{min(values):g}", f"{max(values):g}")))
