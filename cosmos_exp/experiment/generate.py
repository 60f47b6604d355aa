"""Videos with an adapter: stage 3 of a run, and `AdaptedPipeline`, one base model with one adapter file after another."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from cosmos_exp.config.adapter_file import find_adapter, read_adapter
from cosmos_exp.config.context import RunContext
from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.rollout import chunk_prompts, rollout_frames
from cosmos_exp.config.schema import Config
from cosmos_exp.data.cache import RunCache
from cosmos_exp.data.pairs import HeldOut, pair_frames
from cosmos_exp.data.readers.records import TestPair
from cosmos_exp.data.video import probe
from cosmos_exp.distributed import Processes
from cosmos_exp.errors import UserError
from cosmos_exp.experiment.prepare import Inputs, encode_missing
from cosmos_exp.experiment.record import dtype_of, free_memory, recorded_stage, set_aside
from cosmos_exp.experiment.scored import drop_stale
from cosmos_exp.generation.videos import Generator, VideoTask, num_conditioning_frames
from cosmos_exp.run_folder import ADAPTER_FILE
from cosmos_exp.run_folder.records import damaged
from cosmos_exp.text import one_line
from cosmos_exp.world import adapter as adapters
from cosmos_exp.world.guardrail import load_guardrail
from cosmos_exp.world.kernels import attention_kernel
from cosmos_exp.world.loading import load_transformer, load_vae
from cosmos_exp.world.model_folder import ModelFolder, ensure_model
from cosmos_exp.world.pipeline import load_pipeline, negative_prompt

BASE = "base"  # name of the model without an adapter


def generate(context: RunContext, inputs: Inputs) -> None:
    """Make the videos that do not exist yet; the processes divide them.

    Raises:
        RunError: the guardrail refuses a prompt.
    """
    config, folder, processes = context.config, context.folder, context.processes
    dataset = inputs.dataset
    tasks = video_tasks(config, dataset.tested + dataset.probes, dataset.held_out, folder.video)
    drop_stale(context)
    if folder.stage_done("generate", stage_hash(config, "generate")) and all(t.path.is_file() for t in tasks):
        return
    set_aside(context, "generate", folder.videos, folder.references)
    with recorded_stage("generate", context):
        if not tasks:
            if processes.is_main:
                print(
                    "no test pairs: nothing to generate. Set data.test_path, or hold clips out with data.test_videos."
                )
            return
        file = None if config.adapter.kind == "none" else folder.adapter_file
        try:
            pipeline = AdaptedPipeline(config, {config.name: file}, inputs.model, inputs.cache, processes.device)
        except UserError as error:
            raise damaged(folder.adapter_file, error) from error
        pipeline.make(config.name, processes.shard(tasks), show=processes.is_main)
        if processes.is_main:
            kernel = attention_kernel(pipeline.transformer, dtype_of(config), processes.device)
            guardrail = pipeline.generator.pipe.safety_checker.record()
            folder.update_manifest(guardrail=guardrail, speed={"attention_of_videos": kernel})
        del pipeline
        free_memory()


def video_tasks(
    config: Config, pairs: Sequence[TestPair], held_out: HeldOut, path: Callable[[str, int], Path]
) -> list[VideoTask]:
    """One task per test pair and seed; `path(sample, seed)` is the video's file.

    Raises:
        UserError: a prompt has no line for each chunk (generation.chunk_prompts=lines).
    """
    count = num_conditioning_frames(config.generation.mode)
    tasks = []
    for pair in pairs:
        prompts = tuple(chunk_prompts(config, pair.prompt, pair.name))
        frames = partial(pair_frames, pair, held_out, config.data, count)
        for seed in config.generation.seeds:
            tasks.append(VideoTask(pair.name, seed, pair.prompt, path(pair.name, seed), frames, prompts))
    return tasks


# --- `cosmos-exp generate`: videos from adapter files ---


def find_adapters(words: list[str]) -> dict[str, Path | None]:
    """Adapter files by the name of their output folder; `base` has no file.

    Args:
        words: paths as in `find_adapter`, or `base`.

    Raises:
        UserError: there is no adapter at a path, or two have the same name.
    """
    files: dict[str, Path | None] = {}
    for word in words:
        file = None if word == BASE else find_adapter(Path(word).expanduser())
        name = BASE if file is None else _name_of(file)
        if name in files:
            raise UserError(f"--adapter {word}: a second adapter named {name}; rename its folder")
        files[name] = file
    return files


def _name_of(file: Path) -> str:
    """The run's or folder's name for a run's adapter, <run>-r8 for its adapter-r8/, else the file's name without suffix."""
    if file.name != ADAPTER_FILE:
        return file.stem
    folder = file.absolute().parent
    start, dash, ending = folder.name.partition("-")
    return f"{folder.parent.name}{dash}{ending}" if start == "adapter" else folder.name


def generate_adapters(
    config: Config, files: Mapping[str, Path | None], pairs: list[TestPair], out: Path, alpha: float | None
) -> Iterator[tuple[str, int, int]]:
    """Generate out/NAME/SAMPLE__seedK.mp4 for every adapter, test pair and seed. Existing videos are kept.

    Args:
        files: from `find_adapters`.
        alpha: for adapter files without metadata.

    Yields:
        (name, number of videos generated now, number of those that existed), as soon as an adapter's videos are complete.

    Raises:
        UserError: an adapter does not fit the model, a prompt lacks a line of a chunk, or a video exists with another length.
        RunError: the guardrail refuses a prompt.
    """
    tasks: dict[str, list[VideoTask]] = {}
    prompts: list[str] = []
    for name in files:
        path = partial(_video_path, out / name)
        tasks[name] = video_tasks(config, pairs[: config.generation.max_prompts], {}, path)
        check_lengths(config, tasks[name])
        for task in tasks[name]:
            prompts += task.prompts
    pipeline = load_pipeline_for(config, files, prompts, alpha)
    for name in files:
        made = pipeline.make(name, tasks[name])
        yield name, made, len(tasks[name]) - made


def _video_path(folder: Path, sample: str, seed: int) -> Path:
    return folder / f"{sample}__seed{seed}.mp4"


def check_lengths(config: Config, tasks: Sequence[VideoTask]) -> None:
    """Refuse to keep videos of another length: they were made with other chunks or another data.num_frames.

    Raises:
        UserError: there is one.
    """
    frames = rollout_frames(config)
    for task in tasks:
        if task.path.is_file() and probe(task.path).num_frames != frames:
            raise UserError(
                f"{task.path}: exists with {probe(task.path).num_frames} frames, and "
                f"generation.chunks={config.generation.chunks} makes {frames}. Give another --out, or delete it."
            )


def load_pipeline_for(
    config: Config, files: Mapping[str, Path | None], prompts: list[str], alpha: float | None = None
) -> AdaptedPipeline:
    """`AdaptedPipeline` outside of a run.

    Args:
        prompts: all prompts that it will be asked for.
    """
    model = ensure_model(config.model, cache_root(config))
    device = Processes(config.hardware.device, 1, config.hardware.num_threads).device
    cache = RunCache(cache_root(config) / "encoded", config, model.fingerprints())
    encode_missing(config, model, cache, device, [], [*prompts, negative_prompt(config.generation.negative_prompt)])
    return AdaptedPipeline(config, files, model, cache, device, alpha)


class AdaptedPipeline:
    """One loaded base model that generates with one adapter after another.

    Args:
        files: the adapter files by name; None is the model without an adapter.
        cache: with all prompts that it will be asked for.
        alpha: for adapter files without metadata.

    Raises:
        UserError: an adapter does not fit the model.
    """

    def __init__(
        self,
        config: Config,
        files: Mapping[str, Path | None],
        model: ModelFolder,
        cache: RunCache,
        device: torch.device,
        alpha: float | None = None,
    ):
        for file in files.values():  # all of them before the first video
            if file:
                read_adapter(file, alpha, config.model)
        self.config, self.files, self.alpha = config, files, alpha
        self.negative = negative_prompt(config.generation.negative_prompt)
        self.fingerprint = cache.fingerprints["transformer"]
        guardrail = load_guardrail(config.model.guardrail)
        self.transformer, _ = load_transformer(model, dtype_of(config))
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
            self._add(file)
            if self.config.generation.merge_adapter:
                self._original = adapters.merge(self.transformer, keep_original=len(self.files) > 1)

    def _add(self, file: Path) -> None:
        """Add an adapter. Warn if it was trained on a transformer with another fingerprint."""
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            record = adapters.load_adapter(self.transformer, file, self.alpha)
            trained_on = record.get("fingerprints", {}).get("transformer", self.fingerprint)
            if trained_on != self.fingerprint:
                base = one_line(record.get("base_model"))
                warnings.warn(f"{file} was trained on {base} with other weights than this model's", stacklevel=2)
