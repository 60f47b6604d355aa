"""Completion through a real bash: commands, options, groups, choices, keys, files, sweeps, judges. It imports nothing heavy."""

import os
import pty
import shutil
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest
from conftest import ROOT

from cosmos_exp.cli.completion import overrides, paths

BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(BASH is None, reason="no bash")
ASKED = {
    "cosmos-exp ": {"run", "sweep", "report", "judge", "data", "completion"},
    "cosmos-exp run adapter=": {"dora", "lora", "none"},
    "cosmos-exp run -m rank=8,1": {"8,16 "},
    "cosmos-exp run training.learning_r": {"training.learning_rate="},
    "cosmos-exp run data.path=my": {r"my\ videos/"},
    "cosmos-exp sweep lora": {"lora_vs_dora "},
    "cosmos-exp judge a.mp4 --judge reason2_": {"reason2_2b", "reason2_8b"},
    "cosmos-exp adapter merge x --dt": {"--dtype "},
    "cosmos-exp data check my --for model=tab": {"tabletop "},
}
PREAMBLE = """
eval "$(cosmos-exp completion bash)"
ask() {
  COMP_LINE="$1" COMP_POINT=${#1} COMP_TYPE=9
  COMPREPLY=()
  _python_argcomplete cosmos-exp
  printf '<%s>' "${COMPREPLY[@]}"
  echo
}
"""


def shell_environment():
    """The installed `cosmos-exp` with this checkout, and a folder of modules that must not be imported."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "TERM": "dumb", "PS1": "$ "}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A current folder with a video, a folder, and modules that would end the process if they were imported."""
    made = tmp_path_factory.mktemp("untrusted")
    (made / "my videos").mkdir()
    (made / "clip.mp4").touch()
    for name in ("torch", "hydra", "numpy", "argparse", "cosmos_exp"):
        (made / f"{name}.py").write_text("raise SystemExit('imported from the current folder')")
    return made


@pytest.fixture(scope="module")
def answers(folder):
    """What one bash answers to all lines of ASKED."""
    script = PREAMBLE + "".join(f"ask {line!r}\n" for line in ASKED)
    done = subprocess.run(
        [BASH, "--norc", "-c", script], cwd=folder, env=shell_environment(), capture_output=True, text=True, check=True
    )
    rows = [set(row.strip("<>").split("><")) for row in done.stdout.splitlines()]
    return dict(zip(ASKED, rows, strict=True))


@pytest.mark.parametrize("line", list(ASKED))
def test_bash_completes(line, answers):
    found = answers[line]
    assert found >= ASKED[line] if line == "cosmos-exp " else found == ASKED[line]


def test_the_tab_key_in_an_interactive_bash(folder):
    """A terminal of its own: the keys go in, and what bash draws comes out."""
    child, screen = pty.fork()
    if not child:
        os.chdir(folder)
        os.execve(BASH, [BASH, "--norc", "--noprofile", "-i"], shell_environment())
    shown = b""

    def read_until(text):
        nonlocal shown
        deadline = time.monotonic() + 60
        while text not in shown and time.monotonic() < deadline:
            shown += os.read(screen, 4096)

    try:
        os.write(screen, b'eval "$(cosmos-exp completion bash)"; echo rea""dy\n')
        read_until(b"ready")
        os.write(screen, b"cosmos-exp run adapter=do\t")
        read_until(b"adapter=dora ")
        os.write(screen, b"training.max_s\t")
        read_until(b"adapter=dora training.max_steps=")
    finally:
        os.close(screen)
        os.waitpid(child, 0)
    assert b"adapter=dora training.max_steps=" in shown


def test_a_completion_imports_nothing_heavy(tmp_path):
    out = tmp_path / "out"
    code = (
        "import sys, atexit, os\n"
        "os._exit = lambda code: (_ for _ in ()).throw(SystemExit(code))\n"
        "from cosmos_exp.cli.entry import main\n"
        "try:\n main([])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'hydra', 'omegaconf', 'numpy', 'yaml', 'rich'} & set(sys.modules), sorted(sys.modules)"
    )
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": "cosmos-exp run adapter=d", "COMP_POINT": "24"}
    environment = shell_environment() | asked | {"_ARGCOMPLETE_STDOUT_FILENAME": str(out)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert out.read_text() == "adapter=dora "


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("adapter=", {"adapter=dora", "adapter=lora", "adapter=none"}),
        ("adapter.kind=", {"adapter.kind=lora", "adapter.kind=dora", "adapter.kind=none"}),
        ("judge.name=ru", {"judge.name=rules"}),
        ("adapter.scaling=r", {"adapter.scaling=rslora"}),
        ("dry", {"dry_run="}),
        ("dry_run=t", {"dry_run=true"}),
        ("training.sch", {f"training.schedule.{k}=" for k in ("f_max", "f_min", "total_samples", "warmup_samples")}),
        ("judge=reason2_2b,ser", {"judge=reason2_2b,server"}),
        ("rank=8,16,", {"rank=8,16,32"}),
        ("++hardware=1x", {"++hardware=1x24gb", "++hardware=1xh100"}),
        ("nonsense=", set()),
        ("adap", {"adapter=", "adapter."}),
    ],
)
def test_the_candidates_of_an_override(word, expected):
    assert set(overrides(word, Namespace())) == expected


def test_a_users_folder_of_groups_and_odd_file_names(tmp_path, monkeypatch):
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "mine.yaml").touch()
    assert "training=mine" in overrides("training=m", Namespace(config_dir=str(tmp_path)))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a\x1b[31mred").touch()
    (tmp_path / ".hidden").touch()
    assert paths("") == ["training/"]
    assert paths("training/m") == ["training/mine.yaml"]
    assert paths(".h") == [".hidden"]
    assert paths("absent/x") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_code(shell, cli, capsys):
    assert cli("completion", shell) == 0
    assert "cosmos-exp" in capsys.readouterr().out
