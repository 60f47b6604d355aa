"""The live view of a sweep, from run folders written by hand."""

import io
import json
import time
from dataclasses import replace

import pytest
from conftest import wait_until
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
    """A run in training: step 10 of 40, two seconds each."""
    folder = RunFolder(tmp_path / "rank" / "lora-r8")
    folder.path.mkdir(parents=True)
    folder.set_status("running", "train")
    folder.update_manifest(data={"train": ["a", "b", "c", "d"]})
    append_json_line(folder.train_log, ROW)
    config = compose_config(["training.epochs=40", "training.max_steps=null", "training.global_batch_size=4"])
    return SweepRun("lora-r8", folder, (), config)


def test_a_run_is_running_only_while_a_process_holds_its_folder(run):
    lock = run.folder.lock()
    assert run.state() == "running"
    lock.release()
    assert run.state() == "interrupted"


def test_progress_has_stage_step_loss_and_time_left(run):
    assert live.progress(run, "running") == ("train", "10/40", "0.2500", "0:01:00")
    assert live.progress(run, "interrupted") == ("train", "10/40", "0.2500", "")


def test_a_row_that_is_being_written_is_not_read(run):
    with open(run.folder.train_log, "a") as file:
        file.write(json.dumps({"step": 11, "loss": 0.1})[:-4])
    assert live.last_row(run.folder) == ROW
    run.folder.train_log.unlink()
    assert live.last_row(run.folder) == {}


def test_without_a_terminal_each_change_is_one_line(run, capsys):
    with live.watch([run], seconds=0.02):
        time.sleep(0.3)  # the thread has read the first state
        run.folder.set_status("failed", "train", "the loss is not finite")
    assert capsys.readouterr().out.splitlines() == ["lora-r8: failed"]


def test_on_a_terminal_the_table_is_redrawn(run, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(live, "_console", lambda: Console(file=screen, force_terminal=True, width=100))
    with live.watch([run], seconds=0.02):
        wait_until(lambda: "10/40" in screen.getvalue(), seconds=20)
        append_json_line(run.folder.train_log, ROW | {"step": 20})
    shown = screen.getvalue()
    assert "10/40" in shown
    assert "20/40" in shown
    assert "\x1b[" in shown


def test_the_states_are_printed_once(run, capsys):
    live.print_states([run])
    out = capsys.readouterr().out
    assert "interrupted" in out
    assert "lora-r8" in out


def test_names_and_stages_are_no_markup(run, capsys):
    """Found by `make soak`: a sweep named [/red]."""
    run = replace(run, config=run.config.updated({"name": "[/red]"}))
    run.folder.set_status("running", "[/bold]")
    live.print_states([run])
    out = capsys.readouterr().out
    assert "[/red]" in out
    assert "[/bold]" in out


def test_a_run_without_a_folder_or_training_has_no_progress(run, tmp_path):
    absent = SweepRun("lora-r16", RunFolder(tmp_path / "rank" / "lora-r16"), (), run.config)
    assert absent.state() == "missing"
    assert live.progress(absent, "missing") == ("", "", "", "")
    run.folder.set_status("running", "generate")
    assert live.progress(run, "running") == ("generate", "10/40", "0.2500", "")  # training is over: no time left


def test_a_run_is_done_only_for_its_own_configuration(run):
    run.folder.set_status("done", "record")
    assert run.state() == "to evaluate"
    run.folder.update_manifest(stages={"evaluate": {"config_hash": stage_hash(run.config, "evaluate")}})
    assert run.state() == "done"
    run.folder.set_status("failed", "train", "the loss is not finite")
    assert run.state() == "failed"


def test_the_newest_of_many_rows_is_read_from_the_end(run):
    for step in range(11, 200):
        append_json_line(run.folder.train_log, ROW | {"step": step})
    assert run.folder.train_log.stat().st_size > live.TAIL
    assert live.last_row(run.folder)["step"] == 199
