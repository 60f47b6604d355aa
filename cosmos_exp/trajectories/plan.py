"""From the command line to a checked job: the runs, the settings that they share, the prompts, and the videos to make.

There is one candidate per run, prompt and seed, in a fixed order, each named by all that decides its pixels.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cosmos_exp.config.composing import compose_config, validated
from cosmos_exp.config.hashing import differences
from cosmos_exp.config.layers import adapter_label
from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.record import load_config
from cosmos_exp.config.rollout import rollout_frames
from cosmos_exp.config.schema import LARGEST_NOISE_SEED, Config
from cosmos_exp.data.dataset import Dataset, load_dataset
from cosmos_exp.data.pairs import HeldOut, pair_frames, read_test_pairs
from cosmos_exp.data.readers.records import TestPair
from cosmos_exp.data.scenes import scenes
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.experiment.checks import check_conditioning, check_making
from cosmos_exp.files import JsonObject, file_sha256, inside_by_name, json_sha256
from cosmos_exp.generation.videos import num_conditioning_frames
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.trajectories.actions import InverseDynamics, load_actions
from cosmos_exp.trajectories.selection import Rule, check_rule
from cosmos_exp.world.model_folder import ensure_model

PAIRS = "Give a folder with NAME.png (the first frame) and NAME.txt (the prompt)."
MOST_SEEDS = 100_000
# What --set may change: how videos are made and scored here. The rest describes the run and its adapter.
SETTABLE = ("hardware", "judge", "measures", "sampson", "generation")
SETTABLE_KEYS = ("cache_dir", "data.path", "data.test_path", "model.source", "model.revision", "model.guardrail")
NOT_SETTABLE = {"generation.seeds": "--seeds", "generation.split": "--prompts", "generation.max_prompts": "--prompts"}
# Keys of the data that decide what a video looks like.
PICTURE_KEYS = {"height", "width", "num_frames", "fps", "resize", "views", "cameras", "tiling"}
NO_ADAPTER = "base"  # in place of an adapter's hash


@dataclass(frozen=True)
class Request:
    """What the command line asks for; see `cosmos-exp trajectories --help`."""

    runs: tuple[str, ...]
    rule: Rule
    prompts: str | None = None
    seeds: str | None = None
    with_real: bool = False
    actions: str | None = None
    settings: tuple[str, ...] = ()

    def recorded(self) -> JsonObject:
        """The request without paths and addresses of this machine."""
        content: JsonObject = {"runs": [Path(run).name for run in self.runs]}
        for name, value in {**asdict(self.rule), "seeds": self.seeds, "with_real": self.with_real}.items():
            if value not in (None, False):
                content[name] = value
        content["settings"] = [word for word in self.settings if "/" not in word]
        return content


@dataclass(frozen=True)
class SourceRun:
    """A finished run.

    Attributes:
        name: of its folder.
        label: of its adapter, e.g. lora-r32.
        adapter: the adapter file; None: the base model.
        sha256: of the adapter file; NO_ADAPTER without one.
        fingerprint: of its data.
    """

    name: str
    label: str
    adapter: Path | None
    sha256: str
    fingerprint: str


@dataclass(frozen=True)
class Start:
    """A prompt with its conditioning frames.

    Attributes:
        scene: prompts with the same first frame have the same one.
        frames: uint8 (k, H, W, 3), as the model sees them.
        sha256: of these frames.
    """

    pair: TestPair
    scene: str
    frames: np.ndarray
    sha256: str


@dataclass(frozen=True)
class Prompts:
    """The prompts of a request by their names. `dataset`: of the first run; None if it was not read."""

    starts: dict[str, Start]
    held_out: HeldOut
    dataset: Dataset | None


@dataclass(frozen=True)
class Job:
    """A checked request: all that is known before the first video is made. `candidates`: from `plan`."""

    request: Request
    config: Config
    sources: list[SourceRun]
    prompts: Prompts
    candidates: pd.DataFrame
    idm: InverseDynamics | None
    fingerprints: dict[str, str]


def prepare_job(request: Request) -> Job:
    """Check a request. Nothing is written.

    Raises:
        UserError: what is wrong with it.
    """
    config, sources = read_sources(request.runs, request.settings)
    seeds = list(config.generation.seeds)
    if request.seeds is not None:
        seeds = parse_seeds(request.seeds)
    check_rule(request.rule, config, len(seeds) * len(sources))
    idm = None
    if request.actions:
        idm = load_actions(request.actions, torch.device("cpu"))
        idm.check(rollout_frames(config), config.generation.fps)
    check_making(config)
    prompts = read_prompts(config, request.prompts, sources, request.with_real)
    fingerprints = ensure_model(config.model, cache_root(config)).fingerprints()
    candidates = plan(config, sources, prompts.starts, seeds, fingerprints)
    return Job(request, config, sources, prompts, candidates, idm, fingerprints)


def parse_seeds(text: str) -> list[int]:
    """The seeds of `0..9`, `0,3,7` or `0..4,10..14`, each once, in the order given.

    Raises:
        UserError: it is neither, or a seed is too large.
    """
    seeds: dict[int, None] = {}
    for word in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,12})\s*(?:\.\.\s*(\d{1,12})\s*)?", word)
        first, last = 1, 0
        if match:
            first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last > LARGEST_NOISE_SEED or last - first >= MOST_SEEDS:
            raise UserError(
                f"--seeds {text}: write e.g. 0..9 or 0,3,7..9, at most {MOST_SEEDS} seeds of 0 to {LARGEST_NOISE_SEED}"
            )
        seeds |= dict.fromkeys(range(first, last + 1))
    return list(seeds)


# --- runs ---


def read_sources(paths: Sequence[str], words: Sequence[str]) -> tuple[Config, list[SourceRun]]:
    """The configuration under which all runs generate and are scored, and the runs.

    Args:
        words: overrides from --set.

    Raises:
        UserError: a folder is no finished run, two have one name, or they do not make and score videos alike.
    """
    sources: dict[str, SourceRun] = {}
    configs, settings = [], []
    for path in paths:
        folder = _finished_run(Path(path).expanduser())
        config = with_settings(load_config(folder.config), words)
        name, manifest = folder.path.name, folder.manifest
        if name in sources:
            raise UserError(
                f"RUN {path}: two runs are named {name}, and episodes are marked by that name. Name a run once, or rename one "
                "folder."
            )
        adapter, digest = None, NO_ADAPTER
        if config.adapter.kind != "none":
            adapter = folder.adapter_file
            digest = file_sha256(adapter)
        fingerprint = str(manifest.get("data_fingerprint", ""))
        sources[name] = SourceRun(name, adapter_label(config.adapter), adapter, digest, fingerprint)
        configs.append(config)
        settings.append(_shared(config, manifest))
        if changed := differences(settings[0], settings[-1]):
            raise UserError(
                f"RUN {name} does not make and score videos as {next(iter(sources))} does ({'; '.join(changed[:3])}). "
                "Write a data set for each with its own --out."
            )
    return configs[0], list(sources.values())


def _finished_run(path: Path) -> RunFolder:
    """The folder of a finished run.

    Raises:
        UserError: it is none, or its adapter is missing.
    """
    folder = RunFolder(path)
    if not folder.config.is_file():
        runs = sorted(str(file.parent) for file in folder.path.glob("*/config.yaml"))
        if runs:
            raise UserError(f"RUN {path}: is a folder of runs. Name its runs: {', '.join(runs[:4])} …")
        raise UserError(f"RUN {path}: no config.yaml. Give the folder of a finished run.")
    state = folder.status.get("state", "not started")
    if state != "done":
        raise UserError(f"RUN {path}: is not finished ({state}). Finish it with `cosmos-exp run run_dir={path}`.")
    if load_config(folder.config).adapter.kind != "none" and not folder.adapter_file.is_file():
        raise UserError(f"RUN {path}: its adapter {folder.adapter_file} is missing. Copy it here, or run it again.")
    return folder


def _shared(config: Config, manifest: JsonObject) -> JsonObject:
    """What has to be the same in all runs of one data set."""
    pictures = settings_of(config)
    return {
        "model": {"name": config.model.name, "fingerprints": manifest.get("model", {}).get("fingerprints")},
        "data": pictures["data"],
        "generation": pictures["generation"],
        "training": {"condition_timestep": config.training.condition_timestep},
        "sampson": config.sampson.model_dump(),
        "measures": config.measures.model_dump() | {"references": None},
        "judge": config.judge.model_dump(),
    }


def settings_of(config: Config) -> JsonObject:
    """The settings that decide what a video looks like, besides prompt, first frame, seed, adapter and model."""
    return {
        "generation": config.generation.model_dump(exclude={"seeds", "split", "max_prompts"}),
        "data": config.data.model_dump(include=PICTURE_KEYS),
        "condition_timestep": config.training.condition_timestep,
        "hardware": [config.hardware.device, config.hardware.mixed_precision, config.hardware.guidance],
        "approximate": config.approximate.model_dump(),
    }


def with_settings(config: Config, words: Sequence[str]) -> Config:
    """A copy of a run's configuration with the overrides of --set.

    Raises:
        UserError: an unknown key or value, or a key that belongs to the run.
    """
    keys = [_settable(word) for word in words]
    changes: JsonObject = {"run_dir": None}
    if keys:
        composed = compose_config(list(words))
        for key in keys:
            changes[key] = attrgetter(key)(composed)
    return validated(config.updated(changes).model_dump())


def _settable(word: str) -> str:
    """The key or group of an override.

    Raises:
        UserError: it is none, or --set may not change it.
    """
    key, sign, _ = word.partition("=")
    if not sign or key.startswith(("+", "~")):
        raise UserError(f"--set {word}: write KEY=VALUE, e.g. --set hardware.num_threads=1")
    if key in NOT_SETTABLE:
        raise UserError(f"--set {word}: give {NOT_SETTABLE[key]} instead.")
    if key.split(".")[0] not in SETTABLE and key not in SETTABLE_KEYS:
        allowed = f"{'.*, '.join(SETTABLE)}.*, {', '.join(SETTABLE_KEYS)}"
        raise UserError(f"--set {word}: belongs to the run and its adapter. Keys that can be set: {allowed}.")
    return key


# --- prompts and videos ---


def read_prompts(config: Config, folder: str | None, sources: Sequence[SourceRun], with_data: bool) -> Prompts:
    """The prompts of a folder, or the test prompts of the runs.

    Args:
        folder: as `cosmos-exp generate --prompts` takes it; None: the runs' own prompts.
        with_data: read the data of the first run in any case.

    Raises:
        UserError: there are no prompts, the data has changed, or the runs have different data.
        RunError: files are bad.
    """
    dataset, held_out, first = None, {}, sources[0]
    if with_data or folder is None:
        dataset = load_dataset(config)
        if first.fingerprint not in ("", dataset.fingerprint):
            raise UserError(
                f"RUN {first.name}: its data has changed since ({first.fingerprint} -> {dataset.fingerprint}). Restore it, or "
                "give --prompts DIR and leave --with-real out."
            )
    if folder is not None:
        pairs = _read_folder(Path(folder).expanduser())
    else:
        assert dataset is not None
        for source in sources:
            if source.fingerprint != first.fingerprint:
                raise UserError(
                    f"RUN {source.name}: has other data than {first.name}, so they share no test prompts. Give --prompts DIR."
                )
        pairs, held_out = dataset.pairs, dataset.held_out
        if not pairs:
            raise UserError(f"RUN {first.name}: has no prompts of its own. Give --prompts DIR. {PAIRS}")
    check_conditioning(config, pairs)
    by_scene = scenes(pairs, held_out, config.data.recordings)
    count = num_conditioning_frames(config.generation.mode)
    starts = {}
    for pair in pairs:
        try:
            frames = pair_frames(pair, held_out, config.data, count)
        except RunError as error:
            raise UserError(f"--prompts {folder}: {error}") from error
        starts[pair.name] = Start(pair, by_scene[pair.name], frames, hashlib.sha256(frames.tobytes()).hexdigest())
    return Prompts(starts, held_out, dataset)


def _read_folder(folder: Path) -> list[TestPair]:
    if not folder.is_dir():
        raise UserError(f"--prompts {folder}: no such folder. {PAIRS}")
    problems: list[str] = []
    pairs = read_test_pairs(folder, problems)
    if not pairs:
        problems.append(f"--prompts {folder}: {PAIRS}")
    if problems:
        raise UserError("\n".join(problems))
    return pairs


def plan(
    config: Config, sources: Sequence[SourceRun], starts: Mapping[str, Start], seeds: Sequence[int], model: object
) -> pd.DataFrame:
    """All videos that may be made: the first seed for all runs and prompts, then the second …

    Args:
        model: fingerprints of the base model.

    Returns:
        one row per video: what the set says of it, and `file`, its name, with hex digits of all that decides its pixels, so
        that a changed request never uses it.
    """
    settings = settings_of(config)
    videos = []
    for seed in seeds:
        for run in sources:
            for sample, start in starts.items():
                content = [settings, model, run.sha256, start.pair.prompt, start.sha256, seed]
                video = {
                    "run": run.name,
                    "adapter": run.label,
                    "adapter_sha256": run.sha256,
                    "seed": seed,
                    "prompt": start.pair.prompt,
                    "sample": sample,
                    "scene": start.scene,
                    "source_frame_sha256": start.sha256,
                    "file": f"{run.name}__{sample}__seed{seed}-{json_sha256(content)[:12]}.mp4",
                }
                inside_by_name(Path(), video["file"])  # refuses a name that no disk takes
                videos.append(video)
    return pd.DataFrame(videos)
