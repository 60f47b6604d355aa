"""What a type cannot say about a configuration: choices, ranges, and how keys depend on each other."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from cosmos_exp.config.layers import pattern_problems, unmatched_targets
from cosmos_exp.config.limits import element_problems, folder_problems, limit_problems, size_problems
from cosmos_exp.config.measures import LOSSES, MEASURES
from cosmos_exp.config.rollout import OVERLAP
from cosmos_exp.config.schema import Adapter, Config, Data, Judge, Training
from cosmos_exp.config.tiling import tile_size
from cosmos_exp.errors import UserError


def check(config: Config) -> None:
    """Check a whole configuration.

    Raises:
        UserError: it names every invalid key and its fix.
    """
    problems = list(element_problems(config))
    if problems:
        raise UserError("\n".join(problems))
    problems = [*limit_problems(config), *_data_problems(config.data), *_training_problems(config)]
    problems += [*_adapter_problems(config), *_judge_problems(config.judge), *_objective_problems(config.objective)]
    if not problems:
        problems += folder_problems(config.model)
    if not problems:
        missing = unmatched_targets(config.model, config.adapter.target_modules)
        problems += [f"adapter.target_modules: {m}" for m in missing]
    if not problems:
        problems += pattern_problems(config.model, config.adapter)
    if not problems:
        problems += size_problems(config.model, config.adapter)
    if problems:
        raise UserError("\n".join(problems))


def _data_problems(data: Data) -> Iterator[str]:
    for name in ("height", "width"):
        value = getattr(data, name)
        if value % 16:
            yield f"data.{name}={value}: must be divisible by 16, e.g. {max(16, round(value / 16) * 16)}"
    if data.num_frames % 4 != 1:
        near = max(1, data.num_frames // 4 * 4 + 1)
        yield f"data.num_frames={data.num_frames}: must be 4k+1 (17, 93 …), e.g. {near}"
    if data.reader != "gr1_100" and not data.path and not data.builder:
        yield "data.path: not set. Give the folder of your data: data.path=DIR"
    try:
        re.compile(data.recordings or "")
    except re.error as error:
        yield f"data.recordings={data.recordings}: not a regular expression ({error}), e.g. '^(.*)_[0-9]+$'"
    for pair in data.swaps:
        if len({w for w in pair if w.strip()}) != 2 or len(pair) != 2:
            yield f"data.swaps: {pair} is no pair of two different words, e.g. data.swaps=[[left,right]]"
    yield from _camera_problems(data)


def _camera_problems(data: Data) -> Iterator[str]:
    cameras = data.cameras
    if not cameras:
        if data.tiling != "auto":
            yield f"data.tiling={data.tiling}: needs several cameras, e.g. data.cameras=[NAME,NAME]"
        return
    if data.reader != "lerobot":
        yield f"data.cameras: data.reader={data.reader} has one camera per video; set data=lerobot or data.cameras=[]"
    if data.camera is not None:
        yield f"data.camera={data.camera}: set either data.camera or data.cameras"
    if data.views:
        yield "data.views: set either data.views (cameras already side by side in the files) or data.cameras"
    twice = sorted({c for c in cameras if cameras.count(c) > 1})
    if twice:
        yield f"data.cameras: {', '.join(twice)} appears twice"
    try:
        tile_size(data)
    except UserError as error:
        yield str(error)


def _training_problems(config: Config) -> Iterator[str]:
    training, schedule = config.training, config.training.schedule
    yield from _conditioning_problems(training, config.data.num_frames)
    if config.generation.chunks > 1 and config.data.num_frames <= OVERLAP:
        yield (
            f"generation.chunks={config.generation.chunks}: a chunk of data.num_frames={config.data.num_frames} has no frame "
            f"besides its {OVERLAP} conditioning frames. Set data.num_frames to at least {OVERLAP + 4}."
        )
    if not training.validation.sigmas:
        yield "training.validation.sigmas=[]: give at least one noise level in (0, 1), e.g. [0.5]"
    if any(not 0 < s < 1 for s in training.validation.sigmas):
        yield f"training.validation.sigmas={training.validation.sigmas}: each must lie in (0, 1)"
    if schedule.total_samples <= schedule.warmup_samples:
        yield f"training.schedule.total_samples={schedule.total_samples}: must be greater than warmup_samples"
    if config.hardware.checkpointing == "auto" and config.hardware.memory_gb is None:
        yield "hardware.memory_gb: not set. checkpointing=auto needs the device's memory, e.g. hardware.memory_gb=24"
    if not config.generation.seeds:
        yield "generation.seeds=[]: give at least one seed. Set generation.split=none to make no videos."
    if len(set(config.generation.seeds)) != len(config.generation.seeds):
        yield f"generation.seeds={config.generation.seeds}: a seed appears twice"
    for measure, margin in config.margins.items():
        if not margin > 0:
            yield f"margins.{measure}={margin}: must be greater than 0"


def _conditioning_problems(training: Training, num_frames: int) -> Iterator[str]:
    counts, latent_frames = training.condition_frames, (num_frames - 1) // 4 + 1
    if not counts or abs(sum(counts.values()) - 1) > 1e-6 or min(counts.values()) < 0:
        yield f"training.condition_frames={counts}: probabilities must be at least 0 and sum to 1"
    elif max(counts) >= latent_frames or min(counts) < 0:
        yield (
            f"training.condition_frames={counts}: counts must lie from 0 to {latent_frames - 1}; "
            f"{num_frames} frames are {latent_frames} latent frames"
        )


def _adapter_problems(config: Config) -> Iterator[str]:
    adapter: Adapter = config.adapter
    if adapter.truncate_from and adapter.kind == "none":
        yield "adapter.truncate_from: adapter=none has no adapter. Set the kind of the adapter that is truncated."
    if adapter.bias and adapter.kind == "dora":
        yield "adapter.bias=true: peft supports it for LoRA only. Set adapter=lora or adapter.bias=false."
    if adapter.bias and adapter.init != "kaiming":
        yield f"adapter.bias=true: peft supports it with adapter.init=kaiming only, not {adapter.init}"
    if adapter.dropout > 0 and config.hardware.compile and config.hardware.checkpointing != "none":
        yield (
            "adapter.dropout: with compiled blocks, recomputed activations would draw another dropout (peft #3020). "
            "Set hardware.compile=false or adapter.dropout=0."
        )


def _judge_problems(judge: Judge) -> Iterator[str]:
    if judge.name == "server" and not judge.url:
        yield "judge.url: not set. Give the server's address: judge.url=http://HOST:PORT/v1"
    if judge.samples > 1 and judge.temperature == 0:
        yield f"judge.samples={judge.samples}: at judge.temperature=0 all answers are the same. Set 0.7 or null."
    if judge.name != "none" and not judge.rubrics:
        yield "judge.rubrics=[]: the judge has no question. Set judge.rubrics=[physics,instruction], or judge=none."
    if judge.name == "reason2" and not judge.source:
        yield "judge.source: not set. Give a hub repository or a folder."


def _objective_problems(objective: str) -> Iterator[str]:
    known = [*LOSSES, *MEASURES]
    if objective not in known:
        near = difflib.get_close_matches(objective, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(known)}"
        yield f"objective={objective}: no such loss or measure; {hint}"
