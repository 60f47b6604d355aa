"""`cosmos-exp trajectories` from the command line to the data set, with two runs of the embedded world."""

import json
import shutil
import signal

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import wait_until
from test_trajectories import DECLARED, Mean, save

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.record import save_config
from cosmos_exp.data.clips import probe_clip
from cosmos_exp.data.dataset import ensure_data
from cosmos_exp.data.readers.lerobot import read_lerobot
from cosmos_exp.data.video import decode, read_video
from cosmos_exp.files import write_json
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.trajectories.making import WORK
from cosmos_exp.world import adapter as adapters
from cosmos_exp.world.loading import load_transformer
from cosmos_exp.world.model_folder import ensure_model

KEEP = "instruction>=1 and word_side<0.6"
SETTINGS = ["judge=rules", "sampson.enabled=false", "measures.motion=false", "hardware.num_threads=1"]


def finished(folder, config):
    """A run folder as a run leaves it, as far as this command reads it."""
    run = RunFolder(folder)
    run.path.mkdir(parents=True)
    save_config(config.updated({"run_dir": str(folder)}), run.config)
    run.set_status("done", "record")
    model = ensure_model(config.model, cache_root(config))
    write_json(run.manifest_file, {"name": "run", "model": {"fingerprints": model.fingerprints()}})
    return run, model


@pytest.fixture(scope="module")
def runs(tmp_path_factory, small_config):
    """The base model, and a LoRA that moves it."""
    folder = tmp_path_factory.mktemp("runs")
    finished(folder / "base", small_config(*SETTINGS, "adapter=none"))
    config = small_config(*SETTINGS, "rank=8")
    run, model = finished(folder / "lora", config)
    transformer, _ = load_transformer(model, torch.float32)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in adapters.inject(transformer, config.adapter, 0).values():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    adapters.save_adapter(transformer, run.adapter, {"base_model": "embedded", "fingerprints": model.fingerprints()})
    return folder


@pytest.fixture(scope="module")
def prompts(tmp_path_factory, small_config):
    """Two prompts of one scene, as `generate` takes them."""
    _, tests = ensure_data(small_config())
    folder = tmp_path_factory.mktemp("prompts") / "pairs"
    shutil.copytree(tests, folder, ignore=shutil.ignore_patterns("selection"))
    return folder


def content(folder):
    return {
        p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and WORK not in p.parts
    }


def episodes_of(folder):
    return pq.read_table(folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet").to_pylist()


@pytest.fixture(scope="module")
def whole(runs, prompts, tmp_path_factory, small_config):
    """A set of both runs, with real demonstrations and actions, written without an interruption."""
    from cosmos_exp.cli import main

    folder = tmp_path_factory.mktemp("whole")
    idm = save(Mean(), folder / "m.pt", DECLARED)
    words = ["trajectories", runs / "base", runs / "lora", "--prompts", prompts]
    words += ["--keep", KEEP, "--actions", idm, "--with-real", "--out"]
    code = main([str(w) for w in [*words, folder / "set"]])
    return words, folder / "set", code


def test_a_set_of_two_runs_says_what_each_episode_is(whole, prompts, small_config):
    _, out, code = whole
    assert code == 0
    summary = json.loads((out / "trajectories.json").read_text())
    assert (summary["planned"], summary["made"]) == (4, 4)
    assert 0 < summary["kept"] == 4 - sum(summary["dropped"].values())
    rows = episodes_of(out)
    real = [r for r in rows if r["source"] == "real"]
    made = [r for r in rows if r["source"] == "generated"]
    assert (len(real), len(made)) == (5, summary["kept"])
    assert all(r["scores/word_side"] < 0.6 and r["scores/instruction"] >= 1 for r in made)
    assert {len(r["adapter_sha256"]) for r in made} <= {4, 64}  # `base`, or a hash
    assert all((out / r["source_frame"]).is_file() for r in made)
    assert {r["prompt"] for r in made} <= {p.read_text().strip() for p in prompts.glob("*.txt")}
    assert all(r["seed"] is None and r["scores/word_side"] is None for r in real)
    info = json.loads((out / "meta" / "info.json").read_text())
    assert info["features"]["action"]["names"] == ["mean", "place"]
    card = (out / "README.md").read_text()
    assert card.startswith("---\n")
    for words in ("LeRobot", "word_side<0.6", "Yield", "random choices", "5 original"):
        assert words in card
    assert str(out.parent) not in card + (out / "trajectories.json").read_text()


def test_every_frame_of_the_set_is_that_of_its_video(whole):
    _, out, _ = whole
    data = compose_config(["data=lerobot", f"data.path={out}"]).data
    found = read_lerobot(data, out)
    assert (found.problems, found.notes) == ([], [])
    files = [*(out / WORK / "videos").iterdir(), *(out / WORK / "demonstrations").iterdir()]
    from cosmos_exp.files import file_sha256

    by_hash = {file_sha256(p): p for p in files}
    table = pq.read_table(out / "data" / "chunk-000" / "file-000.parquet").to_pandas()
    for row, clip in zip(episodes_of(out), found.clips, strict=True):
        own = read_video(by_hash[row["video_sha256"]])
        checked = probe_clip(clip, data)
        assert np.array_equal(decode(clip.path, list(range(checked.start, checked.stop)), checked.info), own)
        actions = np.stack(table[table["episode_index"] == row["episode_index"]]["action"])
        assert np.allclose(actions[:, 0], own.mean(axis=(1, 2, 3)) / 255, atol=0.01)


def test_a_killed_command_continues_to_the_same_bytes(whole, tmp_path, start, cli):
    words, expected, _ = whole
    out = tmp_path / "set"
    out.parent.mkdir(exist_ok=True)
    child = start(*map(str, [*words, out]), log=tmp_path / "log.txt")
    wait_until(lambda: len(list(out.glob(f"{WORK}/videos/*seed*.mp4"))) >= 1)
    child.kill()
    assert child.wait(60) == -signal.SIGKILL, "it was done before the signal came"
    assert not (out / "meta" / "info.json").exists()
    before = {p: p.stat().st_mtime_ns for p in (out / WORK / "videos").glob("*seed*.mp4")}
    assert 1 <= len(before) < 4
    assert cli(*words, out) == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert content(out) == content(expected)


def test_another_condition_uses_the_same_videos(whole, runs, prompts, tmp_path, cli, capsys):
    _, expected, _ = whole
    out = tmp_path / "set"
    shutil.copytree(expected / WORK, out / WORK, ignore=shutil.ignore_patterns(".lock"))
    before = {p.name: p.stat().st_mtime_ns for p in (out / WORK / "videos").iterdir()}
    words = ["trajectories", runs / "base", runs / "lora", "--prompts", prompts, "--out", out]
    assert cli(*words, "--best", 1, "--by", "psnr") == 0
    rows = episodes_of(out)
    assert len(rows) == len({r["sample"] for r in rows}) == 2
    assert {p.name: p.stat().st_mtime_ns for p in (out / WORK / "videos").iterdir()} == before
    assert "action" not in json.loads((out / "meta" / "info.json").read_text())["features"]
    assert "no actions" in capsys.readouterr().out
    assert cli(*words, "--keep", "instruction>99") == 1
    said = capsys.readouterr().err
    assert "none of 4 videos is kept: not instruction>99 (4)" in said
    assert cli(*words, "--target", 5) == 1  # all are kept, and they are fewer
    assert "4 of the 5 asked for" in capsys.readouterr().err
    assert len(episodes_of(out)) == 4


def test_a_video_is_that_of_the_run(whole, runs, small_config, tmp_path):
    """The same bytes as `cosmos-exp generate` of the same adapter, prompt and seed."""
    from cosmos_exp.data.pairs import read_test_pairs
    from cosmos_exp.experiment.generate import find_adapters, generate_adapters

    _, out, _ = whole
    config = small_config(*SETTINGS)
    _, tests = ensure_data(config)
    files = find_adapters([str(runs / "lora")])
    (done,) = generate_adapters(config, files, read_test_pairs(tests, []), tmp_path, None)
    for path in sorted(done.folder.iterdir()):
        (own,) = (out / WORK / "videos").glob(f"lora__{path.stem}-*.mp4")
        assert own.read_bytes() == path.read_bytes()


def test_a_rollout_longer_than_its_recording_becomes_an_episode(runs, prompts, tmp_path, cli, capsys):
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    for file in prompts.glob("*_left.*"):
        shutil.copy(file, pairs)
    words = ["trajectories", runs / "base", "--prompts", pairs, "--out", tmp_path / "set", "--keep", "0<psnr"]
    (pairs / "alone.txt").write_text("push")
    assert cli(*words, "--set", "generation.chunks=2", "generation.num_steps=1", "judge=none") == 0
    assert "1 NAME.txt without NAME.png, not used: alone.txt" in capsys.readouterr().err
    card = (tmp_path / "set" / "README.md").read_text()
    assert ", 2 chunks of 17 frames each" in card
    assert "`0<psnr`" in card  # code is not escaped
    (row,) = episodes_of(tmp_path / "set")
    assert row["length"] == 17 + 17 - 5


def wrong_requests(runs, prompts, folder):
    other, unfinished, wide = folder / "other", folder / "unfinished", folder / "wide" / "wide"
    (other / "sub").mkdir(parents=True)
    shutil.copytree(runs / "base", unfinished)
    RunFolder(unfinished).set_status("failed", "train", "x")
    finished(wide, compose_config(["adapter=none", "judge=rules", "data.width=320"]))
    new = folder / "new"
    shutil.copytree(runs / "base", folder / "copy" / "base")
    both = [runs / "base", runs / "lora"]
    yield [*both, "--out", other], "is not empty"
    yield [unfinished, "--out", new], "is not finished (failed)"
    yield [runs, "--out", new], "is a folder of runs. Name its runs:"
    yield [folder / "absent", "--out", new], "no config.yaml"
    yield [runs / "base", runs / "base", "--out", new], "two runs are named base"
    yield [runs / "base", folder / "copy" / "base", "--out", new], "two runs are named base"
    yield [runs / "base", wide, "--out", new], "data.width: 160 -> 320"
    yield [*both, "--out", new, "--prompts", folder / "absent"], "no such folder"
    yield [*both, "--out", new, "--prompts", other], "has no test pairs"
    bad = folder / "bad"
    bad.mkdir()
    (bad / "a.png").write_bytes(b"no picture")
    yield [*both, "--out", new, "--prompts", bad], "has no prompt; expected"
    (bad / "a.txt").write_text("lift")
    yield [*both, "--out", new, "--prompts", bad], "a.png: cannot be read as an image"
    yield [*both, "--out", new, "--keep", "flow_error<1"], "--set measures.motion=true"
    yield [*both, "--out", new, "--keep", "fysics>1"], "Did you mean physics?"
    yield [*both, "--out", new, "--best", 1, "--by", "phys"], "no measure of these videos"
    yield [*both, "--out", new, "--target", 0], "--target 0"
    yield [*both, "--out", new, "--seeds", "9..0"], "--seeds 9..0"
    yield [*both, "--out", new, "--actions", "idm:absent.pt"], "no such file"
    yield [*both, "--out", new, "--set", "adapter.rank=3"], "belongs to the run"
    lines = ["--prompts", prompts, "--set", "generation.chunks=2", "generation.chunk_prompts=lines"]
    yield [*both, "--out", new, *lines], "has 1 line"


def test_a_wrong_request_is_answered_before_anything_is_written(runs, prompts, tmp_path, cli, capsys):
    for words, said in wrong_requests(runs, prompts, tmp_path):
        assert cli("trajectories", *words) == 2
        error = capsys.readouterr().err
        assert said in error
        assert "Traceback" not in error
        assert not (tmp_path / "new").exists()
