"""Readers, decoding, windows, splits and scenes on files with known content. Every kind of bad file is reported."""

import itertools
import json
import shutil
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition
from diffusers.video_processor import VideoProcessor
from lerobot_sets import grey, write_set
from PIL import Image

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.schema import Data
from cosmos_exp.data.cache import read_tensor, tensor_path, write_tensor
from cosmos_exp.data.clips import frames_needed, load_window, probe_clip, window_indices, window_starts
from cosmos_exp.data.dataset import hold_out, load_dataset, split_clips, split_pairs
from cosmos_exp.data.readers.captions import read_table
from cosmos_exp.data.readers.records import Clip, TestPair, guess_reader, read_episodes
from cosmos_exp.data.scenes import scene_names
from cosmos_exp.data.video import check_whole, decode, probe, read_image, resize, write_image, write_video
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.experiment.plan import plan_data
from cosmos_exp.files import file_sha256
from cosmos_exp.rng import generator
from cosmos_exp.tabletop.scene import Scene

SIZE = ("data.height=32", "data.width=48", "data.num_frames=9")


def noise(frames, height=32, width=48):
    rng = np.random.RandomState(0)
    return rng.randint(0, 255, (frames, height // 8, width // 8, 3)).astype(np.uint8).repeat(8, 1).repeat(8, 2)


def make_folder(path, names=("a", "b", "c"), frames=24):
    for name in names:
        write_video(path / "videos" / f"{name}.mp4", grey(frames, 20), 8)
        (path / "metas").mkdir(exist_ok=True)
        (path / "metas" / f"{name}.txt").write_text(f"prompt of {name}")
    return path


@pytest.fixture
def videos(tmp_path):
    """Twelve videos without captions, directly in a folder."""
    for k in range(12):
        write_video(tmp_path / "mine" / f"pick_up-cup_{k:02}.mp4", noise(10), 8)
    return tmp_path / "mine"


def config_for(path, *overrides):
    return compose_config(["data=folder", f"data.path={path}", *overrides])


def encode(path, frames, codec="libx264", rotation=0, times=None, **options):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        for time, pixels in zip(times or range(len(frames)), frames, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = time
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_every_frame_of_an_open_group_of_pictures_decodes_alone(tmp_path):
    """HEVC as the lerobot library writes it: frame 1 follows key frame 2 in the file and refers to key frame 0."""
    path = tmp_path / "v.mp4"
    encode(path, noise(20, 96, 160), "libx265", g="2", **{"x265-params": "log-level=none"})
    whole = decode(path, list(range(20)))
    for k in range(20):
        assert np.array_equal(decode(path, [k])[0], whole[k])


def test_a_rotated_video_is_read_upright(tmp_path):
    """As a phone writes it: the sensor's picture lies on its side, the container says by how much to turn it."""
    path, upright = tmp_path / "v.mp4", np.zeros((8, 48, 32, 3), np.uint8)
    upright[:, :24] = 220  # bright above, dark below
    encode(path, np.rot90(upright, 1, (1, 2)), rotation=-90)  # shown turned clockwise by 90
    shown = decode(path, [0, 3])
    assert shown.shape == (2, 48, 32, 3)
    assert shown[:, :20].min() > 200 > 20 > shown[:, 28:].max()
    checked = probe_clip(Clip("v", path, "p"), Data(num_frames=5))
    assert checked.info.shown_size == (32, 48)
    assert checked.sha256 != file_sha256(path)


def test_containers_as_people_have_them(tmp_path):
    """B-frames in AVI, an attached picture as the first stream, pixels that are not square."""
    frames = noise(24, 96, 160)
    encode(tmp_path / "b.avi", frames, bf="3", crf="0", **{"b-adapt": "0"})
    info = probe(tmp_path / "b.avi")
    check_whole(tmp_path / "b.avi", info)
    wanted = [0, 5, 23]
    shown = decode(tmp_path / "b.avi", wanted, info)
    assert [int(np.abs(frames.astype(int) - picture).mean((1, 2, 3)).argmin()) for picture in shown] == wanted
    with av.open(str(tmp_path / "odd.mkv"), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt, cover.disposition = 320, 192, "yuvj420p", Disposition.attached_pic
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 80, 96, "yuv420p"
        stream.sample_aspect_ratio = Fraction(2, 1)
        container.mux(cover.encode(av.VideoFrame(320, 192, "yuvj420p")))
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame[:, ::2])))
        container.mux(stream.encode())
    info = probe(tmp_path / "odd.mkv")
    assert (info.num_frames, info.shown_size) == (24, (160, 96))
    assert decode(tmp_path / "odd.mkv", [3], info).shape == (1, 96, 160, 3)
    assert [note.split()[-1] for note in info.notes] == ["read", "widened"]


def test_damage_that_is_concealed_by_default_is_refused(tmp_path):
    """200 bytes in a row: some of it decodes as another valid picture, which only a hash finds."""
    path, refusals = tmp_path / "v.mp4", []
    write_video(path, Scene.sample(1, "robot").clip().frames, 8)
    info, whole = probe(path), path.read_bytes()
    check_whole(path, info)
    media = whole.find(b"mdat") + 4
    end = media - 8 + int.from_bytes(whole[media - 8 : media - 4], "big")
    reads = [lambda: check_whole(path, info)] * 2 + [lambda: decode(path, list(range(info.num_frames)), info)]
    for seed in range(20):
        rng, raw = np.random.RandomState(seed), bytearray(whole)
        at = rng.randint(media + 400, end - 200)
        raw[at : at + 200] = rng.bytes(200)
        path.write_bytes(raw)
        answers = set()
        for read in reads:
            try:
                read()
                answers.add(False)
            except RunError:
                answers.add(True)
        assert len(answers) == 1, "the same file, the same answer"
        refusals += answers
    assert sum(refusals) >= 15


def test_windows_are_drawn_by_the_seed_and_frame_rate_conversion_takes_the_nearest_frame(tmp_path):
    make_folder(tmp_path, ["a"], frames=20)
    data = config_for(tmp_path, "data.windows_per_video=2").data
    clip = probe_clip(Clip("a", tmp_path / "videos" / "a.mp4", "p"), data)
    assert {tuple(window_starts(clip, data, seed)) for seed in range(30)} == set(
        itertools.combinations(range(4), 2)
    )  # 20 - 17 + 1 places
    data = config_for(tmp_path, "data.num_frames=9", "data.fps=4").data
    assert frames_needed(data, clip.info) == 17  # 8 fps to 4 fps: every second frame
    assert window_indices(clip, data, 2) == list(range(2, 2 + 17, 2))
    thirds = config_for(tmp_path, "data.num_frames=9", "data.fps=3").data
    assert window_indices(clip, thirds, 0)[:5] == [0, 3, 5, 8, 11]  # the nearest of 0, 2.67, 5.33, 8, 10.67
    assert float(load_window(clip, data, 2)[-1].mean()) == pytest.approx(20 + 2 * 18, abs=1)


def test_every_bad_file_is_reported_once_with_its_fix(tmp_path, answered):
    make_folder(tmp_path, ["good", "cut", "empty", "short", "nocaption", "odd"])
    videos, metas = tmp_path / "videos", tmp_path / "metas"
    write_video(videos / "cut.mp4", noise(24), 8)
    whole = (videos / "cut.mp4").read_bytes()
    (videos / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (videos / "empty.mp4").write_bytes(b"")
    write_video(videos / "short.mp4", grey(9, 20), 8)
    (metas / "nocaption.txt").unlink()
    shutil.copy(videos / "good.mp4", videos / "good.mov")
    expected = {
        "cut.mp4": "truncated",
        "empty.mp4": "0 bytes",
        "short.mp4": "9 frames, 17 are needed",
        "nocaption.mp4": "has no caption",
        "good.mp4": "same name",
    }
    said = [line for line in answered(["data", "check", tmp_path], 1).splitlines() if line.startswith("BAD")]
    for name, reason in expected.items():
        assert len([line for line in said if f"{name}: " in line and reason in line]) == 1, (name, said)
    assert len(said) == len(expected)
    with pytest.raises(RunError, match=r"data\.skip_bad=true"):
        load_dataset(config_for(tmp_path))
    kept = load_dataset(config_for(tmp_path, "data.skip_bad=true", "data.test_videos=0", "data.validation_videos=0"))
    assert [c.clip.name for c in kept.train] == ["good", "odd"]
    assert len(kept.left_out) == len(expected)


def test_json_captions_by_model_and_length(tmp_path):
    make_folder(tmp_path, ["a"])
    (tmp_path / "captions").mkdir()
    captions = {"first_model": {"short": "S", "long": "L"}, "other": {"medium": "M"}}
    (tmp_path / "captions" / "a.json").write_text(json.dumps(captions))
    prompt = lambda *o: read_episodes(config_for(tmp_path, *o).data, tmp_path).clips[0].prompt  # noqa: E731
    assert prompt() == "S"  # as the reference: the file's first
    assert prompt("data.caption_model=other") == "M"
    missing = read_episodes(config_for(tmp_path, "data.caption_length=medium").data, tmp_path)
    assert not missing.clips
    assert "data.caption_model" in missing.problems[0]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("path,text,fps\nvideos/a.mp4,Lift it.,8\nb.mov,Wait.,8\n", ["Lift it.", "Wait."]),
        ("file;caption\na.mp4;Lift it, then wait\nb;x\n", ["Lift it, then wait", "x"]),
        ("clip,what\na.mp4,Lift it, then wait\nb.mp4,x\n", ["Lift it, then wait", "x"]),
        ("\ufeffvideo\tprompt\na.mp4\tone, two\nb\tx\n", ["one, two", "x"]),
        ('caption,file_name\n"Say ""stop"", then lift",a.mp4\nx,take.1\n', ['Say "stop", then lift', "x"]),
        ("sep=;\nfile;caption\ncafe\u0301.mp4;x\nb;y\n", ["x", "y"]),
        ("text,file\nLift it, then wait,a.mp4\nx,b.mp4\n", ["x"]),
    ],
)
def test_a_caption_table_is_read_by_its_header(table, said, tmp_path):
    (tmp_path / "captions.csv").write_text(table)
    problems = []
    assert list(read_table(tmp_path / "captions.csv", problems).values()) == said
    assert len(problems) == 2 - len(said)


def test_videos_in_subfolders_and_of_other_kinds_are_named(tmp_path):
    folder = make_folder(tmp_path, ["a"])
    (folder / "videos" / "task2").mkdir()
    for name in ("task2/b.mp4", "task2/c.mp4", "d.mpg", "._a.mp4"):
        (folder / "videos" / name).touch()
    notes = read_episodes(config_for(folder).data, folder).notes
    assert [note.partition(": ")[2].partition(" are")[0] for note in notes] == [
        "1 videos ./*.mp4",
        "1 videos ./*.mpg",
        "2 videos task2/*.mp4",
    ]
    (folder / "videos" / "a.mp4").rename(folder / "videos" / "caf\udce9.mp4")
    assert "not UTF-8; rename it" in read_episodes(config_for(folder).data, folder).problems[0]


def test_gr1_metadata_gives_prompts_with_the_prefix(tmp_path):
    write_video(tmp_path / "gr1" / "0.mp4", grey(20, 20), 8)
    (tmp_path / "metadata.csv").write_text('file_name,prompt\ngr1/0.mp4,"Use the left hand, then stop."\n')
    assert guess_reader(tmp_path) == "gr1_100"
    (clip,) = read_episodes(compose_config(["data=gr1_100", f"data.path={tmp_path}"]).data, tmp_path).clips
    assert clip.prompt == "The robot arm is performing a task. Use the left hand, then stop."


def test_prompts_of_videos_without_captions_are_explicit(videos):
    def prompts(*words):
        found = read_episodes(compose_config(["data=folder", f"data.path={videos}", *words]).data, videos)
        return [c.prompt for c in found.clips][:2], len(found.problems)

    assert prompts() == ([], 12)
    assert prompts("data.prompt='pick up, slowly'") == (["pick up, slowly"] * 2, 0)
    assert prompts("data.prompt=file_name") == (["pick up cup 00", "pick up cup 01"], 0)
    (videos / "captions.csv").write_text('file,caption\npick_up-cup_00.mp4,"grasp, then lift"\n')
    assert prompts() == (["grasp, then lift"], 11)
    (videos / "pick_up-cup_01.txt").write_text("beside")
    assert prompts("data.prompt=go")[0] == ["grasp, then lift", "beside"]


def test_every_prompt_has_the_prefix_in_training_and_in_generation(tmp_path):
    write_set(tmp_path, {"observation.images.top": [grey(20, 20)] * 4})
    words = ["data=lerobot", f"data.path={tmp_path}", "data.prompt_prefix='The arm: '", "data.test_videos=1", *SIZE]
    data = load_dataset(compose_config([*words, "data.validation_videos=1"]))
    prompts = [c.clip.prompt for c in (*data.train, *data.validation)] + [pair.prompt for pair in data.tested]
    assert sorted(prompts) == [f"The arm: task {k}" for k in range(4)]


@pytest.mark.parametrize(
    ("videos", "given", "pairs", "expected"),
    [
        (20, None, False, (16, 2, 2)),
        (2000, None, False, (1918, 32, 50)),
        (2, None, False, (1, 0, 1)),
        (20, None, True, (18, 2, 0)),
        (20, 3, False, (14, 3, 3)),
    ],
)
def test_a_tenth_is_held_out_where_nothing_is_set(videos, given, pairs, expected):
    data = Data(validation_videos=given, test_videos=given)
    parts = hold_out(data, videos, pairs, "x")
    assert (parts.train, parts.validation, parts.test, bool(parts.note)) == (*expected, given is None)
    with pytest.raises(UserError, match="nothing is left to train on"):
        hold_out(data, 1, False, "x")


def test_which_video_is_held_out_follows_the_split_seed_alone(videos):
    words = ["data=folder", f"data.path={videos}", "data.prompt=go", "data.test_videos=3", *SIZE]
    names = [f"pick_up-cup_{k:02}" for k in range(12)]
    for split_seed, seed in ((3, 0), (3, 1), (4, 0)):
        order = generator(split_seed, "split").permutation(12)
        d = load_dataset(compose_config([*words, f"data.split_seed={split_seed}", f"seed={seed}"]))
        assert [c.clip.name for c in d.validation] == [names[order[0]]]
        assert [p.name for p in d.pairs] == [names[i] for i in sorted(order[1:4])]
        assert [c.clip.name for c in d.train] == [names[i] for i in sorted(order[4:])]


def test_the_check_knows_the_model_and_what_differs(videos, answered):
    write_video(videos / "tall.mp4", noise(10, 48, 32), 16)
    answered(
        ["data", "check", videos, "data.prompt=go", *SIZE],
        0,
        "12 of 48x32 at 8 frames per second, 1 of 32x48 at 16 frames per second; all become 48x32",
    )
    words = ["data", "check", videos, "model=cosmos_predict25_2b", "data.prompt=go"]
    answered(words, 1, "cup_00 has 10 frames, 93 are needed", "data.num_frames=9 fits")


def test_the_plan_counts_each_part_and_stops_a_run_without_a_score(videos):
    words = ["data=folder", f"data.path={videos}", "data.prompt=go", *SIZE]
    _, _, rows = plan_data(compose_config(words))
    assert [value.split()[0] for name, value in rows if name != "data"] == ["10", "1", "1", "0"]
    with pytest.raises(RunError, match=r"would make and score no video.*data\.test_videos"):
        plan_data(compose_config([*words, "data.test_videos=0"]))


def test_a_damaged_cache_file_is_an_error(tmp_path):
    path, value = tensor_path(tmp_path, "video", 3), torch.randn(4, 5).bfloat16()
    write_tensor(path, value)
    assert torch.equal(read_tensor(path), value)
    raw = path.read_bytes()
    for damaged, said in ((raw[:-1] + bytes([raw[-1] ^ 1]), "checksum differs"), (raw[:40], "delete it")):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=said):
            read_tensor(path)


def test_frames_have_the_size_that_the_reference_gives_them():
    """Clips by diffusers' VideoProcessor from pictures, first frames by its path for tensors, as in the pipeline."""
    frames = np.random.RandomState(0).randint(0, 255, (2, 75, 100, 3)).astype(np.uint8)
    theirs = VideoProcessor(vae_scale_factor=8, resample="bilinear")
    clip = theirs.preprocess_video([Image.fromarray(f) for f in frames], 48, 64)[0].permute(1, 2, 3, 0)
    assert np.array_equal(resize(frames, 48, 64, "reference"), ((clip + 1) * 127.5).round().byte().numpy())
    first = theirs.preprocess_video(torch.from_numpy(frames).permute(0, 3, 1, 2), 48, 64)[0].permute(1, 2, 3, 0)
    assert np.array_equal(resize(frames, 48, 64, "nearest"), ((first + 1) / 2).numpy().astype(np.uint8))


def test_first_frames_with_the_same_pixels_are_one_scene_whatever_their_files(tmp_path):
    """Equal files, another PNG of the same pixels; and not the first frame of another scene."""
    first, other = (Scene.sample(2_000_000 + k, "robot", num_frames=1).clip().frames[0] for k in (0, 1))
    write_image(tmp_path / "a.png", first)
    shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
    Image.fromarray(first).save(tmp_path / "c.png", compress_level=0)
    write_image(tmp_path / "d.png", other)
    pairs = [TestPair(p.stem, "Lift.", p) for p in sorted(tmp_path.iterdir())]
    files = {p.name: file_sha256(p.image)[:12] for p in pairs}
    assert scene_names(pairs) == {**dict.fromkeys("abc", files["a"]), "d": files["d"]}
    with pytest.raises(RunError, match="c: this first frame is also in the test"):
        split_pairs(pairs[:1], pairs[2:3], compose_config(["data.selection_pairs=1"]), tmp_path)


def test_clips_of_one_recording_stay_on_one_side_and_are_one_scene():
    names = [f"rec{k}_{part}" for k in range(4) for part in range(2)]
    clips = [SimpleNamespace(clip=Clip(n, None, "Lift."), sha256=n * 4, start=0) for n in names]
    counts, config = SimpleNamespace(validation=1, test=3, selection=0), compose_config(["data.recordings='^(.*)_'"])
    *parts, _ = split_clips(config, clips, counts)
    recordings = [{c.clip.name[:4] for c in part} for part in parts]
    assert list(map(len, recordings)) == [1, 1, 2]
    assert len(set().union(*recordings)) == 4
    pairs = [TestPair(c.clip.name, "Lift.", c) for c in parts[2]]
    for pattern, count in ((config.data.recordings, 2), (None, 4)):
        assert len(set(scene_names(pairs, pattern).values())) == count
    with pytest.raises(UserError, match="1 recordings, all of them held out"):
        split_clips(config.updated({"data.recordings": "rec"}), clips, counts)


def test_pictures_are_converted_where_nothing_is_guessed(tmp_path):
    Image.fromarray(np.full((40, 60), 40_000, np.uint16)).save(tmp_path / "deep.png")
    assert abs(int(read_image(tmp_path / "deep.png").max()) - 40_000 / 257) <= 1
    picture = Image.new("RGB", (60, 40))
    exif = picture.getexif()
    exif[0x112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (60, 40, 3)
