"""`python -m cosmos_exp`: the commands. An override or flag goes to `run`, so that plain Hydra calls work."""

import sys

from cosmos_exp.cli.entry import COMMANDS, main

NAMES = {command.__name__.rpartition(".")[2] for command in COMMANDS}
OPTIONS = ("--version", "--debug", "--plugin", "-h", "--help")

if __name__ == "__main__":
    words = sys.argv[1:]
    is_command = words and (words[0] in NAMES or words[0].startswith(OPTIONS) or words[0].isidentifier())
    sys.exit(main(words if is_command else ["run", *words]))
