"""Records without what they say of the machine and its user: names of hosts and users, paths, addresses, secrets.

What is hidden is written as `***`, as secrets are. Names that would say something else as well are kept: a user `lora` does
not hide the adapter's kind.
"""

from __future__ import annotations

import contextlib
import functools
import getpass
import json
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar, cast

from omegaconf import OmegaConf

from cosmos_exp.config.measures import MEASURES
from cosmos_exp.config.paths import PATH_KEYS, group_choices
from cosmos_exp.config.schema import Config
from cosmos_exp.files import JsonObject
from cosmos_exp.text import HIDDEN, plain_json, printable, redact

Json = TypeVar("Json")  # JSON of any type

_KEPT = {"packages"}  # versions look like addresses
_DROPPED = {"host", "hostname", "user", "username", "wandb_id", "command", "argv", "remote"}  # keys, at any depth
_EMPTY = ("run_dir", "cache_dir", "tracking.entity", "tracking.group")  # keys of a configuration that change no result
_PUBLIC = {"huggingface.co", "hf.co", "github.com", "arxiv.org", "nvidia.com", "www.nvidia.com", "doi.org"}
_ORDINARY = frozenset(
    ["root", "user", "users", "home", "admin", "ubuntu", "debian", "runner", "localhost", "nvidia", "linux", "vm"]
)

_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://([^\s/?#'\"<>)\]]*)[^\s'\"<>)\]]*")
_WHOLE_PATH = re.compile(r"(?:[/~]|\.\.?[/\\]|\\\\|[A-Za-z]:[\\/])[^\n]*", re.DOTALL)
_PRIVATE = (
    # /home/ann/x, ~/x; not where OpenCV's wheels were built
    re.compile(r"(?<![\w./<])~?/(?!io/opencv/)(?=[^\s/'\"`>])[^\s'\"`,;:()\[\]{}<>|]+"),
    re.compile(r"(?<![\w])[A-Za-z]:[\\/][^\s'\"`,;()\[\]{}<>|]*"),  # C:\Users\ann
    re.compile(r"\\\\[\w.-]+\\[^\s'\"`,;]*"),  # \\server\share
    re.compile(r"(?<![\w/])(?:\.\.?[\\/])+[^\s'\"`,;:()\[\]{}<>|]+"),  # ../ann
    re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*"),  # ann@host, ann@lab.org
    re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b"),
)
_USERS = re.compile(r"(?:/home/|/Users/|/users/|[\\/]Users[\\/])([^/\\\s'\":]+)")


def private_names(records: Iterable[JsonObject], paths: Iterable[str] = ()) -> tuple[str, ...]:
    """Names of hosts and users that records mention, and those of this machine, the longest first.

    Args:
        records: contents of manifests and configurations.
        paths: further texts to hide: relative paths, which no pattern finds.
    """
    names = {platform.node(), Path.home().name}
    with contextlib.suppress(KeyError, OSError, ImportError):  # a user without a name
        names.add(getpass.getuser())
    for record in records:
        names.update(_USERS.findall(json.dumps(record, default=str, ensure_ascii=False)))
        for key in ("host", "hostname", "user", "username", "tracking.entity"):
            names.add(str(_value(record, key) or ""))
    names |= {name.partition(".")[0] for name in names}
    private = set()
    for name in names:
        if len(name) > 1 and not name.isdigit() and name.lower() not in _vocabulary():
            private.add(name)
    private.update(path for path in paths if "/" in path or "\\" in path)
    return tuple(sorted(private, key=lambda name: (-len(name), name)))


@functools.cache
def _vocabulary() -> frozenset[str]:
    """The words of the configuration, which are no names there."""
    words = json.dumps([Config().model_dump(), group_choices(), list(MEASURES)], default=str)
    return frozenset({*re.findall(r"\w+", words.lower()), *_ORDINARY})


def neutral_text(text: str, names: Sequence[str] = ()) -> str:
    """A text without paths, addresses, secrets and the given names.

    Args:
        names: from `private_names`.
    """
    if text.startswith(("/", "~/", "../", "./", "\\\\")) and _WHOLE_PATH.fullmatch(text):
        return HIDDEN if len(text) > 1 else text
    text = _URL.sub(_public_url, redact(text))
    for pattern in _PRIVATE:
        text = pattern.sub(HIDDEN, text)
    for name in names:
        text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", HIDDEN, text, flags=re.IGNORECASE)
    return text


def _public_url(match: re.Match[str]) -> str:
    return match.group() if match.group(1).lower() in _PUBLIC else HIDDEN


def neutral(content: Json, names: Sequence[str] = ()) -> Json:
    """JSON content without private text. Keys that hold nothing else, such as `host`, are dropped.

    Args:
        names: from `private_names`.
    """
    return cast(Json, _neutral(plain_json(content), names))


def _neutral(content: object, names: Sequence[str]) -> object:
    if isinstance(content, str):
        return neutral_text(content, names)
    if isinstance(content, list):
        return [_neutral(value, names) for value in content]
    if not isinstance(content, dict):
        return content
    plain = {}
    for key, value in content.items():
        if key in _KEPT:
            plain[key] = value
        elif key not in _DROPPED:
            plain[_neutral(key, names)] = _neutral(value, names)
    return plain


def neutral_config(content: JsonObject, hub: bool, names: Sequence[str] = ()) -> JsonObject:
    """A recorded configuration without private text: it still loads.

    Args:
        content: of config.yaml.
        hub: whether `model.source` names a repository of the hub. Another one is a path.
        names: from `private_names`.
    """
    plain = OmegaConf.create(neutral(content, names))
    source = _value(content, "model.source")
    if hub:
        OmegaConf.update(plain, "model.source", source)
    for key in recorded_paths(content, hub):
        OmegaConf.update(plain, key, HIDDEN)
    for key in _EMPTY:
        if OmegaConf.select(plain, key) is not None:
            OmegaConf.update(plain, key, None)
    return cast(JsonObject, OmegaConf.to_container(plain))


def recorded_paths(content: JsonObject, hub: bool) -> dict[str, str]:
    """The paths in a recorded configuration by their keys. `hub`: as in `neutral_config`."""
    paths = {}
    for key in PATH_KEYS:
        value = _value(content, key)
        is_name = key == "model.source" and (hub or value == "embedded")
        if isinstance(value, str) and not is_name:
            paths[key] = value
    return paths


def _value(content: Mapping[str, object], key: str) -> object:
    """The value of a dotted key; None if there is none."""
    value: object = content
    for name in key.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def shown(text: object, names: Sequence[str] = ()) -> str:
    """`neutral_text` of anything, with control characters visible: for the card."""
    return neutral_text(printable(text), names)
