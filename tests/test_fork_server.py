"""Children of the fork server: exit codes, surroundings, signals, the death of each process.

Most tests preload no heavy module. Those that kill the parent or the server run a parent of their own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import server_pid, stop_server

from cosmos_exp.config.registry import PRELOADED, load_plugins
from cosmos_exp.experiment.fork_server import PRELOAD, START_METHOD, start, start_server

ROOT = Path(__file__).parent.parent
SLEEP = "import time; time.sleep(100)"
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(scope="module", autouse=True)
def light_server():
    """A server that imports little, unless one is running already."""
    running = server_pid() is not None
    if not running:
        start_server(["json"])
    yield
    if not running:
        stop_server()


def python(code, **options):
    """Start a child that runs Python code."""
    return start("builtins:exec", (code, {}), **options)


@contextlib.contextmanager
def parent(tmp_path, code):
    """A process of its own that starts children; `go()` reads one line of JSON from it. All of its family is killed at the end."""
    script = tmp_path / "parent.py"
    script.write_text(f"import json, os, sys, time\nsys.path.insert(0, {str(ROOT)!r})\n"
                      "import multiprocessing.forkserver\nfrom cosmos_exp.experiment.fork_server import *\nstart_server(['json'])\n"
                      "def server_pid(): return multiprocessing.forkserver._forkserver._forkserver_pid\n"
                      "def python(code, **options): return start('builtins:exec', (code, {}), **options)\n"
                      "def say(value): print(json.dumps(value), flush=True)\n" + code)  # fmt: skip
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    family = []
    try:

        def go():
            value = json.loads(process.stdout.readline())
            family.extend(psutil.Process(process.pid).children(recursive=True))
            return value

        yield process, go
    finally:
        for one in [*family, process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()


def gone(pid, seconds=10.0):
    """Whether a process ends within some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("function", "args", "code"),
    [("operator:add", (2, 3), 5), ("builtins:exec", ("1", {}), 0), ("sys:exit", (4,), 4), ("sys:exit", ("words",), 1),
     ("operator:truediv", (1, 0), 1), ("json:no_such_function", (), 1), ("no_such_module:f", (), 1), ("os:_exit", (9,), 9)],
)  # fmt: skip
def test_exit_code(function, args, code, tmp_path):
    child = start(function, args, log=tmp_path / "log.txt")
    assert child.wait() == child.poll() == child.wait(0) == code
    assert ("Traceback" in (tmp_path / "log.txt").read_text()) == (code == 1 and function != "sys:exit")


def test_output_goes_where_the_parent_writes_now(capfd, tmp_path):
    assert python("import os, sys; print('out'); sys.stderr.write('err\\n'); os.system('echo below')").wait() == 0
    seen = capfd.readouterr()
    assert sorted(seen.out.split()) == ["below", "out"]
    assert seen.err == "err\n"
    for _ in range(2):  # appended
        python("import os; print('out'); os.system('echo below')", log=tmp_path / "log.txt").wait()
    assert (tmp_path / "log.txt").read_text().split() == ["out", "below"] * 2
    assert capfd.readouterr().out == ""


def test_surroundings_are_those_of_the_parent_now(tmp_path, monkeypatch):
    monkeypatch.setenv("COSMOS_EXP_TEST_NEW", "1")  # after the server has started
    code = (
        "import atexit, json, multiprocessing, os\n"
        "atexit.register(lambda: open('exit', 'w').close())\n"
        "json.dump({'cwd': os.getcwd(), 'environment': dict(os.environ), 'daemon': multiprocessing.current_process().daemon}, open('seen', 'w'))"
    )
    assert python(code, environment={"COSMOS_EXP_TEST_OWN": "2"}, cwd=tmp_path).wait() == 0
    seen = json.loads((tmp_path / "seen").read_text())
    assert {**os.environ, "COSMOS_EXP_TEST_OWN": "2"}.items() <= seen["environment"].items()
    assert seen["environment"].get("PYTHONPATH") == os.environ.get("PYTHONPATH")
    assert seen["cwd"] == str(tmp_path)
    assert not seen["daemon"]
    assert (tmp_path / "exit").is_file()


def test_ctrl_c_before_the_function_has_begun_is_no_traceback(tmp_path):
    """Found by `make soak`: an interrupt while the command's modules were imported."""
    log = tmp_path / "log.txt"
    child = python("raise KeyboardInterrupt", log=log)
    assert child.wait(60) == 1
    assert log.read_text() == "interrupted\n"


def test_signals(tmp_path):
    children = [python(SLEEP) for _ in range(3)]
    assert children[0].poll() is None
    assert children[0].wait(0.05) is None
    children[0].terminate()
    assert children[0].wait(10) == -signal.SIGTERM
    children[1].kill()
    assert children[1].wait(10) == -signal.SIGKILL
    assert children[2].poll() is None  # a killed child leaves its siblings and the server
    os.kill(server_pid(), signal.SIGINT)  # Ctrl-C in the terminal reaches the server too
    os.kill(server_pid(), signal.SIGTERM)
    pid = server_pid()
    assert python("1").wait() == 0
    assert server_pid() == pid
    os.kill(children[2].pid, signal.SIGINT)
    assert children[2].wait(10) == 1  # KeyboardInterrupt
    children[2].terminate()  # it has ended: nothing happens
    handled = python("import signal, sys, time; signal.signal(signal.SIGTERM, lambda *a: sys.exit(7)); print(1); time.sleep(100)",
                     log=tmp_path / "log.txt")  # fmt: skip
    while not (tmp_path / "log.txt").is_file() or not (tmp_path / "log.txt").read_text():
        time.sleep(0.01)
    handled.terminate()
    assert handled.wait(10) == 7


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_parent_killed_ends_all_of_its_processes(method, tmp_path, monkeypatch):
    monkeypatch.setenv(START_METHOD, method)
    code = f"children = [python({SLEEP!r}), python({SLEEP!r})]\nsay([[c.pid for c in children], server_pid()])\n{SLEEP}"
    with parent(tmp_path, code) as (process, go):
        children, server = go()
        below = [p.pid for p in psutil.Process(process.pid).children(recursive=True)]
        assert {*children} <= {*below}
        assert (server in below) == (method == "forkserver")
        process.kill()
        assert all(gone(pid) for pid in below)


def test_a_server_that_died_is_started_again(tmp_path):
    code = (
        "import signal\nstart('operator:add', (2, 3)).wait()\nold = server_pid()\nos.kill(old, signal.SIGKILL)\n"
        "time.sleep(0.2)\nsay([start('operator:add', (2, 3)).wait(), server_pid() != old])"
    )
    with parent(tmp_path, code) as (_, go):
        assert go() == [5, True]


def test_the_parents_main_module_is_not_imported(tmp_path):
    with parent(tmp_path, "open('ran', 'a').write('x')\nsay(python('import __main__; assert not hasattr(__main__, \"say\")').wait())\n"
                "import __main__; say(hasattr(__main__, 'say'))") as (process, go):  # fmt: skip
        assert go() == 0
        assert go() is True
        process.wait(10)
    assert (tmp_path / "ran").read_text() == "x"


def test_spawn(tmp_path, monkeypatch):
    monkeypatch.setenv(START_METHOD, "spawn")
    code = f"import os, sys; assert os.getppid() == {os.getpid()}; print(1); sys.exit(6)"
    assert python(code, log=tmp_path / "log.txt", cwd=tmp_path).wait() == 6
    child = python(SLEEP)
    child.kill()
    assert child.wait() == -signal.SIGKILL


def test_a_child_uses_the_server_of_its_parent(tmp_path):
    code = "import os\nfrom cosmos_exp.experiment.fork_server import start\nstart('builtins:exec', ('import os; print(os.getppid())', {})).wait(); print(os.getppid())"
    assert python(code, log=tmp_path / "log.txt").wait() == 0, (tmp_path / "log.txt").read_text()
    assert (tmp_path / "log.txt").read_text().split() == [str(server_pid())] * 2


def test_a_long_folder_for_temporary_files(tmp_path, monkeypatch):
    """The path of a socket has at most 107 characters."""
    long = tmp_path / ("a" * 120)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    with parent(tmp_path, "say([start('operator:add', (2, 3)).wait(), os.environ['TMPDIR']])") as (_, go):
        assert go() == [5, str(long)]


def test_preloaded_modules_exist():
    """The fork server skips a module that it cannot import, so that a renamed one would only make runs start slowly."""
    load_plugins()
    assert PRELOADED
    for name in (n for n in (*PRELOAD, *PRELOADED) if n.startswith("cosmos_exp.")):
        assert ROOT.joinpath(*name.split(".")).with_suffix(".py").is_file(), name


def test_memory_does_not_grow(tmp_path):
    def used():
        return [psutil.Process(p).memory_info().rss / 2**20 for p in (server_pid(), os.getpid())]

    def descriptors():
        return [psutil.Process(p).num_fds() for p in (server_pid(), os.getpid())]

    for _ in range(3):
        python("x = bytearray(2**22)").wait()
    before, opened = used(), descriptors()
    for _ in range(30):
        assert python("x = bytearray(2**22)").wait() == 0
    assert all(b - a < 10 for a, b in zip(before, used(), strict=True))  # MiB; 30 runs of 4 MiB each would be 120
    deadline = time.monotonic() + 20  # the server closes a child's pipe a moment after the child has ended
    while any(b > a for a, b in zip(opened, descriptors(), strict=True)):
        assert time.monotonic() < deadline, f"{opened} descriptors before, {descriptors()} after"
        time.sleep(0.1)
