"""The result of a soak: one JSON file of all cases that is written again and again, and its tables."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from benchmarks.common import markdown
from cosmos_exp.files import JsonObject, write_json, write_text

ORDER = ("start", "prepare", "train", "generate", "evaluate", "record", "ended")


def write_tables(parts: dict[str, JsonObject], about: JsonObject, out: Path) -> None:
    """Write OUT.json and OUT.md.

    Args:
        parts: kills, fuzz, inputs: `cases`, `seconds`, `load`. about: machine, commit, date.
    """
    write_json(out.with_suffix(".json"), about | {"parts": parts})
    write_text(out.with_suffix(".md"), text_of(parts, about))


def text_of(parts: dict[str, JsonObject], about: JsonObject) -> str:
    """The tables in Markdown."""
    said = [f"# Soak, {about['date']}", about["machine"] + f". Commit {about['commit'][:12]}."]
    tables = {"kills": kills_table, "fuzz": fuzz_table, "inputs": inputs_table}
    for name, part in parts.items():
        load = part["load"]
        said.append(f"## {name}")
        said.append(
            f"{len(part['cases'])} cases in {part['seconds'] / 60:.0f} minutes, first seed {part['first_seed']}. Load of the machine "
            f"{min(load):.1f} to {max(load):.1f}."
        )
        said += [tables[name](part["cases"]), defects(name, part["cases"])]
    return "\n\n".join(said) + "\n"


def kills_table(cases: list[JsonObject]) -> str:
    """Kills by stage and signal, and cases by scenario."""
    kills = [k for c in cases for k in c["kills"]]
    signals = sorted({k["signal"] for k in kills})
    stages = sorted({k["stage"] for k in kills}, key=_place)
    counts = Counter((k["stage"], k["signal"]) for k in kills)
    rows = [[s, *(counts[s, g] for g in signals), sum(counts[s, g] for g in signals)] for s in stages]
    rows.append(["all", *(sum(k["signal"] == g for k in kills) for g in signals), len(kills)])
    by_stage = markdown(["killed in", *signals, "all"], rows)
    names = list(dict.fromkeys(c["scenario"] for c in cases))
    own = [[n, *_counts([c for c in cases if c["scenario"] == n])] for n in sorted(names)]
    return f"{by_stage}\n\n{markdown(['scenario', 'cases', 'kills', 'equal after the resume'], own)}"


def _place(stage: str) -> int:
    return ORDER.index(stage) if stage in ORDER else len(ORDER)


def _counts(cases: list[JsonObject]) -> list[object]:
    good = sum(c["equal"] for c in cases)
    return [len(cases), sum(len(c["kills"]) for c in cases), f"{good} of {len(cases)}"]


def fuzz_table(cases: list[JsonObject]) -> str:
    """Inputs and defects by property."""
    rows = []
    for name in dict.fromkeys(c["property"] for c in cases):
        own = [c for c in cases if c["property"] == name]
        inputs = sum(c["inputs"] for c in own)
        rows.append([name, inputs, _kinds(own), round(sum(c["cpu_seconds"] for c in own))])
    return markdown(["property", "inputs", "different defects", "CPU seconds"], [*rows, _sums(rows)])


def _sums(rows: list[list[object]]) -> list[object]:
    return ["all", *(sum(r[k] for r in rows) for k in (1, 2, 3))]  # type: ignore[misc]


def inputs_table(cases: list[JsonObject]) -> str:
    """Rows of the corpus as they are and with damage."""
    rows = []
    for name in dict.fromkeys(c["table"] for c in cases):
        own = [c for c in cases if c["table"] == name]
        damaged = sum(c["damaged"] for c in own)
        rows.append([name, len({c["row"] for c in own}), len(own) - damaged, damaged, _kinds(own)])
    return markdown(["table", "different rows", "as they are", "with damage", "different defects"], rows)


def _kinds(cases: Iterable[JsonObject]) -> int:
    return len({kind(p) for c in cases for p in c.get("problems", ())})


def kind(problem: str) -> str:
    """What makes two problems the same: the error's type and place, or the first words."""
    lines = problem.splitlines() or [""]
    place = next((line for line in lines if line.startswith("at ")), "")
    return f"{lines[0].split(':')[0]} {place.rpartition('; ')[2]}" if place else lines[0][:60]


def defects(part: str, cases: list[JsonObject]) -> str:
    """Each different problem once, with the seed that shows it again."""
    found: dict[str, JsonObject] = {}
    for case in cases:
        for problem in case.get("problems", ()):
            entry = found.setdefault(kind(problem), {"seeds": [], "problem": problem})
            entry["seeds"].append(case["seed"])
    if not found:
        return "No defect."
    again = f"`python -m soak --only {part} --cases 1 --seed SEED` shows one again.\n\n"
    lines = [
        f"- {len(e['seeds'])} times (seed {e['seeds'][0]}): {json.dumps(e['problem'][:300], ensure_ascii=False)}"
        for e in found.values()
    ]
    return again + "\n".join(lines)
