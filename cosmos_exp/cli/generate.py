"""`cosmos-exp generate`: videos from adapter files, one adapter after another around one loaded base."""

from __future__ import annotations

import argparse
import warnings
from functools import partial
from pathlib import Path

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import RunError, UserError


def main(args: argparse.Namespace) -> int:
    """Make DIR/<adapter>/<sample>__seed<k>.mp4 for every adapter, test pair and seed."""
    config = compose_config(args.overrides)
    names = adapter_names(args.adapter)
    from cosmos_exp.config.paths import cache_root
    from cosmos_exp.data.readers.pairs import read_test_pairs
    from cosmos_exp.distributed import Processes
    from cosmos_exp.world.model_folder import resolve

    problems: list[str] = []
    pairs = read_test_pairs(Path(args.prompts), problems)
    if problems:
        raise RunError("\n".join(problems))
    model = resolve(config.model, cache_root(config))
    processes = Processes(config.hardware.device, 1, config.hardware.num_threads)
    _generate(config, model, pairs, names, Path(args.out), args.alpha, processes.device)
    return 0


def adapter_names(words: list[str]) -> dict[str, Path | None]:
    """A folder name for each adapter (`base` is the model without one).

    Raises:
        UserError: an adapter is not there, or two would share a folder.
    """
    from cosmos_exp.world.adapter_file import find_adapter

    names: dict[str, Path | None] = {}
    for word in words:
        file = None if word == "base" else find_adapter(Path(word).expanduser())
        name = "base" if file is None else _name_of(file)
        if name in names:
            raise UserError(f"--adapter {word}: a second one called {name}; rename its folder")
        names[name] = file
    return names


def _name_of(file: Path) -> str:
    from cosmos_exp.run_folder import ADAPTER_FILE

    if file.name != ADAPTER_FILE:
        return file.stem
    folder = file.absolute().parent
    return folder.parent.name if folder.name == "adapter" else folder.name


def _generate(config: Config, model, pairs, names, out: Path, alpha: float | None, device) -> None:
    from cosmos_exp.config.paths import cache_root
    from cosmos_exp.data.cache import RunCache
    from cosmos_exp.experiment.context import dtype_of
    from cosmos_exp.experiment.stages.generate import pair_tasks
    from cosmos_exp.generation.videos import Generator
    from cosmos_exp.world import adapter as adapters
    from cosmos_exp.world import adapter_file
    from cosmos_exp.world.encoders import Encoders
    from cosmos_exp.world.guardrail import load_guardrail
    from cosmos_exp.world.loading import load_transformer, load_vae
    from cosmos_exp.world.pipeline import load_pipeline, negative_prompt

    guardrail = load_guardrail(config.model.guardrail)
    prints = model.fingerprints()
    cache = RunCache(cache_root(config) / "encoded", config, prints)
    negative = negative_prompt(config.generation.negative_prompt)
    _, prompts = cache.missing([], [*(p.prompt for p in pairs), negative])
    if prompts:
        encoders = Encoders(model, device, dtype_of(config), config.model.prompt_tokens)
        for prompt in prompts:
            cache.encode_prompt(encoders, prompt)
        del encoders
    transformer, _ = load_transformer(model, dtype_of(config))
    pipe = load_pipeline(model, transformer, load_vae(model, dtype_of(config)), guardrail).to(device)
    maker = Generator(config, pipe, cache.prompt, device)
    for name, file in names.items():
        original = None
        if file is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                own = adapter_file.load_adapter(transformer, file, alpha)
            _compare_base(own, config, prints, file)
            original = adapters.merge(transformer, keep_original=True) if config.generation.merge_adapter else {}
        tasks = pair_tasks(config, pairs, None, partial(_video_path, out / name))
        made = maker.make(tasks, negative)
        print(f"{name}: {made} made, {len(tasks) - made} were there, in {out / name}")
        if original is not None:
            adapters.remove(transformer, original)


def _video_path(folder: Path, sample: str, seed: int) -> Path:
    return folder / f"{sample}__seed{seed}.mp4"


def _compare_base(own: dict, config: Config, prints: dict[str, str], file: Path) -> None:
    trained_on = own.get("fingerprints", {}).get("transformer")
    if trained_on and trained_on != prints["transformer"]:
        print(f"warning: {file} was trained on {own.get('base_model')} (other weights than {config.model.source})")
