"""What a sweep prints of its runs, from a run folder written by hand."""

import time
from dataclasses import replace

from cosmos_exp.config.composing import compose_config
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.sweep import live
from cosmos_exp.sweep.runs import SweepRun


def test_changes_are_a_line_each_and_the_table_names_every_state(tmp_path, capsys):
    folder = RunFolder(tmp_path / "rank" / "lora-r8")
    folder.path.mkdir(parents=True)
    folder.set_status("running", "train")
    run = SweepRun("lora-r8", folder, (), compose_config([]))
    with live.watch([run], seconds=0.02):
        time.sleep(0.3)  # the thread has read the first state
        folder.set_status("failed", "train", "the loss is not finite")
    assert capsys.readouterr().out.splitlines() == ["[0/1 done] lora-r8: failed train"]
    absent = replace(run, name="lora-r16", folder=RunFolder(tmp_path / "rank" / "lora-r16"))
    live.print_states([run, absent])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[1:] == [["lora-r8", "failed", "train"], ["lora-r16", "missing"]]
