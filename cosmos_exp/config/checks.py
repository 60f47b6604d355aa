"""What the keys mean together: contradictions, names of the registries, sizes of the model's layers, tiles of the cameras."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from operator import attrgetter
from pathlib import Path

from pydantic import ValidationError

from cosmos_exp.config.layers import (
    MOST_SCALE,
    UNLIKE_LORA,
    adapted_layers,
    adapter_label,
    by_type,
    layer_ranks,
    layer_scale,
    linear_layers,
    matching,
    pattern_matches,
    transformer_config,
)
from cosmos_exp.config.measures import LOSSES, MEASURES
from cosmos_exp.config.registry import REGISTRIES, unknown_name
from cosmos_exp.config.rollout import OVERLAP
from cosmos_exp.config.schema import Adapter, Config, Data, Judge, Model, Sweep, Transformer
from cosmos_exp.config.tiling import tile_size
from cosmos_exp.errors import UserError
from cosmos_exp.files import inside_by_name
from cosmos_exp.text import one_line

# Keys of the adapter that describe A and B.
OF_LORA = ("rank", "alpha", "scaling", "dropout", "bias", "init", "rank_pattern", "alpha_pattern", "truncate_from")


def check(config: Config) -> None:
    """Check what pydantic's types and ranges cannot.

    Raises:
        UserError: a line for each contradiction; it names the key, and what to set.
    """
    problems = [*_wrong_names(config), *_contradictions(config), *_of_adapter(config.adapter), *_of_data(config.data)]
    problems += [*_of_judge(config.judge), *_of_study(config.sweep)]
    if problems := problems or [*_of_layers(config.model, config.adapter)]:
        raise UserError("\n".join(problems))


def _wrong_names(config: Config) -> Iterator[str]:
    """Names that no registry has, an objective that is not measured, and a name that leaves outputs/."""
    for registry in REGISTRIES:
        name = attrgetter(registry.key)(config)
        if name is not None and name not in registry.names:
            yield f"{registry.key}={name}: {unknown_name(name, registry.names)}"
    measured = [*LOSSES, *MEASURES]
    if config.objective not in measured:
        yield f"objective={config.objective}: {unknown_name(config.objective, measured)}"
    try:
        inside_by_name(Path("outputs"), config.name.strip(" ."))
    except UserError as error:
        yield f"name={one_line(config.name)}: is the name of a folder in outputs/. {error}"


def _contradictions(config: Config) -> Iterator[str]:
    """Keys of several groups, and of hardware and training."""
    adapter, hardware, training = config.adapter, config.hardware, config.training
    frames, schedule = config.data.num_frames, training.schedule
    latent_frames = (frames - 1) // 4 + 1
    counts, seeds = training.condition_frames, config.generation.seeds
    if abs(sum(counts.values()) - 1) > 1e-6 or max(counts) >= latent_frames:
        yield (
            f"training.condition_frames={counts}: probabilities of 0 to {latent_frames - 1} frames must sum to 1; {frames} frames "
            f"are {latent_frames} latent frames"
        )
    if len(set(seeds)) < len(seeds):
        yield f"generation.seeds={seeds}: a seed appears twice"
    if (config.data.kept_prompts or config.data.kept_pairs) and len(seeds) < 2 and config.generation.split == "test":
        yield f"generation.seeds={seeds}: kept (data.kept_prompts, data.kept_pairs) needs two, e.g. generation.seeds=[0,1]"
    if schedule.total_samples <= schedule.warmup_samples:
        yield f"training.schedule.total_samples={schedule.total_samples}: must be greater than warmup_samples"
    if hardware.attention == "cudnn" and training.deterministic and adapter.kind != "none":
        yield (
            "hardware.attention=cudnn: its backward pass is not deterministic. Set training.deterministic=false, or "
            "hardware.attention=auto, which still makes the videos with cuDNN's kernel where that is the fastest"
        )
    if config.generation.chunks > 1 and frames <= OVERLAP:
        yield (
            f"generation.chunks={config.generation.chunks}: a chunk of data.num_frames={frames} has no frame besides its "
            f"{OVERLAP} conditioning frames. Set data.num_frames to at least {OVERLAP + 4}."
        )
    if adapter.kind == "full" and config.approximate.fp8_base:
        yield "approximate.fp8_base=true: adapter=full has no frozen weights. Set approximate.fp8_base=false."
    if hardware.checkpointing == "auto" and hardware.memory_gb is None:
        yield "hardware.memory_gb: not set. checkpointing=auto needs the device's memory, e.g. hardware.memory_gb=24"
    if adapter.dropout > 0 and hardware.compile and hardware.checkpointing != "none":
        yield (
            "adapter.dropout: with compiled blocks, recomputed activations would draw another dropout (peft #3020). Set "
            "hardware.compile=false or adapter.dropout=0."
        )


def _of_adapter(adapter: Adapter) -> Iterator[str]:
    if adapter.truncate_from and adapter.kind == "none":
        yield "adapter.truncate_from: adapter=none has no adapter. Set the kind of the truncated adapter."
    if adapter.bias and (adapter.kind == "dora" or adapter.init != "kaiming"):
        yield "adapter.bias=true: peft supports it with adapter=lora and adapter.init=kaiming only. Set them."
    if (adapter.kind == "peft") != bool(adapter.method):
        yield (
            f"adapter.method={adapter.method}: is for adapter.kind=peft, which needs it (oft, lokr …), and for no other kind"
        )
    keys, fix = [*OF_LORA], "set the method's own keys in adapter.options"
    if adapter.kind == "full":
        keys, fix = [*OF_LORA, "target_modules"], "it trains all weights. Remove the key"
    for key in keys if adapter.kind in UNLIKE_LORA else ():
        value = getattr(adapter, key)
        if value != Adapter.model_fields[key].default and value not in adapter.options.values():
            yield f"adapter.{key}={value}: is of lora and dora, not of {adapter_label(adapter)}: {fix}."


def _of_data(data: Data) -> Iterator[str]:
    if data.reader != "gr1_100" and not data.path and not data.builder:
        yield "data.path: not set. Give the folder of your data: data.path=DIR"
    for first, second in data.swaps:
        if not first.strip() or not second.strip() or first == second:
            yield f"data.swaps: [{first}, {second}] is no pair of two different words"
    if not data.cameras:
        if data.tiling != "auto":
            yield f"data.tiling={data.tiling}: needs several cameras, e.g. data.cameras=[NAME,NAME]"
        return
    if data.reader != "lerobot":
        yield f"data.cameras: data.reader={data.reader} has one camera per video; set data=lerobot or data.cameras=[]"
    if data.camera is not None or data.views:
        yield "data.cameras: set it without data.camera and data.views (cameras already side by side in the files)"
    if len(set(data.cameras)) < len(data.cameras):
        yield f"data.cameras={data.cameras}: a camera appears twice"
    tile_size(data)


def _of_judge(judge: Judge) -> Iterator[str]:
    if judge.name == "server" and not judge.url:
        yield "judge.url: not set. Give the server's address: judge.url=http://HOST:PORT/v1"
    if judge.name == "reason2" and not judge.source:
        yield "judge.source: not set. Give a hub repository or a folder."
    if judge.name != "none" and not judge.rubrics:
        yield "judge.rubrics=[]: the judge has no question. Set judge.rubrics=[physics,instruction], or judge=none."
    if judge.samples > 1 and judge.temperature == 0:
        yield f"judge.samples={judge.samples}: at judge.temperature=0 all answers are the same. Set 0.7 or null."


def _of_study(sweep: Sweep) -> Iterator[str]:
    """A study may come from someone else, and Hydra's own part can run code."""
    settings = {**sweep.arms, "tune.grid": sweep.tune.grid, "tune.overrides": sweep.tune.overrides}
    for where, values in settings.items():
        for key in values:
            if key.lstrip("+~").startswith("hydra"):
                yield f"{key}: refused in a study ({where}), as it can run code. Give it on the command line."


def _of_layers(model: Model, adapter: Adapter) -> Iterator[str]:
    """What the sizes of the model's layers refuse. One message for the first layer of each kind of problem."""
    try:  # a model folder's own sizes take precedence over the keys
        keys = transformer_config(model)
        Transformer.model_validate(keys, strict=True)
    except ValidationError as error:
        problem = error.errors()[0]
        yield (
            f"{model.source}/transformer/config.json: {problem['loc'][0]}={problem['input']}: {problem['msg']}. Use the file that "
            "came with the weights."
        )
        return
    layers, every = adapted_layers(keys, adapter.target_modules), linear_layers(keys)
    for target in adapter.target_modules or [""]:
        if not matching(every, target):
            yield f"adapter.target_modules: {target!r} matches no linear layer; the layers are: {', '.join(by_type(every))}"
    if adapter.kind in ("none", *UNLIKE_LORA) or not layers:
        return
    yield from _wrong_patterns("rank_pattern", adapter.rank_pattern, list(layers))
    yield from _wrong_patterns("alpha_pattern", adapter.alpha_pattern, list(layers))
    ranks = layer_ranks(layers, adapter)
    for name, sizes in layers.items():
        if ranks[name] > min(sizes):
            yield (
                f"adapter.rank={ranks[name]}: {name} has {sizes[0]} inputs and {sizes[1]} outputs, so its update has at most rank "
                f"{min(sizes)}. Lower adapter.rank or adapter.rank_pattern."
            )
            return
        if layer_scale(adapter, name) > MOST_SCALE:
            yield (
                f"adapter.alpha={adapter.alpha:g}: gives {name} the scale {layer_scale(adapter, name):.3g}; it must be at most "
                f"{MOST_SCALE:g}. Lower adapter.alpha."
            )
            return


def _wrong_patterns(key: str, patterns: Mapping[str, float], names: list[str]) -> Iterator[str]:
    """Patterns that match no layer, or one that another pattern matches, too: an adapter file does not keep their order."""
    owners: dict[str, str] = {}
    for pattern in patterns:
        matched = [name for name in names if pattern_matches(pattern, name)]
        if not matched:
            near = difflib.get_close_matches(pattern, [*by_type(names), *names], n=1)
            yield f"adapter.{key}: {pattern} matches no adapted layer; the nearest are: {', '.join(near or by_type(names))}"
        for name in matched:
            if name in owners:
                yield f"adapter.{key}: {pattern} and {owners[name]} both match {name}. Write keys that exclude each other."
                break
            owners[name] = pattern
