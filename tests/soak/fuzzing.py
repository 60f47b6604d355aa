"""Fuzzing with fresh seeds: each property of tests/fuzz in turn."""

from __future__ import annotations

import time
import traceback
from pathlib import Path
from typing import Any

from fuzz import Property, adapters, configs, data, records

from cosmos_exp.files import JsonObject

AT_ONCE = 20  # inputs of a property before the next one


class Fuzzing:
    """All properties, one after another; `case(seed)` is one of them with `AT_ONCE` inputs."""

    def __init__(self) -> None:
        every = (configs, data, records, adapters)
        self.properties = [_counted(p) for module in every for p in module.PROPERTIES]

    def case(self, seed: int) -> JsonObject:
        of, counted = self.properties[seed % len(self.properties)]
        counted[0], began = 0, time.process_time()
        found: JsonObject = {"seed": seed, "property": of.name}
        try:
            of.run(AT_ONCE, seed, shrink=False)
        except Exception as error:
            found |= {"problems": [_short(error)]}
        return found | {"inputs": counted[0], "cpu_seconds": round(time.process_time() - began, 1)}


def _counted(of: Property) -> tuple[Property, list[int]]:
    """The property, and how many inputs it was given."""
    count = [0]

    def check(value: Any) -> None:
        count[0] += 1
        of.check(value)

    return Property(of.name, check, of.strategy, of.count, of.examples), count


def _short(error: Exception) -> str:
    """The error, where it was raised, and the smallest input that Hypothesis found."""
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if "cosmos_exp" in f.filename or "/tests/" in f.filename
    ]
    where = "; ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames[-4:])
    notes = "\n".join(getattr(error, "__notes__", []))
    return f"{type(error).__name__}: {str(error)[:600]}\nat {where}\n{notes[:1500]}"
