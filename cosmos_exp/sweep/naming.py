"""`cosmos-exp sweep NAME`: a study through Hydra's multirun and launchers, one process a run; again finishes the rest."""

from __future__ import annotations

import re

from cosmos_exp.config.schema import Config

# What the base model, which is not trained, does not depend on.
_TRAINING_ONLY = ("adapter", "rank", "alpha", "seed", "training")

# Named by `run_name` in their own way.
_NAMED = (
    "adapter",
    "adapter.kind",
    "rank",
    "adapter.rank",
    "alpha",
    "adapter.alpha",
    "adapter.scaling",
    "seed",
    "experiment",
)


def run_name(config: Config, swept: dict[str, str]) -> str:
    """What sets a run apart: `base`, `lora-r8`, `dora-r32-seed1`, `lora-r8-a16-rslora`, then other swept keys.

    Args:
        swept: the study's keys that take several values, with this run's value.
    """
    adapter, base = config.adapter, config.adapter.kind == "none"
    words = ["base"] if base else [f"{adapter.kind}-r{adapter.rank}"]
    if not base:
        words += [f"a{adapter.alpha:g}"] if adapter.alpha != adapter.rank else []
        words += ["rslora"] if adapter.scaling == "rslora" else []
        words += [f"seed{config.seed}"] if config.seed else []
    for key, value in sorted(swept.items()):
        if key in _NAMED or (base and key.split(".")[0] in _TRAINING_ONLY):
            continue
        words.append(f"{key.rsplit('.', 1)[-1]}{value}")
    return re.sub(r"[^\w.+-]", "", "-".join(words))[:120]
