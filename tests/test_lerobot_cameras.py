"""Several cameras of a LeRobot set in one frame: tiles, synchrony, fingerprints, versions, the library's own frames."""

import dataclasses
import json
import os
import shutil
import sys
from importlib.util import find_spec

import cv2
import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, SMALL, program
from lerobot_sets import FPS, LEFT, RIGHT, WRIST, grey, write_set

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.schema import Data
from cosmos_exp.data import files
from cosmos_exp.data.cache import RunCache
from cosmos_exp.data.clips import CheckedFile, _simultaneous, load_window, probe_clip
from cosmos_exp.data.dataset import load_dataset
from cosmos_exp.data.inspection import inspect_data
from cosmos_exp.data.readers.records import Clip, Footage, read_episodes
from cosmos_exp.data.video import decode, read_video, write_video
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.files import file_sha256, read_json, read_json_lines
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.tabletop.scene import Scene

HELD_OUT = ["data.validation_videos=0", "data.test_videos=0"]
LEVELS = {LEFT: 20, RIGHT: 90, WRIST: 150}  # the grey of each camera's first frame


def lerobot(folder, *overrides, fps="null"):
    return compose_config(["data=lerobot", f"data.path={folder}", f"data.fps={fps}", *HELD_OUT, *overrides])


def three_cameras(folder, version, lengths=(20, 24), **changes):
    """Two episodes of three cameras; `changes` replaces one camera's lengths, by short name."""
    counts = {name: changes.get(name.rpartition(".")[2], lengths) for name in LEVELS}
    heights = {LEFT: 96, RIGHT: 64, WRIST: 120}  # each is resized on its own
    cameras = {n: [grey(c, LEVELS[n] + k, heights[n]) for k, c in enumerate(counts[n])] for n in LEVELS}
    return write_set(folder, cameras, version)


def tile_means(frames, rows, columns):
    """Mean grey of each tile: (T, rows, columns)."""
    count, height, width = frames.shape[:3]
    tiles = frames.reshape(count, rows, height // rows, columns, width // columns, 3)
    return tiles.mean(axis=(2, 4, 5))


@pytest.mark.parametrize("version", ["v2.0", "v2.1", "v3.0", "v3.1"])
def test_every_camera_shows_the_same_moment_in_its_tile(tmp_path, version):
    three_cameras(tmp_path, version)
    if version == "v3.1":  # rounded durations added up (lerobot#3177): a frame late
        path = next(tmp_path.glob("meta/episodes/*/*"))
        table = pandas.read_parquet(path)
        table.loc[1, table.columns.str.endswith("timestamp")] += 1 / FPS
        table.to_parquet(path)
    config = lerobot(tmp_path, f"data.cameras=[{WRIST},{LEFT},{RIGHT}]")
    dataset = load_dataset(config)
    assert [c.clip.prompt for c in dataset.train] == ["task 0", "task 1"]
    assert [c.stop - c.start for c in dataset.train] == [20, 24]
    for episode, clip in enumerate(dataset.train):
        frames = load_window(clip, config.data, 2)
        assert frames.shape == (17, 96, 160, 3)
        means = tile_means(frames, 2, 2)
        for k in range(17):
            grown = 2 * (k + 2) + episode
            expected = [[150 + grown, 20 + grown], [90 + grown, 0]]  # row by row, the spare tile is black
            assert means[k] == pytest.approx(np.array(expected), abs=2), (episode, k)
        assert frames[:, 48:, 80:].max() == 0
    assert any("3 cameras tiled 2x2" in n and "wrist, left, right, -; 48x80 pixels each" in n for n in dataset.notes)


def test_where_a_set_contradicts_itself_its_data_decide(tmp_path):
    """length, timestamps and task_index of the frames count; a depth camera is no picture; each is said once."""
    write_set(tmp_path, {LEFT: [grey(30, 20), grey(30, 20)], RIGHT: [grey(30, 90), grey(30, 90)]}, "v3.0", fps=30)
    episodes = tmp_path / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    pandas.read_parquet(episodes).drop(columns="tasks").assign(length=24).to_parquet(episodes)
    info = read_json(tmp_path / "meta" / "info.json")
    info["features"][RIGHT]["info"] = {"video.is_depth_map": True}
    (tmp_path / "meta" / "info.json").write_text(json.dumps(info))
    tasks = pa.table({"task_index": [0, 1], "__index_level_0__": ["wait", "lift it"]})
    pq.write_table(tasks, tmp_path / "meta" / "tasks.parquet")
    frames = {
        "episode_index": [0] * 24 + [1] * 24,
        "timestamp": [*np.arange(24) / 10, *np.arange(24) / 5],
        "task_index": [1] * 48,
    }
    (tmp_path / "data" / "chunk-000").mkdir(parents=True)
    pq.write_table(pa.table(frames), tmp_path / "data" / "chunk-000" / "file-000.parquet")
    config = lerobot(tmp_path, fps="20").data
    found = inspect_data(config, tmp_path, None)
    assert [(c.clip.prompt, c.stop - c.start, c.info.fps) for c in found.clips] == [
        ("lift it", 24, 10.0),
        ("lift it", 24, 5.0),
    ]
    for words in (
        "states 30 fps, the timestamps of 1 episodes 5;",
        "the first 24 are used (and 1 more",
        "header says 30 fps, the data 10",
        "shown 2.0 times",
    ):
        assert len([note for note in found.notes if words in note]) == 1, (words, found.notes)


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_pictures_in_the_tables_are_read_bit_for_bit(tmp_path, version):
    frames = np.random.RandomState(0).randint(0, 255, (44, 32, 48, 3)).astype(np.uint8)
    write_set(tmp_path, {LEFT: [frames[:20], frames[20:]]}, version)
    shutil.rmtree(tmp_path / "videos")
    info, tables = tmp_path / "meta" / "info.json", tmp_path / "data" / "chunk-000"
    info.write_text(info.read_text().replace('"video"', '"image"'))
    tables.mkdir(parents=True)

    def write(pictures):
        table = pa.table({"episode_index": [0] * 20 + [1] * 24, LEFT: [{"bytes": p, "path": None} for p in pictures]})
        for name, rows in ({"a": table} if version == "v3.0" else {"a": table[:20], "b": table[20:]}).items():
            pq.write_table(rows, tables / f"{name}.parquet")

    write([cv2.imencode(".png", f[..., ::-1])[1].tobytes() for f in frames])
    read = read_episodes(lerobot(tmp_path).data, tmp_path)
    assert read.problems == []
    assert np.array_equal(np.concatenate([read_video(clip.path) for clip in read.clips]), frames)
    write([b"GIF"] * 44)  # a changed table is read anew
    assert "the pictures are not PNG" in read_episodes(lerobot(tmp_path).data, tmp_path).problems[0]
    (tables / "a.parquet").unlink()
    assert "no table has its frames" in read_episodes(lerobot(tmp_path).data, tmp_path).problems[0]


def test_one_frame_more_is_noted_and_more_is_refused(tmp_path):
    three_cameras(tmp_path, "v2.1", right=(19, 21))
    config = lerobot(tmp_path, f"data.cameras=[{LEFT},{RIGHT}]")
    found = inspect_data(config.data, tmp_path, None)
    (first,) = found.clips
    assert (first.start, first.stop) == (0, 19)
    assert "differ in length by 1 frame; the 19 common frames" in first.notes[0]
    assert first.notes[0] in found.notes
    assert f"{LEFT}/episode_000001.mp4 24 frames" in found.problems[0]
    assert f"{RIGHT}/episode_000001.mp4 21 frames" in found.problems[0]


def test_cameras_of_different_rates_or_out_of_step_are_refused(tmp_path):
    left, right = tmp_path / "left.mp4", tmp_path / "right.mp4"
    write_video(left, grey(40, 20), 10)
    write_video(right, grey(40, 90), 20)
    clip = Clip("e", left, "p", (Footage(left), Footage(right)))
    with pytest.raises(RunError, match=r"left\.mp4 and .*right\.mp4 are not synchronous"):
        probe_clip(clip, Data(cameras=[LEFT, RIGHT], reader="lerobot"))
    # The right camera lost frame 10: from there on each of its frames is one later.
    info = probe_clip(Clip("e", left, "p"), Data()).info
    gapped = dataclasses.replace(info, pts=tuple(p + (p >= info.pts[10]) * info.pts[1] for p in info.pts))
    whole, lost = (CheckedFile(path, i, "", tuple(range(40))) for path, i in ((left, info), (right, gapped)))
    with pytest.raises(RunError, match=r"no picture within half a frame of frame 10 \(nearest 100 ms"):
        _simultaneous(whole, lost, "e")


def test_a_file_is_read_once_for_all_episodes_and_commands_and_a_bad_one_is_named_once(tmp_path, monkeypatch):
    folder, read = three_cameras(tmp_path / "set", "v3.0"), []
    monkeypatch.setattr(files, "file_sha256", lambda path: read.append(path) or file_sha256(path))

    def inspected(cameras, whole=False):
        read.clear()
        return inspect_data(
            lerobot(folder, f"data.cameras=[{cameras}]").data, folder, None, whole=whole, cache=tmp_path
        )

    both, counts = f"{LEFT},{RIGHT}", []
    for whole in (False, False, True, True, False):
        assert len(inspected(both, whole).clips) == 2
        counts.append(len(read))
    assert counts == [2, 0, 2, 0, 0]
    file = folder / "videos" / RIGHT / "chunk-000" / "file-000.mp4"
    file.write_bytes(b"")
    assert inspected(both).problems == [f"{file}: is empty (0 bytes); copy it again"]
    file.unlink()
    assert [p.split(": ")[1] for p in inspected(both).problems] == [
        f"the video of episode_00000{k} is missing" for k in (0, 1)
    ]
    assert len(inspected(LEFT).clips) == 2


def test_fingerprint_and_cache_key_cover_every_camera_and_the_tiling_and_leave_one_camera_alone(tmp_path):
    folder = three_cameras(tmp_path / "set", "v3.0", lengths=(20, 20))
    fingerprints = dict.fromkeys(("vae", "text_encoder", "tokenizer", "transformer"), "f")

    def names(*overrides):
        config = lerobot(folder, *overrides)
        dataset, cache = load_dataset(config), RunCache(config, fingerprints)
        return dataset.fingerprint, cache.path((dataset.train[0], 1))

    alone, both = names(f"data.camera={LEFT}"), f"data.cameras=[{LEFT},{RIGHT}]"
    assert names(f"data.cameras=[{LEFT}]") == alone
    others = [
        alone,
        names(both),
        names(both, "data.tiling=2x1"),
        names(f"data.cameras=[{RIGHT},{LEFT}]"),
        names(f"data.cameras=[{LEFT},{WRIST}]"),
        names(f"data.cameras=[{LEFT}]", "data.tiling=1x2"),
    ]
    for values in zip(*others, strict=True):
        assert len(set(values)) == 6
    write_video(folder / "videos" / RIGHT / "chunk-000" / "file-000.mp4", grey(40, 91), FPS)
    assert names(both)[0] != others[1][0]
    assert names(f"data.camera={LEFT}") == alone


def test_a_camera_that_does_not_exist_is_named(tmp_path):
    three_cameras(tmp_path, "v2.1")
    with pytest.raises(UserError, match=r"data\.cameras=wrong: not in .*; choose from .*left.*wrist"):
        read_episodes(lerobot(tmp_path, f"data.cameras=[{LEFT},wrong]").data, tmp_path)
    with pytest.raises(UserError, match=r"3 cameras with files; .*tile several with data\.cameras"):
        read_episodes(lerobot(tmp_path).data, tmp_path)


@pytest.mark.slow
def test_two_cameras_train_a_model_and_the_error_across_them_is_measured(tmp_path, cli):
    """A whole run on a v3.0 set of the tabletop's stereo rig: trained on both views, scored across the two tiles."""
    scenes = [Scene.sample(k, "robot") for k in range(4)]
    cameras = {name: [s.clip(name.rpartition(".")[2]).frames for s in scenes] for name in (LEFT, RIGHT)}
    folder = write_set(tmp_path / "set", cameras, "v3.0", fps=scenes[0].fps)
    words = [w for w in SMALL if not w.startswith(("data.train_clips", "data.test_pairs", "data.height", "data.width"))]
    words += ["data=lerobot", f"data.path={folder}", f"data.cameras=[{LEFT},{RIGHT}]", "data.width=320"]
    assert cli("run", *words, "sampson.enabled=true", "data.test_videos=1", f"run_dir={tmp_path / 'run'}") == 0
    run = RunFolder(tmp_path / "run")
    data = run.manifest["data"]
    assert "2 cameras tiled 1x2 in a frame of 96x320 (height x width): left, right; 96x160 pixels each" in data["notes"]
    (held_out,) = data["test"]
    frames = read_video(run.videos / f"{held_out}__seed0.mp4")
    assert frames.shape == (17, 96, 320, 3)
    # The first frame is the condition: the held-out episode's two pictures, each in its tile.
    for tile, name in ((frames[0, :, :160], LEFT), (frames[0, :, 160:], RIGHT)):
        errors = [np.abs(tile.astype(float) - frames[0]).mean() for frames in cameras[name]]
        assert int(np.argmin(errors)) == int(held_out.rpartition("_")[2])
    scores = {r["measure"]: r for r in read_json_lines(run.scores) if r["sample"] == held_out}
    assert 0 <= scores["cse"]["value"] < 10
    assert [view["name"] for view in scores["tse"]["detail"]["views"]] == ["left", "right"]
    assert [name for name, row in scores.items() if "views" in row["detail"]] == ["tse"]  # said once


def lerobot_python():
    """A Python that has the `lerobot` library: this one, or that of a virtual environment of its own."""
    other = os.environ.get("COSMOS_EXP_LEROBOT_PYTHON")
    if not other and find_spec("lerobot") is None:
        pytest.skip("the lerobot library is missing; set COSMOS_EXP_LEROBOT_PYTHON (see tests/make_lerobot_set.py)")
    return other or sys.executable


@pytest.mark.slow
@pytest.mark.parametrize("codec", [None, "h264", "image"])
def test_the_frames_are_those_of_the_lerobot_library(tmp_path, codec):
    """The library records and reads back two cameras: the same episode and frame number give the same pixels."""
    words = [lerobot_python(), ROOT / "tests" / "make_lerobot_set.py", tmp_path, *(["--codec", codec] if codec else [])]
    done = program(*words, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr[-3000:]
    config = lerobot(tmp_path / "set", f"data.cameras=[{LEFT},{RIGHT}]", "data.width=320")
    clips = load_dataset(config).train
    with np.load(tmp_path / "frames.npz") as library:
        assert len(clips) == len(set(library["episode"])) == 3
        for number, clip in enumerate(clips):
            assert clip.clip.prompt == f"Slide box {number} to the right."
            expected = [library[name][library["episode"] == number] for name in (LEFT, RIGHT)]
            (other,) = clip.others
            assert np.array_equal(decode(clip.clip.path, list(range(clip.start, clip.stop)), clip.info), expected[0])
            assert np.array_equal(decode(other.path, list(other.frames), other.info), expected[1])
            window = load_window(clip, config.data, 3)  # tiles have the size of the pictures: no resizing
            assert np.array_equal(window, np.concatenate([e[3:20] for e in expected], axis=2))
