"""`cosmos-exp completion SHELL`, and what the shell then asks for at each press of the TAB key.

argcomplete walks the parser and talks to the shells. It imports neither Hydra nor torch, and no module of the current
folder; of that folder only the names of files are read.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import cast

from cosmos_exp.config.candidates import PATH_KEYS, group_choices, override_candidates
from cosmos_exp.config.measures import MEASURES
from cosmos_exp.config.paths import sweeps_dir

HELP = "print the completion of commands, options, configuration keys and files for a shell"
EPILOG = """examples:
  eval "$(cosmos-exp completion bash)"                                    in this shell; in ~/.bashrc for every one
  eval "$(cosmos-exp completion zsh)"                                     in ~/.zshrc, after compinit
  cosmos-exp completion fish > ~/.config/fish/completions/cosmos-exp.fish

Then `cosmos-exp run adapter=<TAB>` lists the adapters. `cosmos-exp run -sc install=bash` prints the same."""
SHELLS = ("bash", "zsh", "fish")
# Hydra parses the rest of `run` itself; these are here to be completed.
HYDRA_FLAGS: dict[tuple[str, ...], tuple[str, tuple[str, ...] | None]] = {
    ("-m", "--multirun"): ("several runs, one after another", None),
    ("-c", "--cfg"): ("print the configuration", ("job", "hydra", "all")),
    ("-cd", "--config-dir"): ("your folder of groups", ()),
    ("-cn", "--config-name"): ("another primary configuration", ()),
    ("--resolve",): ("with --cfg: resolve interpolations", None),
    ("-p", "--package"): ("with --cfg: only this part", ()),
    ("-i", "--info"): ("print information about Hydra", ("all", "config", "defaults", "plugins", "searchpath")),
    ("-h", "--help"): ("groups and keys", None),
    ("--hydra-help",): ("flags of Hydra", None),
}
Completer = Callable[..., Iterable[str]]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to `cosmos-exp`."""
    parser = commands.add_parser(
        "completion", help=HELP, description=HELP, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell that is to complete")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the shell's code."""
    print(shell_code(args.shell))
    return 0


def shell_code(shell: str) -> str:
    """The code that a shell evaluates to complete `cosmos-exp`."""
    from argcomplete.shell_integration import shellcode

    return shellcode(["cosmos-exp"], shell=shell)


def answer_shell(parser: argparse.ArgumentParser) -> None:
    """Print the candidates for the command line that the shell has passed on, and end the process."""
    import argcomplete

    _add_completers(parser)
    files = cast(argcomplete.completers.BaseCompleter, paths)  # called, never subclassed
    argcomplete.autocomplete(parser, always_complete_options=False, default_completer=files)


def asked_by_shell() -> bool:
    """Whether this process was started to complete a command line."""
    return "_ARGCOMPLETE" in os.environ


def paths(prefix: str, **_: object) -> list[str]:
    """Files and folders that begin with `prefix`; a folder ends with a slash."""
    folder, _slash, start = prefix.rpartition("/")
    shown = f"{folder}/" if _slash else ""
    try:
        entries = list(os.scandir(Path(shown or ".").expanduser()))
    except OSError:
        return []
    found = [e for e in entries if e.name.startswith(start) and e.name.isprintable()]
    hidden = start.startswith(".")
    return sorted(shown + e.name + ("/" if e.is_dir() else "") for e in found if hidden or e.name[0] != ".")


def overrides(prefix: str, parsed_args: argparse.Namespace, **_: object) -> dict[str, str]:
    """Groups, choices, keys and values of the configuration; files for keys that take one."""
    own = getattr(parsed_args, "config_dir", None)
    found = override_candidates(prefix, [own] if own else [])
    name, equals, value = prefix.partition("=")
    if equals and name.lstrip("+") in PATH_KEYS:
        found |= {f"{name}={p}": "" for p in paths(value)}
    return found


def sweeps(prefix: str, **_: object) -> list[str]:
    """Names of the shipped sweeps, and YAML files."""
    files = [p for p in paths(prefix) if p.endswith(("/", ".yaml", ".yml"))]
    return [*sorted(p.stem for p in sweeps_dir().glob("*.yaml")), *files]


def run_sweeps(prefix: str, **_: object) -> list[str]:
    """Names of the sweeps below outputs/sweeps, and folders."""
    return [p.rstrip("/").rpartition("/")[2] for p in paths("outputs/sweeps/")] + paths(prefix)


def run_folders(prefix: str, **_: object) -> list[str]:
    """Folders below what was typed; without a word the runs of the sweeps in outputs/."""
    return [p for p in paths(prefix or "outputs/sweeps/") if p.endswith("/")]


def measures(**_: object) -> list[str]:
    """The measures that rank videos."""
    return [name for name, info in MEASURES.items() if info.better]


def judges(**_: object) -> list[str]:
    """The judges of conf/judge."""
    return group_choices()["judge"]


def rubrics(prefix: str, **_: object) -> list[str]:
    """Our rubrics, and files."""
    return ["physics", "instruction", *paths(prefix)]


_BY_DESTINATION: dict[str, Completer] = {
    **dict.fromkeys(("overrides", "rest", "set", "model", "write_hashes"), overrides),
    "judge": judges,
    "by": measures,
    "runs": run_folders,
    "rubric": rubrics,
    "sweep": run_sweeps,
    "sweep name": sweeps,
}


def _add_completers(root: argparse.ArgumentParser) -> None:
    """Give each argument its completer, by command and name."""
    commands = _subparsers(root)
    for flags, (help, values) in HYDRA_FLAGS.items():
        words: dict[str, object] = {"action": "store_true"} if values is None else {"choices": values or None}
        commands["run"].add_argument(*flags, help=help, **words)  # type: ignore[arg-type]  # either of two
    for name, parser in commands.items():
        for one in (parser, *_subparsers(parser).values()):
            for action in one._actions:
                completer = _BY_DESTINATION.get(f"{name} {action.dest}") or _BY_DESTINATION.get(action.dest)
                if completer and not action.choices and not (name == "adapter" and action.dest == "model"):
                    action.completer = completer  # type: ignore[attr-defined]  # argcomplete reads it


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = next((a for a in parser._actions if isinstance(a, argparse._SubParsersAction)), None)
    return dict(found.choices) if found else {}
