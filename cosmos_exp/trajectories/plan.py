"""From the command line to a checked job: the run, its settings here, the prompts, and the videos to make."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import numpy as np

from cosmos_exp.config.adapter_file import adapter_sha256, find_adapter
from cosmos_exp.config.composing import compose_config, validated
from cosmos_exp.config.record import load_config
from cosmos_exp.config.rollout import rollout_frames
from cosmos_exp.config.schema import Config
from cosmos_exp.data.dataset import Dataset, load_dataset
from cosmos_exp.data.pairs import pair_frames, read_test_pairs
from cosmos_exp.data.readers.records import TestPair
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.experiment.checks import MAKING, check_conditioning, check_inputs
from cosmos_exp.experiment.generate import video_tasks
from cosmos_exp.files import JsonObject, inside_by_name, json_sha256
from cosmos_exp.generation.videos import VideoTask, num_conditioning_frames
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.trajectories.actions import InverseDynamics, load_actions
from cosmos_exp.trajectories.selection import check_keep, scored_measures
from cosmos_exp.world.model_folder import ensure_model

PAIRS = "Give a folder with NAME.png (the first frame) and NAME.txt (the prompt)."
# What --set may change: how videos are made and scored here. The rest describes the run and its adapter.
SETTABLE = re.compile(
    r"(?:(?:hardware|judge|measures|sampson|generation)(?:\.\w+)*|cache_dir|data\.(?:test_)?path|model\.(?:source|revision|guardrail))="
)
# Keys of the data that decide what a video looks like.
PICTURE_KEYS = {"height", "width", "num_frames", "fps", "resize", "views", "cameras", "tiling"}


@dataclass(frozen=True)
class Request:
    """What the command line asks for; see `cosmos-exp trajectories --help`."""

    run: str
    prompts: str | None = None
    keep: str | None = None
    seeds: int | None = None
    target: int | None = None
    actions: str | None = None
    settings: Sequence[str] = ()


@dataclass(frozen=True)
class Job:
    """A checked request: all that is known before the first video is made.

    Attributes:
        config: of the run, with the settings of --set.
        adapter: the adapter file; None: the base model.
        adapter_sha256: of that file; `base` without one.
        pairs: the prompts by their names.
        frames: the conditioning frames of each prompt, uint8 (k, H, W, 3), as the model sees them.
    """

    request: Request
    folder: RunFolder
    config: Config
    adapter: Path | None
    adapter_sha256: str
    fingerprints: dict[str, str]
    pairs: dict[str, TestPair]
    frames: dict[str, np.ndarray]
    idm: InverseDynamics | None

    def tasks(self, videos: Path) -> list[VideoTask]:
        """The videos that may be made: the first seed for all prompts, then the second …

        Args:
            videos: their folder. Each has hex digits in its name of all that decides its pixels, so that a changed request
                never uses it.
        """
        shared = [settings_of(self.config), self.fingerprints, self.adapter_sha256]

        def path(sample: str, seed: int) -> Path:
            content = [*shared, self.pairs[sample].prompt, self.frame_hash(sample), seed]
            name = f"{self.folder.path.name}__{sample}__seed{seed}-{json_sha256(content)[:12]}.mp4"
            return inside_by_name(videos, name)

        tasks = video_tasks(self.config, list(self.pairs.values()), path)
        return sorted(tasks, key=lambda task: self.config.generation.seeds.index(task.seed))

    def frame_hash(self, sample: str) -> str:
        """SHA-256 of a prompt's conditioning frames."""
        return hashlib.sha256(self.frames[sample].tobytes()).hexdigest()


def prepare_job(request: Request) -> Job:
    """Check a request. Nothing is written.

    Raises:
        UserError: what is wrong with it.
        RunError: files of the data are bad.
    """
    folder = RunFolder(Path(request.run).expanduser())
    state = folder.status.get("state", "no run")
    if state != "done":
        raise UserError(f"RUN {request.run}: is not finished ({state}). Give the folder of one finished run.")
    config = with_settings(load_config(folder.config), request.settings)
    adapter, digest = None, "base"
    if config.adapter.kind != "none":
        adapter = find_adapter(folder.path)
        digest = adapter_sha256(adapter)
    for option in ("seeds", "target"):
        number = getattr(request, option)
        if number is not None and number < 1:
            raise UserError(f"--{option} {number}: must be at least 1.")
    if request.seeds:
        config = config.updated({"generation.seeds": list(range(request.seeds))})
    if request.keep is not None:
        check_keep(request.keep, scored_measures(config))
    idm = None
    if request.actions:
        idm = load_actions(request.actions)
        idm.check(rollout_frames(config), config.generation.fps)
    check_inputs(config, MAKING)
    if request.prompts is not None:
        pairs = _read_prompts(Path(request.prompts).expanduser())
    else:
        pairs = _dataset_of(config, folder).pairs
        if not pairs:
            raise UserError(f"RUN {request.run}: has no prompts of its own. Give --prompts DIR. {PAIRS}")
    check_conditioning(config, pairs)
    count, frames = num_conditioning_frames(config), {}
    for pair in pairs:
        try:
            frames[pair.name] = pair_frames(pair, config.data, count)
        except RunError as error:
            raise UserError(f"--prompts {request.prompts}: {error}") from error
    fingerprints = ensure_model(config).fingerprints()
    by_name = {pair.name: pair for pair in pairs}
    job = Job(
        request, folder, config, adapter, digest, fingerprints, by_name, frames, idm
    )  # fmt: skip
    job.tasks(Path())  # refuses a name that no disk takes, and a prompt without a line for each chunk
    return job


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
    changes: JsonObject = {"run_dir": None}
    if words:
        composed = compose_config(list(words))
    for word in words:
        key = word.partition("=")[0]
        if not SETTABLE.match(word):
            raise UserError(
                f"--set {word}: belongs to the run and its adapter. Give KEY=VALUE of hardware, judge, measures, sampson, "
                "generation, cache_dir, data.path, data.test_path, model.source, model.revision or model.guardrail."
            )
        changes[key] = attrgetter(key)(composed)
    return validated(config.updated(changes).model_dump())


def _dataset_of(config: Config, folder: RunFolder) -> Dataset:
    """The data of the run.

    Raises:
        UserError: it has changed since the run.
    """
    dataset, recorded = load_dataset(config), folder.manifest.get("data_fingerprint", "")
    if recorded not in ("", dataset.fingerprint):
        raise UserError(
            f"RUN {folder.path}: its data has changed since ({recorded} -> {dataset.fingerprint}). Restore it, or give --prompts DIR."
        )
    return dataset


def _read_prompts(folder: Path) -> list[TestPair]:
    """The pairs of a folder, as `cosmos-exp generate --prompts` takes it."""
    problems: list[str] = []
    if not folder.is_dir():
        raise UserError(f"--prompts {folder}: no such folder. {PAIRS}")
    pairs = read_test_pairs(folder, problems)
    if problems:
        raise UserError("\n".join([*problems, f"--prompts {folder}: {PAIRS}"]))
    return pairs
