"""Children of the fork server: exit codes, surroundings, signals, the death of each process.

The server of these tests preloads no heavy module, unless one is running already."""

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest
from conftest import ROOT, gone, long_test, server_pid, stop_server, wait_until

from cosmos_exp.config.registry import PRELOADED, load_plugins
from cosmos_exp.experiment.fork_server import PRELOAD, START_METHOD, start, start_server

SLEEP = "import time; time.sleep(100)"


@pytest.fixture(scope="module", autouse=True)
def light_server():
    running = server_pid() is not None
    if not running:
        start_server(["json"])
    yield
    if not running:
        stop_server()


def python(code, **options):
    """Start a child that runs Python code."""
    return start("builtins:exec", (code, {}), **options)


def parent(code):
    """A process of its own that starts children with `python`; it prints lines of JSON."""
    code = (
        f"import json, os, sys, time\nsys.path.insert(0, {str(ROOT)!r})\nimport multiprocessing.forkserver\n"
        "from cosmos_exp.experiment.fork_server import start, start_server\nstart_server(['json'])\n"
        "def server_pid(): return multiprocessing.forkserver._forkserver._forkserver_pid\n"
        "def python(code): return start('builtins:exec', (code, {}))\n" + code
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("function", "args", "code"),
    [("operator:add", (2, 3), 5), ("sys:exit", (4,), 4), ("operator:truediv", (1, 0), 1), ("os:_exit", (9,), 9)],
)
def test_exit_code(function, args, code, tmp_path):
    child = start(function, args, log=tmp_path / "log.txt")
    assert child.wait() == child.poll() == child.wait(0) == code
    assert ("Traceback" in (tmp_path / "log.txt").read_text()) == (code == 1)


def test_surroundings_are_those_of_the_parent_now(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("COSMOS_EXP_TEST_NEW", "1")  # after the server has started
    monkeypatch.chdir(tmp_path)
    code = (
        "import atexit, json, os\n"
        "atexit.register(lambda: open('exit', 'w').close())\n"
        "json.dump({'cwd': os.getcwd(), 'environment': dict(os.environ)}, open('seen', 'w'))\n"
        "print('out'); os.system('echo below >&2')"
    )
    assert python(code).wait() == 0
    seen = json.loads((tmp_path / "seen").read_text())
    assert dict(os.environ).items() <= seen["environment"].items()
    assert seen["cwd"] == str(tmp_path)
    assert (tmp_path / "exit").is_file()
    assert capfd.readouterr() == ("out\n", "below\n")
    for _ in range(2):  # appended
        python(code, log=tmp_path / "log.txt").wait()
    assert (tmp_path / "log.txt").read_text().split() == ["out", "below"] * 2


def test_signals(tmp_path):
    killed, other = python(SLEEP), python(SLEEP)
    assert killed.wait(0.05) is None
    killed.kill()
    assert killed.wait(10) == -signal.SIGKILL
    assert other.poll() is None  # a killed child leaves its siblings and the server
    pid, log = server_pid(), tmp_path / "log.txt"
    os.kill(pid, signal.SIGINT)  # Ctrl-C in the terminal reaches the server too
    os.kill(pid, signal.SIGTERM)
    assert python("raise KeyboardInterrupt", log=log).wait(10) == 1
    assert log.read_text() == "interrupted\n"  # Ctrl-C before the function has begun is no traceback
    assert server_pid() == pid
    other.terminate()
    assert other.wait(10) == -signal.SIGTERM


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_killed_parent_ends_all_of_its_processes(method, monkeypatch):
    monkeypatch.setenv(START_METHOD, method)
    process = parent(
        f"children = [python({SLEEP!r}), python({SLEEP!r})]\nprint(json.dumps([c.pid for c in children]), flush=True)\n{SLEEP}"
    )
    children = json.loads(process.stdout.readline())
    below = psutil.Process(process.pid).children(recursive=True)
    assert {*children} <= {p.pid for p in below}
    process.kill()
    process.wait()
    wait_until(lambda: all(map(gone, below)), seconds=10)


@long_test
def test_a_server_that_died_is_started_again(monkeypatch, tmp_path):
    """In a folder for temporary files whose path is too long for a socket (107 characters)."""
    long = tmp_path / ("a" * 120)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    process = parent(
        "import signal\nold = server_pid()\nos.kill(old, signal.SIGKILL)\ntime.sleep(0.2)\n"
        "print(json.dumps([start('operator:add', (2, 3)).wait(), server_pid() != old]), flush=True)"
    )
    assert json.loads(process.stdout.readline()) == [5, True]
    assert process.wait(20) == 0


def test_preloaded_modules_exist():
    """The fork server skips a module that it cannot import, so that a renamed one would only make runs start slowly."""
    load_plugins()
    assert PRELOADED
    for name in (*PRELOAD, *PRELOADED):
        if name.startswith("cosmos_exp."):
            assert ROOT.joinpath(*name.split(".")).with_suffix(".py").is_file(), name
