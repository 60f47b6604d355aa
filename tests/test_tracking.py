"""wandb mirrors the run folder: offline for real; an error of wandb does not stop a run."""

import base64
import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from cosmos_exp.config.layers import adapter_label
from cosmos_exp.config.record import save_config
from cosmos_exp.data.video import write_video
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.files import append_json_line, read_json_lines, write_json
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.tracking import offline as offline_module
from cosmos_exp.tracking.dashboard import define_dashboard, write_definition
from cosmos_exp.tracking.offline import offline_runs, relocate, sync
from cosmos_exp.tracking.wandb import Tracker, chosen_mode, job_type, send_adapter


@pytest.fixture
def config(small_config):
    return small_config("tracking=wandb", "tracking.mode=offline", "name=track")


def fill(folder):
    folder.path.mkdir(exist_ok=True)
    for seed in (0, 1):
        append_json_line(
            folder.scores,
            {
                "sample": "a",
                "seed": seed,
                "prompt": "p <b>",
                "video": f"a__seed{seed}.mp4",
                "measure": "tse",
                "value": None if seed else 0.5,
                "detail": {},
            },
        )
    write_json(
        folder.metrics, {"measures": {"tse": {"mean": 0.5, "ci_low": None, "n": 1}}, "training": {"train_loss": 1.0}}
    )
    folder.update_manifest(name="track")
    folder.adapter.mkdir(exist_ok=True)
    folder.adapter_file.write_bytes(b"weights")


def test_offline_run_keeps_its_id_when_resumed(config, tmp_path, recwarn):
    folder = RunFolder(tmp_path / "run")
    fill(folder)
    ids = []
    for _ in range(2):
        tracker = Tracker(config, folder)
        assert tracker.run is not None
        tracker.log("train", {"loss": 1.0, "lr": 0.1}, 1)
        tracker.finish()
        ids.append(folder.read(folder.manifest_file)["wandb_id"])
    assert ids[0] == ids[1]
    files = list((folder.path / "wandb").glob(f"offline-run-*-{ids[0]}/run-{ids[0]}.wandb"))
    assert files
    assert all(len(finished_records(f)) > 5 for f in files)
    assert not [w for w in recwarn if "wandb:" in str(w.message)]


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


def finished_records(file):
    """The records of a finished run. wandb may write the last ones a moment after `finish` has returned."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        found = list(records(file))
        if any(r.WhichOneof("record_type") == "exit" for r in found):
            return found
        time.sleep(0.1)
    raise AssertionError(f"{file}: no exit record")


@pytest.fixture(scope="module")
def offline(small_config, tmp_path_factory):
    """The folder of a finished offline run with a video of each seed."""
    config = small_config("tracking=wandb", "tracking.mode=offline", "name=track")
    folder = RunFolder(tmp_path_factory.mktemp("home") / "run")
    fill(folder)
    for seed in (0, 1):
        write_video(folder.videos / f"a__seed{seed}.mp4", np.full((4, 32, 32, 3), 80 * seed, np.uint8), 8)
    folder.update_manifest(
        data_fingerprint="d" * 16, model={"source": "embedded", "fingerprints": {"transformer": "t"}}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_DATA_DIR", raising=False)
        patch.setenv("HOME", str(folder.path.parent))
        tracker = Tracker(config, folder)
        for step in (1, 2):
            tracker.log("train", {"loss": 1.0 / step, "lr": 0.1, "note": "x" * 40_000}, step)  # larger than a block
        tracker.finish()
        assert "WANDB_DATA_DIR" not in os.environ
    finished_records(next((folder.path / "wandb").glob("offline-run-*/run-*.wandb")))  # all of it is on disk
    return folder


def named_files(folder):
    """Every file that the .wandb file of a run folder names, with its MD5 where there is one."""
    file = next((folder / "wandb").glob("offline-run-*/run-*.wandb"))
    for record in finished_records(file):
        for one in record.files.files:
            yield file.parent / "files" / one.path, None
        for entry in record.artifact.manifest.contents:
            yield Path(entry.local_path), entry.digest


def test_a_moved_run_folder_has_every_file_that_wandb_names(offline, tmp_path):
    """Copied to another home folder; the first one is out of reach."""
    copy = Path(shutil.copytree(offline.path, tmp_path / "elsewhere" / "run"))
    before = records(next((copy / "wandb").glob("offline-run-*/run-*.wandb")))
    texts = [str(r) for r in before]
    assert sum(relocate(run) for run in offline_runs([copy])) == 4  # adapter, table, two videos in the table
    found = list(named_files(copy))
    assert {p.suffix for p, _ in found} >= {".json", ".mp4", ".txt"}
    for path, digest in found:
        assert path.is_relative_to(copy), path
        assert path.is_file(), path
        if digest:
            assert base64.b64encode(hashlib.md5(path.read_bytes()).digest()).decode() == digest
    after = [str(r) for r in records(next((copy / "wandb").glob("offline-run-*/run-*.wandb")))]
    assert [t.replace(str(copy), str(offline.path)) for t in after] == texts  # nothing else has changed
    assert [relocate(run) for run in offline_runs([copy])] == [0]
    assert [relocate(run) for run in offline_runs([offline.path])] == [0]


def test_a_damaged_offline_file_is_named(offline, tmp_path):
    copy = Path(shutil.copytree(offline.path, tmp_path / "run"))
    file = next((copy / "wandb").glob("offline-run-*/run-*.wandb"))
    content = bytearray(file.read_bytes())
    content[200] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="damaged before byte"):
        relocate(file.parent)


def test_each_prompt_has_a_video_with_a_key_that_is_the_same_in_every_run(offline):
    file = next((offline.path / "wandb").glob("offline-run-*/run-*.wandb"))
    history = [i for r in finished_records(file) for i in r.history.item]
    values = {"/".join(i.nested_key): json.loads(i.value_json) for i in history}
    assert values["videos/a/seed0/_type"] == "video-file"
    assert (file.parent / "files" / values["videos/a/seed0/path"]).is_file()
    assert "videos/a/seed1/_type" not in values


def test_the_offline_file_holds_config_history_summary_table_and_artifact(offline):
    folder = offline
    found = finished_records(next((folder.path / "wandb").glob("offline-run-*/run-*.wandb")))
    run = next(r.run for r in found if r.WhichOneof("record_type") == "run")
    assert run.run_group == "track"
    assert run.job_type == "train"
    assert {"adapter:lora", "rank:32", "alpha:32"} <= set(run.tags)
    settings = {u.key or "/".join(u.nested_key): json.loads(u.value_json) for u in run.config.update}
    assert settings["adapter"]["rank"] == 32
    assert settings["arm"] == "lora-r32"
    history = [
        {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in r.history.item}
        for r in found
        if r.WhichOneof("record_type") == "history"
    ]
    assert [h["train/loss"] for h in history if "train/loss" in h] == [1.0, 0.5]
    table = next(h for h in history if "evaluation/_type" in h)
    assert [table[f"evaluation/{k}"] for k in ("_type", "nrows", "ncols")] == ["table-file", 2, 5]
    content = json.loads(next((folder.path / "wandb").rglob("*.table.json")).read_text())
    assert content["columns"] == ["sample", "seed", "prompt", "video", "tse"]
    assert [row[2] for row in content["data"]] == ["p <b>", "p <b>"]
    summary = {u.key or "/".join(u.nested_key): u.value_json for r in found for u in r.summary.update}
    assert json.loads(summary["tse/mean"]) == 0.5
    adapter = next(r.artifact for r in found if r.artifact.type == "adapter")
    assert json.loads(adapter.metadata)["data_fingerprint"] == "d" * 16
    assert [e.path for e in adapter.manifest.contents] == [folder.adapter_file.name]


def test_online_the_adapter_is_linked_to_its_data_and_base_model(config, tmp_path, monkeypatch):
    """A real run object needs a login; the test checks the calls on it."""
    folder = RunFolder(tmp_path / "run")
    fill(folder)
    folder.update_manifest(data_fingerprint="d1", data={"train": ["a"]}, model={"fingerprints": {"transformer": "t1"}})
    asked = []

    class Run:
        id = "r1"

        def use_artifact(self, artifact):
            asked.append(("used", artifact.type, artifact.name))

        def log_artifact(self, artifact):
            asked.append(("logged", artifact.type, artifact.name))

    send_adapter(Run(), folder, "online")
    assert asked == [
        ("used", "dataset", "dataset-d1"),
        ("used", "model", "model-t1"),
        ("logged", "adapter", "adapter-r1"),
    ]


def test_job_types(config, small_config, tmp_path):
    folder = RunFolder(tmp_path / "run")
    fill(folder)
    assert job_type(small_config("adapter=none"), folder) == "base"
    assert job_type(config, folder) == "train"
    folder.update_manifest(stages={"train": {"seconds": 1.0}})
    assert job_type(config, folder) == "evaluate"


def test_an_error_of_wandb_stops_nothing_and_is_reported_at_the_end(config, tmp_path, monkeypatch, capsys):
    import wandb

    def refuse(*words, **settings):
        raise ConnectionError("no route")

    monkeypatch.setattr(wandb, "init", refuse)
    config = config.updated({"tracking.mode": "online"})
    folder = RunFolder(tmp_path / "run")
    fill(folder)
    tracker = Tracker(config, folder)
    assert tracker.run is None
    assert tracker.mode == "offline"
    tracker.log("train", {"loss": 1.0}, 1)
    tracker.finish()
    lost = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in lost] == [
        "wandb lost the online run, which is offline instead",
        "wandb lost the whole run",
    ]
    assert all("ConnectionError: no route" in line for line in lost)


def test_a_part_that_wandb_loses_is_named_and_the_others_are_sent(config, tmp_path, monkeypatch, capsys):
    import wandb

    def refuse(*words, **settings):
        raise OSError("no folder for media")

    monkeypatch.setattr(wandb, "Table", refuse)
    folder = RunFolder(tmp_path / "run")
    fill(folder)
    tracker = Tracker(config, folder)
    monkeypatch.setattr(tracker.run, "log", refuse)
    for step in (1, 2):
        tracker.log("train", {"loss": 1.0}, step)
    tracker.finish()
    lost = capsys.readouterr().err
    assert lost.count("wandb lost the train log from some step on: OSError: no folder for media") == 1
    assert "wandb lost the table of scores: OSError" in lost
    assert "the adapter" not in lost
    file = next((folder.path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert any(r.artifact.type == "adapter" for r in finished_records(file))


def test_mode_follows_wandb_mode_and_the_login(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert chosen_mode("auto") == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert chosen_mode("auto") == "online"
    assert chosen_mode("off") == "off"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert [chosen_mode(mode) for mode in ("auto", "online")] == ["offline", "online"]
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert chosen_mode("auto") == "off"


def test_a_line_cut_off_by_a_crash_is_dropped(tmp_path):
    path = tmp_path / "log.jsonl"
    append_json_line(path, {"step": 1})
    with open(path, "a") as file:
        file.write('{"step": 2, "lo')
    assert read_json_lines(path) == [{"step": 1}]


def test_json_is_written_atomically(tmp_path):
    write_json(tmp_path / "m.json", {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "m.json", {"a": float("nan")})
    assert json.loads((tmp_path / "m.json").read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]


def test_the_dashboard_separates_kinds_and_ranks_and_shows_spread_and_videos(offline, small_config, tmp_path):
    folder = RunFolder(shutil.copytree(offline.path, tmp_path / "s" / "lora-r8"))
    save_config(small_config("tracking=wandb", "rank=8", "name=s"), folder.config)
    workspace, report = define_dashboard([folder.path], "me")
    write_definition(workspace, tmp_path / "workspace.json")
    text = (tmp_path / "workspace.json").read_text()
    content = next(value for key, value in json.loads(text)["spec"].items() if "sections" in str(value))
    sections = {s["name"]: s["panels"] for s in content["panelBankConfig"]["sections"]}
    for panel in sections["Loss"] + sections["Measures by adapter and rank"]:
        found = panel["config"]
        assert (found["groupBy"], found["groupAgg"], found["groupArea"]) == ("arm.value", "mean", "stderr"), found
    assert "tse/ci_low" in json.dumps(sections["Intervals"])
    assert [p["config"]["mediaKeys"] for p in sections["Videos"]] == [["videos/a/seed0"]]
    assert len(report.blocks) == 1 + 2 * sum(bool(panels) for panels in sections.values())
    labels = [adapter_label(small_config(f"adapter={kind}", "rank=8").adapter) for kind in ("lora", "dora", "none")]
    assert labels == ["lora-r8", "dora-r8", "base"]


def test_sync_needs_a_login_and_calls_wandb_for_each_offline_run(offline, tmp_path, cli, monkeypatch, capsys):
    copy = Path(shutil.copytree(offline.path, tmp_path / "run"))
    write_json(copy / "status.json", {"state": "done"})
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert cli("dashboard", copy, "--sync") == 2
    assert "wandb login" in capsys.readouterr().err
    asked = []
    monkeypatch.setattr(
        offline_module, "run_process", lambda words, check: asked.append(words) or Ended(len(asked) - 1)
    )
    assert sync([copy]) == 1
    assert asked[0][1:4] == ["-m", "wandb", "sync"]
    assert [Path(w).parent for w in asked[0][4:]] == [copy / "wandb"]
    with pytest.raises(RunError, match="wandb sync"):
        sync([copy])


class Ended:
    def __init__(self, returncode):
        self.returncode = returncode
