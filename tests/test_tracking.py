"""wandb mirrors the run folder: offline for real; when it fails, the run goes on."""

import json

import pytest

from cosmos_exp.run_folder import RunFolder, append_json_line, read_json_lines, write_json
from cosmos_exp.tracking.wandb import Tracker, chosen_mode


@pytest.fixture
def config(small_config):
    return small_config("tracking=wandb", "tracking.mode=offline", "name=track")


def fill(folder):
    folder.path.mkdir(exist_ok=True)
    for seed in (0, 1):
        append_json_line(folder.scores, {"sample": "a", "seed": seed, "prompt": "p <b>", "video": f"a__seed{seed}.mp4",
                                         "measure": "tse", "value": None if seed else 0.5, "detail": {}})  # fmt: skip
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
    assert all(f.stat().st_size > 500 for f in files)
    assert not [w for w in recwarn if "wandb:" in str(w.message)]


def test_a_failing_wandb_is_said_once_and_stops_nothing(config, tmp_path, monkeypatch):
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


def test_a_line_cut_by_a_crash_is_left_out(tmp_path):
    path = tmp_path / "log.jsonl"
    append_json_line(path, {"step": 1})
    with open(path, "a") as file:
        file.write('{"step": 2, "lo')
    assert read_json_lines(path) == [{"step": 1}]


def test_a_json_record_is_whole_or_the_old_one(tmp_path):
    write_json(tmp_path / "m.json", {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "m.json", {"a": float("nan")})
    assert json.loads((tmp_path / "m.json").read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]
