"""Names of a sweep's runs: what sets one run apart from the others."""

from __future__ import annotations

import re

from cosmos_exp.config.layers import adapter_label
from cosmos_exp.config.schema import Config

# The base model does not depend on these, as it is not trained.
_TRAINING_ONLY = ("adapter", "rank", "alpha", "seed", "training")
# `run_name` has its own words for these.
_NAMED = {"adapter", "adapter.kind", "rank", "adapter.rank", "alpha", "adapter.alpha", "adapter.scaling", "seed"}
_NAMED |= {"experiment", "adapter.rank_pattern", "adapter.alpha_pattern"}
MAX_LENGTH = 120


def run_name(config: Config, swept: dict[str, str]) -> str:
    """The name of a run: `base`, `lora-r8`, `dora-r32-seed1`, `lora-r8-a16-rslora`, then other swept keys.

    Args:
        swept: the keys that take several values in the sweep, with this run's value.
    """
    base = config.adapter.kind == "none"
    words = [adapter_label(config.adapter)]
    words += [f"seed{config.seed}"] if config.seed and not base else []
    for key, value in sorted(swept.items()):
        if key in _NAMED or (base and key.split(".")[0] in _TRAINING_ONLY):
            continue
        words.append(f"{key.rsplit('.', 1)[-1]}{value}")
    return re.sub(r"[^\w.+-]", "", "-".join(words))[:MAX_LENGTH]
