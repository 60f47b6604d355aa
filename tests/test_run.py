"""Whole runs over the true entry point: all stages, resuming, several processes, what a run leaves behind."""

import filecmp
import os
import shutil
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL, gone, wait_until, workers

from cosmos_exp.cli.rerun import compare
from cosmos_exp.data.video import read_video
from cosmos_exp.errors import RunError
from cosmos_exp.experiment.run import run
from cosmos_exp.files import read_json, read_json_lines, write_json_lines
from cosmos_exp.run_folder import RunFolder

ONE_THREAD = [*SMALL, "hardware.samples_per_forward=1", "hardware.num_threads=1"]
MEASURED = [*ONE_THREAD, "sampson.enabled=true", "measures.references=true", "measures.words=true"]
TWO_LONG = [*ONE_THREAD, "hardware.num_processes=2", "training.max_steps=400", "training.epochs=400"]


def losses(folder):
    return [r["loss"] for r in read_json_lines(folder.train_log)]


@pytest.fixture(scope="module")
def whole(finished, tmp_path_factory):
    """One uninterrupted run, one thread."""
    folder, log = RunFolder(tmp_path_factory.mktemp("whole") / "run"), tmp_path_factory.mktemp("log") / "log.txt"
    finished("run", *MEASURED, f"run_dir={folder.path}", log=log)
    return folder, log.read_text()


def test_a_run_leaves_what_the_contract_says(whole):
    folder, said = whole
    assert str(folder.path) in said
    manifest, status = folder.manifest, folder.status
    assert status["state"] == "done"
    assert set(manifest["stages"]) == {"prepare", "train", "generate", "evaluate", "record"}
    assert len(manifest["data_fingerprint"]) == 16
    assert len(manifest["data"]["train"]) == 4
    assert manifest["checks"]["untouched_adapter_change"] < 1e-4
    rows = read_json_lines(folder.train_log)
    assert [r["step"] for r in rows] == [1, 2, 3, 4]
    assert set(rows[0]) >= {"samples", "loss", "grad_norm", "seconds"}
    assert rows[0]["lr"] == 0  # the reference's schedule begins at zero
    assert len(list(folder.checkpoints.glob("step_*"))) == 2
    samples = ["robot_0000_left", "robot_0000_right"]
    assert sorted(p.name for p in folder.videos.iterdir()) == [f"{sample}__seed0.mp4" for sample in samples]
    measures = ("tse", "tse_robust", "tse_moving", "static_share", "word_side")
    expected = {(s, m) for s in samples for m in measures}
    assert expected <= {(r["sample"], r["measure"]) for r in read_json_lines(folder.scores)}
    for kind in ("real", "frozen"):  # the recorded continuation and the held first frame, scored likewise
        frames = read_video(folder.reference_video(kind, samples[0]))
        assert frames.shape == (17, 64, 96, 3)
        assert (np.abs(frames.astype(int) - frames[0]).max(axis=(1, 2, 3))[1:] > 100).any() == (kind == "real")
        assert expected <= {(r["sample"], r["measure"]) for r in read_json_lines(folder.reference_scores(kind))}
    assert manifest["data"]["recorded"] == samples
    assert len(set(manifest["data"]["scenes"].values())) == 1  # both prompts have one first frame
    metrics = folder.read(folder.metrics)
    assert {"mean", "ci_low", "ci_high", "n"} <= set(metrics["measures"]["tse"])
    assert metrics["training"]["trained_adapter_change"] > 0


def test_a_finished_run_called_again_does_nothing_twice(whole, cli):
    folder, _ = whole
    files = [folder.adapter_file, *folder.videos.iterdir(), *folder.references.rglob("*.mp4")]
    before, scores = {p: p.stat().st_mtime_ns for p in files}, folder.scores.read_text()
    assert cli("run", f"run_dir={folder.path}") == 0
    assert before == {p: p.stat().st_mtime_ns for p in before}
    assert len(read_json_lines(folder.train_log)) == 4
    assert folder.scores.read_text() == scores


def test_what_is_damaged_in_a_finished_run_is_made_again(whole, tmp_path, answered):
    """Videos cut short, replaced or missing, the adapter, metrics.json: the same bytes again, and the same scores.

    Leftovers of killed processes go, and count nowhere.
    """
    folder = RunFolder(shutil.copytree(whole[0].path, tmp_path / "run"))
    left, right = sorted(folder.videos.iterdir())
    left.write_bytes(left.read_bytes()[:2000])
    right.unlink()
    folder.reference_video("real", "robot_0000_left").write_bytes(b"another file")
    folder.metrics.unlink()
    folder.adapter_file.unlink()
    for name in ("videos/.tmp-a.mp4", ".tmp-c.json", "checkpoints/.tmp-d"):
        (folder.path / name).write_bytes(b"half")
    assert ("videos", False, "0 of 2 files byte for byte") in compare(whole[0], folder)

    answered(
        ["run", f"run_dir={folder.path}"],
        0,
        "3 videos, e.g. references/real/robot_0000_left.mp4: missing or not as scored",
    )
    assert not list(folder.path.rglob(".tmp-*"))
    for file in (folder.adapter_file, *folder.videos.iterdir(), *folder.references.rglob("*.mp4"), folder.train_log):
        assert file.read_bytes() == (whole[0].path / file.relative_to(folder.path)).read_bytes(), file
    for file in (folder.scores, folder.reference_scores("real"), folder.reference_scores("frozen")):
        assert read_json_lines(file) == read_json_lines(whole[0].path / file.relative_to(folder.path)), file
    assert folder.manifest["evaluated"] == whole[0].manifest["evaluated"]


def test_a_rerun_is_the_same_to_the_byte_and_says_what_differs(whole, answered, tmp_path):
    """Same config and seed twice on CPU: identical losses, adapter, videos and scores."""
    folder = RunFolder(shutil.copytree(whole[0].path, tmp_path / "run"))
    folder.update_manifest(packages={"torch": "1.0"})
    again = tmp_path / "again"
    said = answered(["rerun", folder.path, "--strict", "--out", again], 0, "packages.torch: 1.0 -> ")
    lines = [line.split() for line in said.splitlines() if line.startswith(("same", "DIFFERENT"))]
    assert {line[1] for line in lines} >= {"training", "adapter", "videos", "tse", "word_side"}
    assert {line[0] for line in lines} == {"same"}
    rows = read_json_lines(folder.scores)
    for row in rows:
        row["value"] = 9.0 if row["measure"] == "tse" else row["value"]
    write_json_lines(folder.scores, rows)
    different = [name for name, is_same, _ in compare(folder, RunFolder(again)) if not is_same]
    assert different == ["tse"]


def test_a_checkpoint_with_other_keys_is_named(whole, answered, tmp_path):
    """One that cannot be read is passed over."""
    folder = RunFolder(shutil.copytree(whole[0].path, tmp_path / "run"))
    folder.adapter_file.unlink()
    file = sorted(folder.checkpoints.glob("step_*"))[-1] / "state.pt"
    state = torch.load(file, weights_only=True)
    state["adapter"].popitem()
    torch.save(state, file)
    answered(["run", f"run_dir={folder.path}"], 2, str(file), "it belongs to another adapter", "Delete its folder")


def test_a_run_that_failed_before_its_first_step_takes_changed_keys(answered, tmp_path):
    """Its folder holds no work; with any work it refuses them."""
    folder = RunFolder(tmp_path / "run")
    words = ["run", *SMALL, "model.max_first_loss=1e-9", f"run_dir={folder.path}"]
    for rank in ("8", "16"):
        answered([*words, f"rank={rank}"], 1, "check failed: the first loss")
    (folder.path / "mine.txt").write_text("work")
    answered([*words, "rank=8"], 2, "adapter.rank: 16 -> 8")


def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(whole, start, finished, tmp_path):
    """SIGKILL over the true entry point. A request to stop is tested in tests/test_speed_paths.py, in one process."""
    folder, log = RunFolder(tmp_path / "run"), tmp_path / "log.txt"
    words = ["run", *ONE_THREAD, "generation.split=none", f"run_dir={folder.path}"]
    child = start(*words, log=log)
    # The kill comes after step 3, whose work is past the last checkpoint and lost.
    wait_until(lambda: len(read_json_lines(folder.train_log)) >= 3 or child.poll() is not None, every=0.002)
    os.killpg(child.pid, signal.SIGKILL)
    assert child.wait(60) == -signal.SIGKILL, "it was done before the signal came"
    assert not folder.adapter_file.exists()
    assert list(folder.checkpoints.glob("step_*"))
    half = folder.checkpoints / "step_99999999"  # a checkpoint cut off by the kill is ignored
    half.mkdir()
    (half / "state.pt").write_bytes(b"half")
    finished(*words, log=log)
    assert folder.adapter_file.read_bytes() == whole[0].adapter_file.read_bytes()
    assert losses(folder) == losses(whole[0])


def test_two_processes_divide_generation_and_scores(whole, cli, tmp_path):
    """tests/test_same_bits.py has their training."""
    folder = RunFolder(tmp_path / "two")
    assert cli("run", *MEASURED, f"run_dir={folder.path}", "hardware.num_processes=2") == 0
    assert losses(folder) == losses(whole[0])
    for file in (RunFolder.reference_scores(f, "real") for f in (folder, whole[0])):
        assert file.is_file()
    assert read_json_lines(folder.scores) == read_json_lines(whole[0].scores)


def test_sigterm_to_the_launcher_of_two_processes_leaves_a_checkpoint(start, tmp_path, answered):
    """As a scheduler sends it: to the one process it knows. Until then the folder belongs to that run."""
    folder, log = RunFolder(tmp_path / "run"), tmp_path / "log.txt"
    child = start("run", *TWO_LONG, f"run_dir={folder.path}", log=log)
    wait_until(lambda: read_json_lines(folder.train_log) or child.poll() is not None)
    config = folder.config.read_bytes()
    answered(
        ["run", *TWO_LONG, f"run_dir={folder.path}", "generation.num_steps=3"],
        2,
        "another process is using this run folder",
    )
    assert folder.config.read_bytes() == config
    child.terminate()
    assert child.wait(120) == 1, log.read_text()[-3000:]
    assert folder.status["state"] == "interrupted", log.read_text()[-3000:]
    assert "Resume with `cosmos-exp run run_dir=" in log.read_text()
    saved = [int(p.name.removeprefix("step_")) for p in folder.checkpoints.glob("step_*")]
    assert max(saved) == len(read_json_lines(folder.train_log))


def test_a_process_of_several_that_fails_is_reported(tmp_path, answered):
    """The second of two processes is killed: one line names it, and nothing is left running."""
    folder, ranks = RunFolder(tmp_path / "run"), []

    def kill_the_second():
        wait_until(lambda: read_json_lines(folder.train_log))
        ranks.extend(workers(2))
        ranks[1].kill()

    killer = threading.Thread(target=kill_the_second)
    killer.start()
    said = "cosmos-exp: process 2 of 2 was killed by SIGKILL (out of memory?)"
    answered(["run", *TWO_LONG, f"run_dir={folder.path}"], 1, said)
    killer.join()
    assert all(map(gone, ranks))


def test_running_out_of_gpu_memory_says_what_to_do(small_config, tmp_path, monkeypatch):
    def full(*args, **words):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("cosmos_exp.experiment.train.train", full)
    with pytest.raises(RunError, match=r"hardware\.checkpointing=full"):
        run(small_config(f"run_dir={tmp_path / 'run'}"))
    assert "out of GPU memory" in RunFolder(tmp_path / "run").status["error"]


def test_twelve_steps_on_robot_clips_teach_what_a_broken_gradient_could_not(cli, tmp_path):
    """The base has never seen a gripper; twelve steps lower the loss on held-out robot clips by 20 % at least: to 0.78 of it.

    Half of the gradients at zero give 0.81, every third with the wrong sign 0.83.

    Noise and sigmas of the validation are fixed: an adapter that learns nothing leaves the loss where it was.
    """
    words = "data.train_clips=20 data.validation_videos=4 training.max_steps=12 training.learning_rate=0.002 "
    words += "training.global_batch_size=4 training.validation.every_steps=12 training.checkpoint_every_steps=12 "
    words += "generation.split=none"
    assert cli("run", *SMALL, *words.split(), f"run_dir={tmp_path / 'run'}") == 0
    training = read_json(tmp_path / "run" / "metrics.json")["training"]
    assert training["validation_loss"] < 0.8 * training["first_validation_loss"]


@pytest.mark.parametrize(
    "words",
    [
        "adapter=dora rank=8 alpha=16 training=cosmos_predict25 training.epochs=1 generation.merge_adapter=false "
        "model.max_first_loss=2",
        "model.weights=random model.max_first_loss=null data.cache=false adapter.scaling=rslora adapter.dropout=0.1 "
        "adapter.bias=true adapter.init=kaiming hardware.checkpointing=full training.max_steps=2",
    ],
)
def test_other_settings_make_whole_runs(words, tmp_path, answered):
    folder = RunFolder(tmp_path / "run")
    said = answered(["run", *SMALL, "generation.max_prompts=1", *words.split(), f"run_dir={folder.path}"], 0)
    assert folder.adapter_file.exists()
    assert ("random base weights" in said) == ("model.weights=random" in words)
    assert len(list(folder.videos.iterdir())) == 1


def test_real_robot_video_goes_through_all_stages(real_data, cli, tmp_path):
    words = f"data=lerobot data.path={real_data / 'gr1_pick_place'} data.camera=observation.images.ego_view "
    words += "model=tabletop training.max_steps=2 tracking=none generation.num_steps=1 data.windows_per_video=1"
    folder = RunFolder(tmp_path / "run")
    assert cli("run", *words.split(), f"run_dir={folder.path}") == 0
    data = folder.manifest["data"]
    assert sorted(len(data[k]) for k in ("train", "validation", "test")) == [1, 1, 3]
    assert {r["sample"] for r in read_json_lines(folder.scores)} == set(data["recorded"]) == set(data["test"])


def test_video2world_takes_five_frames_of_a_held_out_clip(cli, tmp_path):
    from cosmos_exp.tabletop.dataset import Kind, make_clips

    make_clips(tmp_path / "data", Kind("robot"), 3, 0)
    words = f"data=folder data.path={tmp_path / 'data'} data.test_videos=1 data.validation_videos=0 "
    words += (
        "generation.num_steps=1 generation.mode=video2world training.max_steps=2 tracking=none sampson.enabled=false "
    )
    words += "training.schedule.warmup_samples=0 data.swaps=[[left,right]] data.prompt_prefix=Arm:_"
    folder = RunFolder(tmp_path / "run")
    assert cli("run", *words.split(), f"run_dir={folder.path}") == 0
    (sample,) = folder.manifest["data"]["test"]
    prompt = read_json_lines(folder.scores)[0]["prompt"]
    assert prompt.startswith("Arm:_")
    other = "right" if "left" in prompt else "left"
    assert {p.name.split("__")[0] for p in folder.videos.iterdir()} == {sample, f"{sample}~{other}"}
    # the frames after the five conditioning frames are held
    frozen = read_video(folder.reference_video("frozen", sample)).astype(int)
    assert np.abs(frozen[:5] - frozen[4]).mean() > 4 * np.abs(frozen[5:] - frozen[4]).mean()


def test_generate_divides_over_jobs_and_makes_what_a_failed_one_left(whole, start, finished, tmp_path):
    folder, _ = whole
    pairs = next(p for p in (Path(os.environ["COSMOS_EXP_CACHE"]) / "data").iterdir() if "test" in p.name)
    out, log = tmp_path / "out", tmp_path / "log.txt"
    words = ["generate", "--adapter", "base", folder.path, "--prompts", pairs, "--out", out, "--shards", "2"]
    words += ["generation.num_steps=2", "data.height=64", "data.width=96", "hardware.num_threads=1"]
    first, second = sorted(folder.videos.iterdir())
    in_the_way = out / "base" / second.name
    in_the_way.mkdir(parents=True)
    assert start(*words, log=log).wait(300) == 1
    assert "shard 2-of-2: 2 videos are missing: ended with code 1: " in log.read_text()
    made = out / folder.path.name / first.name
    before = made.stat().st_mtime_ns
    in_the_way.rmdir()
    finished(*words, log=log)
    assert made.stat().st_mtime_ns == before
    for video in (first, second):  # the same adapter, noise and settings: the same video as the run's own
        assert (out / folder.path.name / video.name).read_bytes() == video.read_bytes()
        assert (read_video(out / "base" / video.name) != read_video(video)).any()


def test_data_encode_divides_what_runs_encode(whole, answered, tmp_path):
    words = ["data", "encode", *ONE_THREAD, "data.num_frames=17,13", f"cache_dir={tmp_path}", "--shards", "2"]
    answered(words, 0, "18 of 18 files exist")
    names = [file.relative_to(tmp_path) for file in tmp_path.glob("encoded/*/*/*")]
    same, different, shorter = filecmp.cmpfiles(tmp_path, os.environ["COSMOS_EXP_CACHE"], names, shallow=False)
    assert same
    assert shorter
    assert not different


def test_run_dir_alone_resumes_or_is_refused(whole, answered, tmp_path):
    """A mistyped folder would begin a run of the embedded model there."""
    folder, _ = whole
    answered(["run", f"run_dir={folder.path}", "dry_run=true"], 0, f"those of {folder.path} can be read")
    answered(["run", f"run_dir={folder.path.parent}"], 2, "no run to resume", f"Runs in it: {folder.path}")
    words = ["run", f"run_dir={folder.path}", "training.deterministic=false"]
    answered(
        words, 2, "another configuration (training.deterministic: True -> False; ", "must name all of that run's keys"
    )
    assert {path.name for path in folder.path.parent.iterdir()} == {"run"}
