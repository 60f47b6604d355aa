"""Videos from adapter files: one base model in memory, one adapter after another."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from cosmos_exp.config.adapter_file import find_adapter, read_adapter
from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.rollout import rollout_frames
from cosmos_exp.config.schema import Config
from cosmos_exp.data.cache import RunCache
from cosmos_exp.data.readers.records import TestPair
from cosmos_exp.data.video import probe
from cosmos_exp.distributed import Processes
from cosmos_exp.errors import UserError
from cosmos_exp.experiment.stages.common import dtype_of
from cosmos_exp.experiment.stages.tasks import tested_pairs, video_tasks
from cosmos_exp.generation.videos import Generator, VideoTask
from cosmos_exp.run_folder import ADAPTER_FILE
from cosmos_exp.text import one_line
from cosmos_exp.world import adapter as adapters
from cosmos_exp.world.encoders import Encoders
from cosmos_exp.world.guardrail import load_guardrail
from cosmos_exp.world.loading import load_transformer, load_vae
from cosmos_exp.world.model_folder import ModelFolder, ensure_model
from cosmos_exp.world.pipeline import load_pipeline, negative_prompt

BASE = "base"  # name of the model without an adapter


@dataclass(frozen=True)
class AdapterVideos:
    """The videos of one adapter.

    made, kept: number of videos generated now, and of those that existed.
    """

    name: str
    folder: Path
    made: int
    kept: int


def find_adapters(words: list[str]) -> dict[str, Path | None]:
    """Adapter files by the name of their output folder; `base` has no file.

    Args:
        words: paths as in `find_adapter`, or `base`.

    Raises:
        UserError: there is no adapter at a path, or two have the same name.
    """
    found: dict[str, Path | None] = {}
    for word in words:
        file = None if word == BASE else find_adapter(Path(word).expanduser())
        name = BASE if file is None else _name_of(file)
        if name in found:
            raise UserError(f"--adapter {word}: a second adapter named {name}; rename its folder")
        found[name] = file
    return found


def generate_adapters(
    config: Config, files: dict[str, Path | None], pairs: list[TestPair], out: Path, alpha: float | None
) -> Iterator[AdapterVideos]:
    """Generate out/NAME/SAMPLE__seedK.mp4 for every adapter, test pair and seed. Existing videos are kept.

    Args:
        files: from `find_adapters`.
        alpha: for adapter files without metadata.

    Yields:
        one result per adapter, as soon as its videos are complete.

    Raises:
        UserError: an adapter does not fit the model, a prompt lacks a line of a chunk, or a video exists with another length.
        RunError: the guardrail refuses a prompt.
    """
    tasks = {n: video_tasks(config, tested_pairs(config, pairs), {}, partial(_video_path, out / n)) for n in files}
    every = [task for own in tasks.values() for task in own]
    _check_existing(config, every)
    model = AdaptedModel(config, files, [prompt for task in every for prompt in task.prompts], alpha)
    for name in files:
        made = model.make(name, tasks[name])
        yield AdapterVideos(name, out / name, made, len(tasks[name]) - made)


def _check_existing(config: Config, tasks: list[VideoTask]) -> None:
    """Refuse to keep videos of another length: they were made with other chunks or another data.num_frames."""
    frames = rollout_frames(config)
    for path in (t.path for t in tasks if t.path.is_file()):
        found = probe(path).num_frames
        if found != frames:
            raise UserError(
                f"{path}: exists with {found} frames, and generation.chunks={config.generation.chunks} makes {frames}. "
                "Give another --out, or delete it."
            )


class AdaptedModel:
    """One loaded base model that generates with one adapter after another.

    Args:
        files: the adapter files by name; None is the model without an adapter.
        prompts: all prompts that it will be asked for.
        alpha: for adapter files without metadata.

    Raises:
        UserError: an adapter does not fit the model.
    """

    def __init__(self, config: Config, files: dict[str, Path | None], prompts: list[str], alpha: float | None = None):
        for known in (f for f in files.values() if f):  # all of them before the first video
            read_adapter(known, alpha, config.model)
        self.config, self.files, self.alpha = config, files, alpha
        model = ensure_model(config.model, cache_root(config))
        device = Processes(config.hardware.device, 1, config.hardware.num_threads).device
        fingerprints = model.fingerprints()
        guardrail = load_guardrail(config.model.guardrail)
        self.negative = negative_prompt(config.generation.negative_prompt)
        cache = _encode_prompts(config, model, fingerprints, [*dict.fromkeys(prompts), self.negative], device)
        self.transformer, _ = load_transformer(model, dtype_of(config))
        self.fingerprint = fingerprints["transformer"]
        pipe = load_pipeline(model, self.transformer, load_vae(model, dtype_of(config)), guardrail).to(device)
        self.generator = Generator(config, pipe, cache.prompt, device)
        self._name: str | None = None  # of the adapter that is in the model
        self._original: dict[str, torch.Tensor] = {}

    def make(self, name: str, tasks: Sequence[VideoTask], show: bool = True) -> int:
        """Generate the videos of an adapter whose files do not exist. Returns how many.

        Raises:
            RunError: the guardrail refuses a prompt.
        """
        if all(t.path.is_file() for t in tasks):
            return 0
        self._use(name)
        return self.generator.make(tasks, self.negative, show)

    def _use(self, name: str) -> None:
        """Put an adapter into the model, in place of the one that is in it."""
        if name == self._name:
            return
        if self._name is not None and self.files[self._name]:
            adapters.remove(self.transformer, self._original)
        self._name, self._original = name, {}
        file = self.files[name]
        if file:
            _add(self.transformer, file, self.alpha, self.fingerprint)
            if self.config.generation.merge_adapter:
                self._original = adapters.merge(self.transformer, keep_original=True)


def _encode_prompts(
    config: Config, model: ModelFolder, fingerprints: dict[str, str], prompts: list[str | None], device: torch.device
) -> RunCache:
    """A cache that holds all prompts. The encoders leave memory afterwards."""
    cache = RunCache(cache_root(config) / "encoded", config, fingerprints)
    _, missing = cache.missing([], prompts)
    if missing:
        encoders = Encoders(model, device, dtype_of(config), config.model.prompt_tokens)
        for prompt in missing:
            cache.encode_prompt(encoders, prompt)
    return cache


def _add(transformer: nn.Module, file: Path, alpha: float | None, fingerprint: str) -> None:
    """Add an adapter. Warn if it was trained on a transformer with another fingerprint."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        record = adapters.load_adapter(transformer, file, alpha)
        trained_on = record.get("fingerprints", {}).get("transformer")
        if trained_on and trained_on != fingerprint:
            warnings.warn(
                f"{file} was trained on {one_line(record.get('base_model'))} with other weights than this model's",
                stacklevel=2,
            )


def _name_of(file: Path) -> str:
    """The run's or folder's name for a run's adapter, <run>-r8 for its adapter-r8/, else the file's name without suffix."""
    if file.name != ADAPTER_FILE:
        return file.stem
    folder = file.absolute().parent
    start, _, ending = folder.name.partition("-")
    return "-".join([folder.parent.name, *([ending] if ending else [])]) if start == "adapter" else folder.name


def _video_path(folder: Path, sample: str, seed: int) -> Path:
    return folder / f"{sample}__seed{seed}.mp4"
