"""From overrides to a checked Config. Errors name the key and its choices. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig

from cosmos_exp.config.checks import check
from cosmos_exp.config.explain import ANY_OTHER, explain, unknown_hydra_key, unknown_key
from cosmos_exp.config.paths import conf_dir
from cosmos_exp.config.schema import Config
from cosmos_exp.config.schema_slurm import SlurmQueue
from cosmos_exp.errors import UserError
from cosmos_exp.files import inside_by_name

_UNUSED_RESOLVERS = (
    *("oc.env", "oc.create", "oc.decode", "oc.deprecated", "oc.select", "oc.dict.keys", "oc.dict.values"),
)


def register() -> None:
    """Put the schema into Hydra's store under the name with which conf/config.yaml begins.

    Also take away OmegaConf's own resolvers: a configuration reads no environment variable. Hydra adds its own again.
    """
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    for name in _UNUSED_RESOLVERS:
        OmegaConf.clear_resolver(name)
    node, slurm = _nodes()
    store = ConfigStore.instance()  # it copies; each time, as a plugin may have stored another node under these names
    store.store(name="schema", node=node)
    store.store(group="hydra/launcher", name="slurm", node=slurm)


@functools.cache
def _nodes() -> tuple[DictConfig, DictConfig]:
    """The schemas of a configuration and of `hydra/launcher=slurm_…`, as OmegaConf's structured nodes."""
    from omegaconf import OmegaConf

    node = OmegaConf.structured(Config)
    adapter, sweep = node.adapter, node.sweep
    for free in (adapter.rank_pattern, adapter.alpha_pattern, sweep.arms, sweep.tune.grid, sweep.tune.overrides):
        OmegaConf.set_struct(free, False)  # their keys are names of layers, arms or keys, which an override may add
    slurm = OmegaConf.structured(SlurmQueue)
    OmegaConf.set_struct(slurm.additional_parameters, False)
    return node, slurm


def quote_choices(words: list[str]) -> list[str]:
    """`rank=8` -> `rank='8'`, `rank=8,16` -> `rank='8','16'`: Hydra does not take a bare number as a group's choice.

    With Ray also `hydra.launcher.ray.init.num_cpus=2` -> `++hydra.launcher.ray.init.num_cpus=2`: any option of ray.init and
    of ray.remote is allowed.
    """
    on_ray = any(word.startswith("hydra/launcher=ray") for word in words)

    def quote(word: str) -> str:
        if on_ray and re.match(r"hydra\.launcher\.ray\.(init|remote)\.\w+=", word):
            return f"++{word}"
        group, sign, value = word.partition("=")
        if not sign or group not in ANY_OTHER:
            return word
        return group + "=" + ",".join(f"'{v}'" if re.fullmatch(r"[-+.\w]+", v) else v for v in value.split(","))

    return [quote(w) for w in words]


def compose_config(overrides: list[str], config_name: str = "config", config_dirs: tuple[str, ...] = ()) -> Config:
    """Compose conf/ with `overrides` and check the result.

    Args:
        config_dirs: further folders of groups or primary configs, searched before conf/.

    Raises:
        UserError: an unknown key, group or choice, a wrong type, or an invalid value.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from cosmos_exp.config.hydra_internals import chosen_hydra, compose

    register()
    _refuse_deletions(overrides)
    try:
        config = to_config(compose(conf_dir(), config_dirs, config_name, quote_choices(overrides)))
    except (HydraException, OmegaConfBaseException, ValueError, OverflowError) as error:
        of_hydra = "override 'hydra." in str(error)
        text = unknown_hydra_key(error, chosen_hydra(conf_dir(), overrides)) if of_hydra else None
        raise UserError(text or explain(error, overrides)) from error
    _refuse_contradictions(overrides, config)
    return config


def _refuse_deletions(overrides: list[str]) -> None:
    for word in overrides:
        if word.startswith("~") and not word.startswith("~hydra"):
            group = re.split(r"[=@]", word[1:])[0]
            instead = {"adapter": "adapter=none", "judge": "judge=none", "tracking": "tracking=none"}.get(group)
            fix = f"Write {instead} instead." if instead else "Leave it out to keep its default, or set another value."
            raise UserError(f"{word}: every group and key is needed, so none can be deleted. {fix}")


def _refuse_contradictions(overrides: list[str], config: Config) -> None:
    """A rank or alpha on the command line that a choice of another group overrides, e.g. your own adapter=tiny."""
    given = dict(o.split("=", 1) for o in overrides if "=" in o)
    for group in ("rank", "alpha"):
        value = given.get(group, "").strip("'")
        actual = getattr(config.adapter, group)
        if re.fullmatch(r"[\d.]+", value) and float(value) != actual and f"adapter.{group}" not in given:
            raise UserError(
                f"{group}={value}: a chosen group sets adapter.{group}={actual:g} itself. Leave {group}={value} out, or set "
                f"adapter.{group}={value}, which overrides every group."
            )


def _unknown_keys(node: DictConfig, schema: object, where: str = "") -> Iterator[str]:
    """Keys that the schema does not have: Hydra's `+` adds them without a word."""
    known = {f.name: getattr(schema, f.name) for f in dataclasses.fields(schema)}  # type: ignore[arg-type]  # a dataclass
    for name in map(str, node):
        if name not in known:
            yield f"{where}{name}"
        elif dataclasses.is_dataclass(known[name]):
            yield from _unknown_keys(node[name], known[name], f"{where}{name}.")


def to_config(composed: DictConfig) -> Config:
    """The typed, checked Config of a composed DictConfig, with absolute paths.

    Raises:
        UserError: a wrong type or an invalid value.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    unknown = list(_unknown_keys(composed, Config()))
    if unknown:
        raise UserError("\n".join(unknown_key(k) for k in unknown))
    try:
        config = OmegaConf.to_object(composed)
    except (OmegaConfBaseException, OverflowError) as error:
        raise UserError(explain(error)) from error
    assert isinstance(config, Config)
    if not config.name.strip(" ."):
        raise UserError(
            f"name={config.name}: is no name. Give one that a folder in outputs/ can have, e.g. name=my_run"
        )
    try:
        inside_by_name(Path("outputs"), config.name)
    except UserError as error:
        raise UserError(f"name={error} It is the name of a folder in outputs/.") from error
    for owner, name in ((config.data, "path"), (config.data, "test_path"), (config, "run_dir"), (config, "cache_dir")):
        if getattr(owner, name):
            setattr(owner, name, str(Path(getattr(owner, name)).expanduser().absolute()))
    check(config)
    return config
