"""Own videos: what is held out, prompts without captions, what a model needs, the plan; strict decoding and hashes."""

import av
import numpy as np
import pytest
from conftest import ROOT

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.schema import Data
from cosmos_exp.data import hashes
from cosmos_exp.data.clips import probe_clip
from cosmos_exp.data.dataset import hold_out, load_dataset
from cosmos_exp.data.readers.records import Clip, read_episodes
from cosmos_exp.data.video import check_whole, decode, probe, read_image, rotation, write_video
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.experiment.checks import plan_data
from cosmos_exp.rng import generator
from cosmos_exp.tabletop.scene import Scene

SIZE = ("data.height=32", "data.width=48", "data.num_frames=9")


def noise(frames, height=32, width=48):
    rng = np.random.RandomState(0)
    return rng.randint(0, 255, (frames, height // 8, width // 8, 3)).astype(np.uint8).repeat(8, 1).repeat(8, 2)


@pytest.fixture
def videos(tmp_path):
    """Twelve videos without captions, directly in a folder."""
    for k in range(12):
        write_video(tmp_path / "mine" / f"pick_up-cup_{k:02}.mp4", noise(10), 8)
    return tmp_path / "mine"


@pytest.mark.parametrize(
    ("videos", "given", "pairs", "expected"),
    [
        (20, (None, None), False, (16, 2, 2)),
        (6, (None, None), False, (4, 1, 1)),
        (3, (None, None), False, (1, 1, 1)),
        (2, (None, None), False, (1, 0, 1)),
        (20, (None, None), True, (18, 2, 0)),
        (20, (0, None), False, (18, 0, 2)),
        (20, (3, 0), False, (17, 3, 0)),
        (20, (0, 0), False, (20, 0, 0)),
    ],
)
def test_a_tenth_is_held_out_where_nothing_is_set(videos, given, pairs, expected):
    found = hold_out(Data(validation_videos=given[0], test_videos=given[1]), videos, pairs, "x")
    assert (found.train, found.validation, found.test) == expected
    assert bool(found.note) == (None in given)
    with pytest.raises(UserError, match="nothing is left to train on"):
        hold_out(Data(validation_videos=None, test_videos=None), 1, False, "x")


def test_which_video_is_held_out_follows_the_split_seed(videos):
    words = ["data=folder", f"data.path={videos}", "data.prompt=go", *SIZE]
    order = generator(3, "split").permutation(12)
    names = [f"pick_up-cup_{k:02}" for k in range(12)]
    for given, held in ((["data.validation_videos=2", "data.test_videos=3"], (2, 3)), ([], (1, 1))):
        d = load_dataset(compose_config([*words, *given, "data.split_seed=3"]))
        assert [c.clip.name for c in d.validation] == [names[i] for i in sorted(order[: held[0]])]
        assert [p.name for p in d.pairs] == [names[i] for i in sorted(order[held[0] : sum(held)])]
        assert any("held out of training: 1 for validation, 1 for the test" in n for n in d.notes) == (not given)


def test_shipped_data_sets_keep_their_numbers():
    for name, held in (("tabletop", (4, 0)), ("gr1_100", (0, 0)), ("lerobot", (1, 1)), ("folder", (None, None))):
        data = compose_config([f"data={name}", f"data.path={ROOT}"]).data
        assert (data.validation_videos, data.test_videos) == held


def test_prompts_of_videos_without_captions_are_explicit(videos):
    def prompts(*words):
        found = read_episodes(compose_config(["data=folder", f"data.path={videos}", *words]).data, videos)
        return [c.prompt for c in found.clips][:2], len(found.problems)

    assert prompts() == ([], 12)
    assert prompts("data.prompt='pick up, slowly'") == (["pick up, slowly"] * 2, 0)
    assert prompts("data.prompt=file_name") == (["pick up cup 00", "pick up cup 01"], 0)
    (videos / "captions.csv").write_text('file,caption\npick_up-cup_00.mp4,"grasp, then lift"\n')
    assert prompts() == (["grasp, then lift"], 11)
    assert prompts("data.prompt=go") == (["grasp, then lift", "go"], 0)
    (videos / "pick_up-cup_01.txt").write_text("beside")
    assert prompts("data.prompt=go")[0] == ["grasp, then lift", "beside"]


def test_the_check_knows_the_model_and_what_differs(videos, cli, capsys):
    write_video(videos / "tall.mp4", noise(10, 48, 32), 16)
    assert cli("data", "check", videos, "model=tabletop", "data.prompt=go", *SIZE) == 0
    said = capsys.readouterr().out
    assert "12 of 48x32, 1 of 32x48 (portrait); all are stretched to 48x32, by up to 2.2 times" in said
    assert "12 at 8, 1 at 16; data.fps=null takes the frames in order" in said
    assert cli("data", "check", videos, "model=cosmos_predict25_2b", "data.prompt=go") == 1
    assert capsys.readouterr().out.count("BAD") == 13


def test_the_plan_counts_each_part_and_stops_a_run_without_a_score(videos):
    words = ["data=folder", f"data.path={videos}", "data.prompt=go", *SIZE]
    rows = plan_data(compose_config(words)).rows()
    assert [value.split()[0] for name, value in rows if name != "data"] == ["10", "1", "1", "0"]
    assert any("held out of training: 1 for validation, 1 for the test" in value for _, value in rows)
    with pytest.raises(RunError, match=r"would make and score no video.*data\.test_videos"):
        plan_data(compose_config([*words, "data.test_videos=0"]))
    with pytest.raises(RunError, match=r"no selection prompts.*data\.selection_pairs"):
        plan_data(compose_config([*words, "generation.split=selection"]))
    train_only = plan_data(compose_config([*words, "data.test_videos=0", "generation.split=none"]))
    assert (train_only.train, train_only.test) == (11, "0")
    (videos / "bad.mp4").write_text("text")
    with pytest.raises(RunError, match=r"1 problems in [\s\S]*bad\.mp4: cannot be read as a video"):
        plan_data(compose_config(words))


def refused(read):
    try:
        read()
    except UserError:
        return True
    return False


def test_damage_that_is_concealed_by_default_is_refused(tmp_path):
    """200 bytes in a row: some of it decodes as another valid picture, which only a recorded hash finds."""
    path = tmp_path / "v.mp4"
    write_video(path, Scene.sample(1, "robot").clip().frames, 8)
    info, whole, known = probe(path), path.read_bytes(), hashes.file_sha256(path)
    media = whole.find(b"mdat") + 4
    end = media - 8 + int.from_bytes(whole[media - 8 : media - 4], "big")
    found = 0
    for seed in range(20):
        rng, raw = np.random.RandomState(seed), bytearray(whole)
        at = rng.randint(media + 400, end - 200)
        raw[at : at + 200] = rng.bytes(200)
        path.write_bytes(raw)
        in_check, *again = [refused(lambda: check_whole(path, info)) for _ in range(4)]
        assert again == [in_check] * 3, "the same file, the same answer"
        assert refused(lambda: decode(path, list(range(info.num_frames)), info)) == in_check
        assert refused(lambda: hashes.check_hash(path, known))
        found += in_check
    assert found >= 15
    path.write_bytes(whole)
    check_whole(path, info)
    hashes.check_hash(path, known)


def test_a_recorded_hash_finds_damage_that_decodes(videos, cli, capsys):
    """One bit of the encoder's name, which no decoder checks."""
    path = videos / "pick_up-cup_03.mp4"
    (videos / "SHA256SUMS").write_text(f"{hashes.file_sha256(path)}  {path.name}\n")
    assert cli("data", "check", videos, "data.prompt=go", *SIZE) == 0
    raw = bytearray(path.read_bytes())
    raw[raw.rfind(b"Lavf")] ^= 1
    path.write_bytes(raw)
    check_whole(path, probe(path))
    config = compose_config(["data=folder", f"data.path={videos}", "data.prompt=go", *SIZE])
    with pytest.raises(RunError, match=r"cup_03.mp4: is damaged or was changed, its SHA-256"):
        load_dataset(config)


def test_a_file_of_a_hub_cache_carries_its_hash_in_its_name(tmp_path):
    write_video(tmp_path / "v.mp4", noise(5), 8)
    blob = tmp_path / "blobs" / hashes.file_sha256(tmp_path / "v.mp4")
    blob.parent.mkdir()
    blob.write_bytes((tmp_path / "v.mp4").read_bytes())
    (tmp_path / "link.mp4").symlink_to(blob)
    hashes.check_hash(tmp_path / "link.mp4", None)
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    with pytest.raises(RunError, match="is not the hub's"):
        hashes.check_hash(tmp_path / "link.mp4", None)


def test_a_rotated_video_is_read_upright(tmp_path):
    """As a phone writes it: the sensor's picture lies on its side, the container says by how much to turn it."""
    upright = np.zeros((8, 48, 32, 3), np.uint8)
    upright[:, :24] = 220  # bright above, dark below
    path, lying = tmp_path / "v.mp4", np.rot90(upright, 1, (1, 2))  # counter-clockwise: bright on the left
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.set_display_rotation(-90)  # shown turned clockwise by 90
        for frame in lying:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    assert rotation(path) == 270
    shown = decode(path, [0, 3])
    assert shown.shape == (2, 48, 32, 3)
    assert shown[:, :20].min() > 200
    assert shown[:, 28:].max() < 20
    checked = probe_clip(Clip("v", path, "p"), Data(num_frames=5))
    assert checked.info.shown_size == (32, 48)
    assert checked.sha256 != hashes.file_sha256(path)


def test_pictures_are_converted_where_nothing_is_guessed(tmp_path):
    from PIL import Image

    Image.fromarray(np.full((40, 60), 40_000, np.uint16)).save(tmp_path / "deep.png")
    assert abs(int(read_image(tmp_path / "deep.png").max()) - 40_000 / 257) <= 1
    picture = Image.new("RGB", (60, 40))
    exif = picture.getexif()
    exif[0x112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (60, 40, 3)
