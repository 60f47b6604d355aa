"""The progress of a stage, in a real terminal of 80 columns and without one."""

import io
import os
import pty
import sys
import termios
import threading

import pytest

from cosmos_exp.tracking import progress as module
from cosmos_exp.tracking.progress import progress, with_progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves ten seconds at each look."""
    now = [0.0]

    def tick():
        now[0] += 10
        return now[0]

    monkeypatch.setattr(module.time, "monotonic", tick)
    return now


def test_on_a_terminal_of_80_columns_the_bar_has_stage_step_loss_and_time_left(monkeypatch):
    main, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    shown = []
    reader = threading.Thread(target=lambda: shown.extend(iter(lambda: read(main), b"")))
    reader.start()
    with os.fdopen(terminal, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with progress("training", 1000, "step", done=500) as bar:
            bar.bar.mininterval = 0
            for _ in range(250):
                bar.update("loss 0.1234")
    reader.join(20)
    os.close(main)
    lines = b"".join(shown).decode().replace("\x1b[A", "").split("\r")
    drawn = [line for line in lines if line.startswith("training")]
    assert any(
        line.startswith("training step 700/1000 |") and line.rstrip().endswith("left, loss 0.1234") for line in drawn
    )
    assert max(len(line.rstrip("\n")) for line in drawn) <= 80
    assert drawn[-1].startswith("training step 750/1000 in ")


def read(descriptor):
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other side is closed
        return b""


def test_without_a_terminal_there_is_a_line_every_so_often_and_no_carriage_return(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    for _ in with_progress(range(10), "measuring tse", 10, "video"):
        pass
    said = sys.stderr.getvalue()
    assert said.splitlines() == [
        "measuring tse video 3/10, 01:10 left",
        "measuring tse video 6/10, 00:40 left",
        "measuring tse video 9/10, 00:10 left",
    ]
    assert "\r" not in said
