"""`cosmos-exp run`: Hydra around one run. Bad requests are answered before Hydra, torch or a run folder come up."""

from __future__ import annotations

import datetime
import sys
import traceback
from pathlib import Path
from typing import Any

from cosmos_exp.config.composing import compose_config, quote_choices, register, to_config
from cosmos_exp.config.hashing import differences, stage_hash
from cosmos_exp.config.paths import conf_dir
from cosmos_exp.config.record import load_config
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError
from cosmos_exp.sweep.naming import run_name

# Flags that Hydra answers by itself; nothing is composed for them.
ANSWERS = ("--help", "--hydra-help", "--version", "--info", "--shell-completion", "-sc", "-i")

_exit_codes: list[int] = []


def main(words: list[str], debug: bool = False) -> int:
    """Run what the Hydra command line `words` says. Returns the exit code; of several runs, the worst."""
    import hydra
    from hydra._internal.utils import get_args_parser

    debug = debug or "--debug" in words
    words = quote_choices([w for w in words if w != "--debug"])
    args = get_args_parser().parse_args(words)
    name, dirs = args.config_name or "config", tuple(filter(None, [args.config_dir]))
    several = args.multirun or name != "config"  # a study of its own may set hydra.mode itself
    if not any(w.split("=")[0] in ("-h", *ANSWERS) for w in words):
        fixed = [o for o in args.overrides if not (several and _sweeps(o))]
        compose_config(fixed, name, dirs)

    def task(composed: Any) -> None:
        try:
            _exit_codes.append(one_run(to_config(composed), args.overrides))
        except UserError as error:
            print(f"cosmos-exp: {error}", file=sys.stderr)
            if debug:
                traceback.print_exc()
            _exit_codes.append(error.exit_code)

    register()
    _exit_codes.clear()
    sys.argv = ["cosmos-exp", *words]
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(task)()
    return max(_exit_codes, default=0)


def _sweeps(override: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(override).is_sweep_override()


def one_run(config: Config, overrides: list[str]) -> int:
    """One composed run: plan only, go on in an old folder, or start a new one."""
    if config.dry_run:
        from cosmos_exp.experiment.dry_run import print_plan

        print_plan(config)
        return 0
    config = _settle_folder(config, overrides)
    if _one_of_several():
        from cosmos_exp.experiment.isolation import run_isolated

        return run_isolated(config)
    from cosmos_exp.experiment.launching import launch

    return launch(config)


def _settle_folder(config: Config, overrides: list[str]) -> Config:
    """Fill in `run_dir`. A folder that exists is gone on with: its own configuration, or exactly the same one."""
    if config.run_dir is None:
        config.run_dir = str(_new_folder(config, overrides))
        return config
    old_file = Path(config.run_dir) / "config.yaml"
    if not old_file.is_file():
        return config
    old = load_config(old_file)
    old.run_dir = config.run_dir
    own = [o for o in overrides if not o.lstrip("+").startswith("run_dir=")]
    if not own:
        return old
    if stage_hash(old, "train") != stage_hash(config, "train"):
        import dataclasses

        changed = differences(dataclasses.asdict(old), dataclasses.asdict(config))
        changed = [
            c for c in changed if c.split(".")[0].split(":")[0] in ("adapter", "model", "data", "training", "seed")
        ]
        raise UserError(
            f"{config.run_dir} was trained with another configuration ({'; '.join(changed[:4])}).\n"
            "Give another run_dir, or none, for a new run; or only run_dir=… to go on with the old one."
        )
    return config


def _one_of_several() -> bool:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def _new_folder(config: Config, overrides: list[str]) -> Path:
    from hydra.core.hydra_config import HydraConfig

    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    if _one_of_several():
        study = Path(HydraConfig.get().runtime.cwd) / "outputs" / "sweeps" / config.name
        folder = study / run_name(config, _swept(overrides))
        if _is_this_run(folder, config):
            return folder
    else:
        folder = Path("outputs") / config.name / stamp
    unique, number = folder, 2
    while unique.exists():
        unique, number = folder.with_name(f"{folder.name}-{number}"), number + 1
    return unique.absolute()


def _is_this_run(folder: Path, config: Config) -> bool:
    """Whether a study's folder holds this very run, to be gone on with; the base is one run for all ranks."""
    if not (folder / "config.yaml").is_file():
        return False
    old = load_config(folder / "config.yaml")
    return config.adapter.kind == old.adapter.kind == "none" or stage_hash(old, "train") == stage_hash(config, "train")


def _swept(overrides: list[str]) -> dict[str, str]:
    """The keys that take several values, with this run's."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    job = HydraConfig.get()
    swept = {o.partition("=")[0] for o in overrides if _sweeps(o)}
    swept |= set(OmegaConf.to_container(job.sweeper).get("params") or {})  # type: ignore[union-attr]
    own = dict(o.split("=", 1) for o in job.overrides.task)
    return {key: own[key] for key in swept & set(own)}
