"""Every command that README and the documentation show is one that the command line accepts."""

import re
import shlex

import pytest
from conftest import ROOT

from cosmos_exp.cli.entry import parse
from cosmos_exp.config.composing import compose_config, is_sweep
from cosmos_exp.errors import UserError

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands():
    for page in PAGES:
        if page.name == "log.md":  # the lab book keeps what was typed then
            continue
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for block in re.findall(r"```(?:bash|console|sh)?\n(.*?)```", text, re.DOTALL):
            for line in re.findall(r"^ *(?:\$ )?(cosmos-exp .*)", block, re.MULTILINE):
                yield pytest.param(line, id=f"{page.name}: {line[:60]}")


@pytest.mark.parametrize("line", list(commands()))
def test_a_command_of_the_documentation_is_accepted(line):
    line = re.sub(r"<[^>]+>", "X", line.replace("…", "")).partition("|")[0]
    words = shlex.split(line, comments=True)[1:]
    parsed = parse(words)  # argparse ends the test with SystemExit where it does not know an option
    if words[0] not in ("run", "sweep", "doctor", "generate") or "--config-dir" in words or "--cfg" in words:
        return
    overrides = [w for w in parsed.overrides if not w.startswith(("hydra", "run_dir=")) and not is_sweep(w)]
    refusal = ""
    try:
        compose_config(overrides)
    except UserError as error:
        refusal = str(error)
    assert not refusal or "data.path: not set" in refusal  # a key that the documented sweep brings itself
