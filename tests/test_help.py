"""Every command's --help has examples that the command line takes, and the TAB key completes; nothing heavy is imported."""

import argparse
import os
import re
import shlex
import sys
from pathlib import Path

import pytest
from conftest import ROOT, program

from cosmos_exp.cli.entry import parse, parser

BASH = """
eval "$(register-python-argcomplete cosmos-exp)"
ask() { COMP_LINE="$1" COMP_POINT=${#1} COMP_TYPE=9; COMPREPLY=(); _python_argcomplete cosmos-exp; echo "${COMPREPLY[@]}"; }
ask "cosmos-exp run adapter="; ask "cosmos-exp run -m rank=8,1"; ask "cosmos-exp run training.learning_r"; ask "cosmos-exp ad"
"""


def all_parsers(node, words=()):
    yield " ".join(words), node
    for action in node._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from all_parsers(child, (*words, name))


@pytest.mark.parametrize(("name", "node"), [p for p in all_parsers(parser()) if p[0] != "run"])  # run's help is Hydra's
def test_the_help_of_each_command_has_examples_that_it_takes(name, node):
    lines = re.findall(r"^  (cosmos-exp .*)", node.epilog, re.MULTILINE)
    assert lines, f"{name}: no examples"
    for line in lines:
        parse(shlex.split(re.split(r"\s{2,}", line)[0].replace("…", "x"))[1:])  # SystemExit for an unknown option
    assert all(action.help for action in node._actions if not isinstance(action, argparse._SubParsersAction))


def test_bash_completes_and_imports_nothing_from_the_current_folder(tmp_path):
    for name in ("torch", "hydra", "numpy", "yaml", "argparse"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the current folder')")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = program("bash", "--norc", "-c", BASH, cwd=tmp_path, PATH=path, PYTHONPATH=str(ROOT))
    said = [set(line.split()) for line in done.stdout.splitlines()]
    assert said == [
        {"dora", "full", "lokr", "lora", "none", "oft", "pissa"},
        {"8,16"},
        {"training.learning_rate="},
        {"adapter"},
    ]
