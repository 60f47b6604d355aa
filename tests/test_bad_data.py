"""Bad data through `data check`: LeRobot and GR1 metadata, captions, damaged videos, unusual containers and pictures.

Each case is a clear error that names the file and the fix, or is handled.
"""

import shutil

import pandas
import pytest
from lerobot_sets import grey, write_set
from PIL import Image
from test_data import encode

from cosmos_exp.data.video import write_video

CAMERA = "observation.images.top"
CHECK = ("model=tabletop", "data.fps=null", "data.height=32", "data.width=48")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Good data sets of two videos: v2 and v3 (LeRobot), folder, gr1; and pairs (of test, beside a folder)."""
    top = tmp_path_factory.mktemp("sets")
    frames = [grey(20, 30, 32, 48), grey(20, 100, 32, 48)]
    for name, version in (("v2", "v2.1"), ("v3", "v3.0")):
        write_set(top / name, {CAMERA: frames}, version)
    (top / "folder" / "metas").mkdir(parents=True)
    for name, episode in zip("ab", frames, strict=True):
        write_video(top / "folder" / "videos" / f"{name}.mp4", episode, 8)
        (top / "folder" / "metas" / f"{name}.txt").write_text(f"prompt of {name}")
    shutil.copytree(top / "folder" / "videos", top / "gr1" / "videos")
    (top / "gr1" / "metadata.csv").write_text("file_name,prompt\na.mp4,wave\nb.mp4,point\n")
    return top


def replace(name, old, new):
    """One file with another text at one place."""

    def change(folder):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


def second_episode(**entries):
    """The second row of the parquet table of episodes with other entries."""

    def change(folder):
        path = next(folder.rglob("*.parquet"))
        table = pandas.read_parquet(path)
        table.loc[1, [f"videos/{CAMERA}/{key}" for key in entries]] = list(entries.values())
        table.to_parquet(path)

    return change


def write(name, content):
    """One file with other content: text or bytes."""

    def change(folder):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return change


def pair(save):
    """A test pair beside the set, whose picture `save(path)` writes."""

    def change(folder):
        (folder.parent / "pairs").mkdir()
        (folder.parent / "pairs" / "p.txt").write_text("a prompt")
        save(folder.parent / "pairs" / "p.png")

    return change


def without_tasks(folder):
    path = next(folder.rglob("*.parquet"))
    pandas.read_parquet(path).drop(columns="tasks").to_parquet(path)


POINTER = "version https://git-lfs.github.com/spec/v1\n"
EPISODES, INFO = "meta/episodes.jsonl", "meta/info.json"
CASES = [  # set, change, exit code, what is said
    ("v2", replace(EPISODES, '["task 1"]', '"hello"'), 1, "line 2: tasks: Input should be a valid list, found 'hello'"),
    ("v2", replace(EPISODES, '"episode_index": 1', '"episode_index": 0'), 1, "episode 0 is listed twice"),
    ("v2", replace(EPISODES, "20", "200"), 1, "episode_000001 has 20 frames, its metadata says 200"),
    ("v2", replace(INFO, "v2.1", "v9.0"), 2, "info.json: codebase_version: Input should be 'v2.0'"),
    ("v2", lambda f: next(f.rglob("*1.mp4")).unlink(), 1, "1.mp4: the video of episode_000001 is missing"),
    ("v2", replace(INFO, '{"code', '{"video_path": "../../{episode_index}.mp4", "code'), 2, "leaves"),
    ("v2", write(INFO, '{"codebase'), 2, "info.json: it is not JSON"),
    ("v3", second_episode(from_timestamp=8.0, to_timestamp=10.0), 1, "is at 8 to 10 s, the file has 4 s"),
    ("v3", second_episode(from_timestamp=1.0), 1, "share frames"),
    ("v3", write("meta/episodes/chunk-000/file-000.parquet", POINTER), 2, "git lfs pull"),
    ("v3", without_tasks, 1, "data/ has no table with its task_index; copy the folder data/"),
    ("gr1", write("metadata.csv", b"file,text\na.mp4,T\xfcr\n"), 2, "as UTF-8. The reader is gr1_100"),
    ("gr1", replace("metadata.csv", "b.mp4", "a.mp4"), 1, "metadata.csv, line 3: a has two lines"),
    ("gr1", write("metadata.csv", "a,wave\nb,point\n"), 2, "line 1: expected a header"),
    ("folder", write("videos/a.mp4", POINTER), 1, "it is a pointer of git-lfs"),
    ("folder", write("metas/a.txt", POINTER), 1, "a.txt: it is a pointer of git-lfs"),
    ("folder", write("metas/a.txt", " \n"), 1, "a.txt: the caption is empty"),
    ("folder", write("captions.tsv", "a\tb"), 0, "1 files are not read as captions (captions.tsv)"),
    ("folder", write("captions.csv", "file,caption\nq.mp4,x\n"), 1, "captions.csv: lists q"),
    ("folder", write("captions.csv", 'file,caption\na.mp4,one\nb.mp4,"two\n'), 2, "captions.csv, line 3: not a CSV"),
    ("folder", write("metas/a.txt", "pick\x1b[2Jit"), 1, "a.txt: the caption holds the control character \\x1b (at 4)"),
    ("folder", write("metas/a.txt", b"\xef\xbb\xbfpick"), 0, " fps: pick"),
    ("pairs", pair(lambda p: Image.new("RGBA", (64, 48)).save(p)), 1, "p.png: has no defined colours (transparent"),
    ("pairs", pair(lambda p: p.write_text("text")), 1, "p.png: cannot be read as an image"),
]


@pytest.mark.parametrize(("kind", "change", "code", "said"), CASES, ids=[case[3][:40] for case in CASES])
def test_bad_data(kind, change, code, said, sets, tmp_path, answered):
    shutil.copytree(sets / kind.replace("pairs", "folder"), tmp_path / "set")
    change(tmp_path / "set")
    words = [f"data.test_path={tmp_path / 'pairs'}"] if kind == "pairs" else []
    answered(["data", "check", tmp_path / "set", *CHECK, *words], code, said)


def test_a_variable_frame_rate_is_named_and_not_converted(sets, tmp_path, answered):
    folder = shutil.copytree(sets / "folder", tmp_path / "set")
    times = [k + 5 * (k // 4) for k in range(24)]
    encode(folder / "videos" / "a.mp4", grey(24, 30, 32, 48), times=times)
    answered(["data", "check", folder, *CHECK], 0, "variable frame rate, 100 to 600 ms")
    answered(["data", "check", folder, *CHECK, "data.fps=5"], 1, "-fps_mode cfr")
