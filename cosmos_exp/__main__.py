"""`python -m cosmos_exp`: the commands. Anything that is not a command goes to `run`, so that plain Hydra calls work."""

import sys

from cosmos_exp.cli.entry import command_names, main

COMMANDS = {*command_names(), "--version", "--debug", "-h", "--help"}

if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(main(words if words and words[0] in COMMANDS else ["run", *words]))
