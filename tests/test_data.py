"""Readers and decoding on files with known content. Every kind of bad file is reported."""

import json
import os
import shutil
from types import SimpleNamespace

import av
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from cosmos_exp import hub
from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.schema import Data, Model
from cosmos_exp.data.cache import TensorCache
from cosmos_exp.data.clips import frames_needed, load_window, probe_clip, window_indices, window_starts
from cosmos_exp.data.dataset import ensure_data, find_data, load_dataset, split_clips, split_pairs
from cosmos_exp.data.inspection import inspect_data
from cosmos_exp.data.readers.records import Clip, TestPair, guess_reader, read_episodes
from cosmos_exp.data.scenes import scenes
from cosmos_exp.data.video import decode, probe, read_video, resize, write_image, write_video
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.files import file_sha256
from cosmos_exp.rng import generator
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.world.model_folder import ensure_model, find_model


def counting_frames(count, height=96, width=160):
    """Frame k is a flat grey of 4 k + 20."""
    return np.stack([np.full((height, width, 3), 20 + 4 * k, np.uint8) for k in range(count)])


def make_folder(path, names=("a", "b", "c"), frames=24):
    for name in names:
        write_video(path / "videos" / f"{name}.mp4", counting_frames(frames), 8)
        (path / "metas").mkdir(exist_ok=True)
        (path / "metas" / f"{name}.txt").write_text(f"prompt of {name}")
    return path


def config_for(path, *overrides):
    return compose_config(["data=folder", f"data.path={path}", *overrides])


def test_a_prompt_or_pattern_that_applies_to_no_clip_is_noted(tmp_path):
    folder = make_folder(tmp_path)
    data = Data(reader="folder", path=str(folder), prompt="lift", recordings="^(x)_", num_frames=17)
    notes = inspect_data(data, folder, None).notes
    assert notes[0] == "data.prompt=lift: no effect, because every video has a caption"
    assert notes[1].startswith("data.recordings=^(x)_: no effect, because it matches no clip's name, e.g. a")
    (folder / "metas" / "b.txt").unlink()
    data = data.updated({"recordings": "^(a)"})
    assert inspect_data(data, folder, None).notes == ["1 videos without a caption use data.prompt=lift"]


def test_exactly_the_requested_frames_are_decoded(tmp_path):
    write_video(tmp_path / "v.mp4", counting_frames(50), 8)
    info = probe(tmp_path / "v.mp4")
    assert (info.num_frames, info.fps, info.width, info.height) == (50, 8.0, 160, 96)
    for indices in ([0], [49], [7, 8, 9], [3, 3, 20, 49]):
        got = decode(tmp_path / "v.mp4", indices, info)
        assert [round(float(f.mean())) for f in got] == pytest.approx([20 + 4 * k for k in indices], abs=2)
    with pytest.raises(RunError, match="the file has 50"):
        decode(tmp_path / "v.mp4", [50], info)


def test_every_frame_of_an_open_group_of_pictures_decodes_alone(tmp_path):
    """HEVC as the lerobot library writes it: frame 1 follows key frame 2 in the file and refers to key frame 0."""
    frames = np.random.RandomState(0).randint(0, 255, (20, 24, 40, 3)).astype(np.uint8).repeat(4, 1).repeat(4, 2)
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265", rate=10, options={"g": "2", "x265-params": "log-level=none"})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    info = probe(path)
    whole = decode(path, list(range(20)), info)
    for k in range(20):
        assert np.array_equal(decode(path, [k], info)[0], whole[k])


def test_frame_rate_conversion_takes_the_nearest_frame(tmp_path):
    make_folder(tmp_path, ["a"], frames=40)
    config = config_for(tmp_path, "data.num_frames=9", "data.fps=4")
    clip = probe_clip(Clip("a", tmp_path / "videos" / "a.mp4", "p"), config.data)
    assert frames_needed(config.data, clip.info) == 17  # 8 fps to 4 fps: every second frame
    assert window_indices(clip, config.data, 5) == list(range(5, 5 + 17, 2))
    window = load_window(clip, config.data, 5)
    assert window.shape == (9, 96, 160, 3)
    assert float(window[-1].mean()) == pytest.approx(20 + 4 * 21, abs=2)


def test_windows_are_distinct_drawn_by_the_seed_and_reach_the_last_frame(tmp_path):
    make_folder(tmp_path, ["a"], frames=20)
    data = config_for(tmp_path, "data.windows_per_video=4").data
    clip = probe_clip(Clip("a", tmp_path / "videos" / "a.mp4", "p"), data)
    assert window_starts(clip, data, 0) == [0, 1, 2, 3]  # 20 - 17 + 1 places, all taken
    two = config_for(tmp_path, "data.windows_per_video=2").data
    drawn = {tuple(window_starts(clip, two, seed)) for seed in range(30)}
    assert len(drawn) == 6
    assert all(len(set(d)) == 2 for d in drawn)


def test_stretch_and_crop():
    wide = np.zeros((1, 100, 300, 3), np.uint8)
    wide[:, :, 100:200] = 200
    assert resize(wide, 100, 100, "crop").min() == 200
    assert resize(wide, 100, 100, "stretch").mean() == pytest.approx(200 / 3, abs=2)


def test_every_bad_file_is_reported_once_with_its_fix(tmp_path, cli, capsys):
    make_folder(tmp_path, ["good", "cut", "empty", "short", "nocaption", "blank", "latin", "odd"])
    videos, metas = tmp_path / "videos", tmp_path / "metas"
    whole = (videos / "cut.mp4").read_bytes()
    noisy = np.random.RandomState(0).randint(0, 255, (24, 96, 160, 3)).astype(np.uint8)
    write_video(videos / "cut.mp4", noisy, 8)
    whole = (videos / "cut.mp4").read_bytes()
    (videos / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (videos / "empty.mp4").write_bytes(b"")
    write_video(videos / "short.mp4", counting_frames(9), 8)
    (metas / "nocaption.txt").unlink()
    (metas / "blank.txt").write_text("  \n")
    (metas / "latin.txt").write_bytes("Tür".encode("latin-1"))
    (videos / "text.mp4").write_text("not a video")
    (metas / "text.txt").write_text("p")
    os.symlink("loop.mp4", videos / "loop.mp4")
    shutil.copy(videos / "good.mp4", videos / "good.mov")
    expected = {
        "cut.mp4": "truncated",
        "empty.mp4": "0 bytes",
        "short.mp4": "9 frames, 17 are needed",
        "nocaption.mp4": "has no caption",
        "blank.txt": "caption is empty",
        "latin.txt": "not UTF-8",
        "text.mp4": "cannot be read as a video",
        "loop.mp4": "circular",
        "good.mp4": "same name",
    }
    config = config_for(tmp_path)
    found = inspect_data(config.data, tmp_path, None)
    for name, reason in expected.items():
        hits = [p for p in found.problems if name in p.split(":")[0] and reason in p]
        assert len(hits) == 1, (name, found.problems)
    assert len(found.problems) == len(expected)
    assert [c.clip.name for c in found.clips] == ["good", "odd"]
    assert cli("data", "check", tmp_path) == 1
    assert capsys.readouterr().out.count("BAD") == len(expected)
    with pytest.raises(RunError, match=r"data\.skip_bad=true"):
        load_dataset(config)
    kept = load_dataset(config_for(tmp_path, "data.skip_bad=true", "data.test_videos=0", "data.validation_videos=0"))
    assert [c.clip.name for c in kept.train] == ["good", "odd"]
    assert len(kept.left_out) == len(expected)


def test_json_captions_by_model_and_length(tmp_path):
    make_folder(tmp_path, ["a"])
    (tmp_path / "captions").mkdir()
    captions = {"first_model": {"short": "S", "long": "L"}, "other": {"medium": "M"}}
    (tmp_path / "captions" / "a.json").write_text(json.dumps(captions))
    prompt = lambda *o: read_episodes(config_for(tmp_path, *o).data, tmp_path).clips[0].prompt  # noqa: E731
    assert prompt() == "L"
    assert prompt("data.caption_length=short") == "S"
    assert prompt("data.caption_model=other") == "M"
    missing = read_episodes(config_for(tmp_path, "data.caption_length=medium").data, tmp_path)
    assert not missing.clips
    assert "data.caption_model" in missing.problems[0]


def test_gr1_metadata_gives_prompts_with_the_prefix(tmp_path):
    (tmp_path / "gr1").mkdir()
    for name in ("0", "1"):
        write_video(tmp_path / "gr1" / f"{name}.mp4", counting_frames(20), 8)
    (tmp_path / "metadata.csv").write_text(
        'file_name,prompt\ngr1/0.mp4,"Use the left hand, then stop."\ngr1/1.mp4,Wave.\n'
    )
    assert guess_reader(tmp_path) == "gr1_100"
    config = compose_config(["data=gr1_100", f"data.path={tmp_path}"])
    clips = read_episodes(config.data, tmp_path).clips
    assert [c.prompt for c in clips] == [
        "The robot arm is performing a task. Use the left hand, then stop.",
        "The robot arm is performing a task. Wave.",
    ]


def test_lerobot_v3_finds_each_episode_in_its_shared_file(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    camera = "observation.images.top"
    at = f"videos/{camera}/"
    write_video(tmp_path / "videos" / camera / "chunk-000" / "file-000.mp4", counting_frames(50), 10)
    (tmp_path / "meta" / "episodes" / "chunk-000").mkdir(parents=True)
    info = {
        "codebase_version": "v3.0",
        "fps": 10,
        "features": {camera: {"dtype": "video"}},
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    (tmp_path / "meta" / "info.json").write_text(json.dumps(info))
    rows = {
        "episode_index": [0, 1],
        "tasks": [["pick"], ["place"]],
        at + "chunk_index": [0, 0],
        at + "file_index": [0, 0],
        at + "from_timestamp": [0.0, 2.0],
        at + "to_timestamp": [2.0, 5.0],
    }
    pq.write_table(pa.table(rows), tmp_path / "meta" / "episodes" / "chunk-000" / "file-000.parquet")
    config = compose_config(
        ["data=lerobot", f"data.path={tmp_path}", "data.fps=null", "data.validation_videos=0", "data.test_videos=0"]
    )
    dataset = load_dataset(config)
    spans = {c.clip.prompt: (c.start, c.stop) for c in dataset.train}
    assert spans == {"pick": (0, 20), "place": (20, 50)}
    second = next(c for c in dataset.train if c.clip.prompt == "place")
    assert float(load_window(second, config.data, 0)[0].mean()) == pytest.approx(20 + 4 * 20, abs=2)


def test_real_lerobot_set(real_data, cli, capsys):
    folder = real_data / "gr1_pick_place"
    assert cli("data", "check", folder, "data.camera=observation.images.ego_view") == 0
    output = capsys.readouterr().out
    assert "5 good videos, 2096 frames" in output
    assert "observation.images.egoview is declared" in output
    config = compose_config(["data=lerobot", f"data.path={folder}", "data.episodes=[1,3]", "data.skip_tasks=[]"])
    found = read_episodes(config.data, folder)
    assert [c.name for c in found.clips] == ["episode_000001", "episode_000003"]
    assert any("2 tasks" in n for n in found.notes)
    with pytest.raises(UserError, match="ego_view"):
        read_episodes(compose_config(["data=lerobot", f"data.path={folder}", "data.camera=wrist"]).data, folder)


def test_split_is_explicit_disjoint_and_follows_its_own_seed(tmp_path):
    make_folder(tmp_path, [f"v{k}" for k in range(8)])
    splits = []
    for seed in ("seed=0", "seed=1", "data.split_seed=1"):
        d = load_dataset(config_for(tmp_path, seed, "data.validation_videos=2", "data.test_videos=2"))
        names = [[c.clip.name for c in d.train], [c.clip.name for c in d.validation], [p.name for p in d.pairs]]
        assert sorted(n for part in names for n in part) == [f"v{k}" for k in range(8)]
        assert [len(n) for n in names] == [4, 2, 2]
        splits.append(names)
    assert splits[0] == splits[1] != splits[2]


def test_a_damaged_cache_file_is_an_error(tmp_path):
    import torch

    cache = TensorCache(tmp_path)
    path = cache.path("video", 3)
    value = torch.randn(4, 5).bfloat16()
    cache.write(path, value, "test")
    assert torch.equal(cache.read(path), value)
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(RunError, match="checksum differs"):
        cache.read(path)
    path.write_bytes(raw[:40])
    with pytest.raises(RunError, match="delete it"):
        cache.read(path)
    assert path != cache.path("video", 4)


def test_a_video_is_written_completely_or_not_at_all(tmp_path):
    with pytest.raises(Exception, match=r".+"):
        write_video(tmp_path / "v.mp4", np.zeros((2, 96, 160, 4), np.uint8), 8)
    assert list(tmp_path.iterdir()) == []
    frames = counting_frames(6)
    write_video(tmp_path / "v.mp4", frames, 8, crf=0)
    assert np.abs(read_video(tmp_path / "v.mp4").astype(int) - frames).max() <= 2


def test_the_same_frames_give_the_same_bytes_whatever_is_in_memory(tmp_path):
    frames = Scene.sample(1, "robot").clip().frames
    rng, files = np.random.RandomState(0), set()
    for _ in range(8):
        leftovers = [rng.randint(0, 255, rng.randint(1000, 400_000)).astype(np.uint8) for _ in range(40)]
        del leftovers
        write_video(tmp_path / "v.mp4", frames, 8)
        files.add((tmp_path / "v.mp4").read_bytes())
    assert len(files) == 1


def test_finding_data_reports_and_creates_nothing(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    rendered = compose_config([f"cache_dir={cache}", "data.train_clips=5"])
    found = find_data(rendered)
    assert found.path is None
    assert "rendered by tabletop" in found.text
    make_folder(tmp_path / "mine")
    found = find_data(config_for(tmp_path / "mine"))
    assert (found.path, found.text) == (tmp_path / "mine", str(tmp_path / "mine"))
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    found = find_data(compose_config(["data=gr1_100"]))
    assert found.path is None
    assert "hf download nvidia/GR1-100 --repo-type dataset" in found.text
    assert not cache.exists()
    with pytest.raises(UserError, match=r"data\.path=.*no such folder"):
        find_data(config_for(tmp_path / "absent"))
    rendered = rendered.updated({"data.builder": "no_such_function"})
    for locate in (find_data, ensure_data):
        with pytest.raises(UserError, match=r"data\.builder=no_such_function: no such choice"):
            locate(rendered)


def test_finding_a_model_reports_and_creates_nothing(tmp_path):
    root = tmp_path / "cache"
    found = find_model(compose_config(["model.weights=random"]).model, root)
    assert found.path is None
    assert "random weights" in found.text
    found = find_model(compose_config(["model=cosmos_predict25_2b"]).model, root)
    assert found.path is None
    assert "hf download nvidia/Cosmos-Predict2.5-2B" in found.text
    embedded = compose_config([])
    folder = ensure_model(embedded.model, cache_root(embedded)).path
    assert find_model(Model(source=str(folder)), root).path == folder
    with pytest.raises(UserError, match="has no folder transformer"):
        find_model(Model(source=str(tmp_path)), root)
    assert not root.exists()


def test_a_downloaded_repository_is_found_without_a_network(tmp_path, monkeypatch):
    """A hub cache in the layout of huggingface_hub, made by hand: refs/main names the snapshot."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--model"
    (repository / "refs").mkdir(parents=True)
    commit = "0" * 40
    (repository / "refs" / "main").write_text(commit)
    file = repository / "snapshots" / commit / "vae" / "config.json"
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    assert hub.find("someone/other", None, "model") is None
    assert hub.find("not a repository", None, "model") is None
    found = find_model(Model(source="someone/model"), tmp_path)
    assert found.path is None
    assert "without transformer, text_encoder, tokenizer, scheduler" in found.text
    folder = hub.find("someone/model", None, "model")
    assert folder == repository / "snapshots" / commit
    assert hub.find("someone/model", "another-branch", "model") is None
    assert hub.ensure_folder("someone/model", None, "judge.source") == folder  # HF_HUB_OFFLINE=1 in tests
    with pytest.raises(UserError, match=r"hf download someone/other[\s\S]*set judge\.source=/path"):
        hub.ensure_folder("someone/other", None, "judge.source")


def test_no_registry_address_in_the_repository():
    for name in ("constraints.txt", "pyproject.toml"):
        assert "://" not in (ROOT / name).read_text()


@pytest.fixture
def twins(tmp_path):
    """A scene as two equal files, another PNG, a JPEG, and of another size; and another scene."""
    first, other = (Scene.sample(2_000_000 + k, "robot", num_frames=1).clip().frames[0] for k in (0, 1))
    write_image(tmp_path / "a.png", first)
    shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
    Image.fromarray(first).save(tmp_path / "c.png", compress_level=0)
    Image.fromarray(first).save(tmp_path / "d.jpg", quality=75)
    Image.fromarray(first).resize((320, 192)).save(tmp_path / "e.png")
    write_image(tmp_path / "f.png", other)
    (tmp_path / "g.png").write_bytes(b"no picture")
    return [TestPair(p.stem, "Lift.", p) for p in sorted(tmp_path.iterdir())]


def test_first_frames_with_the_same_pixels_are_one_scene_whatever_their_files(twins):
    files = {p.name: file_sha256(p.image)[:12] for p in twins}
    assert files["a"] == files["b"] != files["c"]
    assert scenes(twins, {}) == {**dict.fromkeys("abcde", files["a"]), "f": files["f"], "g": files["g"]}


def test_a_first_frame_of_the_test_is_not_used_for_selection_as_another_file(twins, tmp_path):
    config = compose_config(["data.selection_pairs=1"])
    with pytest.raises(RunError, match="d: this first frame is also in the test"):
        split_pairs(twins[:1], [twins[3]], config, tmp_path)


def test_clips_of_one_recording_stay_on_one_side_and_are_one_scene():
    clips = [
        SimpleNamespace(clip=Clip(f"rec{r}_{k}", None, "Lift."), sha256=f"{r}{k}" * 8, start=0)
        for r in range(6)
        for k in range(3)
    ]
    counts = SimpleNamespace(validation=2, test=4, selection=1)
    config = compose_config(["data.recordings='^(.*)_[0-9]+$'"])
    parts = split_clips(config, clips, counts)
    recordings = [{c.clip.name.split("_")[0] for c in part} for part in parts]
    assert [len(p) for p in parts] == [6, 3, 6, 3]  # training gets what is left
    assert sum(map(len, recordings)) == len(set().union(*recordings)) == 6
    assert [len(parts[i]) >= n for i, n in ((1, 2), (2, 4), (3, 1))] == [True] * 3
    pairs = [TestPair(c.clip.name, "Lift.", c.clip) for c in parts[2]]
    held = {c.clip.name: c for c in parts[2]}
    assert len(set(scenes(pairs, held, config.data.recordings).values())) == len(recordings[2])
    assert len(set(scenes(pairs, held).values())) == len(pairs)

    config = config.updated({"data.recordings": None})  # the split as it always was: numpy's, of the seed's permutation
    order = generator(config.data.split_seed, "split").permutation(len(clips))
    golden = [sorted(part) for part in np.split(order, np.cumsum([2, 4, 1]))]
    assert [[clips.index(c) for c in part] for part in split_clips(config, clips, counts)] == [
        golden[i] for i in (3, 0, 1, 2)
    ]
    config = config.updated({"data.recordings": "rec"})
    with pytest.raises(UserError, match="1 recordings, all of them held out"):
        split_clips(config, clips, counts)
