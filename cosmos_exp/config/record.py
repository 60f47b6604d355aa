"""A run's configuration on disk: config.yaml in the run folder."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from cosmos_exp.config.composing import to_config
from cosmos_exp.config.explain import explain
from cosmos_exp.config.schema import Config, Sweep
from cosmos_exp.errors import DamagedError, UserError
from cosmos_exp.files import atomic_path
from cosmos_exp.run_folder.records import WAYS_OUT
from cosmos_exp.text import one_line, redacted

DEEPEST = 100  # brackets in brackets; no configuration has ten

# Groups that every version has written, so that none of them takes its defaults when a file is cut short.
_GROUPS = ("adapter", "hardware", "model", "data", "training", "generation", "sampson", "judge", "tracking")


def load_config(path: Path) -> Config:
    """The configuration that a run folder's config.yaml holds.

    A record may come from someone else. It holds values only: what it could take from this machine is refused.

    Raises:
        UserError: the file is missing or invalid, or holds an interpolation such as ${oc.env:NAME}, an alias or a tag.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file. Is this a run folder?")
    content = plain_config(path)
    missing = [name for name in _GROUPS if not isinstance(content.get(name), dict)]
    if missing or not path.read_bytes().endswith(b"\n"):  # its defaults are not those of the run
        what = f"{', '.join(missing)} is missing" if missing else "its last line is cut short"
        raise DamagedError(f"{path}: not a whole configuration ({what}). {WAYS_OUT['config.yaml']}")
    try:
        return to_config(cast(DictConfig, OmegaConf.merge(OmegaConf.structured(Config), content)))
    except (OmegaConfBaseException, OverflowError) as error:  # a number too large for a float
        raise DamagedError(f"{path}: {explain(error)}") from error
    except UserError as error:
        raise DamagedError(f"{path}: {error}") from error


def plain_config(path: Path) -> dict[str, Any]:  # Any: YAML values
    """The content of a record, without anything that is not written in it.

    Raises:
        DamagedError: it is not YAML, has no keys and values, or is not plain.
    """
    fix = "A record holds plain values. Write the value itself, or use another copy of the file."
    away = WAYS_OUT["config.yaml"]
    try:
        text = path.read_text(encoding="utf-8")
        if _depth(text) > DEEPEST:
            raise DamagedError(
                f"{path}: nested more than {DEEPEST} deep. {away}"
            )  # YAML takes seconds to find that out
        if "&" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise DamagedError(f"{path}: holds a YAML alias (*name). {fix}")  # nested aliases grow without bound
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, OSError, RecursionError) as error:
        raise DamagedError(
            f"{path}: not valid YAML ({one_line(' '.join(str(error).split()))[:160]}). {away}"
        ) from error
    if not isinstance(content, dict) or not content:
        raise DamagedError(f"{path}: not a configuration (no keys and values). {away}")
    for key, value in _strings(content, ""):
        if "${" in value:
            raise DamagedError(f"{path}: {key}={one_line(value)[:80]!r}: an interpolation, which is refused. {fix}")
    return cast(dict[str, Any], content)


def _depth(text: str) -> int:
    """The deepest nesting of brackets and braces in a YAML text."""
    steps = (1 if c in "[{" else -1 for c in text if c in "[]{}")
    return max(itertools.accumulate(steps), default=0)


def _strings(content: object, where: str) -> Iterator[tuple[str, str]]:
    """Every string of a YAML content with its dotted key; keys that are strings, too."""
    if isinstance(content, str):
        yield where, content
    elif isinstance(content, dict):
        for key, value in content.items():
            name = f"{where}.{key}" if where else str(key)
            yield name, str(key)
            yield from _strings(value, name)
    elif isinstance(content, (list, tuple)):
        for number, value in enumerate(content):
            yield from _strings(value, f"{where}[{number}]")


def save_config(config: Config, path: Path) -> None:
    """Write the resolved configuration without the part of the sweep and without secrets. `load_config` reads it back."""
    own = dataclasses.replace(config, sweep=Sweep())
    with atomic_path(path) as temporary:
        content = OmegaConf.structured(own)
        with open_dict(content):
            del content["sweep"]
        OmegaConf.save(OmegaConf.create(redacted(OmegaConf.to_container(content, resolve=True))), temporary)
