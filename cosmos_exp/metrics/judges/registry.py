"""The judge's interface: questions in, answers out, scores read from the answers; never a default number."""

from __future__ import annotations

import importlib
from typing import Any

from cosmos_exp.metrics.judges.interface import Judge


def load_judge(settings: Any, device: Any, precision: str, seed: int) -> Judge | None:
    """The judge that the configuration names; None for none."""
    if settings.name == "none":
        return None
    if settings.name == "rules":
        module, _, name = settings.builder.rpartition(".")
        return getattr(importlib.import_module(module), name)(settings, device, precision, seed)
    if settings.name == "server":
        from cosmos_exp.metrics.judges.server import ServerJudge

        return ServerJudge(settings)
    from cosmos_exp.metrics.judges.reason2 import Reason2

    return Reason2(settings, device, precision)
