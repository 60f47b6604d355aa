"""`cosmos-exp trajectories` from the command line to the data set, with runs of the embedded world."""

import shlex
import shutil
import signal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import ROOT, move, program, wait_until
from test_lerobot_cameras import lerobot_python
from test_trajectories import DECLARED, Mean, save

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.record import save_config
from cosmos_exp.data.clips import probe_clip
from cosmos_exp.data.pairs import read_test_pairs
from cosmos_exp.data.readers.lerobot import read_lerobot
from cosmos_exp.data.video import decode, read_video
from cosmos_exp.experiment.generate import adapter_tasks, find_adapters, load_pipeline_for
from cosmos_exp.files import file_sha256, read_json, write_json
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.tabletop.dataset import Kind, make_pairs
from cosmos_exp.trajectories.making import WORK
from cosmos_exp.world import adapter as adapters
from cosmos_exp.world.loading import load_transformer
from cosmos_exp.world.model_folder import ensure_model

SETTINGS = ["judge=rules", "measures.words=true", "measures.recording=true", "hardware.num_threads=1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory, small_config):
    """A run folder as a run leaves it, as far as this command reads it, with a LoRA that moves the model."""
    config, folder = small_config(*SETTINGS, "rank=8"), RunFolder(tmp_path_factory.mktemp("runs") / "lora")
    folder.path.mkdir()
    save_config(config.updated({"run_dir": str(folder.path)}), folder.config)
    folder.set_status("done", "record")
    model = ensure_model(config)
    write_json(folder.manifest_file, {"model": {"fingerprints": model.fingerprints()}})
    transformer, _ = load_transformer(model, torch.float32)
    move(adapters.inject(transformer, config.adapter, 0), 0.02, seed=0)
    record = {"base_model": "embedded", "fingerprints": model.fingerprints()}
    adapters.save_adapter(transformer, folder.adapter, record)
    return folder.path


@pytest.fixture(scope="module")
def prompts(tmp_path_factory, small_config):
    """Two prompts of one scene whose object is in view at this size, as `generate` takes them."""
    data, folder = small_config().data, tmp_path_factory.mktemp("prompts") / "pairs"
    make_pairs(folder, Kind(data.look, (data.height, data.width), data.num_frames), 1, seed=1)
    return folder


def content(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and WORK not in path.parts]
    return {path.relative_to(folder): path.read_bytes() for path in files}


def episodes_of(folder):
    return pq.read_table(folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet").to_pylist()


def made_videos(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / WORK / "videos").glob("*seed*.mp4")}


@pytest.fixture(scope="module")
def whole(run, prompts, tmp_path_factory):
    """The words of the command, and a set with actions, written without an interruption."""
    from cosmos_exp.cli import main

    folder = tmp_path_factory.mktemp("whole")
    words = ["trajectories", run, "--prompts", prompts, "--seeds", 2, "--keep", "instruction>=1 and word_side<0.6"]
    words += ["--actions", save(Mean(), folder / "m.pt", DECLARED), "--out"]
    assert main([str(word) for word in [*words, folder / "set"]]) == 0
    return words, folder / "set"


def test_a_set_says_what_each_episode_is(whole):
    _, out = whole
    summary = read_json(out / "trajectories.json")
    assert 0 < summary["kept"] == 4 - sum(summary["dropped"].values()) < 4
    rows = episodes_of(out)
    assert len(rows) == summary["kept"]
    for row in rows:
        assert row["scores/word_side"] < 0.6
        assert (row["adapter"], len(row["adapter_sha256"])) == ("lora-r8", 64)
        assert (out / row["source_frame"]).is_file()
    card = (out / "README.md").read_text()
    assert "`instruction>=1 and word_side<0.6`" in card
    assert str(out.parent) not in card + (out / "trajectories.json").read_text()


def test_every_frame_and_action_of_the_set_is_that_of_its_video(whole):
    _, out = whole
    data = compose_config(["data=lerobot", f"data.path={out}"]).data
    read = read_lerobot(data, out)
    assert (read.problems, read.notes) == ([], [])
    by_hash = {file_sha256(path): path for path in (out / WORK / "videos").iterdir()}
    table = pq.read_table(out / "data" / "chunk-000" / "file-000.parquet").to_pandas()
    for row, clip in zip(episodes_of(out), read.clips, strict=True):
        frames, checked = read_video(by_hash[row["video_sha256"]]), probe_clip(clip, data)
        assert np.array_equal(decode(clip.path, list(range(checked.start, checked.stop)), checked.info), frames)
        rows = table[table["episode_index"] == row["episode_index"]]
        state, action = np.stack(rows["observation.state"]), np.stack(rows["action"])
        assert np.allclose(state[:, 0], frames.mean(axis=(1, 2, 3)) / 255, atol=0.01)
        assert np.array_equal(action[:-1], state[1:])


@pytest.mark.slow
def test_a_policy_of_the_lerobot_library_trains_on_it(whole, tmp_path):
    """The library's own command as the guide shows it, with a smaller network."""
    _, out = whole
    trainer = Path(lerobot_python()).with_name("lerobot-train")
    (_, command) = (ROOT / "docs" / "guides" / "trajectories.md").read_text().split("\nlerobot-train ")
    words = shlex.split(command.partition("```")[0].replace("\\\n", "").replace("=kept", f"={out}"))
    words += ["--steps=10", "--log_freq=5", "--policy.dim_model=64", "--policy.n_heads=4", "--policy.device=cpu"]
    done = program(trainer, *words, cwd=tmp_path, HF_HOME=str(tmp_path), OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "step:10 " in done.stderr


def test_a_killed_command_continues_to_the_same_bytes(whole, tmp_path, start, cli):
    words, expected = whole
    out = tmp_path / "set"
    child = start(*map(str, [*words, out]), log=tmp_path / "log.txt")
    wait_until(lambda: made_videos(out))
    child.kill()
    assert child.wait(60) == -signal.SIGKILL, "it was done before the signal came"
    assert not (out / "meta" / "info.json").exists()
    before = made_videos(out)
    assert 1 <= len(before) < 4
    assert cli(*words, out) == 0
    assert before.items() <= made_videos(out).items()
    assert content(out) == content(expected)


def test_another_condition_and_a_target_use_the_same_videos(whole, run, prompts, tmp_path, answered):
    _, expected = whole
    out = tmp_path / "set"
    shutil.copytree(expected / WORK, out / WORK, ignore=shutil.ignore_patterns(".lock"))
    before = made_videos(out)
    words = ["trajectories", run, "--prompts", prompts, "--seeds", 2, "--out", out]
    answered([*words, "--target", 3], 0)
    assert [(row["sample"], row["seed"]) for row in episodes_of(out)] == [
        ("robot_0001_left", 0),
        ("robot_0001_right", 0),
        ("robot_0001_left", 1),
    ]
    assert "action" not in read_json(out / "meta" / "info.json")["features"]
    answered([*words, "--keep", "instruction>99"], 1, "none of 4 videos is kept: not instruction>99 (4)")
    answered([*words, "--target", 5], 1, "4 of the 5 asked for")  # all are kept, and they are fewer
    assert len(episodes_of(out)) == 4
    assert made_videos(out) == before


def test_a_video_is_that_of_the_run(whole, run, prompts, small_config, tmp_path):
    """The same bytes as `cosmos-exp generate` of the same adapter, prompt and seed."""
    _, out = whole
    config = small_config(*SETTINGS)
    adapters = find_adapters([[str(run)]])
    tasks = adapter_tasks(config, adapters, read_test_pairs(prompts, []), tmp_path)
    (name,) = adapters
    load_pipeline_for(config, adapters, tasks).make(name, tasks)
    for path in sorted((tmp_path / name).iterdir()):
        (video,) = (out / WORK / "videos").glob(f"lora__{path.stem}-*.mp4")
        assert video.read_bytes() == path.read_bytes()


def test_a_rollout_longer_than_its_recording_becomes_an_episode(run, prompts, tmp_path, cli):
    pairs = tmp_path / "pairs"
    shutil.copytree(prompts, pairs, ignore=shutil.ignore_patterns("*_right.*"))
    words = ["trajectories", run, "--prompts", pairs, "--out", tmp_path / "set", "--keep", "0<psnr"]
    assert cli(*words, "--set", "generation.chunks=2", "generation.num_steps=1", "judge=none") == 0
    (row,) = episodes_of(tmp_path / "set")
    assert row["length"] == 17 + 17 - 5


def test_a_wrong_request_is_answered_before_anything_is_written(run, tmp_path, answered):
    other, new, unfinished = (tmp_path / name for name in ("other", "new", "unfinished"))
    (other / "sub").mkdir(parents=True)
    shutil.copytree(run, unfinished)
    RunFolder(unfinished).set_status("failed", "train", "x")
    for words, problem in (
        ([run, "--out", other], "is not empty"),
        ([unfinished, "--out", new], "is not finished (failed)"),
        ([run, "--out", new, "--prompts", other], "has no test pairs"),
        ([run, "--out", new, "--keep", "flow_error<1"], "measures.motion=true"),
        ([run, "--out", new, "--actions", "idm:absent.pt"], "no such file"),
        ([run, "--out", new, "--set", "adapter.rank=3"], "belongs to the run"),
    ):
        answered(["trajectories", *words], 2, problem)
        assert not new.exists()
