"""Import paths in a configuration (`model.builder`, `data.builder`, `judge.builder`) and in registries."""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cosmos_exp.config.trust import ENTRY_POINTS, PLUGINS, plugins
from cosmos_exp.errors import UserError

PACKAGE = Path(__file__).parents[1]
_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+(:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)?|[A-Za-z_]\w*:[A-Za-z_][\w.]*")

# What the builder of a key is called with: the type of the first argument, and the number of arguments.
_CALLED_WITH = {"model.builder": ("Model", 2), "data.builder": ("Config", 2), "judge.builder": ("Judge", 4)}


def resolve_builder(key: str, path: str) -> Callable[..., Any]:  # Any: the caller knows what its builder returns
    """The function or class that a configuration names. It is in this package or in a plugin (`trust.plugins`).

    A configuration may come from someone else, so it cannot name any other code. Nothing else is imported.

    Args:
        key: the configuration key that holds the path.
        path: `package.module.name` or `package.module:name`.

    Raises:
        UserError: the path is malformed or names other code, its module or name cannot be imported, or it is not made
            for this key. If a module of this package has been moved, the error has the new path.
    """
    if not _PATH.fullmatch(path):
        raise UserError(f"{key}={path[:80]!r}: is no import path. Write package.module.name or package.module:name.")
    roots = [PACKAGE.name, *plugins()]
    root = next((r for r in roots if _is_within(path.replace(":", "."), r)), None)
    if root is None:
        module = path.partition(":")[0] if ":" in path else path.rpartition(".")[0]
        raise UserError(
            f"{key}={path}: refused. A configuration can only name code of cosmos_exp or of a plugin. If you trust "
            f"{module}, add `--plugin {module}` to the command line, or set {PLUGINS}={module}, or install it as a "
            f"package with an entry point in the group {ENTRY_POINTS}."
        )
    builder = import_function(key, path)
    if not _is_within(str(getattr(builder, "__module__", "")), root):
        raise UserError(f"{key}={path}: refused. It is not defined in {root}, which only imports it.")
    if problem := _misfit(key, builder, own=root == PACKAGE.name):
        raise UserError(f"{key}={path}: {problem}. See docs/guides.")
    return builder


def import_function(key: str, path: str) -> Callable[..., Any]:
    """The function or class that an import path names. For paths in code, such as those of a registry.

    Raises:
        UserError: its module or name cannot be imported, or it is not callable.
    """
    try:
        found = pkgutil.resolve_name(path)
    except Exception as error:  # whatever the module raises while it is imported
        if new := _moved(path):
            raise UserError(f"{key}={path}: it has moved. Set {key}={' or '.join(new)}") from error
        raise UserError(
            f"{key}={path}: cannot be imported ({type(error).__name__}: {error}). Set {key} to the import path of a "
            "function or class, e.g. my_package.my_module.name, in an installed package or a folder on PYTHONPATH."
        ) from error
    if not callable(found):
        raise UserError(
            f"{key}={path}: is of type {type(found).__name__}. Set {key} to the import path of a function or class."
        )
    builder: Callable[..., Any] = found
    return builder


def _is_within(path: str, root: str) -> bool:
    return path == root or path.startswith(root + ".")


def _misfit(key: str, builder: Callable[..., Any], own: bool) -> str | None:
    """Why a function cannot be called as the builder of a key; None if it can.

    Args:
        own: it is of this package, whose functions have annotations: the first says what it is made for.
    """
    if key not in _CALLED_WITH:
        return None
    kind, count = _CALLED_WITH[key]
    try:
        signature = inspect.signature(builder)
        signature.bind(*[None] * count)
    except (TypeError, ValueError):
        return f"cannot be called with {count} arguments"
    first = str(next(iter(signature.parameters.values())).annotation)
    if own and not re.search(rf"\b{kind}(Settings)?\b", first):
        return f"is no builder for {key}: its first argument is no {kind}"
    return None


def _moved(path: str) -> list[str]:
    """The import paths of this package's functions and classes that have the last name of `path`, an old path of ours."""
    if not re.match(rf"{PACKAGE.name}[.:]", path):
        return []
    name = re.split(r"[.:]", path)[-1]
    files = [
        f for f in sorted(PACKAGE.rglob("*.py")) if re.search(rf"^(def|class) {re.escape(name)}\b", f.read_text(), re.M)
    ]
    new = [".".join((*f.relative_to(PACKAGE.parent).with_suffix("").parts, name)) for f in files]
    return [n for n in new if n != path.replace(":", ".")]
