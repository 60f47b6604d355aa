"""`cosmos-exp`: the commands. A command's modules are imported when it runs, so that `--help` answers at once.

A command is a module with HELP, EPILOG, `options(parser)`, which adds its arguments, and `run(args)`, which returns the exit code.
"""

from __future__ import annotations

import argparse
import os
import sys

from cosmos_exp import __version__
from cosmos_exp.cli import (
    adapter,
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
from cosmos_exp.cli.arguments import add_command
from cosmos_exp.config.registry import PLUGINS, load_plugins
from cosmos_exp.errors import UserError
from cosmos_exp.files import as_disk_error
from cosmos_exp.provenance import opencv_fault, variables
from cosmos_exp.text import one_line, printable, redact

COMMANDS = (
    *(run, sweep, rerun, report, dashboard, sampson, judge),
    *(generate, trajectories, adapter, publish, data, doctor),
)
NO_MEMORY = ("failed to map segment", "can't allocate memory")  # said by the loader of libraries, by torch
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

TAB completion in this shell: eval "$(register-python-argcomplete cosmos-exp)"
exit codes: 0 done, 1 the run or the check failed, 2 the request was wrong"""


def everywhere() -> argparse.ArgumentParser:
    """The options that may be anywhere on the command line."""
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("--debug", action="store_true", help="show the traceback of an error")
    help = "import a module of yours, which adds judges, readers, measures … to the registries"
    options.add_argument("--plugin", action="append", default=[], metavar="MODULE", help=help)
    return options


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    description = "Fine-tune a video world model with LoRA or DoRA, and measure what each choice did."
    raw = argparse.RawDescriptionHelpFormatter
    root = argparse.ArgumentParser(
        prog="cosmos-exp", description=description, epilog=EPILOG, formatter_class=raw, parents=[everywhere()]
    )
    root.add_argument("--version", action="version", version=f"cosmos-exp {__version__}")
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in COMMANDS:
        name, run_it = module.__name__.rpartition(".")[2], getattr(module, "run", None)  # None: each action has its own
        module.options(add_command(commands, name, run_it, module.HELP, module.EPILOG, add_help=module is not run))
    return root


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8
    if "_ARGCOMPLETE" in os.environ:  # the TAB key of a shell asks
        import argcomplete

        argcomplete.autocomplete(parser(), always_complete_options=False)
    options, words = everywhere().parse_known_args(sys.argv[1:] if argv is None else argv)
    inherited = {
        "MPLBACKEND": "agg",  # figures are files, whatever a notebook has set
        "PYTHONSAFEPATH": "1",  # child processes import nothing from the current folder
        PLUGINS: ",".join([os.environ.get(PLUGINS, ""), *options.plugin]),
    }
    try:
        with variables(inherited):
            load_plugins()
            args = parse(words)
            return int(args.run(args))
    except KeyboardInterrupt:
        print("cosmos-exp: interrupted", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    except (ImportError, MemoryError, RuntimeError) as error:
        fix = opencv_fault() if "libGL" in str(error) else None
        if isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY):
            fix = "too little memory; free some, or raise the limit of this shell (`ulimit -v unlimited`)."
        if options.debug or fix is None:
            raise
        print(f"cosmos-exp: {one_line(error)[:160] or type(error).__name__}: {fix}", file=sys.stderr)
        return 1
    except (UserError, OSError) as error:
        known = as_disk_error(error) if isinstance(error, OSError) else error
        if known is None or options.debug:
            raise
        print(f"cosmos-exp: {redact(printable(known))}", file=sys.stderr)
        return known.exit_code


def parse(words: list[str]) -> argparse.Namespace:
    """The parsed command line; `run` is the function that runs the command. Overrides may be between options.

    Raises:
        UserError: an option that the command does not have.
    """
    args, rest = parser().parse_known_args(words, argparse.Namespace(words=words))
    for word in rest:  # argparse takes no override after an option that follows an override
        if word.startswith("-") or not hasattr(args, "overrides"):
            raise UserError(f"{word}: no such option or argument. `cosmos-exp {args.command} --help` lists them.")
        args.overrides.append(word)
    return args


if __name__ == "__main__":
    sys.exit(main())
