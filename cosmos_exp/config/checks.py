"""The typed schema of conf/: what every key is, may be, and means. Imports nothing heavy.

Hydra checks names and types against these dataclasses while it composes; `check` adds what a type cannot say
(choices, ranges, sums) and what keys say about each other. Both together take well under two seconds."""

from __future__ import annotations

import dataclasses
from typing import Any

from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError


def _limit_problems(node: Any, where: str) -> list[str]:
    problems = []
    for f in dataclasses.fields(node):
        value, name, limits = getattr(node, f.name), f"{where}{f.name}", f.metadata
        if dataclasses.is_dataclass(value):
            problems += _limit_problems(value, name + ".")
        elif value is not None:
            if "choices" in limits and value not in limits["choices"]:
                problems.append(f"{name}={value}: choose one of {', '.join(limits['choices'])}")
            for sign, bad in (("gt", lambda v, m: v <= m), ("ge", lambda v, m: v < m), ("le", lambda v, m: v > m)):
                if sign in limits and bad(value, limits[sign]):
                    word = {"gt": "greater than", "ge": "at least", "le": "at most"}[sign]
                    problems.append(f"{name}={value}: must be {word} {limits[sign]}")
    return problems


def _shape_problems(config: Config) -> list[str]:
    problems = []
    data, cond = config.data, config.training.condition_frames
    for name in ("height", "width"):
        value = getattr(data, name)
        if value % 16:
            near = max(16, round(value / 16) * 16)
            problems.append(f"data.{name}={value}: must be divisible by 16, e.g. {near}")
    if data.num_frames % 4 != 1:
        problems.append(
            f"data.num_frames={data.num_frames}: must be 4k+1 (17, 93 …), e.g. {max(1, data.num_frames // 4 * 4 + 1)}"
        )
    latent_frames = (data.num_frames - 1) // 4 + 1
    if not cond or abs(sum(cond.values()) - 1) > 1e-6 or min(cond.values()) < 0:
        problems.append(f"training.condition_frames={cond}: probabilities must be at least 0 and sum to 1")
    elif max(cond) >= latent_frames or min(cond) < 0:
        problems.append(
            f"training.condition_frames={cond}: counts must lie from 0 to {latent_frames - 1}; "
            f"{data.num_frames} frames are {latent_frames} latent frames"
        )
    for measure, margin in config.margins.items():
        if not margin > 0:
            problems.append(f"margins.{measure}={margin}: must be greater than 0")
    if any(not 0 < s < 1 for s in config.training.validation.sigmas):
        problems.append(f"training.validation.sigmas={config.training.validation.sigmas}: each must lie in (0, 1)")
    if len(set(config.generation.seeds)) != len(config.generation.seeds):
        problems.append(f"generation.seeds={config.generation.seeds}: a seed stands there twice")
    return problems


def _relation_problems(config: Config) -> list[str]:
    problems = []
    schedule = config.training.schedule
    if config.adapter.bias and config.adapter.kind == "dora":
        problems.append("adapter.bias=true: peft trains it for LoRA only; take adapter=lora or adapter.bias=false")
    if config.hardware.checkpointing == "auto" and config.hardware.memory_gb is None:
        problems.append("hardware.memory_gb: checkpointing=auto plans with it; give the device's memory, e.g. 24")
    if config.adapter.dropout > 0 and config.hardware.compile and config.hardware.checkpointing != "none":
        problems.append(
            "adapter.dropout: compiled blocks that are computed again would draw another dropout (peft #3020); set "
            "hardware.compile=false, or adapter.dropout=0"
        )
    if config.adapter.bias and config.adapter.init != "kaiming":
        problems.append(f"adapter.bias=true: peft offers it with adapter.init=kaiming only, not {config.adapter.init}")
    if schedule.total_samples <= schedule.warmup_samples:
        problems.append(
            f"training.schedule.total_samples={schedule.total_samples}: must be greater than warmup_samples"
        )
    if config.judge.name == "rules" and not config.judge.builder:
        problems.append("judge.builder: judge=rules needs the class that knows the world")
    if config.judge.name == "server" and not config.judge.url:
        problems.append("judge.url: where is the server? Give judge.url=http://HOST:PORT/v1")
    if config.judge.samples > 1 and config.judge.temperature == 0:
        problems.append(
            f"judge.samples={config.judge.samples}: at judge.temperature=0 all are the same; set 0.7 or null"
        )
    if config.judge.name == "reason2" and not config.judge.source:
        problems.append("judge.source: give a hub repository or a folder")
    if config.data.reader != "gr1_100" and not config.data.path and not config.data.builder:
        problems.append("data.path: where is the data? Give data.path=DIR")
    return problems


def check(config: Config) -> None:
    """Raise UserError naming every key that does not hold, with the mend."""
    from cosmos_exp.config.layers import unmatched_targets

    problems = _limit_problems(config, "") + _shape_problems(config) + _relation_problems(config)
    if not problems:
        missing = unmatched_targets(config.model, config.adapter.target_modules)
        problems += [f"adapter.target_modules: {m}" for m in missing]
    if problems:
        raise UserError("\n".join(problems))
