"""Arguments that several commands share, and what the TAB key of a shell offers for them."""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from cosmos_exp.errors import UserError
from cosmos_exp.files import TEMPORARY


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int] | None,
    help: str,
    epilog: str | None,
    add_help: bool = True,
) -> argparse.ArgumentParser:
    """Add a command, or an action of one: `run` takes its arguments and returns the exit code."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(
        name, help=help, description=help, epilog=epilog, formatter_class=raw, allow_abbrev=False, add_help=add_help
    )
    parser.set_defaults(run=run)
    return parser


def add_overrides(parser: argparse.ArgumentParser, help: str) -> None:
    """Add `overrides`: words of the configuration, GROUP=CHOICE and KEY=VALUE."""
    parser.add_argument("overrides", nargs="*", help=help).completer = candidates  # type: ignore[attr-defined]  # argcomplete reads it


def candidates(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """The groups and keys of the configuration; behind `=` the group's choices, or files. Imports no Hydra and no torch."""
    from argcomplete.completers import FilesCompleter

    from cosmos_exp.config.paths import PATH_KEYS, group_choices
    from cosmos_exp.config.schema import all_keys

    config_dir = getattr(parsed_args, "config_dir", None)
    groups = group_choices(filter(None, [config_dir]))
    name, equals, value = prefix.partition("=")
    if not equals:
        return [f"{key}=" for key in (*groups, *all_keys())]
    before, comma, last = value.rpartition(",")
    choices = groups.get(name, [])
    if name in PATH_KEYS:
        choices = FilesCompleter()(last)
    return [f"{name}={before}{comma}{choice}" for choice in choices]


def add_shards(parser: argparse.ArgumentParser) -> None:
    """Add `--shards`: (0, 8) for all of eight, (3, 8) for the third of them, (1, 1) without it."""
    help = "8: divide over 8 jobs of hydra/launcher=…, one after another without it; 3-of-8: only the third part, here"
    parser.add_argument("--shards", type=_shards, default=(1, 1), metavar="N", help=help)


def _shards(text: str) -> tuple[int, int]:
    number, _, count = text.rpartition("-of-")
    if not 1 <= int(number or 1) <= int(count):
        raise argparse.ArgumentTypeError(f"{text}: give a number, 8, or one of them, 1-of-8 to 8-of-8")
    return int(number or 0), int(count)


def existing_files(names: list[str]) -> list[Path]:
    """The files with these names.

    Raises:
        UserError: some do not exist; it lists them.
    """
    paths = [Path(name).expanduser() for name in names]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise UserError(f"{', '.join(missing)}: no such file. Check the path.")
    return paths


def writable_folder(name: str) -> Path:
    """The folder of results with this name. It need not exist, and is not made: a folder can be made where it goes.

    Raises:
        UserError: it is a file or below one, or no folder can be made there.
    """
    path = Path(name).expanduser()
    place = next(filter(os.path.exists, (path, *path.parents)))  # Path.exists raises on a name that is too long
    if not place.is_dir():
        raise UserError(f"--out {path}: {place} is a file. Choose a folder.")
    try:
        with contextlib.suppress(FileNotFoundError):
            os.stat(path)  # fails on a name that is too long
        tempfile.TemporaryDirectory(dir=place, prefix=TEMPORARY).cleanup()
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror}). Choose another folder.") from error
    return path
