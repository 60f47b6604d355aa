"""From the command line to a checked `Config`: Hydra composes conf/, OmegaConf resolves, pydantic checks. Imports nothing heavy."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from cosmos_exp.config.checks import check
from cosmos_exp.config.paths import conf_dir, group_choices
from cosmos_exp.config.schema import Config, all_keys
from cosmos_exp.errors import UserError
from cosmos_exp.text import one_line

Plain = Mapping[str, Any]  # Any: YAML values

# Keys of free text. Without quotes Hydra would take a comma in one for two values.
_TEXTS = ("data.prompt", "data.prompt_prefix", "generation.negative_prompt")
NO_SEARCH = "hydra.searchpath=[]"  # overrides a study's: Hydra imports the packages in it while it composes
_ANY_NUMBER = ("rank", "alpha")  # groups whose choices are numbers
# Mappings of the configuration whose keys are names of layers, arms or keys, so that an override may add some.
_OPEN: tuple[str, ...] = ("adapter.rank_pattern", "adapter.alpha_pattern", "training.condition_frames", "margins")
_OPEN += ("sweep.arms", "sweep.tune.grid", "sweep.tune.overrides")
# What a study may set of Hydra's own part, and of a launcher of conf/: single words, which hold no command.
_FREE_OF_HYDRA: tuple[str, ...] = (
    "mode",
    "sweeper.params",
    "overrides",
    "runtime",
    "searchpath",
    "job.name",
    "job.id",
    "job.num",
)
_FREE_OF_HYDRA += ("job.override_dirname", "job.config_name")
_LAUNCHER_KEYS: tuple[str, ...] = (
    "partition",
    "account",
    "qos",
    "nodes",
    "gpus_per_node",
    "cpus_per_task",
    "mem_gb",
    "timeout_min",
)
_LAUNCHER_KEYS += ("tasks_per_node", "array_parallelism", "constraint")


def compose_config(overrides: Sequence[str], config_name: str = "config", config_dirs: Sequence[str] = ()) -> Config:
    """Compose conf/ with `overrides` and check the result.

    Args:
        config_dirs: further folders of groups and primary configs. They may come from someone else.

    Raises:
        UserError: an unknown key, group or choice, a wrong type, or an invalid value. The message begins with the key.
    """
    config = to_config(compose_all(overrides, config_name, config_dirs))
    for group in _ANY_NUMBER:
        for word in overrides:
            value = word.removeprefix(f"{group}=").strip("'")
            actual = getattr(config.adapter, group)
            if value != word and value != str(actual) and re.fullmatch(r"[\d.]+", value) and float(value) != actual:
                raise UserError(
                    f"{group}={value}: another group sets adapter.{group}={actual:g}. Set adapter.{group}={value} instead."
                )
    return config


def compose_all(overrides: Sequence[str], config_name: str = "config", config_dirs: Sequence[str] = ()) -> DictConfig:
    """The composed configuration with Hydra's own part (`.hydra`), not yet resolved and checked.

    Raises:
        UserError: Hydra cannot compose it, or a file of `config_dirs` sets something of Hydra that can run code.
    """
    register()
    words = quoted(overrides)
    for word in words:
        if word.startswith("~"):
            raise UserError(
                f"{word}: a run needs every group and key. Leave it out to keep its default, or set another value."
            )
    composed = _compose(words, config_name, config_dirs)
    if config_dirs:
        shipped = {"hydra/launcher", "hydra/sweeper"}
        typed = [word for word in words if is_of_hydra(word)]
        for group, choice in composed.hydra.runtime.choices.items():
            is_ours = (conf_dir() / group / f"{choice}.yaml").is_file() or choice in ("basic", "slurm", "ray", "optuna")
            if group in shipped and is_ours and not any(word.startswith(f"{group}=") for word in typed):
                typed.append(f"{group}={choice}")
        _check_study(composed.hydra, _compose(typed, "config", ()).hydra, f"{config_dirs[0]}/{config_name}.yaml")
    return composed


def register() -> None:
    """Put the defaults of all keys into Hydra's store, as `schema`, with which conf/config.yaml begins.

    Take away OmegaConf's own resolvers, too: a configuration reads no environment variable.
    """
    for name in ("oc.env", "oc.create", "oc.decode", "oc.deprecated", "oc.select", "oc.dict.keys", "oc.dict.values"):
        OmegaConf.clear_resolver(name)
    ConfigStore.instance().store(name="schema", node=_defaults())


@functools.cache
def _defaults() -> DictConfig:
    defaults = OmegaConf.create(Config().model_dump())
    for key in _OPEN:
        OmegaConf.set_struct(OmegaConf.select(defaults, key), False)
    return defaults


def _compose(overrides: Sequence[str], config_name: str, config_dirs: Sequence[str]) -> DictConfig:
    """As `hydra.main` with `--config-dir`. The public API composes no primary configuration outside of conf/."""
    search_path = create_config_search_path(str(conf_dir()))
    for folder in config_dirs:
        search_path.prepend("command-line", f"file://{Path(folder).absolute()}", SearchPathQuery(provider="main"))
    GlobalHydra.instance().clear()
    try:
        hydra = Hydra.create_main_hydra2("cosmos-exp", search_path)
        return hydra.compose_config(config_name, [*overrides, NO_SEARCH], run_mode=RunMode.RUN, from_shell=False)
    except (HydraException, OmegaConfBaseException, ValueError, OverflowError) as error:
        raise UserError(_explain(error)) from error
    except Exception as error:  # Hydra expects more of a file's shape than it checks: AttributeError, TypeError …
        where = f"{config_dirs[0]}/{config_name}.yaml" if config_dirs else " ".join(overrides)
        raise UserError(f"{where}: cannot be composed ({type(error).__name__}: {one_line(error)[:160]}).") from error
    finally:
        GlobalHydra.instance().clear()


def to_config(composed: DictConfig) -> Config:
    """The checked Config of a composed configuration.

    Raises:
        UserError: an unknown key, a wrong type or an invalid value.
    """
    with open_dict(composed):
        composed.pop("hydra", None)
    try:
        return validated(OmegaConf.to_container(composed, resolve=True))  # type: ignore[arg-type]  # a DictConfig's is a dict
    except OmegaConfBaseException as error:
        raise UserError(_explain(error)) from error


def validated(content: Plain) -> Config:
    """The checked Config of plain keys and values.

    Raises:
        UserError: one line for each unknown key, wrong type or invalid value.
    """
    try:
        config = Config.model_validate(content)
    except ValidationError as error:
        raise UserError("\n".join(_lines(error))) from error
    check(config)
    return config


def _lines(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors():
        key, kind, value = ".".join(map(str, problem["loc"])), problem["type"], problem["input"]
        if kind == "extra_forbidden":
            lines.append(unknown_key(key))
        elif (
            kind == "value_error"
            and isinstance(value, (BaseModel, dict))
            and problem["loc"][-1:] != ("condition_frames",)
        ):
            lines.append(str(problem["ctx"]["error"]))  # of several keys: it names them itself
        else:
            lines.append(f"{key}={one_line(value)[:80]}: {problem['msg'].removeprefix('Value error, ')}")
    return lines


def quoted(words: Iterable[str]) -> list[str]:
    """The overrides as Hydra's grammar takes them.

    A group's choice that is a number gets quotes (`rank=8`), and so does free text that Hydra cannot parse, such as a prompt with
    a comma, `#` or CJK characters. With Ray any option of ray.init and ray.remote is allowed.
    """
    words = list(words)
    on_ray = any(word.startswith("hydra/launcher=ray") for word in words)
    found = []
    for word in words:
        key, _, value = word.partition("=")
        if key in _ANY_NUMBER:
            word = f"{key}=" + ",".join(f"'{v}'" if re.fullmatch(r"[-+.\w]+", v) else v for v in value.split(","))
        elif on_ray and re.match(r"hydra\.launcher\.ray\.(init|remote)\.\w+=", word):
            word = f"++{word}"
        elif not _can_be_parsed(word) or (key in _TEXTS and "," in value and value[0] not in "'\"[{"):
            if not value or value[0] in "'\"[{":
                raise UserError(
                    f"{word}: cannot be parsed. Write KEY=VALUE, and quote a text twice: \"KEY='some text'\""
                )
            escaped = re.sub(r"(\\*)'", r"\1\1\\'", re.sub(r"(\\+)$", r"\1\1", value))  # Hydra's rule for backslashes
            word = f"{key}='{escaped}'"
        found.append(word)
    return found


def _can_be_parsed(word: str) -> bool:
    try:
        OverridesParser.create().parse_override(word)
    except (HydraException, RecursionError):
        return False
    return True


def is_of_hydra(override: str) -> bool:
    """Whether an override sets Hydra's own part."""
    return re.match(r"[+~]*hydra\b", override) is not None


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """Hydra's product of all values: one list of overrides per run.

    Raises:
        UserError: one cannot be parsed.
    """
    batches: list[list[list[str]]] = BasicSweeper.split_arguments([parsed(word) for word in overrides], None)
    return batches[0]


def each_value(overrides: Sequence[str]) -> list[list[str]]:
    """Of several runs: the first one, and one for each further value, so that each value can be checked once.

    Values that a sweeper draws from an interval are left out.
    """
    first, others = [], []
    for word in overrides:
        if not is_sweep(word):
            first.append(word)
        elif parsed(word).is_discrete_sweep():
            values = [job[0] for job in expand([word])]
            first.append(values[0])
            others += values[1:]
    runs = [first]
    for value in others:
        key = value.partition("=")[0]
        runs.append([value if word.partition("=")[0] == key else word for word in first])
    return runs


def parsed(override: str) -> Override:
    """An override as Hydra reads it: `.value()`, `.is_sweep_override()`.

    Raises:
        UserError: it cannot be parsed.
    """
    try:
        return OverridesParser.create().parse_override(override)
    except (HydraException, RecursionError) as error:
        raise UserError(_explain(error)) from error


def is_sweep(override: str) -> bool:
    """Whether an override has several values."""
    return bool(parsed(override).is_sweep_override())


# --- errors ---


def unknown_key(key: str) -> str:
    """What to say of a key that does not exist: the nearest ones."""
    known = sorted({*all_keys(), *group_choices()})
    parent, _, name = key.rpartition(".")
    siblings = [k for k in known if k.rpartition(".")[0] == parent]
    namesakes = [k for k in known if k.rpartition(".")[2] == name]  # the right name in a wrong group
    near = difflib.get_close_matches(key, siblings, n=1) or namesakes[:1] or difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(siblings or known)}"
    return f"{key}: no such key; {hint}"


def _explain(error: BaseException) -> str:
    """Hydra's or OmegaConf's message in a line or two that begin with the key."""
    messages, cause = [str(error)], error.__cause__
    while cause is not None:
        messages.append(str(cause))
        cause = cause.__cause__
    text = "\n".join(messages)
    if found := re.search(r"Could not (?:find|load) '?([\w/]+)/([^/'\s]*)'", text):
        return _unknown_choice(*found.groups())
    if found := re.search(r"Could not override '([^']+)'", text):
        return unknown_key(found.group(1))
    if found := re.search(r"Ambiguous value for argument '([^=]+)=(.*)'", text):
        key, value = found.group(1), found.group(2).replace("'", "")
        return (
            f"{key}={value}: several values. Add -m to run one after another, or quote a text that holds a comma: "
            f"\"{key}='{value}'\""
        )
    full_key = re.search(r"full_key: (\S+)", text)
    first = next((line for line in messages[-1].splitlines() if line.strip()), type(error).__name__)[:300]
    return f"{full_key.group(1)}: {first}" if full_key else first


def _unknown_choice(group: str, name: str) -> str:
    choices = group_choices().get(group, [])
    if group.startswith("hydra/") and (name in choices or name.startswith("submitit")):
        extra = "slurm" if name.startswith("submitit") else name
        return f"{group}={name}: not installed. Run `pip install 'cosmos-exp[{extra}]'`."
    near = difflib.get_close_matches(name, choices, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    other = f", or any other number by adapter.{group}=NUMBER" if group in _ANY_NUMBER else ""
    return f"{group}={name}: no such choice; {hint}choose one of {', '.join(choices)}{other}"


# --- studies of somebody else ---


def _check_study(own: DictConfig, shipped: DictConfig, where: str) -> None:
    """Refuse a study that changes Hydra's own part: it names classes, callbacks, log handlers and commands, so it can run code.

    Args:
        own, shipped: `hydra` of the study, and of conf/ with what the command line sets of Hydra.
        where: the study, for the error.

    Raises:
        UserError: it names the first key that differs.
    """
    params = OmegaConf.to_container(own.sweeper.get("params") or OmegaConf.create({}), resolve=False)
    keys = [str(key) for key in params or {} if is_of_hydra(str(key))]
    keys += _differing(OmegaConf.to_container(own, resolve=False), OmegaConf.to_container(shipped, resolve=False))
    for key in keys:
        name = key if key.startswith("hydra") else f"hydra.{key}"
        raise UserError(
            f"{name}: refused, {where} sets it. It can run code or commands. A study may set hydra.sweeper.params, and a launcher "
            f"of conf/hydra/launcher by name. If you want it, give {name}=… on the command line."
        )


def _differing(own: object, shipped: object, where: str = "") -> list[str]:
    if own == shipped or where in _FREE_OF_HYDRA:
        return []
    if isinstance(own, Mapping) and isinstance(shipped, Mapping):
        keys: list[str] = []
        for key in sorted({*own, *shipped}, key=str):
            keys += _differing(own.get(key), shipped.get(key), f"{where}.{key}".lstrip("."))
        return keys
    group, _, key = where.partition(".")
    is_resource = group == "launcher" and key in _LAUNCHER_KEYS and re.fullmatch(r"[\w.:-]+", str(own))
    return [] if is_resource else [where]
