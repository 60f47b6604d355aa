"""The certificate of judge=rules from the table of its calibration: the same statistics as `measures certify`.

    python benchmarks/judge_certificate.py benchmarks/results/tabletop_judge_2026-11-24.json

The file holds the judge's scores of clips with faults and of clean clips with other seeds (benchmarks/tabletop.py). How a clip compares
with its own clean version needs the clean clips of the faults' seeds, too: they are rendered, passed through the autoencoder and judged
(36 clips, about half a minute) and kept as <file>_clean.jsonl. Writes certificate.{md,json,png} into --out.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import tabletop

from cosmos_exp.config.composing import compose_config
from cosmos_exp.files import JsonObject, append_json_line, read_json_lines, write_json, write_text
from cosmos_exp.metrics.certify.certificate import build
from cosmos_exp.metrics.certify.clips import Clip, Footage, describe
from cosmos_exp.metrics.certify.faults import Fault
from cosmos_exp.metrics.certify.figure import draw
from cosmos_exp.metrics.certify.run import CLEAN, Material, Request
from cosmos_exp.metrics.certify.tables import fault_table, markdown
from cosmos_exp.tabletop.faults import FAULTS
from cosmos_exp.tabletop.vocabulary import APPEARANCES

BEHIND = "real, behind the autoencoder"
OUT = Path(__file__).parent.parent / "docs" / "certificates" / "tabletop_judge"
WHAT = describe(17, (96, 160), 8.0)


def clean_clips(path: Path, count: int) -> dict[str, JsonObject]:
    """Scores of the clean clips of the faults' seeds by clip, from `path`; those that it lacks are computed and appended."""
    wanted = {f"scene {k}": (k, APPEARANCES[k % 2]) for k in range(count)}
    # The wrong hand is planted in robots only: only their prompt names the hand.
    wanted |= {f"scene {k}, robot": (k, "robot") for k in range(count) if APPEARANCES[k % 2] != "robot"}
    known = {r["clip"]: r for r in read_json_lines(path)}
    for name, (k, appearance) in wanted.items():
        if name not in known:
            scores = tabletop.clean((tabletop.FAULT_SEEDS + k, appearance, True))
            known[name] = {"clip": name} | {m: None if math.isnan(s) else s for m, s in scores.items()}
            append_json_line(path, known[name])
    return {name: known[name] for name in wanted}


def rows_of(table: JsonObject, own: dict[str, JsonObject]) -> Iterator[JsonObject]:
    """The scores as lines of a certificate's values.jsonl."""

    def row(clip: str, fault: str, dose: float, measure: str, value: float | None) -> JsonObject:
        return {"clip": clip, "fault": fault, "dose": dose, "measure": measure, "value": value}

    for measure in tabletop.NOTICED:
        for clip, scores in own.items():
            yield row(clip, CLEAN.name, 0.0, measure, scores[measure])
        for k, value in enumerate(table[BEHIND][measure]):
            yield row(f"clean {k}", CLEAN.name, 0.0, measure, value)
    for name, scores in table.items():
        fault, _, dose = name.rpartition(" ")
        for measure in tabletop.NOTICED if fault in FAULTS else ():
            for k, value in enumerate(scores[measure]):
                other = fault == "wrong hand" and APPEARANCES[k % 2] != "robot"
                yield row(f"scene {k}, robot" if other else f"scene {k}", fault, float(dose), measure, value)


def request_of(table: JsonObject, own: dict[str, JsonObject]) -> Request:
    """What the certificate is about."""

    def nothing() -> Footage:
        raise AssertionError("the clips are not loaded again")

    def clip(name: str, recording: str, clean_only: bool) -> Clip:
        return Clip(name, recording, None, WHAT, nothing, clean_only)

    clips = [clip(name, name.removesuffix(", robot"), name.endswith("robot")) for name in own]
    clips += [clip(f"clean {k}", f"clean {k}", True) for k in range(len(table[BEHIND]["physics"]))]
    doses: dict[str, list[float]] = {}
    for fault, _, dose in (name.rpartition(" ") for name in table):
        if fault in FAULTS:
            doses.setdefault(fault, []).append(float(dose))
    faults = [Fault(name, FAULTS[name].unit, tuple(sorted(d)), CLEAN.plant) for name, d in doses.items()]
    material = Material(clips, faults, finish_name="the tabletop model's autoencoder")
    return Request("judge=rules on the tabletop", material, compose_config(["judge=rules"]), seed=tabletop.FAULT_SEEDS)


def main() -> None:
    """Write the certificate and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    table = json.loads(args.table.read_text(encoding="utf-8"))
    own = clean_clips(args.table.with_name(f"{args.table.stem}_clean.jsonl"), len(table["wrong hand 1"]["physics"]))
    built = build(request_of(table, own), list(rows_of(table, own)))
    certificate = replace(
        built, settings={k: v for k, v in built.settings.items() if k != "encoder"}
    )  # frames, no files
    args.out.mkdir(parents=True, exist_ok=True)
    write_json(args.out / "certificate.json", certificate.to_json())
    write_text(args.out / "certificate.md", markdown(certificate, "certificate.png"))
    draw(certificate, args.out / "certificate.png")
    print(fault_table(certificate))


if __name__ == "__main__":
    main()
