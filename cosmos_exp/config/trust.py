"""What the user typed, as opposed to what a record, a study or a data set says.

The command line and the environment are trusted. A configuration file is not: it may come from someone else. So code from
outside this package, and the name of a secret, count only if they are on the command line or in the user's environment.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterator, Sequence
from importlib import import_module, metadata

from cosmos_exp.config.schema import Judge
from cosmos_exp.errors import UserError

PLUGINS = "COSMOS_EXP_PLUGINS"
"""Environment variable: modules that a configuration may name, separated by commas. `--plugin` adds to it."""
API_KEY_ENVS = "COSMOS_EXP_API_KEY_ENVS"
"""Environment variable: variables that may be sent to a judge as its key. `judge.api_key_env=NAME` adds to it."""
SAFE_PATH = "PYTHONSAFEPATH"
"""Python's own variable: a process started with it does not search the current directory for modules."""
ENTRY_POINTS = "cosmos_exp.plugins"
"""Group of entry points of installed packages, which are trusted as `--plugin` is."""

_typed: tuple[str, ...] | None = None


@contextlib.contextmanager
def command_line(words: Sequence[str]) -> Iterator[None]:
    """Trust what was typed, in this process and in those that it starts within the block.

    Args:
        words: the words after `cosmos-exp`, without `--plugin MODULE`.
    """
    global _typed
    before = {name: os.environ.get(name) for name in (PLUGINS, API_KEY_ENVS, SAFE_PATH)}
    typed_before, _typed = _typed, tuple(words)
    confirmed = [re.fullmatch(r"\+{0,2}judge\.api_key_env=['\"]?(\w+)['\"]?", word) for word in words]
    _add(API_KEY_ENVS, [found.group(1) for found in confirmed if found])
    os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        _typed = typed_before
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def without_plugins(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words without `--plugin MODULE`, and the modules."""
    rest, modules = [], []
    left = iter(words)
    for word in left:
        if word == "--plugin":
            modules.append(next(left, ""))
        elif word.startswith("--plugin="):
            modules.append(word.partition("=")[2])
        else:
            rest.append(word)
    return rest, modules


def was_typed(word: str) -> bool:
    """Whether an override is on the command line. Without one (use as a library) the caller's words count as typed."""
    return _typed is None or word in _typed


def plugins() -> list[str]:
    """The modules outside this package that a configuration may name: --plugin, the environment, entry points."""
    own = [name for name in os.environ.get(PLUGINS, "").split(",") if name]
    return list(dict.fromkeys([*own, *_installed_plugins()]))


@functools.cache
def _installed_plugins() -> tuple[str, ...]:
    return tuple(point.module for point in metadata.entry_points(group=ENTRY_POINTS))


def load_plugins(modules: Sequence[str] = ()) -> None:
    """Import the plugins, so that they can add readers, measures and judges to the registries.

    Args:
        modules: further plugins. Processes started later import them too.

    Raises:
        UserError: one cannot be imported.
    """
    _add(PLUGINS, list(modules))
    for name in plugins():
        try:
            import_module(name)
        except Exception as error:  # whatever the module raises
            raise UserError(
                f"--plugin {name}: cannot be imported ({type(error).__name__}: {error}). Give the name of a module in an "
                "installed package or in a folder on PYTHONPATH, e.g. PYTHONPATH=. cosmos-exp --plugin my_module …"
            ) from error


def check_api_key(judge: Judge) -> None:
    """Refuse to send another variable than the default unless the user named it.

    Raises:
        UserError: `judge.api_key_env` comes from a record or a study.
    """
    name = judge.api_key_env
    if name != Judge().api_key_env and name not in os.environ.get(API_KEY_ENVS, "").split(","):
        raise UserError(
            f"judge.api_key_env={name}: comes from a file, and would send the content of {name} to {judge.url}. If you "
            f"want that, add judge.api_key_env={name} to the command line, or set {API_KEY_ENVS}={name}."
        )


def _add(variable: str, names: list[str]) -> None:
    known = [name for name in os.environ.get(variable, "").split(",") if name]
    if names:
        os.environ[variable] = ",".join(dict.fromkeys([*known, *names]))
