"""Every command's --help has examples that the command line takes; nothing is cut in a narrow terminal."""

import argparse
import io
import re
import shlex

import pandas as pd
import pytest
from rich.console import Console

from cosmos_exp.cli.entry import parse, parser
from cosmos_exp.config.composing import compose_config
from cosmos_exp.report.tables import rich_table
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.sweep.live import states_table
from cosmos_exp.sweep.runs import SweepRun

NAME = "lora-r32-a16-rslora-seed100-learning_rate0.0026122937099604315-sigma_shift20"


def all_parsers(node=None, words=()):
    node = node or parser()
    yield " ".join(words), node
    for action in node._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from all_parsers(child, (*words, name))


@pytest.mark.parametrize(("name", "node"), [p for p in all_parsers() if p[0] != "run"])  # run's help is Hydra's
def test_the_help_of_each_command_has_examples_that_it_takes(name, node):
    assert "examples:" in (node.epilog or ""), f"{name}: no examples"
    lines = re.findall(r"^  (?:eval \"\$\()?(cosmos-exp [^)\n]*)", node.epilog, re.MULTILINE)
    assert lines
    for line in lines:
        line = re.split(r" > |\s{2,}", line)[0]  # what it does, or where the output goes, follows
        parse(shlex.split(line.replace("…", "x"))[1:])  # SystemExit where it does not know an option
    helps = [a.help for a in node._actions if not isinstance(a, argparse._SubParsersAction)]
    assert all(helps), f"{name}: an argument has no help"


def test_the_help_of_run_has_examples(cli, capsys):
    assert cli("run", "--help") in (0, None)
    assert "cosmos-exp run -m rank=8,16,32" in capsys.readouterr().out


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_long_run_name_is_shown_whole(width, tmp_path):
    config = compose_config([])
    screen = io.StringIO()
    console = Console(file=screen, width=width)
    console.print(states_table([SweepRun(NAME, RunFolder(tmp_path / NAME), (), config)]))
    console.print(rich_table(pd.DataFrame({"adapter": [NAME], NAME: ["0.25"]})))
    said = screen.getvalue()
    assert "…" not in said
    first_cells = "".join(line.split("│")[1].strip() for line in said.splitlines() if line.startswith("│"))
    assert first_cells == 2 * NAME
    assert max(map(len, said.splitlines())) <= width
