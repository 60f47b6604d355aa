"""The live view of a sweep, from run folders written by hand."""

import io
import json
import time
from dataclasses import replace

import pytest
from rich.console import Console

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.files import append_json_line
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.sweep import live
from cosmos_exp.sweep.runs import SweepRun

ROW = {"step": 10, "loss": 0.25, "seconds": 2.0}


@pytest.fixture
def run(tmp_path):
    """A run in training: step 10 of 40."""
    folder = RunFolder(tmp_path / "rank" / "lora-r8")
    folder.path.mkdir(parents=True)
    folder.set_status("running", "train")
    folder.update_manifest(data={"train": ["a", "b", "c", "d"]})
    append_json_line(folder.train_log, ROW)
    config = compose_config(["training.epochs=40", "training.max_steps=null", "training.global_batch_size=4"])
    return SweepRun("lora-r8", folder, (), config)


def test_the_newest_complete_row_is_read_from_the_end(run):
    for step in range(11, 200):
        append_json_line(run.folder.train_log, ROW | {"step": step})
    assert run.folder.train_log.stat().st_size > live.TAIL
    with open(run.folder.train_log, "a") as file:
        file.write(json.dumps({"step": 200, "loss": 0.1})[:-4])
    assert live.last_row(run.folder)["step"] == 199
    run.folder.train_log.unlink()
    assert live.last_row(run.folder) == {}


@pytest.mark.parametrize("terminal", [False, True])
def test_changes_are_shown(terminal, run, monkeypatch):
    """Without a terminal, one line each; on one, the table is redrawn."""
    screen = io.StringIO()
    monkeypatch.setattr(live, "_console", lambda: Console(file=screen, force_terminal=terminal, width=100))
    with live.watch([run], seconds=0.02):
        time.sleep(0.3)  # the thread has read the first state
        run.folder.set_status("failed", "train", "the loss is not finite")
        append_json_line(run.folder.train_log, ROW | {"step": 20})
    if terminal:
        assert "10/40" in screen.getvalue()
        assert "20/40" in screen.getvalue()
    else:
        assert screen.getvalue().splitlines() == ["lora-r8: failed"]


def test_names_and_stages_are_no_markup(run, capsys):
    """Found by `make soak`: a sweep named [/red]. A run without a folder has a row, too."""
    run = replace(run, config=run.config.updated({"name": "[/red]"}))
    absent = SweepRun("lora-r16", RunFolder(run.folder.path.with_name("lora-r16")), (), run.config)
    run.folder.set_status("running", "[/bold]")
    live.print_states([run, absent])
    words = capsys.readouterr().out.split()
    assert {"[/red]", "[/bold]", "interrupted", "10/40", "0.2500", "lora-r16", "missing"} <= {*words}


def test_the_state_of_a_run(run):
    lock = run.folder.lock()
    assert run.state() == "running"
    lock.release()
    assert run.state() == "interrupted"
    run.folder.set_status("done", "record")
    assert run.state() == "to evaluate"  # done, but not for this configuration
    run.folder.update_manifest(stages={"evaluate": {"config_hash": stage_hash(run.config, "evaluate")}})
    assert run.state() == "done"
    run.folder.set_status("failed", "train", "the loss is not finite")
    assert run.state() == "failed"
