"""wandb mirrors the run folder: offline for real; an error of wandb does not stop a run."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from wandb_file import sent

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


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """The folder of a finished offline run with a video of each seed."""
    folder = RunFolder(tmp_path_factory.mktemp("home") / "run")
    fill(folder)
    for seed in (0, 1):
        write_video(folder.video("a", seed), np.full((4, 32, 32, 3), 80 * seed, np.uint8), 8)
    folder.update_manifest(data_fingerprint="d" * 16)
    (folder.adapter / "config.json").write_text("{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_DATA_DIR", raising=False)
        patch.setenv("HOME", str(folder.path.parent))
        patch.setattr("cosmos_exp.tracking.wandb.LARGEST_FILE", len(b"weights") - 1)
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
    found = sent(offline.path)
    assert (found["name"], found["group"], found["job_type"]) == ("track-lora-r32", "", "run")
    assert found["tags"] == {"adapter_kind:lora", "rank:32", "phase:run"}
    assert (found["config"]["adapter"]["rank"], found["config"]["arm"]) == (32, "lora-r32")
    history = found["history"]
    assert history["train/loss"] == [1.0, 0.5]
    assert (history["by_rank/rank"], history["by_rank/tse"]) == ([32.0], [0.5])
    assert history["videos/a/seed0/_type"] == ["video-file"]  # a key that is the same in every run
    assert "videos/a/seed1/_type" not in history
    assert found["table"]["columns"] == ["prompt", "text", "arm", "seed", "noise", "video", "tse"]
    assert [row[2:5] for row in found["table"]["data"]] == [["lora-r32", 0, 0], ["lora-r32", 0, 1]]
    assert (found["summary"]["tse"], found["summary"]["detail/tse/n"]) == (0.5, 1)
    adapter = found["artifacts"]["adapter"]
    assert json.loads(adapter.metadata)["data_fingerprint"] == "d" * 16
    large = {e.path: e.ref for e in adapter.manifest.contents}
    assert large == {"config.json": "", offline.adapter_file.name: offline.adapter_file.as_uri()}


def test_an_error_of_wandb_stops_nothing_and_is_reported_at_the_end(tmp_path, monkeypatch, capfd):
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
    lost = capfd.readouterr().err
    assert lost.count("wandb lost the train log from some step on: ConnectionError: no route") == 1
    assert "wandb lost the table of scores" in lost
    assert [line.split(":")[0] for line in folder.manifest["wandb_lost"]] == [
        "the train log from some step on",
        "the summary",
        "the table of scores",
    ]
    assert "adapter" in sent(folder.path)["artifacts"]  # the rest is sent
    monkeypatch.setattr(wandb, "init", refuse)
    Tracker(CONFIG.updated({"tracking.mode": "online"}), folder).finish()
    lost = [line.split(": ")[1] for line in capfd.readouterr().err.splitlines()]
    assert lost == ["wandb lost the online run, which is offline instead", "wandb lost the whole run"]


def test_mode_follows_wandb_mode_and_the_login(no_login, monkeypatch):
    assert chosen_mode("auto") == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert [chosen_mode(mode) for mode in ("auto", "off")] == ["online", "off"]
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert [chosen_mode(mode) for mode in ("auto", "online")] == ["offline", "online"]


def test_the_workspace_compares_arms_and_the_tuning_is_a_section_of_its_own(offline, tmp_path):
    """As wandb-workspaces would save it. Tuning runs have no key of any other section."""
    runs = []
    for name, words in {"lora-r8": ["rank=8"], "tune/lora-r8": ["rank=8", "generation.split=selection"]}.items():
        runs.append(tmp_path / "sweeps" / "s" / name)
        shutil.copytree(offline.path, runs[-1], ignore=shutil.ignore_patterns("wandb"))
        save_config(compose_config(["name=s", *words]), runs[-1] / "config.yaml")
    spec = json.loads(define_workspace(runs, "me")._to_model().model_dump_json(by_alias=True))["spec"]["section"]
    shown = spec["runSets"][0]
    wanted = {"key": {"section": "run", "name": "group"}, "op": "=", "value": "s"}
    assert wanted.items() <= shown["filters"]["filters"][0].items()
    assert [key["name"] for key in shown["grouping"]] == ["arm.value"]
    assert shown["runFeed"]["columnOrder"][:3] == ["run:displayName", "config:arm.value", "config:series.value"]
    sections = {s["name"]: [p["config"] for p in s["panels"]] for s in spec["panelBankConfig"]["sections"]}
    for name, group in {
        "Losses": "arm",
        "Scores by arm": "arm",
        "Scores over rank": "series",
        "Tuning": "series",
    }.items():
        for panel in sections[name]:
            assert (panel["groupBy"], panel["groupAgg"], panel["groupArea"]) == (f"{group}.value", "mean", "stderr")
            assert all(key.startswith("tuning/") == (name == "Tuning") for key in panel["metrics"])
    assert [p["mediaKeys"] for p in sections["Videos"]] == [["videos/a/seed0"]]


def test_sync_needs_a_login_and_calls_wandb_for_each_offline_run(offline, no_login, answered, monkeypatch):
    write_json(offline.status_file, {"state": "done"})
    answered(["dashboard", offline.path, "--sync"], 2, "wandb login")
    asked = []
    done = SimpleNamespace(returncode=1)
    monkeypatch.setattr(dashboard.subprocess, "run", lambda words, check: asked.extend(words) or done)
    with pytest.raises(RunError, match="wandb sync"):
        dashboard.sync([offline.path])
    assert asked[1:4] == ["-m", "wandb", "sync"]
    assert [Path(w).parent for w in asked[4:]] == [offline.path / "wandb"]
