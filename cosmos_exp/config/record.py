"""A run's configuration on disk: config.yaml in the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from cosmos_exp.config.composing import validated
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import DamagedError, UserError
from cosmos_exp.files import atomic_path
from cosmos_exp.run_folder.records import WAYS_OUT
from cosmos_exp.text import one_line, redacted

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C, where PyYAML was built with it: eight times faster


def load_config(path: Path) -> Config:
    """The configuration that a run folder's config.yaml holds. It holds names and values only, whoever wrote it.

    Raises:
        UserError: the file is missing.
        DamagedError: it is not a whole and valid configuration.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file. Is this a run folder?")
    content = plain_config(path)
    missing = sorted(Config.model_fields.keys() - content.keys() - {"sweep"})
    if missing or not path.read_bytes().endswith(b"\n"):  # cut short: the defaults are not those of the run
        raise DamagedError(f"{path}: not a whole configuration (missing: {missing}). {WAYS_OUT['config.yaml']}")
    try:
        return validated(content)
    except UserError as error:
        raise DamagedError(f"{path}: {error}") from error


def plain_config(path: Path) -> dict[str, Any]:  # Any: YAML values
    """The content of a config.yaml as it is.

    Raises:
        DamagedError: it is not YAML, or has no keys and values.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _LOADER)
    except (yaml.YAMLError, ValueError, OSError, RecursionError) as error:
        reason = one_line(" ".join(str(error).split()))[:160]
        raise DamagedError(f"{path}: not valid YAML ({reason}). {WAYS_OUT['config.yaml']}") from error
    if not isinstance(content, dict) or not content:
        raise DamagedError(f"{path}: not a configuration (no keys and values). {WAYS_OUT['config.yaml']}")
    return content


def save_config(config: Config, path: Path) -> None:
    """Write the resolved configuration without the part of the sweep and without secrets. `load_config` reads it back."""
    content = redacted(config.model_dump(exclude={"sweep"}))
    with atomic_path(path) as temporary:
        temporary.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
