"""wandb mirrors the run folder: offline for real; an error of wandb does not stop a run."""

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cosmos_exp.cli import dashboard
from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.record import save_config
from cosmos_exp.data.video import write_video
from cosmos_exp.errors import RunError
from cosmos_exp.files import append_json_line, write_json
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.tracking.dashboard import define_workspace
from cosmos_exp.tracking.wandb import Tracker, chosen_mode

CONFIG = compose_config(["tracking=wandb", "tracking.mode=offline", "name=track"])


@pytest.fixture
def no_login(monkeypatch, tmp_path):
    """Nobody is logged in."""
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))


def fill(folder):
    folder.path.mkdir(exist_ok=True)
    for seed in (0, 1):
        row = {"sample": "a", "seed": seed, "prompt": "p <b>", "video": f"a__seed{seed}.mp4", "detail": {}}
        append_json_line(folder.scores, row | {"measure": "tse", "value": (0.5, None)[seed]})
    write_json(
        folder.metrics, {"measures": {"tse": {"mean": 0.5, "ci_low": None, "n": 1}}, "training": {"train_loss": 1.0}}
    )
    folder.update_manifest(name="track")
    folder.adapter.mkdir(exist_ok=True)
    folder.adapter_file.write_bytes(b"weights")


def records(file):
    """The records of an offline .wandb file: LevelDB's log format behind seven bytes, one protobuf message per record."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, parts, block = file.read_bytes(), 7, b"", 32768
    assert content[:4] == b":W&B"
    while at + 7 <= len(content):
        if block - at % block < 7:  # too little room for a header: the rest of the block is padding
            at += block - at % block
            continue
        size, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        if at + 7 + size > len(content):  # still being written
            return
        parts += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def finished_records(folder):
    """The records of a finished run. wandb may write the last ones a moment after `finish` has returned."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        found = list(records(max((folder.path / "wandb").glob("offline-run-*/run-*.wandb"))))
        if any(r.WhichOneof("record_type") == "exit" for r in found):
            return found
        time.sleep(0.1)
    raise AssertionError(f"{folder.path}: no exit record")


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """The folder of a finished offline run with a video of each seed."""
    folder = RunFolder(tmp_path_factory.mktemp("home") / "run")
    fill(folder)
    for seed in (0, 1):
        write_video(folder.video("a", seed), np.full((4, 32, 32, 3), 80 * seed, np.uint8), 8)
    folder.update_manifest(data_fingerprint="d" * 16)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_DATA_DIR", raising=False)
        patch.setenv("HOME", str(folder.path.parent))
        tracker = Tracker(CONFIG, folder)
        for step in (1, 2):
            tracker.log("train", {"loss": 1.0 / step, "note": "x" * 40_000}, step)  # larger than a block
        tracker.finish()
        assert "WANDB_DATA_DIR" not in os.environ
    return folder


def test_a_resumed_run_keeps_its_id(tmp_path):
    folder, ids = RunFolder(tmp_path / "run"), set()
    fill(folder)
    for _ in range(2):
        Tracker(CONFIG, folder).finish()
        ids.add(folder.manifest["wandb_id"])
    assert len(ids) == 1


def test_the_offline_file_holds_config_history_summary_table_and_artifact(offline):
    folder, found = offline, finished_records(offline)
    run = next(r.run for r in found if r.WhichOneof("record_type") == "run")
    assert run.run_group == "track"
    assert {"adapter:lora", "rank:32", "alpha:32"} <= set(run.tags)
    settings = {u.key or "/".join(u.nested_key): json.loads(u.value_json) for u in run.config.update}
    assert (settings["adapter"]["rank"], settings["arm"]) == (32, "lora-r32")
    history = {}
    for item in (i for r in found for i in r.history.item):
        history.setdefault("/".join(item.nested_key) or item.key, []).append(json.loads(item.value_json))
    assert history["train/loss"] == [1.0, 0.5]
    assert history["videos/a/seed0/_type"] == ["video-file"]  # a key that is the same in every run
    assert "videos/a/seed1/_type" not in history
    assert [history[f"evaluation/{k}"] for k in ("_type", "nrows", "ncols")] == [["table-file"], [2], [5]]
    content = json.loads(next((folder.path / "wandb").rglob("*.table.json")).read_text())
    assert content["columns"] == ["sample", "seed", "prompt", "video", "tse"]
    summary = {u.key or "/".join(u.nested_key): u.value_json for r in found for u in r.summary.update}
    assert json.loads(summary["tse/mean"]) == 0.5
    adapter = next(r.artifact for r in found if r.artifact.type == "adapter")
    assert json.loads(adapter.metadata)["data_fingerprint"] == "d" * 16
    assert [e.path for e in adapter.manifest.contents] == [folder.adapter_file.name]


def test_an_error_of_wandb_stops_nothing_and_is_reported_at_the_end(tmp_path, monkeypatch, capsys):
    import wandb

    def refuse(*words, **settings):
        raise ConnectionError("no route")

    folder = RunFolder(tmp_path / "run")
    fill(folder)
    tracker = Tracker(CONFIG, folder)
    monkeypatch.setattr(tracker.run, "log", refuse)
    for step in (1, 2):
        tracker.log("train", {"loss": 1.0}, step)
    tracker.finish()
    lost = capsys.readouterr().err
    assert lost.count("wandb lost the train log from some step on: ConnectionError: no route") == 1
    assert "wandb lost the table of scores" in lost
    assert any(r.artifact.type == "adapter" for r in finished_records(folder))  # the rest is sent
    monkeypatch.setattr(wandb, "init", refuse)
    Tracker(CONFIG.updated({"tracking.mode": "online"}), folder).finish()
    lost = [line.split(": ")[1] for line in capsys.readouterr().err.splitlines()]
    assert lost == ["wandb lost the online run, which is offline instead", "wandb lost the whole run"]


def test_mode_follows_wandb_mode_and_the_login(no_login, monkeypatch):
    assert chosen_mode("auto") == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert [chosen_mode(mode) for mode in ("auto", "off")] == ["online", "off"]
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert [chosen_mode(mode) for mode in ("auto", "online")] == ["offline", "online"]


def test_the_workspace_groups_runs_by_arm_and_shows_spread_and_videos(offline):
    save_config(compose_config(["name=s"]), offline.config)
    spec = json.loads(define_workspace([offline.path], "me")._to_model().model_dump_json(by_alias=True))["spec"]
    content = next(value for value in spec.values() if "sections" in str(value))
    sections = {s["name"]: s["panels"] for s in content["panelBankConfig"]["sections"]}
    for panel in sections["Loss"] + sections["Measures by adapter"]:
        shown = panel["config"]
        assert (shown["groupBy"], shown["groupAgg"], shown["groupArea"]) == ("arm.value", "mean", "stderr"), shown
    assert [p["config"]["mediaKeys"] for p in sections["Videos"]] == [["videos/a/seed0"]]


def test_sync_needs_a_login_and_calls_wandb_for_each_offline_run(offline, no_login, cli, monkeypatch, capsys):
    write_json(offline.status_file, {"state": "done"})
    assert cli("dashboard", offline.path, "--sync") == 2
    assert "wandb login" in capsys.readouterr().err
    asked = []
    done = SimpleNamespace(returncode=1)
    monkeypatch.setattr(dashboard.subprocess, "run", lambda words, check: asked.extend(words) or done)
    with pytest.raises(RunError, match="wandb sync"):
        dashboard.sync([offline.path])
    assert asked[1:4] == ["-m", "wandb", "sync"]
    assert [Path(w).parent for w in asked[4:]] == [offline.path / "wandb"]
