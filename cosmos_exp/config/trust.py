"""What the user typed, as opposed to what a study says. The command line is trusted; a study may come from someone else."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from cosmos_exp.config.registry import PLUGINS

SAFE_PATH = "PYTHONSAFEPATH"
"""Python's own variable: a process started with it does not search the current directory for modules."""

_typed: tuple[str, ...] | None = None


@contextlib.contextmanager
def command_line(words: Sequence[str], plugins: Sequence[str] = ()) -> Iterator[None]:
    """Trust what was typed, in this process and in those that it starts within the block.

    Args:
        words: the words after `cosmos-exp`, without `--plugin MODULE`.
        plugins: modules of `--plugin`.
    """
    global _typed
    before = {name: os.environ.get(name) for name in (PLUGINS, SAFE_PATH)}
    typed_before, _typed = _typed, tuple(words)
    os.environ[PLUGINS] = ",".join([before[PLUGINS] or "", *plugins])
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
