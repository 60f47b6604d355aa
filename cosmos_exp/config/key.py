"""A key of the configuration: its default, its help text and its limits."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Any


def key(default: Any, help: str, **limits: Any) -> Any:
    """A field with its help text and limits: `choices`, `registry`, `gt`, `ge`, `le`.

    `added=True` marks a key that came after the first version: at its default it does not change a stage's hash, so
    that older run folders can be resumed.
    """
    metadata = {"help": help, **limits}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    if dataclasses.is_dataclass(default) and isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)
