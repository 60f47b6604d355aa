"""Can this machine do this run? One list of findings for `run`, `dry_run=true`, `doctor` and `sweep`.

The checks download, render and write nothing; `access` asks the hub. `check_inputs` gets what is missing; only a run calls it.
"""

from __future__ import annotations

import math
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import psutil

from cosmos_exp.config.registry import JUDGES
from cosmos_exp.config.rollout import chunk_prompts, rollout_frames
from cosmos_exp.config.schema import Config
from cosmos_exp.data.dataset import Dataset, ensure_data, find_data
from cosmos_exp.data.pairs import has_recording, recorded_length, single_frame
from cosmos_exp.data.readers.records import TestPair
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.experiment.cost import estimate_cost
from cosmos_exp.hub import Repository, access_problem, ensure_folder, find, find_folder, is_path
from cosmos_exp.metrics.geometry.sampson import LIGHTGLUE, check_run_settings, ensure_matcher
from cosmos_exp.metrics.judges.asking import server_warning
from cosmos_exp.metrics.judges.rubric import load_rubrics
from cosmos_exp.provenance import environment, opencv_fault
from cosmos_exp.run_folder import RunFolder, in_use
from cosmos_exp.text import one_line
from cosmos_exp.tracking.wandb import check_login, chosen_mode
from cosmos_exp.training.plan import learning_rates
from cosmos_exp.world.guardrail import WEIGHTS, check_guardrail, ensure_guardrail
from cosmos_exp.world.hardware import check_gpus, driver_fault
from cosmos_exp.world.model_folder import PATTERNS, ensure_model, find_model

OTHERWISE_UNSEEN = ("adapter.init", "adapter.rank_pattern", "data.resize", "generation.crf")  # that change the result
FITS = 0.92  # of a device's memory: above it, the rest is too little for fragments and workspaces
TOO_MUCH = 2.0  # times the device's memory: an estimate is not that wrong
MORE_PROMPTS = {
    "test": "Set data.test_videos (null: a tenth of the videos) or data.test_path",
    "selection": "Set data.selection_pairs",
}


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    level: "ok", "warn": it may fail, or "FAIL": it is missing.
    text: what was found; or what is missing, where, and how to get it.
    """

    what: str
    level: str
    text: str


class Doubt(UserError):
    """What may fail, and does not stop a run."""


def findings(config: Config, names: Collection[str] = ()) -> list[Finding]:
    """The result of each check; by default of those before a run: REQUIRED and WARNINGS."""
    results = []
    for name in names or (*REQUIRED, *WARNINGS):
        try:
            level, text = "ok", CHECKS[name](config)
        except UserError as error:
            level, text = "warn" if isinstance(error, Doubt) else "FAIL", str(error)
        results.append(Finding(name, level, text))
    return results


def check_inputs(config: Config, names: Collection[str] = ()) -> None:
    """Run checks and print warnings, then download, build or render what is missing.

    Args:
        names: of the checks, as in `findings`. With those of `MAKING` the data stay as they are.

    Raises:
        UserError: it lists everything that is missing, before anything is written.
    """
    missing = []
    for finding in findings(config, names):
        if finding.level == "FAIL":
            missing.append(finding.text)
        elif finding.level == "warn":
            print(f"warning: {finding.text}", file=sys.stderr, flush=True)
    if missing:
        raise UserError("\n".join(missing))
    ensure_model(config)
    ensure_guardrail(config.model.guardrail)
    if config.judge.name == "reason2":
        ensure_folder(config.judge.source, config.judge.revision, "judge.source")
    if config.sampson.enabled:
        ensure_matcher(config.sampson)
    if not names:
        ensure_data(config)


# --- the checks: each returns what it found, or raises UserError ---


def _versions(config: Config) -> str:
    surroundings = environment()
    packages = ", ".join(f"{name} {version}" for name, version in surroundings["packages"].items())
    return f"Python {surroundings['python']}, {packages}"


def _memory(config: Config) -> str:
    """On a CPU the device's memory is what is free now; on a GPU it is hardware.memory_gb, where that is known."""
    hardware, cost = config.hardware, estimate_cost(config)
    need, where, available, device = cost.memory_gib, "per process", math.inf, ""
    if hardware.device == "cpu":
        need, where = need * hardware.num_processes, f"in {hardware.num_processes} processes"
        available = psutil.virtual_memory().available / 2**30
        device = f"; {available:.1f} GiB are free"
    elif hardware.memory_gb is not None:
        available = hardware.memory_gb * 1e9 / 2**30
        device = f"; a device has {hardware.memory_gb:g} GB"
    policies = ", ".join(f"{count} blocks {policy}" for policy, count in Counter(cost.checkpointing).items())
    words = f"training needs about {need:,.1f} GiB {where}, checkpointing {hardware.checkpointing} ({policies}){device}"
    ratio = need / (FITS * available)
    if config.adapter.is_trained and ratio > 1:
        if config.adapter.kind == "full":
            words += (
                ". adapter=full keeps all weights with their gradients and AdamW's state on each device. Set approximate.adamw_8bit="
                "true, or use a larger device (2B: one of 141 GB), or adapter=lora"
            )
        words += ". Lower data.num_frames, data.height or data.width, or set hardware.checkpointing=full."
        raise UserError(words) if ratio > TOO_MUCH else Doubt(words)
    return words


def _access(config: Config) -> str:
    """Ask the hub for every repository that is not on this machine: all licences that lack are said at once, before a run."""
    absent, problems = [], defaultdict[str, list[str]](list)
    for repo_id, revision, repo_type, key, files in repositories(config):
        if not is_path(repo_id) and find(repo_id, revision, repo_type, files) is None:
            absent.append(repo_id)
            if problem := access_problem(repo_id, repo_type):
                problems[problem].append(f"{key}: {repo_id}")
    if problems:  # without a network all have one
        raise UserError("\n".join(f"{', '.join(of)}: {problem}" for problem, of in problems.items()))
    return f"the hub gives {', '.join(absent)}" if absent else "nothing is to be downloaded"


def repositories(config: Config) -> Iterator[Repository]:
    """What a run reads from the hub, or from a folder in its place."""
    model, judge, sampson, data = config.model, config.judge, config.sampson, config.data
    if model.source != "embedded":
        yield Repository(model.source, model.revision, "model", "model.source", PATTERNS)
    if model.guardrail != "off":
        for name, files in WEIGHTS.items():
            yield Repository(name, None, "model", "model.guardrail", files)
    if judge.name == "reason2":
        yield Repository(str(judge.source), judge.revision, "model", "judge.source")
    if sampson.enabled and sampson.matcher == LIGHTGLUE:
        yield Repository(sampson.matcher_source, sampson.matcher_revision, "model", "sampson.matcher_source")
    if not (data.path or data.builder):
        yield Repository(str(data.repo_id), None, "dataset", "data.repo_id")
        if not data.test_path:
            yield Repository(str(data.test_repo_id), None, "dataset", "data.test_repo_id")


def _judge(config: Config) -> str:
    name, judge = config.judge.name, config.judge
    if name == "none":
        return name
    rubrics = load_rubrics(judge.rubrics)
    if name == "reason2":  # it takes every rubric, and its module imports torch
        return find_folder(judge.source, judge.revision, "judge.source").text
    check_rubric = getattr(JUDGES.get(name), "check_rubric", None)  # of a judge that takes some rubrics alone
    for rubric in rubrics:
        if check_rubric:
            check_rubric(rubric)
    return name


def _sampson(config: Config) -> str:
    if not config.sampson.enabled:
        return "off"
    check_run_settings(config)
    return f"matcher {config.sampson.matcher}"


def _schedule(config: Config) -> str:
    """Of data whose number is known before it is rendered or downloaded; of a folder, the inspection is followed by this check."""
    from cosmos_exp.experiment.plan import plan_data

    if not config.adapter.is_trained:
        return "nothing is trained"
    if config.data.path:
        return "checked when the videos are counted"
    return f"peak {max(learning_rates(plan_data(config)[0], config)):.3g}"


def _device(config: Config) -> str:
    if config.hardware.device == "cpu":
        return f"cpu, {psutil.cpu_count()} cores"
    count = check_gpus(config.hardware)
    import torch

    try:
        return f"{count} x {', '.join({torch.cuda.get_device_name(i) for i in range(count)})}"
    except RuntimeError as error:  # GPUs are counted without CUDA, which a driver may be too old for
        raise UserError(f"hardware.device=cuda: {driver_fault(one_line(error))}") from error


def _records(config: Config) -> str:
    if not config.run_dir or not Path(config.run_dir).is_dir():
        return "a new run"
    folder = config.folder
    folder.check()
    if folder.is_locked():
        raise UserError(in_use(folder.path))
    return f"those of {config.run_dir} can be read"


def _wandb(config: Config) -> str:
    check_login(config.tracking.mode)
    return chosen_mode(config.tracking.mode)


def _settings(config: Config) -> str:
    changed, default = [], Config()
    for key in OTHERWISE_UNSEEN:
        value = attrgetter(key)(config)
        if value != attrgetter(key)(default):
            changed.append(f"{key}={value}")
    return ", ".join(changed) or f"default {', '.join(OTHERWISE_UNSEEN)}"


def _videos(config: Config) -> str:
    from cosmos_exp.experiment.plan import plan_data

    return "; ".join(f"{value} {name}" for name, value in plan_data(config)[2])


def _server(config: Config) -> str:
    """Asks the network for judge.url."""
    if warning := server_warning(config.judge):
        raise Doubt(warning)
    return config.judge.name


def _opencv(config: Config) -> str:
    """OpenCV may be installed twice."""
    if warning := opencv_fault():
        raise Doubt(warning)
    return "installed once"


CHECKS: dict[str, Callable[[Config], str]] = {
    "versions": _versions,
    "settings": _settings,
    "weights": lambda config: find_model(config).text,
    "guardrail": lambda config: check_guardrail(config.model.guardrail),
    "access": _access,
    "judge": _judge,
    "sampson": _sampson,
    "data": lambda config: find_data(config).text,
    "schedule": _schedule,
    "device": _device,
    "memory": _memory,
    "records": _records,
    "wandb": _wandb,
    "videos": _videos,
    "server": _server,
    "opencv": _opencv,
}
WARNINGS = ("server", "opencv")
MAKING = ("weights", "guardrail", "judge", "sampson", "access", "device")  # of what makes and scores videos
# What a run needs; its first stage inspects the videos.
REQUIRED = tuple(name for name in CHECKS if name not in ("versions", "videos", *WARNINGS))


# --- the data of a run ---


def check_dataset(config: Config, dataset: Dataset) -> list[str]:
    """Find before the encoding what would stop the training, or the making of videos after it.

    Returns:
        that recordings end before the rollout, so that real and what is compared with it covers fewer frames.

    Raises:
        RunError: the run would score nothing.
        UserError: a name that leaves the folder, no prompt, a prompt without enough frames, or no optimizer step with a
            learning rate above 0.
    """
    check_scored(config, len(dataset.test), len(dataset.selection))
    every = dataset.tested + dataset.probes + dataset.kept
    for pair in every:
        RunFolder("").video(pair.name, 0)
    check_conditioning(config, every)
    if config.adapter.is_trained:
        learning_rates(len(dataset.train), config)
    return _rollout_notes(config, dataset)


def check_conditioning(config: Config, pairs: Sequence[TestPair]) -> None:
    """Check that every test pair has the frames that generation.mode conditions on, and a prompt for each chunk.

    Raises:
        UserError: generation.mode=video2world, and a pair is a single image; generation.chunk_prompts=lines, and a prompt has
            another number of lines.
    """
    for pair in pairs:
        chunk_prompts(config, pair.prompt, pair.name)
        if config.generation.mode == "video2world" and isinstance(pair.image, Path) and pair.recording is None:
            raise UserError(single_frame(pair))


def check_scored(config: Config, test: int, selection: int) -> None:
    """Check that the run would score a video, or was asked for none.

    Raises:
        RunError: there are no prompts of generation.split.
    """
    split = config.generation.split
    if {"test": test, "selection": selection}.get(split) == 0:
        raise RunError(
            f"this run would make and score no video: there are no {split} prompts. {MORE_PROMPTS[split]}, or "
            "generation.split=none to train only."
        )


def _rollout_notes(config: Config, dataset: Dataset) -> list[str]:
    frames = rollout_frames(config)
    lengths = []
    if config.generation.chunks > 1:
        for pair in dataset.tested:
            if has_recording(pair):
                lengths.append(recorded_length(pair, config.data, frames))
    short = [n for n in lengths if n < frames]
    if not short:
        return []
    several = " to ".join(map(str, sorted({min(short), max(short)})))
    return [
        f"{len(short)} of {len(lengths)} recordings are shorter than the {frames} frames of a video ({several} frames): "
        "real, and what is compared with it, covers only the frames that were recorded"
    ]
