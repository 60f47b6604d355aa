"""`cosmos-exp completion SHELL`, and what the shell then asks for at each press of the TAB key.

argcomplete walks the parser and talks to the shells. Nothing is composed, neither torch nor a module of the current folder is imported;
of that folder only the names of files are read.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin

HELP = "print the completion of commands, options, configuration keys and files for a shell"
EPILOG = """examples:
  eval "$(cosmos-exp completion bash)"                                    in this shell; in ~/.bashrc for every one
  eval "$(cosmos-exp completion zsh)"                                     in ~/.zshrc, after compinit
  cosmos-exp completion fish > ~/.config/fish/completions/cosmos-exp.fish

Then `cosmos-exp run adapter=<TAB>` lists the adapters."""
Completer = Callable[..., Iterable[str]]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to `cosmos-exp`."""
    parser = commands.add_parser(
        "completion", help=HELP, description=HELP, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell that is to complete")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the shell's code."""
    from argcomplete.shell_integration import shellcode

    print(shellcode(["cosmos-exp"], shell=args.shell))
    return 0


def asked_by_shell() -> bool:
    """Whether this process was started to complete a command line."""
    return "_ARGCOMPLETE" in os.environ


def answer_shell(parser: argparse.ArgumentParser) -> None:
    """Print the candidates for the command line that the shell has passed on, and end the process."""
    import argcomplete

    for name, command in _subparsers(parser).items():
        for one in (command, *_subparsers(command).values()):
            for action in one._actions:
                completer = _COMPLETERS.get(f"{name} {action.dest}") or _COMPLETERS.get(action.dest)
                if completer and not action.choices:
                    action.completer = completer  # type: ignore[attr-defined]  # argcomplete reads it
    files = cast(argcomplete.completers.BaseCompleter, paths)  # called, never subclassed
    argcomplete.autocomplete(parser, always_complete_options=False, default_completer=files)


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def paths(prefix: str, **_: object) -> list[str]:
    """Files and folders that begin with `prefix`; a folder ends with a slash."""
    folder, slash, start = prefix.rpartition("/")
    shown = f"{folder}/" if slash else ""
    try:
        entries = list(os.scandir(Path(shown or ".").expanduser()))
    except OSError:
        return []
    found = []
    for entry in entries:
        hidden = entry.name.startswith(".") and not start.startswith(".")
        if entry.name.startswith(start) and entry.name.isprintable() and not hidden:
            found.append(shown + entry.name + ("/" if entry.is_dir() else ""))
    return sorted(found)


def overrides(prefix: str, parsed_args: argparse.Namespace, **_: object) -> dict[str, str]:
    """Groups, choices, keys and values of the configuration, with the help of each key; files for keys that take one."""
    from cosmos_exp.config.paths import PATH_KEYS, group_choices
    from cosmos_exp.config.schema import all_keys

    own = getattr(parsed_args, "config_dir", None)
    groups, keys = group_choices([own] if own else []), all_keys()
    name, equals, value = prefix.partition("=")
    sign = name[: len(name) - len(name.lstrip("+"))]
    name = name.removeprefix(sign)
    if not equals:
        return {sign + word: help for word, help in _names(name, groups, keys).items()}
    before, comma, last = value.rpartition(",")
    values = groups[name] if name in groups else _values(name, keys.get(name))
    found = {}
    for one in values:
        if one.startswith(last) and one not in before.split(","):
            found[f"{sign}{name}={before}{comma}{one}"] = ""
    for path in paths(value) if name in PATH_KEYS else ():
        found[f"{sign}{name}={path}"] = ""
    return found


def _names(start: str, groups: dict[str, list[str]], keys: dict[str, Any]) -> dict[str, str]:
    """Groups and keys that begin with `start`, one level of dots at a time: `training.` stands for the keys below it."""
    found: dict[str, str] = {}
    for group, choices in groups.items():
        if group.startswith(start):
            found[f"{group}="] = f"one of {', '.join(choices)}"
    for key, field in keys.items():
        if key.startswith(start) and key.count(".") == start.count("."):
            below = any(other.startswith(f"{key}.") for other in keys)
            found[f"{key}." if below else f"{key}="] = field.description
    if len(found) == 1 and next(iter(found)).endswith("."):  # a shell would put a space behind the only candidate
        return _names(next(iter(found)), groups, keys)
    return found


def _values(name: str, field: Any) -> list[str]:  # Any: pydantic's FieldInfo, or None for an unknown key
    """The values that a key can have, where they can be listed."""
    from cosmos_exp.config.registry import REGISTRIES

    for registry in REGISTRIES:
        if registry.key == name:
            return registry.names
    if field is None:
        return []
    if field.annotation is bool:
        return ["true", "false"]
    values = list(get_args(field.annotation)) if get_origin(field.annotation) is Literal else []
    return values + (["null"] if type(None) in get_args(field.annotation) else [])


def sweeps(prefix: str, **_: object) -> list[str]:
    """Names of the shipped sweeps, and YAML files."""
    from cosmos_exp.config.paths import sweeps_dir

    files = [path for path in paths(prefix) if path.endswith(("/", ".yaml", ".yml"))]
    return [*sorted(path.stem for path in sweeps_dir().glob("*.yaml")), *files]


def run_sweeps(prefix: str, **_: object) -> list[str]:
    """Names of the sweeps below outputs/sweeps, and folders."""
    return [path.rstrip("/").rpartition("/")[2] for path in paths("outputs/sweeps/")] + paths(prefix)


def run_folders(prefix: str, **_: object) -> list[str]:
    """Folders below what was typed; without a word the runs of the sweeps in outputs/."""
    return [path for path in paths(prefix or "outputs/sweeps/") if path.endswith("/")]


def measures(**_: object) -> list[str]:
    """The measures that rank videos."""
    from cosmos_exp.config.measures import MEASURES

    return [name for name, info in MEASURES.items() if info.better]


def judges(**_: object) -> list[str]:
    """The judges of conf/judge."""
    from cosmos_exp.config.paths import group_choices

    return group_choices()["judge"]


def rubrics(prefix: str, **_: object) -> list[str]:
    """Our rubrics, and files."""
    return ["physics", "instruction", *paths(prefix)]


# By the name of an argument, or by command and argument.
_COMPLETERS: dict[str, Completer] = {
    "overrides": overrides,
    "set": overrides,
    "data model": overrides,
    "judge": judges,
    "by": measures,
    "runs": run_folders,
    "rubric": rubrics,
    "sweep": run_sweeps,
    "sweep name": sweeps,
}
