"""The text of `cosmos-exp adapter info`, at most 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterable

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
    for name, value in [*_file_rows(found), *_record_rows(found["record"])]:
        table.add_row(name, Text(printable(value)))  # no markup and no escapes of the file's author
    return table


def _file_rows(found: JsonObject) -> list[tuple[str, str]]:
    alpha = _range(found["alphas"]) if found["alpha_recorded"] else "not recorded; diffusers assumes the rank"
    bias = ", with biases" if found["bias"] else ""
    return [
        ("file", found["file"]),
        ("size", f"{found['bytes'] / 2**20:.2f} MiB, {'/'.join(found['types'])}, sha256 {found['sha256'][:16]}"),
        ("kind", f"{KINDS[found['kind']]}{bias}, rank {_range(found['ranks'])}, alpha {alpha}"),
        (
            "scale",
            f"{_range(found['scales'])} ({'alpha / sqrt(rank)' if found['scaling'] == 'rslora' else 'alpha / rank'})",
        ),
        ("parameters", f"{found['parameters']:,} in {found['layers']} layers"),
    ]


def _record_rows(record: JsonObject) -> list[tuple[str, str]]:
    """What it was trained on and what it was made from."""
    if not record:
        return [("trained on", "not recorded (another tool's file)")]
    revision = f" at {record['revision']}" if record.get("revision") else ""
    transformer = record.get("fingerprints", {}).get("transformer")
    rows = [
        (
            "trained on",
            f"{record.get('base_model')}{revision}" + (f", transformer {transformer}" if transformer else ""),
        )
    ]
    names = {"data": "data_fingerprint", "config": "config_hash", "seed": "seed"}
    training = [f"{n} {record[k]}" for n, k in names.items() if record.get(k) is not None]
    rows += [("training", ", ".join(training))] if training else []
    cut = record.get("truncated")
    if cut:
        how = f"rank {cut['rank']}" if "rank" in cut else f"{cut['energy']:.4g} of each layer's energy"
        source = f"to {how}, from sha256 {cut['from']['sha256'][:16]}; {cut['kept_energy']:.2%} of the energy kept"
        rows.append(("truncated", source))
    return rows


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
        kept = [_percent(row["energy_at_rank"][k]) for k in ranks]
        needed = _range(row["rank_for_energy"]["0.95"])
        table.add_row(
            Text(name), str(row["layers"]), f"{row['norm']:.3g}", *kept, needed, f"{row['effective_rank']:.1f}"
        )
    return table


def _percent(fraction: float) -> str:
    """Rounded down, so that 100 means everything."""
    return "100" if fraction > 1 - 1e-9 else f"{int(fraction * 1000) / 10:.1f}"


def _range(values: Iterable[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g}-{high:g}"
