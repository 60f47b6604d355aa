"""wandb mirrors the run folder: offline for real; an error of wandb does not stop a run."""

import json
import time

import pytest

from cosmos_exp.files import append_json_line, read_json_lines, write_json
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.tracking.wandb import Tracker, chosen_mode, job_type


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
    write_json(folder.metrics, {"measures": {"tse": {"mean": 0.5, "ci_low": None}}, "training": {"train_loss": 1.0}})
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
        tracker.finish(folder)
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


def test_the_offline_file_holds_config_history_summary_table_and_artifact(config, tmp_path):
    folder = RunFolder(tmp_path / "run")
    fill(folder)
    folder.update_manifest(
        data_fingerprint="d" * 16, model={"source": "embedded", "fingerprints": {"transformer": "t"}}
    )
    tracker = Tracker(config, folder)
    for step in (1, 2):
        tracker.log("train", {"loss": 1.0 / step, "lr": 0.1}, step)
    tracker.finish(folder)
    found = finished_records(next((folder.path / "wandb").glob("offline-run-*/run-*.wandb")))
    run = next(r.run for r in found if r.WhichOneof("record_type") == "run")
    assert run.run_group == "track"
    assert run.job_type == "train"
    assert {"adapter:lora", "rank:32", "alpha:32"} <= set(run.tags)
    settings = {u.key or "/".join(u.nested_key): json.loads(u.value_json) for u in run.config.update}
    assert settings["adapter"]["rank"] == 32
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

    tracker = Tracker(config, folder, active=False)
    tracker.run, tracker.mode = Run(), "online"
    tracker._send_lineage(tracker.run, folder.manifest, folder)
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


def test_an_error_of_wandb_is_one_warning_and_stops_nothing(config, tmp_path, monkeypatch):
    import wandb

    def refuse(**words):
        raise ConnectionError("no route")

    monkeypatch.setattr(wandb, "init", refuse)
    config.tracking.mode = "online"
    folder = RunFolder(tmp_path / "run")
    fill(folder)
    with pytest.warns(UserWarning, match="no route"):
        tracker = Tracker(config, folder)
    assert tracker.run is None
    assert tracker.mode == "offline"
    tracker.log("train", {"loss": 1.0}, 1)
    tracker.finish(folder)


def test_mode_follows_the_login(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert chosen_mode("auto") == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert chosen_mode("auto") == "online"
    assert chosen_mode("off") == "off"


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
