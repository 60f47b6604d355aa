"""From overrides to a checked Config, with errors that name the key and what it may be. Imports nothing heavy."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

from cosmos_exp.config import Config, check, conf_dir, register
from cosmos_exp.errors import UserError

_ANY_OTHER = {
    "rank": "any other number: adapter.rank=NUMBER",
    "alpha": "any other positive number: adapter.alpha=NUMBER",
}


def quote_choices(words: list[str]) -> list[str]:
    """`rank=8` -> `rank='8'`, `rank=8,16` -> `rank='8','16'`: Hydra takes a bare number for no choice of a group."""

    def quote(word: str) -> str:
        group, sign, value = word.partition("=")
        if not sign or group not in _ANY_OTHER:
            return word
        return group + "=" + ",".join(f"'{v}'" if re.fullmatch(r"[-+.\w]+", v) else v for v in value.split(","))

    return [quote(w) for w in words]


def compose_config(overrides: list[str], config_name: str = "config", config_dirs: tuple[str, ...] = ()) -> Config:
    """Compose conf/ with `overrides` and check it.

    Args:
        config_dirs: further folders of groups or primary configs, searched before conf/.

    Raises:
        UserError: an unknown key, group or choice, a wrong type, or a value that cannot be.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    register()
    try:
        return to_config(_composed(quote_choices(overrides), config_name, config_dirs))
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UserError(explain(error)) from error


def _composed(overrides: list[str], config_name: str, config_dirs: tuple[str, ...]) -> Any:
    # hydra.compose finds a primary config only in conf/; this is what hydra.main does for --config-dir.
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.config_search_path import SearchPathQuery
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode
    from omegaconf import open_dict

    search_path = create_config_search_path(str(conf_dir()))
    for folder in config_dirs:
        search_path.append(
            "command-line", "file://" + str(Path(folder).absolute()), anchor=SearchPathQuery(provider="main")
        )
    GlobalHydra.instance().clear()
    try:
        hydra = Hydra.create_main_hydra2("cosmos-exp", search_path)
        composed = hydra.compose_config(config_name, overrides, run_mode=RunMode.RUN, from_shell=False)
    finally:
        GlobalHydra.instance().clear()
    with open_dict(composed):
        composed.pop("hydra", None)
    return composed


def to_config(composed: Any) -> Config:
    """The typed, checked Config of a composed DictConfig."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        config = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        raise UserError(explain(error)) from error
    assert isinstance(config, Config)
    for where, name in ((config.data, "path"), (config.data, "test_path"), (config, "run_dir"), (config, "cache_dir")):
        if getattr(where, name):
            setattr(where, name, str(Path(getattr(where, name)).expanduser().absolute()))
    check(config)
    return config


def load_config(path: Path) -> Config:
    """The configuration that a run folder's config.yaml holds.

    Raises:
        UserError: the file is missing or was not written by this version.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not path.is_file():
        raise UserError(f"{path}: there is no such file; is this a run folder?")
    try:
        return to_config(OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.load(path)))
    except OmegaConfBaseException as error:
        raise UserError(f"{path}: {explain(error)}") from error


def save_config(config: Config, path: Path) -> None:
    """Write the resolved configuration; `load_config` reads it back."""
    from omegaconf import OmegaConf

    from cosmos_exp.run_folder import atomic_path

    with atomic_path(path) as temporary:
        OmegaConf.save(OmegaConf.structured(config), temporary, resolve=True)


def explain(error: BaseException) -> str:
    """One or two lines for an error of Hydra or OmegaConf."""
    chain: list[str] = []
    step: BaseException | None = error
    while step is not None:
        chain.append(str(step))
        step = step.__cause__
    text = "\n".join(chain)
    launcher = re.search(r"[Cc]ould not (?:find|load) '?hydra/launcher/(\w+)", text)
    if launcher:
        extra = "ray" if "ray" in launcher.group(1) else "slurm"
        return (
            f"hydra/launcher={launcher.group(1)}: not here; pip install 'cosmos-exp[{extra}]' brings Hydra's launcher"
        )
    choice = re.search(r"Could not find '(\w+)/([^']*)'", text)
    if choice:
        group, value = choice.groups()
        return f"{group}={value}: no such choice; {_choices(group)}"
    several = re.search(r"Ambiguous value for argument '([^=]+)=(.*)'$", text, re.MULTILINE)
    if several:
        key, values = several.group(1), several.group(2).replace("'", "")
        return f"{key}={values}: several values; add -m to run one after another"
    grammar = re.search(r"(?:Lexer\w+|mismatched input|no viable alternative|missing EQUAL|extraneous input).*", text)
    if grammar:
        return f"not understood: {' '.join(text.split())[:160]}; expected KEY=VALUE or GROUP=CHOICE, quoted where it has spaces"
    unknown = re.search(r"[Kk]ey '([^']+)' (?:is not in struct|not in '\w+')", text)
    if unknown:
        full = re.search(r"full_key: (\S+)", text)
        return _unknown_key(full.group(1) if full else unknown.group(1))
    group_missing = re.search(r"Could not override '([^']+)'", text)
    if group_missing:
        return _unknown_key(group_missing.group(1))
    wrong = re.search(r"(Value '[^']*' .*? could not be converted to \w+|Invalid value .*|Cannot convert .*)", text)
    key = re.search(r"full_key: (\S+)", text)
    if wrong and key:
        return f"{key.group(1)}: {wrong.group(1)}"
    return "\n".join(line for line in chain[-1].splitlines() if line.strip())[:600]


def _choices(group: str) -> str:
    folder = conf_dir() / group
    names = sorted(
        (p.stem for p in folder.glob("*.yaml")), key=lambda n: (not n.isdigit(), int(n) if n.isdigit() else 0, n)
    )
    return f"choose one of {', '.join(names)}" + (f"; {_ANY_OTHER[group]}" if group in _ANY_OTHER else "")


def all_keys(node: Any = None, where: str = "") -> dict[str, Any]:
    """Every key of the schema, dotted, with its dataclass field."""
    import dataclasses

    node = Config() if node is None else node
    keys = {}
    for f in dataclasses.fields(node):
        keys[where + f.name] = f
        if dataclasses.is_dataclass(getattr(node, f.name)):
            keys |= all_keys(getattr(node, f.name), f"{where}{f.name}.")
    return keys


def _unknown_key(key: str) -> str:
    known = [*all_keys(), *(p.name for p in conf_dir().iterdir() if p.is_dir())]
    near = difflib.get_close_matches(key, known, n=2, cutoff=0.6)
    siblings = [k for k in known if k.rpartition(".")[0] == key.rpartition(".")[0]]
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(sorted(set(siblings)))}"
    return f"{key}: no such key; {hint}"
