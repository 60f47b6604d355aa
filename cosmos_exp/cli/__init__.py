"""The command line: one file per command."""

from cosmos_exp.cli.entry import main as main
