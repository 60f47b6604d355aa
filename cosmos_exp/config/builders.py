"""Import paths in a configuration (`model.builder`, `data.builder`, `judge.builder`) and in registries."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cosmos_exp.errors import UserError

PACKAGE = Path(__file__).parents[1]


def resolve_builder(key: str, path: str) -> Callable[..., Any]:  # Any: the caller knows what its builder returns
    """The function or class that an import path names.

    Args:
        key: the configuration key that holds the path, for errors.
        path: `package.module.name` or `package.module:name`.

    Raises:
        UserError: the path is malformed, its module or name cannot be imported, or it is not callable. If a module of
            this package has been moved, the error has the new path.
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
