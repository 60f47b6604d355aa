"""A certificate: every measure against every fault, computed from the lines of values.jsonl."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from cosmos_exp.config.measures import MEASURES, measure_info
from cosmos_exp.files import JsonObject
from cosmos_exp.metrics.certify.dose_response import (
    FALSE_ALARMS,
    FEWEST,
    FOUND,
    Clean,
    DoseResponse,
    clean_baseline,
    respond,
)
from cosmos_exp.metrics.certify.intervals import LEVEL
from cosmos_exp.metrics.certify.run import CLEAN, Request
from cosmos_exp.metrics.judges.rubric import load_rubric


@dataclass(frozen=True)
class Certificate:
    """The result for one set of clips.

    Attributes:
        about: where the clips are from. settings: how they were made and scored, by name.
        clips, recordings: numbers of those with faults. Recordings are the independent units.
        clean_clips: number of clean clips, those among them.
        measures, faults: names in the order of tables.
        clean: measure -> the clean clips under it.
        responses: (measure, fault) -> the response.
    """

    about: str
    settings: dict[str, str]
    clips: int
    recordings: int
    clean_clips: int
    measures: tuple[str, ...]
    faults: tuple[str, ...]
    clean: dict[str, Clean]
    responses: dict[tuple[str, str], DoseResponse]

    def to_json(self) -> JsonObject:
        """All numbers as plain JSON, to five significant digits."""
        content = {
            "about": self.about,
            "settings": self.settings,
            "clips": self.clips,
            "recordings": self.recordings,
            "clean_clips": self.clean_clips,
            "fewest_recordings": FEWEST,
            "level": LEVEL,
            "false_alarms": FALSE_ALARMS,
            "found": FOUND,
            "limits": limits(self.clean_clips, self.clips, self.recordings),
            "clean": {name: asdict(c) for name, c in self.clean.items()},
            "responses": [self.responses[m, f].to_json() for m in self.measures for f in self.faults],
        }
        return json.loads(json.dumps(content), parse_float=lambda digits: float(f"{float(digits):.5g}"))


def build(request: Request, rows: Sequence[JsonObject]) -> Certificate:
    """The certificate of a request from its values.

    Args:
        rows: from `run.score`.
    """
    clips, faults = request.material.clips, request.material.faults
    recordings, faulty_clips = {c.name: c.recording for c in clips}, [c for c in clips if not c.clean_only]
    values: dict[tuple[str, str, float], dict[str, float | None]] = {}
    for r in rows:
        values.setdefault((r["measure"], r["fault"], r["dose"]), {})[r["clip"]] = r["value"]
    order = list(MEASURES)
    names = sorted({r["measure"] for r in rows}, key=lambda m: order.index(m) if m in order else len(order))
    judged = {load_rubric(r).measure for r in request.config.judge.rubrics}
    clean, responses = {}, {}
    for name in names:
        better, own = measure_info(name).better, values[name, CLEAN.name, 0.0]
        clean[name] = clean_baseline(own, recordings, better)
        for f in faults:
            faulty = {d: values[name, f.name, d] for d in f.doses}
            responses[name, f.name] = respond(name, f.name, f.unit, own, faulty, recordings, better, clean[name])
    settings = {
        "each": " or ".join(sorted({c.what for c in clips})),
        "encoder": "H.264, constant rate factor 12, the same for clean and faulty clips",
        "through": request.material.finish_name,
        "judge": request.config.judge.name if judged & set(names) else "none",
        "seed": str(request.seed),
    }
    return Certificate(
        request.about,
        settings,
        len(faulty_clips),
        len({c.recording for c in faulty_clips}),
        len(clips),
        tuple(names),
        tuple(f.name for f in faults),
        clean,
        responses,
    )


def limits(clean: int, clips: int, recordings: int) -> str:
    """What this many clips can and cannot resolve.

    Args:
        clean: clean clips.
        clips, recordings: clips with faults, and the recordings that they come from.
    """
    rank = max(1, int(FALSE_ALARMS * (clean + 1)))
    alarms = rank / (clean + 1)
    text = f"The threshold is the clean clips' largest badness{f' but {rank - 1}' if rank > 1 else ''}: {alarms:.1%} expected false alarms."
    if alarms > FALSE_ALARMS:
        text += f" Fewer than {round(1 / FALSE_ALARMS) - 1} clean clips cannot resolve {FALSE_ALARMS:.0%}."
    needed = -(-clips * round(100 * FOUND) // 100)
    share = LEVEL ** (1 / recordings)
    text += (
        f" Found means {needed} of {clips} clips or more. A fault found in all {recordings} recordings is found in at least "
        f"{share:.0%} of further ones (one-sided 95 % bound)"
    )
    text += (
        "."
        if share >= FOUND
        else f"; {FOUND:.0%} would take {math.ceil(math.log(LEVEL) / math.log(FOUND))} recordings."
    )
    if recordings < FEWEST:
        text += (
            f" With {recordings} {'recording' if recordings == 1 else 'recordings'} nothing can be said about faults that are not "
            f"found: partly, better or invisible takes {FEWEST} recordings."
        )
    if recordings < clips:
        text += f" The clips are windows of {recordings} recordings, which depend on each other: intervals count recordings."
    return text
