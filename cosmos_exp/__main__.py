"""`python -m cosmos_exp`: the commands. An override or flag goes to `run`, so that plain Hydra calls work."""

import re
import sys

from cosmos_exp.cli.entry import command_names, main

COMMANDS = {*command_names(), "--version", "--debug", "-h", "--help"}

if __name__ == "__main__":
    words = sys.argv[1:]
    command = words and (
        words[0] in COMMANDS or words[0].startswith("--plugin") or re.fullmatch(r"[A-Za-z][\w-]*", words[0])
    )  # a bare word is no override
    sys.exit(main(words if command else ["run", *words]))
