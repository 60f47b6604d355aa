"""The progress of a stage, in a terminal of 80 columns and without one."""

import io
import itertools
import sys

from cosmos_exp.tracking import progress as module
from cosmos_exp.tracking.progress import progress, with_progress


def test_on_a_terminal_of_80_columns_the_bar_has_stage_step_loss_and_time_left(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("training", 1000, "step", done=500) as bar:
        bar.bar.mininterval = 0
        for _ in range(250):
            bar.update("loss 0.1234")
    lines = terminal.getvalue().replace("\x1b[A", "").split("\r")
    drawn = [line for line in lines if line.startswith("training")]
    assert any(
        line.startswith("training step 700/1000 |") and line.rstrip().endswith("left, loss 0.1234") for line in drawn
    )
    assert max(len(line.rstrip("\n")) for line in drawn) <= 80
    assert drawn[-1].startswith("training step 750/1000 in ")


def test_without_a_terminal_there_is_a_line_every_so_often_and_no_carriage_return(monkeypatch):
    """By a clock that moves ten seconds at each look."""
    monkeypatch.setattr(module.time, "monotonic", itertools.count(10.0, 10.0).__next__)
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
