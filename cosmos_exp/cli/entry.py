"""`cosmos-exp`: the commands. A command's modules are imported when it runs, so that `--help` answers at once."""

from __future__ import annotations

import argparse
import difflib
import re
import sys

from cosmos_exp import __version__
from cosmos_exp.cli import (
    adapter,
    completion,
    dashboard,
    data,
    doctor,
    generate,
    judge,
    publish,
    report,
    rerun,
    run,
    sampson,
    sweep,
    trajectories,
)
from cosmos_exp.config.registry import load_plugins
from cosmos_exp.config.trust import command_line, without_plugins
from cosmos_exp.errors import UserError
from cosmos_exp.files import as_disk_error
from cosmos_exp.text import printable, redact

_RUNS, _RESULTS = (run, sweep, rerun), (report, dashboard, sampson, judge)
COMMANDS = (*_RUNS, *_RESULTS, generate, trajectories, adapter, publish, data, doctor, completion)
EPILOG = """examples:
  cosmos-exp run                                      train, generate and score the embedded world (minutes, no GPU)
  cosmos-exp run data=folder data.path=DIR rank=8 alpha=16 adapter=dora
  cosmos-exp run model=cosmos_predict25_2b hardware=8xh100 dry_run=true     print the plan, load nothing
  cosmos-exp run -m rank=8,16,32                      several runs, one after another
  cosmos-exp sweep rank                               a sweep; the same command again runs what is missing or failed
  cosmos-exp adapter truncate RUN --rank 2,4,8        the best adapters of lower rank from one training
  cosmos-exp data check DIR                           list every bad file
  cosmos-exp report outputs/sweeps/rank               table, figures and a page with the videos side by side
  cosmos-exp publish RUN                              a folder for the Hugging Face hub: adapter, model card, examples

exit codes: 0 done, 1 the run or the check failed, 2 the request was wrong"""


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    root = argparse.ArgumentParser(
        prog="cosmos-exp",
        description="Fine-tune a video world model with LoRA or DoRA, and measure what each choice did.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"cosmos-exp {__version__}")
    root.add_argument("--debug", action="store_true", help="show the traceback of an error")
    root.add_argument(
        "--plugin",
        action="append",
        metavar="MODULE",
        help="import a module of yours, which adds names to the registries",
    )
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    return root


def command_names() -> set[str]:
    """The name of every command."""
    choices = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    return set(choices)


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    if completion.asked_by_shell():
        completion.answer_shell(parser())
    words, modules = without_plugins(sys.argv[1:] if argv is None else argv)
    try:
        args = parse(words)
    except UserError as error:
        print(f"cosmos-exp: {printable(error)}", file=sys.stderr)
        return error.exit_code
    try:
        with command_line(words, modules):
            load_plugins()
            return int(args.run(args))
    except UserError as error:
        if args.debug:
            raise
        print(f"cosmos-exp: {redact(printable(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("cosmos-exp: interrupted", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    except OSError as error:
        found = as_disk_error(error)
        if found is None or args.debug:
            raise
        print(f"cosmos-exp: {redact(printable(found))}", file=sys.stderr)
        return found.exit_code


def parse(argv: list[str]) -> argparse.Namespace:
    """The parsed command line; `run` is the function that runs the command.

    Raises:
        UserError: there is no such command.
    """
    first = ["--debug"] if argv[:1] == ["--debug"] else []
    words = argv[len(first) :]
    if words[:1] == ["run"]:  # all of the rest is Hydra's, flags such as -m and --cfg too; argparse would take them
        return argparse.Namespace(run=run.run, rest=words[1:], debug=bool(first) or "--debug" in words)
    if words and re.fullmatch(r"[A-Za-z][\w=./-]*", words[0]) and words[0] not in (known := command_names()):
        near = difflib.get_close_matches(words[0], known, n=1)
        hint = f"did you mean `cosmos-exp {near[0]}`?" if near else f"the commands are {', '.join(sorted(known))}"
        hint = f"keys belong to a command, e.g. `cosmos-exp run {words[0]}`" if "=" in words[0] else hint
        raise UserError(f"{words[0]}: no such command; {hint}")
    if words[:2] == ["judge", "agree"]:
        words = ["judge-agree", *words[2:]]
    if words[:1] == ["sweep"] and "--list" in words:  # argparse takes no option between a name and its overrides
        words = ["sweep", "--list", *(w for w in words[1:] if w != "--list")]
    return parser().parse_args([*first, *words])


if __name__ == "__main__":
    sys.exit(main())
