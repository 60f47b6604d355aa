"""Every command that README and the documentation show is one that the command line accepts."""

import re
import shlex

import pytest
from conftest import ROOT

from cosmos_exp.cli.entry import parse
from cosmos_exp.config.composing import compose_config, is_sweep
from cosmos_exp.errors import UserError

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs").glob("guides/*.md"))]
PAGES += sorted((ROOT / "docs").glob("reference/*.md"))
# The user's own files and folders, which a reader replaces.
OWN = re.compile(r"<[^>]+>")


def commands():
    for page in PAGES:
        if page.name == "log.md":  # the lab book keeps what was typed then
            continue
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for block in re.findall(r"```(?:bash|console|sh)?\n(.*?)```", text, re.DOTALL):
            for line in block.splitlines():
                found = re.match(r"(?:\$ )?(cosmos-exp .*)", line.strip())
                if found:
                    yield pytest.param(found.group(1), id=f"{page.name}: {found.group(1)[:60]}")


@pytest.mark.parametrize("line", list(commands()))
def test_a_command_of_the_documentation_is_accepted(line):
    words = [OWN.sub("X", w) for w in shlex.split(line.replace("…", ""), comments=True)[1:]]
    if "|" in words:
        words = words[: words.index("|")]
    parsed = parse(words)  # argparse ends the test with SystemExit where it does not know an option
    overrides = [w for w in getattr(parsed, "rest", None) or getattr(parsed, "overrides", None) or [] if "=" in w]
    overrides = [w for w in overrides if not w.startswith(("hydra", "run_dir=")) and not is_sweep(w)]
    if words[0] not in ("run", "sweep", "doctor", "generate") or any(w in ("--config-dir", "--cfg") for w in words):
        return
    problem = refusal(overrides)
    assert "data.path: not set" in problem or not problem  # a key that the documented sweep brings itself


def refusal(overrides):
    """Why a configuration is refused; empty if it is not."""
    try:
        compose_config(overrides)
    except UserError as error:
        return str(error)
    return ""
