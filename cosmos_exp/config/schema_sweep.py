"""The keys of a sweep by arms. Part of the schema (config/schema.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cosmos_exp.config.key import key


@dataclass
class Tune:
    """First phase of a sweep: each arm's own values of some keys, chosen on selection prompts or validation clips."""

    grid: dict[str, Any] = key({}, "values to try per key, e.g. {training.learning_rate: [0.001, 0.003, 0.01]}")
    by: str = key(
        "validation_loss", "what the best value has the best of: validation_loss, or a measure on the selection prompts"
    )
    rule: str = key(
        "best",
        "best: the best mean; one_standard_error: the first value of the grid that is at most one standard error of the "
        "paired difference over scenes worse than the best (needs a measure)",
        choices=("best", "one_standard_error"),
    )
    seeds: list[int] = key([100], "training seeds; none of them may be a test seed", ge=0)
    overrides: dict[str, Any] = key({}, "keys of the tuning runs only, e.g. {training.max_steps: 100}")


@dataclass
class Sweep:
    """A sweep by arms (`cosmos-exp sweep`). It is kept in the sweep's folder, not in its runs."""

    arms: dict[str, Any] = key(
        {}, "name: {key: value, …} of each arm, or {truncate: {from: arm, rank: [2, 4]}}; empty: the sweeper's product"
    )
    seeds: list[int] = key([], "training seeds of each arm; empty: the value of seed", ge=0)
    tune: Tune = key(Tune, "first phase: each arm's own values, e.g. of the learning rate")
    claims: list[str] = key(
        [], "what is expected, e.g. 'instruction: lora-r32 > base'; frozen when the first run starts"
    )
