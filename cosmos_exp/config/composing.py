"""From the command line to a checked `Config`: Hydra composes conf/, OmegaConf resolves, pydantic checks. Imports nothing heavy."""

from __future__ import annotations

import difflib
import functools
import pickle
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir, main
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from pydantic import ValidationError

from cosmos_exp.config.checks import check
from cosmos_exp.config.hashing import differences
from cosmos_exp.config.paths import conf_dir, group_choices
from cosmos_exp.config.registry import unknown_name
from cosmos_exp.config.schema import Config, all_keys
from cosmos_exp.errors import UserError
from cosmos_exp.text import one_line
from hydra_plugins.cosmos_exp_slurm import register_launcher

NO_SEARCH = "hydra.searchpath=[]"  # overrides a study's: Hydra imports the packages in it while it composes
_TEXTS = ("data.prompt", "data.prompt_prefix", "generation.negative_prompt")  # a comma separates no values
_NUMBERS = ("rank", "alpha")  # groups whose choices are numbers
# Mappings whose keys are names of layers, arms or keys, so that an override may add some.
_OPEN = (
    "adapter.rank_pattern",
    "adapter.alpha_pattern",
    "adapter.options",
    "training.condition_frames",
    "margins",
    "sweep.arms",
    "sweep.tune.grid",
    "sweep.tune.grids",
    "sweep.tune.overrides",
)
# What a study may change of Hydra's own part; of a launcher single words, which hold no command.
_FREE_OF_HYDRA = re.compile(
    r"(mode|sweeper\.params|overrides|runtime|searchpath|job\.(name|id|num|override_dirname|config_name))\b.*|launcher\.(partition"
    r"|account|qos|nodes|gpus_per_node|cpus_per_task|mem_gb|timeout_min|tasks_per_node|array_parallelism|constraint): \S+ -> [\w.:-]+",
    re.DOTALL,
)


def compose_config(overrides: Sequence[str], config_name: str = "config", config_dirs: Sequence[str] = ()) -> Config:
    """Compose conf/ with `overrides` and check the result.

    Args:
        config_dirs: further folders of groups and primary configs. They may come from someone else.

    Raises:
        UserError: an unknown key, group or choice, a wrong type, or an invalid value. The message begins with the key.
    """
    return to_config(compose_all(overrides, config_name, config_dirs))


def compose_all(overrides: Sequence[str], config_name: str = "config", config_dirs: Sequence[str] = ()) -> DictConfig:
    """The composed configuration with Hydra's own part (`.hydra`), not yet resolved and checked.

    Raises:
        UserError: Hydra cannot compose it, or a file of `config_dirs` sets something of Hydra that can run code.
    """
    register()
    words = quoted(overrides)
    groups = group_choices(config_dirs)
    for word in words:
        _check_word(parsed(word), word, groups)
    composed = _compose(words, config_name, config_dirs)
    if config_dirs:
        _check_study(composed.hydra, words, f"{config_dirs[0]}/{config_name}.yaml")
    return composed


class Composer:
    """`compose_config` of many command lines: Hydra composes each choice of groups once, and sets the values of each on a copy.

    Args:
        config_name, config_dirs: of `compose_config`.
    """

    def __init__(self, config_name: str = "config", config_dirs: Sequence[str] = ()):
        self.where = config_name, config_dirs
        self.groups = group_choices(config_dirs)
        self.bases: dict[tuple[str, ...], bytes] = {}
        self.configs: dict[tuple[str, ...], Config] = {}

    def config(self, overrides: Sequence[str]) -> Config:
        """The configuration of a command line.

        Raises:
            UserError: as `compose_config`.
        """
        words = tuple(overrides)
        if words not in self.configs:
            try:
                self.configs[words] = self._composed(quoted(words))
            except (UserError, HydraException, OmegaConfBaseException):  # a whole composition says what is wrong
                self.configs[words] = compose_config(words, *self.where)
        return self.configs[words]

    def _composed(self, words: Sequence[str]) -> Config:
        choices, values = [], []
        for word in words:
            override = parsed(word)
            _check_word(override, word, self.groups)
            if override.key_or_group in self.groups or is_of_hydra(word):
                choices.append(word)
            else:
                values.append(override)
        key = tuple(choices)
        if key not in self.bases:
            base = compose_all(choices, *self.where)
            with open_dict(base):
                base.pop("hydra")
            self.bases[key] = pickle.dumps(base)
        config = pickle.loads(self.bases[key])
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
        return to_config(config)


def register() -> None:
    """Put the defaults of all keys into Hydra's store, as `schema`, with which conf/config.yaml begins, and the Slurm launcher.

    Take away OmegaConf's own resolvers, too: a configuration reads no environment variable.
    """
    for name in ("oc.env", "oc.create", "oc.decode", "oc.deprecated", "oc.select", "oc.dict.keys", "oc.dict.values"):
        OmegaConf.clear_resolver(name)
    ConfigStore.instance().store(name="schema", node=_defaults())
    register_launcher()


def run_hydra(words: Sequence[str], task: Callable[[DictConfig], object]) -> None:
    """`hydra.main` of conf/ with a command line."""
    register()
    sys.argv = ["cosmos-exp", *words]
    main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(task)()


@functools.cache
def _defaults() -> DictConfig:
    defaults = OmegaConf.create(Config().model_dump())
    defaults.adapter.alpha = "${adapter.rank}"  # the scale alpha / rank is 1 at every rank
    for key in _OPEN:
        OmegaConf.set_struct(OmegaConf.select(defaults, key), False)
    return defaults


def _compose(overrides: Sequence[str], config_name: str, config_dirs: Sequence[str]) -> DictConfig:
    """Hydra's composition of `config_name` in the first folder that holds it, with the other folders behind."""
    folders = [*(str(Path(folder).absolute()) for folder in config_dirs), str(conf_dir())]
    first = next((folder for folder in folders if Path(folder, f"{config_name}.yaml").is_file()), folders[-1])
    search = ",".join(f"'file://{folder}'" for folder in folders if folder != first)
    try:
        with initialize_config_dir(first, job_name="cosmos-exp", version_base="1.3"):
            return compose(config_name, [*overrides, f"hydra.searchpath=[{search}]"], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_explain(error)) from error
    except Exception as error:  # Hydra expects more of a file's shape than it checks: AttributeError, TypeError …
        where = " ".join([*config_dirs, *overrides])
        raise UserError(f"{where}: cannot be composed ({type(error).__name__}: {one_line(error)[:160]}).") from error


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


def validated(content: Mapping[str, Any]) -> Config:  # Any: YAML values
    """The checked Config of plain keys and values.

    Raises:
        UserError: one line for each unknown key, wrong type or invalid value.
    """
    try:
        config = Config.model_validate(content)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            key = ".".join(map(str, problem["loc"]))
            line = f"{key}={one_line(problem['input'])[:80]}: {problem['msg'].removeprefix('Value error, ')}"
            if problem["type"] == "extra_forbidden":
                line = _unknown_key(key)
            lines.append(line)
        raise UserError("\n".join(lines)) from error
    check(config)
    return config


# --- overrides ---


def quoted(words: Iterable[str]) -> list[str]:
    """The overrides as Hydra's grammar takes them.

    A group's choice that is a number gets quotes (`rank=8`), and so does text that Hydra cannot parse, such as a prompt with a
    comma, `#` or CJK characters.
    """
    result = []
    for word in words:
        key, _, value = word.partition("=")
        if key in _NUMBERS:
            word = re.sub(r"(?<=[=,])[-+.\w]+", r"'\g<0>'", word)
        elif value and value[0] not in "'\"[{" and not _is_plain(key, word):
            word = f"{key}={QuotedString(value, Quote.single).with_quotes()}"
        result.append(word)
    return result


def _is_plain(key: str, word: str) -> bool:
    try:
        parsed(word)
    except UserError:
        return False
    return key not in _TEXTS or "," not in word


def each_value(overrides: Sequence[str]) -> list[list[str]]:
    """Of the product of all values: as many runs as it takes to check each value once. Intervals of a sweeper are left out."""
    if not any(map(is_sweep, overrides)):
        return [list(overrides)]
    words = [word for word in overrides if not is_sweep(word) or parsed(word).is_discrete_sweep()]
    seen: set[str] = set()
    runs: list[list[str]] = []
    for job in expand(words):
        if not runs or not seen.issuperset(job):
            runs.append(job)
            seen.update(job)
    return runs


@functools.lru_cache(maxsize=4096)
def parsed(override: str) -> Override:
    """An override as Hydra reads it: `.value()`, `.is_sweep_override()`.

    Raises:
        UserError: it cannot be parsed.
    """
    try:
        return OverridesParser.create().parse_override(override)
    except (HydraException, RecursionError) as error:
        raise UserError(
            f"{override}: cannot be parsed. Write KEY=VALUE, and quote a text twice: \"KEY='some text'\""
        ) from error


def is_sweep(override: str) -> bool:
    """Whether an override has several values."""
    return bool(parsed(override).is_sweep_override())


def is_of_hydra(override: str) -> bool:
    """Whether an override sets Hydra's own part."""
    return re.match(r"[+~]*hydra\b", override) is not None


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """Hydra's product of all values: one list of overrides per run.

    Raises:
        UserError: one cannot be parsed.
    """
    batches: list[list[list[str]]] = BasicSweeper.split_arguments(list(map(parsed, overrides)), None)
    return batches[0]


# --- errors ---


def _check_word(override: Override, word: str, groups: Mapping[str, list[str]]) -> None:
    """Refuse an unknown key or choice with the nearest one, and several values."""
    key, value = override.key_or_group, word.partition("=")[2]
    if override.is_delete():
        raise UserError(
            f"{word}: a run needs every group and key. Leave it out to keep its default, or set another value."
        )
    if override.is_sweep_override():
        text = value.replace("'", "")
        raise UserError(
            f"{key}={text}: several values. Add -m to run one after another, or quote a text that holds a comma: \"{key}='{text}'\""
        )
    if is_of_hydra(key):
        return
    if key in groups and value != "null":
        choice = value.strip("'\"")
        if choice not in groups[key]:
            other = f", or set adapter.{key}={choice}" if key in _NUMBERS else ""
            raise UserError(f"{key}={choice}: {unknown_name(choice, groups[key])}{other}")
    elif key not in all_keys() and not key.startswith(_OPEN):
        raise UserError(_unknown_key(key))


def _unknown_key(key: str) -> str:
    """What to say of a key that does not exist: the nearest one."""
    near = difflib.get_close_matches(key, [*all_keys(), *group_choices()], n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "`cosmos-exp run --help` lists them."
    return f"{key}: no such key; {hint}"


def _explain(error: BaseException) -> str:
    """Hydra's or OmegaConf's message in a line that begins with the key."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    key = getattr(cause, "full_key", None)
    if key and isinstance(cause, (ConfigAttributeError, ConfigKeyError)) and not is_of_hydra(key):
        return _unknown_key(key)
    text = re.split("full_key|Config search path", str(error if not key else cause))[0]
    message = one_line(" ".join(text.split()))[:300]
    extra = " Ray and Optuna: `pip install 'cosmos-exp[ray]'`, `[optuna]`." if "'hydra/" in message else ""
    return (f"{key}: " if key else "") + message + extra


def _check_study(hydra: DictConfig, words: Sequence[str], where: str) -> None:
    """Refuse a study that changes Hydra's own part: it names classes, callbacks, log handlers and commands, so it can run code.

    Args:
        hydra: that part of the study.
        words: of the command line. What it sets of Hydra is free.
        where: the study, for the error.

    Raises:
        UserError: it names the first key that differs.
    """
    groups = ("hydra/launcher", "hydra/sweeper")
    typed = [f"{group}={hydra.runtime.choices[group]}" for group in groups]
    for word in words:
        if is_of_hydra(word) and not word.startswith(groups):
            typed.append(word)
    wrong = list(filter(is_of_hydra, map(str, hydra.sweeper.get("params") or {})))
    for line in differences(_shipped_hydra(tuple(typed)), OmegaConf.to_container(hydra)):  # type: ignore[arg-type]  # a dict
        if not _FREE_OF_HYDRA.fullmatch(line):
            wrong.append(f"hydra.{line.partition(':')[0]}")
    if wrong:
        raise UserError(
            f"{wrong[0]}: refused, {where} sets it. It can run code or commands. A study may set hydra.sweeper.params, "
            "and a launcher of conf/hydra/launcher by name. If you want it, give it on the command line."
        )


@functools.cache
def _shipped_hydra(words: tuple[str, ...]) -> dict[str, Any]:
    """Hydra's own part of the shipped configuration. It does not change while a process lives."""
    return OmegaConf.to_container(_compose(words, "config", ()).hydra)  # type: ignore[return-value]  # a DictConfig's is a dict
