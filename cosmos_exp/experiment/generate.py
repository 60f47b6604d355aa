"""Videos with an adapter: stage 3 of a run, and `AdaptedPipeline`, one base model with one adapter file after another."""

from __future__ import annotations

import hashlib
import math
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from cosmos_exp.config.adapter_file import PEFT_FILE, find_adapter, open_adapter, refuse_unlike_lora
from cosmos_exp.config.context import RunContext
from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.rollout import chunk_prompts, rollout_frames
from cosmos_exp.config.schema import Config
from cosmos_exp.data.cache import RunCache
from cosmos_exp.data.dataset import Dataset
from cosmos_exp.data.pairs import pair_frames
from cosmos_exp.data.readers.records import TestPair
from cosmos_exp.data.video import probe
from cosmos_exp.errors import UserError
from cosmos_exp.experiment.prepare import Inputs, encode_missing
from cosmos_exp.experiment.record import device_of, dtype_of, free_memory, recorded_stage, set_aside
from cosmos_exp.experiment.scored import drop_stale
from cosmos_exp.files import atomic_path, json_sha256
from cosmos_exp.generation.videos import Generator, VideoTask, num_conditioning_frames
from cosmos_exp.metrics.kept import BASE as BASE_VIDEO
from cosmos_exp.run_folder import ADAPTER_FILE
from cosmos_exp.run_folder.records import damaged
from cosmos_exp.text import one_line
from cosmos_exp.world import adapter as adapters
from cosmos_exp.world.adapter import Mix
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
    kept = kept_pairs(config, dataset)
    tasks = video_tasks(config, dataset.tested + dataset.probes + kept, folder.video)
    of_base = video_tasks(config, [replace(pair, name=pair.name + BASE_VIDEO) for pair in kept], folder.video)
    drop_stale(context)
    if folder.stage_done("generate", stage_hash(config, "generate")) and all(t.path.is_file() for t in tasks + of_base):
        return
    set_aside(context, "generate", folder.videos, folder.references)
    with recorded_stage("generate", context):
        if not tasks:
            if processes.is_main:
                print(
                    "no test pairs: nothing to generate. Set data.test_path, or hold clips out with data.test_videos."
                )
            return
        try:
            mix = [] if config.adapter.kind == "none" else [(find_adapter(folder.adapter), 1.0)]
            mixes: dict[str, Mix] = {config.name: mix}
            if of_base:
                mixes[BASE_VIDEO] = []
            pipeline = AdaptedPipeline(config, mixes, inputs.model, inputs.cache, processes.device)
        except UserError as error:
            raise damaged(folder.adapter_file, error) from error
        pipeline.make(config.name, processes.shard(tasks))
        stored = [(task, _stored(config, inputs, task)) for task in processes.shard(of_base)]
        for task, file in stored:  # the base's videos are the same for every adapter of a study
            if file.is_file():
                _copy(file, task.path)
        pipeline.make(BASE_VIDEO, [task for task, _ in stored])
        for task, file in stored:
            _copy(task.path, file)
        if processes.is_main:
            kernel = attention_kernel(pipeline.transformer, dtype_of(config), processes.device)
            guardrail = pipeline.generator.pipe.safety_checker.record()
            folder.update_manifest(guardrail=guardrail, speed={"attention_of_videos": kernel})
        del pipeline
        free_memory()


def _stored(config: Config, inputs: Inputs, task: VideoTask) -> Path:
    """Where the cache has a video of the base, by everything that decides what it looks like."""
    generation = config.generation.model_dump(exclude={"seeds", "max_prompts", "split", "merge_adapter"})
    data = config.data.model_dump(include={"height", "width", "num_frames", "resize"})
    hardware = config.hardware.model_dump(include={"device", "mixed_precision", "guidance", "attention"})
    frames = hashlib.sha256(task.frames().tobytes()).hexdigest()
    rest = [config.training.condition_timestep, config.model.prompt_tokens, task.prompts, task.seed, frames]
    key = json_sha256([inputs.cache.fingerprints, generation, data, hardware, *rest])
    return cache_root(config) / "kept" / f"{key[:32]}.mp4"


def _copy(source: Path, target: Path) -> None:
    """Copy a file that is not there yet."""
    if not target.is_file():
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)


def kept_pairs(config: Config, dataset: Dataset) -> list[TestPair]:
    """The pairs on which an adapter is compared with the base; the base itself has none."""
    return [] if config.adapter.kind == "none" else dataset.kept


def video_tasks(config: Config, pairs: Sequence[TestPair], path: Callable[[str, int], Path]) -> list[VideoTask]:
    """One task per test pair and seed; `path(sample, seed)` is the video's file.

    Raises:
        UserError: a prompt has no line for each chunk (generation.chunk_prompts=lines).
    """
    count = num_conditioning_frames(config)
    tasks = []
    for pair in pairs:
        prompts = tuple(chunk_prompts(config, pair.prompt, pair.name))
        frames = partial(pair_frames, pair, config.data, count)
        for seed in config.generation.seeds:
            tasks.append(VideoTask(pair.name, seed, pair.prompt, path(pair.name, seed), frames, prompts))
    return tasks


# --- `cosmos-exp generate`: videos from adapter files ---


def find_adapters(groups: Sequence[Sequence[str]]) -> dict[str, Mix]:
    """Adapters by the name of their output folder; `base` has no file.

    Args:
        groups: paths as in `find_adapter`, or `base`. A group in which a path has a weight, PATH:0.7, is one mixture; each
            path of another group is used alone.

    Raises:
        UserError: there is no adapter at a path, two have the same name, or some cannot be mixed.
    """
    found: dict[str, Mix] = {}
    for words in groups:
        parts = [_weighted(word) for word in words]
        is_mixture = any(weight is not None for _, weight in parts)
        for group in [parts] if is_mixture else [[part] for part in parts]:
            mix, names = [], []
            for word, weight in group:
                if word == BASE and len(group) == 1:
                    names.append(BASE)
                    continue
                file = find_adapter(Path(word).expanduser())
                mix.append((file, 1.0 if weight is None else weight))
                names.append(_name_of(file) + (f"-{mix[-1][1]:g}" if is_mixture else ""))
                if len(group) > 1:
                    refuse_unlike_lora(file)
            name = "+".join(names)
            if name in found:
                raise UserError(f"--adapter {words[0]}: a second adapter named {name}; rename its folder")
            found[name] = mix
    return found


def _weighted(word: str) -> tuple[str, float | None]:
    """The path and the weight of PATH:WEIGHT; None for a path alone.

    Raises:
        UserError: the weight is not finite.
    """
    path, _, number = word.rpartition(":")
    try:
        weight = float(number)
    except ValueError:
        return word, None
    if not path or Path(word).exists():
        return word, None
    if not math.isfinite(weight):
        raise UserError(f"--adapter {word}: the weight must be finite")
    return path, weight


def _name_of(file: Path) -> str:
    """The run's or folder's name for a run's adapter, <run>-r8 for its adapter-r8/, else the file's name without suffix."""
    if file.is_file() and file.name not in (ADAPTER_FILE, PEFT_FILE):
        return file.stem
    folder = file.absolute()
    if file.is_file():
        folder = folder.parent
    start, dash, ending = folder.name.partition("-")
    return f"{folder.parent.name}{dash}{ending}" if start == "adapter" else folder.name


def adapter_tasks(config: Config, names: Iterable[str], pairs: Sequence[TestPair], out: Path) -> list[VideoTask]:
    """The videos out/NAME/SAMPLE__seedK.mp4 of every adapter, test pair and seed.

    Raises:
        UserError: a prompt lacks a line of a chunk, or a video exists with another length.
    """
    tasks = []
    for name in names:
        tasks += video_tasks(config, pairs[: config.generation.max_prompts], partial(_video_path, out / name))
    check_lengths(config, tasks)
    return tasks


def _video_path(folder: Path, sample: str, seed: int) -> Path:
    return folder / f"{sample}__seed{seed}.mp4"


def check_lengths(config: Config, tasks: Sequence[VideoTask]) -> None:
    """Refuse to keep videos of another length: they were made with other chunks or another data.num_frames.

    Raises:
        UserError: there is one.
    """
    frames = rollout_frames(config)
    for task in tasks:
        if task.path.is_file() and (existing := probe(task.path).num_frames) != frames:
            raise UserError(
                f"{task.path}: exists with {existing} frames, and "
                f"generation.chunks={config.generation.chunks} makes {frames}. Give another --out, or delete it."
            )


def load_pipeline_for(
    config: Config, files: Mapping[str, Mix], tasks: Sequence[VideoTask], alpha: float | None = None
) -> AdaptedPipeline:
    """`AdaptedPipeline` outside of a run.

    Args:
        files: from `find_adapters`.
        tasks: all videos that it will be asked for, whose prompts are encoded.
        alpha: for adapter files without metadata.

    Raises:
        UserError: an adapter does not fit the model.
    """
    model = ensure_model(config)
    device = device_of(config)
    cache = RunCache(config, model.fingerprints())
    prompts = [prompt for task in tasks for prompt in task.prompts]
    encode_missing(config, model, cache, device, [*prompts, negative_prompt(config)])
    return AdaptedPipeline(config, files, model, cache, device, alpha)


class AdaptedPipeline:
    """One loaded base model that generates with one adapter after another.

    Args:
        files: the adapters by name, several of them with their weights; none is the model without an adapter.
        cache: with all prompts that it will be asked for.
        alpha: for adapter files without metadata.

    Attributes:
        seconds: in which the last adapter was put into the model, in place of the one before it.

    Raises:
        UserError: an adapter does not fit the model, or those of a mixture were trained on different bases.
    """

    def __init__(
        self,
        config: Config,
        files: Mapping[str, Mix],
        model: ModelFolder,
        cache: RunCache,
        device: torch.device,
        alpha: float | None = None,
    ):
        self.fingerprint = cache.fingerprints["transformer"]
        self.config, self.files, self.alpha = config, files, alpha
        for mix in files.values():  # all of them before the first video
            self._check(mix)
        self.negative = negative_prompt(config)
        guardrail = load_guardrail(config.model.guardrail)
        self.transformer, _ = load_transformer(model, dtype_of(config))
        pipe = load_pipeline(model, self.transformer, load_vae(model, dtype_of(config)), guardrail).to(device)
        self.generator = Generator(config, pipe, cache.read, device)
        self._name: str | None = None  # of the adapter that is in the model
        self._original: dict[str, torch.Tensor | None] = {}
        self.seconds = 0.0

    def make(self, name: str, tasks: Sequence[VideoTask]) -> int:
        """Generate the videos of an adapter whose files do not exist. Returns how many.

        Raises:
            RunError: the guardrail refuses a prompt.
        """
        if all(t.path.is_file() for t in tasks):
            return 0
        self._use(name)
        return self.generator.make(tasks, self.negative)

    def _use(self, name: str) -> None:
        """Put an adapter into the model, in place of the one that is in it."""
        if name == self._name:
            return
        began = time.perf_counter()
        adapters.remove(self.transformer, self._original)
        self._name, self._original = name, {}
        mix = self.files[name]
        if mix:
            merged, keep = self.config.generation.merge_adapter, len(self.files) > 1
            with warnings.catch_warnings(action="always"):
                self._original = adapters.apply(self.transformer, mix, self.alpha, merged, keep)
        self.seconds = time.perf_counter() - began

    def _check(self, mix: Mix) -> None:
        """Check that adapters fit the model. Warn if one was trained on a transformer with another fingerprint.

        Raises:
            UserError: one is of another size, or two of a mixture were trained on different bases.
        """
        bases: dict[str, Path] = {}
        for file, _ in mix:
            record = open_adapter(file, self.alpha, self.config.model).record
            trained_on = record.get("fingerprints", {}).get("transformer", self.fingerprint)
            if trained_on != self.fingerprint:
                base = one_line(record.get("base_model"))
                with warnings.catch_warnings(action="always"):
                    warnings.warn(f"{file} was trained on {base} with other weights than this model's", stacklevel=2)
            bases[trained_on] = file
        if len(bases) > 1:
            raise UserError(
                f"--adapter: {' and '.join(map(str, bases.values()))} were trained on different base models. Mix adapters of "
                "one base, or use each with its own."
            )
