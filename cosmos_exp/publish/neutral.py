"""Records without what they say of the machine and its user: names of hosts and users, paths, addresses, secrets.

What is hidden is written as `***`, as secrets are. Names that would say something else as well are kept: a user `lora` does
not hide the adapter's kind.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import platform
import re
from collections.abc import Iterable, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

from cosmos_exp.config.paths import PATH_KEYS, group_choices
from cosmos_exp.config.schema import Config
from cosmos_exp.files import JsonObject
from cosmos_exp.text import HIDDEN, printable, redact, with_strings

Json = TypeVar("Json")  # JSON of any type

VERSIONS = "packages"  # the key of a manifest whose values look like addresses
_EMPTY = ("run_dir", "cache_dir", "tracking.entity", "tracking.group")  # keys of a configuration that change no result
_ORDINARY = {"root", "user", "users", "home", "admin", "ubuntu", "debian", "runner", "localhost", "nvidia", "linux"}
_PUBLIC = r"(?:www\.)?(?:huggingface\.co|hf\.co|github\.com|arxiv\.org|nvidia\.com|doi\.org)(?:[/\s]|$)"
_PRIVATE = (
    re.compile(r"^(?:/|~/|\.\.?/|\\\\)[^\n]+$"),  # a whole path, which may have spaces
    re.compile(rf"\b[A-Za-z][A-Za-z0-9+.-]*://(?!{_PUBLIC})[^\s'\"<>)\]]*"),
    # /home/ann/x, ~/x; not where OpenCV's wheels were built
    re.compile(r"(?<![\w./<])~?/(?!io/opencv/)(?=[^\s/'\"`>])[^\s'\"`,;:()\[\]{}<>|]+"),
    re.compile(r"(?<![\w])[A-Za-z]:[\\/][^\s'\"`,;()\[\]{}<>|]*"),  # C:\Users\ann
    re.compile(r"\\\\[\w.-]+\\[^\s'\"`,;]*"),  # \\server\share
    re.compile(r"(?<![\w/])(?:\.\.?[\\/])+[^\s'\"`,;:()\[\]{}<>|]+"),  # ../ann
    re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*"),  # ann@host, ann@lab.org
    re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b"),
)
_USERS = re.compile(r"(?:/home/|/Users/|/users/|[\\/]Users[\\/])([^/\\\s'\":]+)")


def private_names(manifest: JsonObject, config: Config, paths: Iterable[str] = ()) -> tuple[str, ...]:
    """Names of hosts and users that a run's records mention, and those of this machine, the longest first.

    Args:
        paths: further texts to hide: relative paths, which no pattern finds.
    """
    names = {platform.node(), Path.home().name, str(manifest.get("host", "")), config.tracking.entity or ""}
    with contextlib.suppress(KeyError, OSError, ImportError):  # a user without a name
        names.add(getpass.getuser())
    names.update(_USERS.findall(json.dumps([manifest, config.model_dump()], default=str, ensure_ascii=False)))
    names |= {name.partition(".")[0] for name in names}
    words = json.dumps([Config().model_dump(), group_choices()], default=str)  # they are no names there
    kept = {*re.findall(r"\w+", words.lower()), *_ORDINARY}
    private = [name for name in names if len(name) > 1 and not name.isdigit() and name.lower() not in kept]
    private += [path for path in paths if "/" in path or "\\" in path]
    return tuple(sorted(set(private), key=lambda name: (-len(name), name)))


def neutral_text(text: object, names: Sequence[str] = ()) -> str:
    """A text without paths, addresses, secrets and the given names, and with control characters visible.

    Args:
        names: from `private_names`.
    """
    shown = redact(printable(text))
    for pattern in _PRIVATE:
        shown = pattern.sub(HIDDEN, shown)
    for name in names:
        shown = re.sub(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", HIDDEN, shown, flags=re.IGNORECASE)
    return shown


def neutral(content: Json, names: Sequence[str] = ()) -> Json:
    """JSON content without private text.

    Args:
        names: from `private_names`.
    """
    plain = with_strings(content, partial(neutral_text, names=names))
    if isinstance(content, dict) and isinstance(plain, dict) and VERSIONS in content:
        plain[VERSIONS] = content[VERSIONS]
    return plain


def neutral_config(config: Config, hub: bool, names: Sequence[str] = ()) -> JsonObject:
    """A configuration without private text: it still loads.

    Args:
        hub: whether `model.source` names a repository of the hub. Another one is a path.
        names: from `private_names`.
    """
    hidden = dict.fromkeys(recorded_paths(config, hub), HIDDEN) | dict.fromkeys(_EMPTY)
    plain = neutral(config.updated(hidden).model_dump(exclude={"sweep"}), names)
    if hub:
        plain["model"]["source"] = config.model.source
    return plain


def recorded_paths(config: Config, hub: bool) -> dict[str, str]:
    """The paths in a configuration by their keys. `hub`: as in `neutral_config`."""
    paths = {}
    for key in PATH_KEYS:
        value = attrgetter(key)(config)
        if value and not (key == "model.source" and (hub or value == "embedded")):
            paths[key] = str(value)
    return paths
