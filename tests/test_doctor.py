"""`doctor`, `dry_run` and `run` share one list of checks; the first two download and write nothing."""

import re
import socket
from types import SimpleNamespace

import numpy as np
import pytest

from cosmos_exp.data.video import write_video


@pytest.fixture
def no_download(monkeypatch):
    """Any download fails the test."""
    import huggingface_hub

    real = huggingface_hub.snapshot_download

    def guarded(*args, **words):
        assert words.get("local_files_only"), f"a download was started: {args} {words}"
        return real(*args, **words)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", guarded)


def test_the_default_run_passes_every_check_and_nothing_is_written(cli, tmp_path, no_download, capsys):
    cache = tmp_path / "cache"
    assert cli("doctor", f"cache_dir={cache}", "tracking=none") == 0
    lines = capsys.readouterr().out.splitlines()
    names = [
        "versions",
        "memory",
        "weights",
        "guardrail",
        "judge",
        "sampson",
        "access",
        "data",
        "device",
        "sizes",
        "disk",
    ]
    names += ["records", "wandb", "videos"]
    assert [line.split()[1] for line in lines if line.startswith("ok")] == names
    assert not cache.exists()


def test_what_the_2b_model_lacks_here_is_listed_without_a_download(cli, tmp_path, no_download, monkeypatch, capsys):
    from cosmos_exp.world import guardrail

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(guardrail.importlib.util, "find_spec", lambda name: None)
    words = ["model=cosmos_predict25_2b", "hardware=8xh100", "hardware.num_processes=64", f"cache_dir={tmp_path}"]
    assert cli("doctor", *words) == 1
    said = capsys.readouterr().out
    failed = [line.split()[1] for line in said.splitlines() if line.startswith("FAIL")]
    assert failed == ["guardrail", "access", "device"]
    assert "nvidia/Cosmos-Predict2.5-2B: not on this machine; the run downloads it" in said

    assert cli("run", *words, "dry_run=true") == 1
    plan, said = capsys.readouterr()
    assert plan.count("MISSING") == 3
    assert "45.875 M" in plan
    assert said == "cosmos-exp: dry run: missing here: guardrail, access, device. The plan says how to get it.\n"

    run = tmp_path / "run"
    assert cli("run", *words, f"run_dir={run}") == 2
    said = capsys.readouterr().err
    assert "pip install --no-deps cosmos_guardrail" in said
    assert "num_processes=64" in said
    assert not run.exists()


def test_more_memory_than_there_is_fails_with_both_numbers(cli, monkeypatch, capsys):
    from cosmos_exp.experiment import checks

    monkeypatch.setattr(checks.psutil, "virtual_memory", lambda: SimpleNamespace(available=0.01 * 2**30, total=2**35))
    assert cli("doctor", "tracking=none") == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert len(failed) == 1
    assert re.search(r"memory +training needs about [\d.]+ GiB, and 0.0 GiB are free. Choose", failed[0])
    monkeypatch.undo()
    assert cli("doctor", "hardware.memory_gb=0.01") == 1
    assert "MAY NOT FIT 0.01 GB. Choose" in capsys.readouterr().out


def test_without_the_hub_doctor_never_reaches_for_the_network(monkeypatch, tmp_path):
    from cosmos_exp.config.composing import compose_config
    from cosmos_exp.experiment.checks import findings

    asked = []

    def refuse(*where, **words):
        asked.append(where)
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    for words in (
        ["model=cosmos_predict25_2b", "judge=reason2_2b", "sampson.matcher=superpoint_lightglue", "hardware=8xh100"],
        ["judge=server", "judge.url=http://example.invalid/v1", "judge.source=x", "data=gr1_100"],
    ):
        findings(compose_config(words))
    assert asked == []


def test_a_model_folder_that_lacks_a_component_is_named(cli, tmp_path, capsys):
    (tmp_path / "transformer").mkdir()
    assert cli("doctor", f"model.source={tmp_path}") == 1
    said = capsys.readouterr().out
    assert "has no folder vae, text_encoder, tokenizer, scheduler" in said


def test_the_data_of_a_run_is_inspected(cli, tmp_path, capsys):
    """As the dry run does: counts, and every problem by file. Nothing is decoded whole, nothing is downloaded."""
    for name in ("videos", "metas"):
        (tmp_path / name).mkdir()
    for k in range(3):
        write_video(tmp_path / "videos" / f"{k}.mp4", np.full((17, 96, 160, 3), 60 * k, np.uint8), 8)
        (tmp_path / "metas" / f"{k}.txt").write_text("Lift the cup.")
    words = ["doctor", "data=folder", f"data.path={tmp_path}", f"cache_dir={tmp_path / 'cache'}"]
    assert cli(*words, "tracking=none") == 0
    assert "1 (3 in" in capsys.readouterr().out
    (tmp_path / "videos" / "2.mp4").write_bytes(b"no video")
    assert cli(*words, "tracking=none") == 1
    out = capsys.readouterr().out
    assert "FAIL  videos" in out
    assert "2.mp4" in out


@pytest.mark.parametrize("split", ["train", "test"])
def test_data_make_renders_what_data_check_accepts(split, cli, tmp_path, capsys):
    assert cli("data", "make", "tabletop", "--out", tmp_path, "--split", split, "--count", "1", "--seed", "3") == 0
    if split == "train":
        assert len(list((tmp_path / "videos").glob("*.mp4"))) == 1
        assert cli("data", "check", tmp_path) == 0
        assert "1 good video" in capsys.readouterr().out
    else:  # one scene, asked for with either hand
        assert sorted(p.suffix for p in tmp_path.iterdir()) == sorted(2 * [".json", ".mp4", ".npz", ".png", ".txt"])


def test_the_dry_run_shows_the_findings_of_doctor(cli, tmp_path, no_download, monkeypatch, capsys):
    from cosmos_exp.config.composing import compose_config
    from cosmos_exp.experiment.checks import findings

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    words = ["model=cosmos_predict25_2b", "hardware=8xh100", "hardware.num_processes=64", f"cache_dir={tmp_path}"]
    assert cli("run", *words, "dry_run=true") == 1
    plan = "".join(c for c in capsys.readouterr().out if not c.isspace() and c not in "│─")
    for finding in findings(compose_config(words)):
        if finding.what != "disk":  # its free space changes
            shown = finding.text if finding.level == "ok" else f"MISSING: {finding.text}"
            assert "".join(f"here: {finding.what}{shown}".split()) in plan
    assert not (tmp_path / "hub").exists()


def test_a_run_with_an_incomplete_model_folder_leaves_nothing_behind(cli, tmp_path, no_download, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model" / "transformer").mkdir(parents=True)
    assert cli("run", "model.source=./model", "cache_dir=cache") == 2
    assert "has no folder vae, text_encoder, tokenizer, scheduler" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_data_check_accepts_made_clips_with_made_test_frames(cli, tmp_path, capsys):
    for split in ("train", "test"):
        words = ["--out", tmp_path / split, "--split", split, "--count", "1", "--seed", "3"]
        assert cli("data", "make", "tabletop", *words) == 0
    assert cli("data", "check", tmp_path / "train", f"data.test_path={tmp_path / 'test'}") == 0
    assert "1 good videos, 17 frames, 2 test pairs" in capsys.readouterr().out
    assert (tmp_path / "test" / "robot_0003_left.png").is_file()
    (tmp_path / "test" / "robot_0003_left.txt").unlink()
    assert cli("data", "check", tmp_path / "train", f"data.test_path={tmp_path / 'test'}") == 1
