"""Records without what they say of the machine and its user: names of hosts and users, paths, addresses, secrets.

What is hidden is written as `***`, as secrets are. Names that would say something else as well are kept: a user `lora` does
not hide the adapter's kind.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import getpass
import json
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar, cast

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
_ORDINARY = {
    "root",
    "user",
    "users",
    "home",
    "admin",
    "ubuntu",
    "debian",
    "runner",
    "localhost",
    "nvidia",
    "linux",
    "vm",
}

_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://([^\s/?#'\"<>)\]]*)[^\s'\"<>)\]]*")
_WHOLE_PATH = re.compile(r"(?:[/~]|\.\.?[/\\]|\\\\|[A-Za-z]:[\\/])[^\n]*", re.DOTALL)
_PATHS = (
    re.compile(
        r"(?<![\w./<])~?/(?!io/opencv/)(?=[^\s/'\"`>])[^\s'\"`,;:()\[\]{}<>|]*"
    ),  # /home/ann/x, ~/x; not where OpenCV's wheels were built
    re.compile(r"(?<![\w])[A-Za-z]:[\\/][^\s'\"`,;()\[\]{}<>|]*"),  # C:\Users\ann
    re.compile(r"\\\\[\w.-]+\\[^\s'\"`,;]*"),  # \\server\share
    re.compile(r"(?<![\w/])(?:\.\.?[\\/])+[^\s'\"`,;:()\[\]{}<>|]*"),  # ../ann
)
_ADDRESSES = (
    re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*"),  # ann@host, ann@lab.org
    re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b"),
)
_USERS = re.compile(r"(?:/home/|/Users/|/users/|[\\/]Users[\\/])([^/\\\s'\":]+)")


def private_names(records: Iterable[object], paths: Iterable[str] = ()) -> tuple[str, ...]:
    """Names of hosts and users that records mention, and those of this machine, the longest first.

    Args:
        records: JSON contents: manifests and configurations.
        paths: further texts to hide: relative paths, which no pattern finds.
    """
    found = {platform.node(), Path.home().name}
    with contextlib.suppress(KeyError, OSError, ImportError):  # a user without a name
        found.add(getpass.getuser())
    for record in records:
        text = json.dumps(record, default=str, ensure_ascii=False)
        found |= set(_USERS.findall(text))
        if isinstance(record, Mapping):
            found |= {str(record[key]) for key in ("host", "hostname", "user", "username") if record.get(key)}
            found |= {str(name) for name in _entities(record)}
    found |= {name.partition(".")[0] for name in found}
    known = _vocabulary()
    kept = {name for name in found if len(name) > 1 and not name.isdigit() and name.lower() not in known}
    kept |= {path for path in paths if "/" in path or "\\" in path}
    return tuple(sorted(kept, key=lambda name: (-len(name), name)))


def _entities(record: Mapping[str, object]) -> list[object]:
    tracking = record.get("tracking")
    return [tracking["entity"]] if isinstance(tracking, Mapping) and tracking.get("entity") else []


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
    if text.startswith(("/", "~/", "../", "./", "\\\\")) and "\n" not in text and _WHOLE_PATH.fullmatch(text):
        return HIDDEN if len(text) > 1 else text
    text = _URL.sub(_public_url, redact(text))
    for pattern in (*_PATHS, *_ADDRESSES):
        text = pattern.sub(lambda found: found.group() if found.group() in ("/", "./", "../") else HIDDEN, text)
    for name in names:
        text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", HIDDEN, text, flags=re.IGNORECASE)
    return text


def _public_url(found: re.Match[str]) -> str:
    return found.group() if found.group(1).lower() in _PUBLIC else HIDDEN


def neutral(content: Json, names: Sequence[str] = ()) -> Json:
    """JSON content without private text. Keys that hold nothing else, such as `host`, are dropped.

    Args:
        names: from `private_names`.
    """
    return cast(Json, _neutral(plain_json(content), names))


def _neutral(content: object, names: Sequence[str]) -> object:
    if isinstance(content, str):
        return neutral_text(content, names)
    if isinstance(content, dict):
        kept = ((k, v) for k, v in content.items() if k not in _DROPPED)
        return {
            neutral_text(k, names) if isinstance(k, str) else k: v if k in _KEPT else _neutral(v, names)
            for k, v in kept
        }
    if isinstance(content, list):
        return [_neutral(value, names) for value in content]
    return content


def neutral_config(content: JsonObject, hub: bool, names: Sequence[str] = ()) -> JsonObject:
    """A recorded configuration without private text: it still loads.

    Args:
        content: of config.yaml.
        hub: whether `model.source` names a repository of the hub. Another one is a path.
        names: from `private_names`.
    """
    found = copy.deepcopy(content)
    for key in _EMPTY:
        _replace(found, key, None)
    for key in PATH_KEYS:
        if key not in _EMPTY and not (key == "model.source" and (hub or _value(found, key) == "embedded")):
            _replace(found, key, HIDDEN)
    source = _value(found, "model.source")
    found = cast(JsonObject, _neutral(found, names))
    if hub:
        _replace(found, "model.source", source)
    return found


def recorded_paths(content: JsonObject, hub: bool) -> list[str]:
    """The paths in a recorded configuration. `hub`: as in `neutral_config`."""
    keys = [key for key in PATH_KEYS if key != "model.source" or not (hub or _value(content, key) == "embedded")]
    return [value for key in keys if isinstance(value := _value(content, key), str)]


def _value(content: JsonObject, key: str) -> object:
    *groups, name = key.split(".")
    for group in groups:
        content = content.get(group) or {}
    return content.get(name)


def _replace(content: JsonObject, key: str, value: object) -> None:
    """Replace a value by its dotted key, unless there is none."""
    *groups, name = key.split(".")
    for group in groups:
        content = content.get(group) or {}
    if content.get(name) is not None:
        content[name] = value


def shown(text: object, names: Sequence[str] = ()) -> str:
    """`neutral_text` of anything, with control characters visible: for the card."""
    return neutral_text(printable(text), names)
