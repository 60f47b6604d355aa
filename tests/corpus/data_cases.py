"""Bad data: LeRobot and GR1 metadata, captions, damaged videos, unusual containers and pictures. Answered by `data check`."""

import json
import shutil
import tempfile
from functools import cache
from pathlib import Path

import av
import numpy as np
from lerobot_sets import grey, write_set
from PIL import Image

from corpus.cases import Case
from cosmos_exp.data.video import write_image, write_video

CAMERA = "observation.images.top"
CHECK = ("--for", "tabletop", "data.fps=null", "data.height=32", "data.width=48")


@cache
def made(kind: str) -> Path:
    """A good data set, written once: v2, v3 (LeRobot, two episodes), folder or gr1."""
    folder = Path(tempfile.mkdtemp(prefix="corpus-data-")) / kind
    if kind in ("v2", "v3"):
        episodes = [grey(20, 30, 32, 48), grey(20, 100, 32, 48)]
        return write_set(folder, {CAMERA: episodes}, "v2.1" if kind == "v2" else "v3.0")
    noise = np.random.RandomState(0).randint(0, 255, (20, 8, 12, 3)).astype(np.uint8).repeat(4, 1).repeat(4, 2)
    for name in ("a", "b"):
        write_video(folder / "videos" / f"{name}.mp4", noise, 8)
        (folder / "metas").mkdir(exist_ok=True)
        (folder / "metas" / f"{name}.txt").write_text(f"prompt of {name}")
    if kind == "gr1":
        shutil.rmtree(folder / "metas")
        (folder / "metadata.csv").write_text("file_name,prompt\na.mp4,wave\nb.mp4,point\n")
    return folder


def broken(kind, change, *words):
    """`make` of a case: a copy of a good set, changed, and the command that checks it."""

    def make(tmp):
        folder = tmp / "set"
        shutil.copytree(made(kind), folder)
        change(folder)
        return ["data", "check", str(folder), *CHECK, *(w.replace("TMP", str(tmp)) for w in words)]

    return make


def info(**entries):
    """meta/info.json with other entries; None removes one."""

    def change(folder):
        path = folder / "meta" / "info.json"
        content = json.loads(path.read_text()) | entries
        path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))

    return change


def episode(**entries):
    """The second line of meta/episodes.jsonl with other entries; None removes one."""

    def change(folder):
        path = folder / "meta" / "episodes.jsonl"
        first, second = path.read_text().splitlines()
        row = {k: v for k, v in (json.loads(second) | entries).items() if v is not None}
        path.write_text(f"{first}\n{json.dumps(row)}\n")

    return change


def table(**entries):
    """The second row of the parquet table of episodes with other entries."""

    def change(folder):
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = next(folder.rglob("*.parquet"))
        rows = pq.read_table(path).to_pylist()
        rows[1] |= {f"videos/{CAMERA}/{k}": v for k, v in entries.items()}
        pq.write_table(pa.Table.from_pylist(rows), path)

    return change


def write(name, content):
    """One file with other content: text or bytes."""

    def change(folder):
        raw = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(raw)

    return change


def captions(content):
    """captions/a.json with this text."""

    def change(folder):
        (folder / "captions").mkdir()
        (folder / "captions" / "a.json").write_text(content)

    return change


def damage(folder):
    """The middle of a video overwritten: header, first and last frame are whole."""
    path = folder / "videos" / "a.mp4"
    raw = bytearray(path.read_bytes())
    middle = raw.find(b"mdat") + (len(raw) - raw.find(b"mdat")) // 2
    raw[middle : middle + 200] = np.random.RandomState(1).bytes(200)
    path.write_bytes(raw)


def remux(rotation=0, stretched=False):
    """The video a.mp4 encoded again with a rotation in its container, or with gaps between its frames."""

    def change(folder):
        path = folder / "videos" / "a.mp4"
        path.unlink()
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
            if rotation:
                stream.set_display_rotation(rotation)
            for k in range(24):
                frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 8 * k, np.uint8), format="rgb24")
                frame.pts = k + (5 * (k // 4) if stretched else 0)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())

    return change


def picture(save):
    """A folder of one test pair beside the set, whose picture `save(path)` writes."""

    def change(folder):
        pairs = folder.parent / "pairs"
        pairs.mkdir()
        (pairs / "p.txt").write_text("a prompt")
        save(pairs)

    return broken("folder", change, "data.test_path=TMP/pairs")


SCENE = np.zeros((48, 64, 3), np.uint8) + np.arange(64, dtype=np.uint8)[None, :, None] * 3


def transparent(pairs):
    Image.fromarray(np.dstack([SCENE, np.full((48, 64), 100, np.uint8)])).save(pairs / "p.png")


def turned(pairs):
    image = Image.fromarray(SCENE)
    exif = image.getexif()
    exif[0x112] = 6
    image.save(pairs / "p.jpg", exif=exif)


def cut_png(pairs):
    write_image(pairs / "p.png", SCENE)
    raw = (pairs / "p.png").read_bytes()
    (pairs / "p.png").write_bytes(raw[: len(raw) * 2 // 3])


EPISODES, INFO = "meta/episodes.jsonl", "meta/info.json"
TWICE = '{"episode_index": 0, "tasks": ["a"], "length": 20}\n' * 2
NAN = float("nan")

METADATA = (
    Case(
        "tasks is a text",
        broken("v2", episode(tasks="hello")),
        1,
        ("episodes.jsonl, line 2: tasks: Input should be a valid list, found 'hello'",),
    ),
    Case(
        "tasks holds numbers",
        broken("v2", episode(tasks=[3])),
        1,
        ("line 2: tasks.0: Input should be a valid string, found 3",),
    ),
    Case("tasks is missing", broken("v2", episode(tasks=None)), 1, ("line 2: tasks: Field required",)),
    Case(
        "an episode twice", broken("v2", write(EPISODES, TWICE)), 1, ("line 2: episode 0 is listed twice", "Remove one")
    ),
    Case(
        "codebase v9",
        broken("v2", info(codebase_version="v9.0")),
        2,
        ("info.json: codebase_version: Input should be 'v2.0', 'v2.1', 'v3.0' or 'v3.1', found 'v9.0'", "convert"),
    ),
    Case("no codebase version", broken("v2", info(codebase_version=None)), 2, ("codebase_version: Field required",)),
    Case("features is missing", broken("v2", info(features=None)), 2, ("info.json: features: Field required",)),
    Case(
        "features is a list",
        broken("v2", info(features=[1])),
        2,
        ("info.json: features: Input should be a valid dictionary, found [1]",),
    ),
    Case(
        "a feature is a text",
        broken("v2", info(features={CAMERA: "video"})),
        2,
        (f"features.{CAMERA}: Input should be a valid dictionary, found 'video'",),
    ),
    Case(
        "unknown field in video_path",
        broken("v2", info(video_path="v/{episode}.mp4")),
        2,
        ("video_path: KeyError: 'episode'",),
    ),
    Case("broken video_path", broken("v2", info(video_path="v/{episode_index.mp4")), 2, ("info.json: video_path: ",)),
    Case(
        "video_path leaves the folder", broken("v2", info(video_path="../../{episode_index}.mp4")), 2, ("leaves", "..")
    ),
    Case(
        "one video for all",
        broken("v2", info(video_path=f"videos/chunk-000/{CAMERA}/episode_000000.mp4")),
        1,
        ("episode_000000 and episode_000001 share frames", "video_path"),
    ),
    Case(
        "chunks of 0",
        broken("v2", info(chunks_size=0)),
        2,
        ("info.json: chunks_size: Input should be greater than 0, found 0",),
    ),
    Case(
        "a name too long for a disk",
        broken("v2", info(video_path="{episode_index:09999d}.mp4")),
        2,
        ("more than 255 bytes", "Shorten it"),
    ),
    Case("info is a list", broken("v2", write(INFO, "[1, 2]")), 2, ("info.json: record: Input should be",)),
    Case("info is cut", broken("v2", write(INFO, '{"codebase')), 2, ("info.json: it is not JSON", "copy it again")),
    Case("info is deep", broken("v2", write(INFO, "[" * 100_000)), 2, ("info.json: ", "copy it again")),
    Case(
        "episodes are cut",
        broken("v2", write(EPISODES, '{"episode_index": 0,')),
        2,
        ("episodes.jsonl, line 1: it is not JSON",),
    ),
    Case(
        "episodes are binary",
        broken("v2", write(EPISODES, b"\xff\xfe\x00")),
        2,
        ("episodes.jsonl, line 1: it is not text",),
    ),
    Case(
        "an episode is a list",
        broken("v2", write(EPISODES, "[0]\n")),
        1,
        ("line 1: record: Input should be a valid dictionary", "found [0]"),
    ),
    Case("no episode number", broken("v2", episode(episode_index=None)), 1, ("line 2: episode_index: Field required",)),
    Case(
        "episode number as text",
        broken("v2", episode(episode_index="1")),
        1,
        ("line 2: episode_index: Input should be a valid integer, found '1'",),
    ),
    Case(
        "negative episode number",
        broken("v2", episode(episode_index=-1)),
        1,
        ("line 2: episode_index: Input should be greater than or equal to 0, found -1",),
    ),
    Case(
        "negative length",
        broken("v2", episode(length=-5)),
        1,
        ("line 2: length: Input should be greater than 0, found -5",),
    ),
    Case("length NaN", broken("v2", episode(length=NAN)), 2, ("line 2: it holds NaN",)),
    Case(
        "longer than its file",
        broken("v2", episode(length=200)),
        1,
        ("episode_000001 has 20 frames, its metadata says 200", "copy the video again"),
    ),
    Case(
        "a time NaN",
        broken("v3", table(to_timestamp=NAN)),
        1,
        (".parquet, row 1", "to_timestamp: Input should be a finite number, found nan"),
    ),
    Case("a time is missing", broken("v3", table(to_timestamp=None)), 1, ("row 1", "to_timestamp: Field required")),
    Case(
        "ends before it begins",
        broken("v3", table(to_timestamp=1.0)),
        1,
        ("to_timestamp=1 is not after from_timestamp=2",),
    ),
    Case(
        "negative time",
        broken("v3", table(from_timestamp=-3.0)),
        1,
        ("from_timestamp: Input should be greater than or equal to 0, found -3.0",),
    ),
    Case(
        "beyond the file",
        broken("v3", table(from_timestamp=8.0, to_timestamp=10.0)),
        1,
        ("is at 8 to 10 s, the file has 4 s",),
    ),
    Case(
        "negative file number",
        broken("v3", table(file_index=-1)),
        1,
        ("file_index: Input should be greater than or equal to 0, found -1",),
    ),
    Case(
        "overlapping episodes", broken("v3", table(from_timestamp=1.0)), 1, ("share frames", "training and validation")
    ),
    Case(
        "no parquet",
        broken("v3", write("meta/episodes/chunk-000/file-000.parquet", "text")),
        2,
        ("file-000.parquet: cannot be read as parquet",),
    ),
    Case(
        "GR1 table in latin-1",
        broken("gr1", write("metadata.csv", b"f,p\na.mp4,T\xfcr\n")),
        2,
        ("metadata.csv: not UTF-8", "save it as UTF-8"),
    ),
    Case(
        "GR1 video twice",
        broken("gr1", write("metadata.csv", "f,p\na.mp4,x\na.mp4,y\nb.mp4,z\n")),
        1,
        ("metadata.csv, line 3: a has two lines",),
    ),
    Case(
        "GR1 without a prompt",
        broken("gr1", write("metadata.csv", "f,p\na.mp4,\nb.mp4,z\n")),
        1,
        ("line 2: the caption is empty",),
    ),
    Case("GR1 without a header", broken("gr1", write("metadata.csv", "a.mp4,x\nb.mp4,y\n")), 1, ("line 1", "header")),
    Case(
        "captions.csv names no video",
        broken("folder", write("captions.csv", "file,caption\nq.mp4,x\n")),
        1,
        ("captions.csv: lists q", "remove the line"),
    ),
    Case(
        "no caption",
        broken("folder", lambda f: (f / "metas" / "a.txt").unlink()),
        1,
        ("a.mp4: has no caption", "captions.csv", "data.prompt=TEXT"),
    ),
    Case(
        "captions are a list of a number",
        broken("folder", captions("[5]")),
        1,
        ("a.json: no caption of model", "data.caption_model"),
    ),
    Case(
        "empty data.prompt",
        broken("folder", lambda f: (f / "metas" / "a.txt").unlink(), "data.prompt=''"),
        2,
        ("data.prompt: the caption is empty",),
    ),
)

FILES = (
    Case("damage in the middle", broken("folder", damage), 1, ("a.mp4: is damaged", "copy it again")),
    Case("text as a video", broken("folder", write("videos/a.mp4", "text")), 1, ("a.mp4: cannot be read as a video",)),
    Case("rotated container", broken("folder", remux(rotation=-90)), 0, ("24 frames, 32x48",)),
    Case("crooked container", broken("folder", remux(rotation=30)), 1, ("a.mp4: is shown turned by", "re-encode it")),
    Case(
        "variable frame rate",
        broken("folder", remux(stretched=True)),
        0,
        ("variable frame rate, 100 to 600 ms", "taken in order"),
    ),
    Case(
        "variable frame rate, to be converted",
        broken("folder", remux(stretched=True), "data.fps=5"),
        1,
        ("variable frame rate", "-fps_mode cfr", "data.fps=null"),
    ),
    Case(
        "terminal escapes in a caption",
        broken("folder", write("metas/a.txt", "pick\x1b[2J\x1b]0;x\x07\nit")),
        1,
        ("a.txt: the caption holds the control character \\x1b (at 4)", "as plain text"),
        ("\x1b",),
    ),
    Case(
        "NUL in a table of captions",
        broken("gr1", write("metadata.csv", "f,p\na.mp4,x\0y\nb.mp4,z\n")),
        1,
        ("metadata.csv, line 2: the caption holds the control character \\x00",),
    ),
    Case(
        "a caption of a whole book",
        broken("folder", write("metas/a.txt", "word " * 4001)),
        1,
        ("a.txt: the caption has 20,004 characters, at most 20,000",),
    ),
    Case(
        "a task of a whole book",
        broken("v2", episode(tasks=["word " * 4001])),
        1,
        ("line 2: tasks", "characters, at most 20,000"),
    ),
    Case(
        "an open quote in captions.csv",
        broken("folder", write("captions.csv", 'file,caption\na.mp4,one\nb.mp4,"two\nc.mp4,three\n')),
        2,
        ("captions.csv, line 3: not a CSV table", "Close a quote"),
    ),
    Case(
        "byte order mark", broken("folder", write("metas/a.txt", b"\xef\xbb\xbfpick")), 0, (" fps: pick",), ("\ufeff",)
    ),
    Case(
        "16-bit picture",
        picture(lambda p: Image.fromarray(np.full((48, 64), 40_000, np.uint16)).save(p / "p.png")),
        0,
        ("1 test pairs",),
    ),
    Case("EXIF-rotated picture", picture(turned), 0, ("1 test pairs",)),
    Case(
        "CMYK picture",
        picture(lambda p: Image.fromarray(SCENE).convert("CMYK").save(p / "p.jpg")),
        1,
        ("p.jpg: has no defined colours (CMYK)", "RGB"),
    ),
    Case(
        "transparent picture", picture(transparent), 1, ("p.png: has no defined colours (transparent pixels)", "opaque")
    ),
    Case(
        "1x1 picture",
        picture(lambda p: Image.new("RGB", (1, 1)).save(p / "p.png")),
        1,
        ("p.png: 1x1 pixels are too small",),
    ),
    Case("cut picture", picture(cut_png), 1, ("p.png: cannot be read as an image",)),
    Case(
        "text as a picture",
        picture(lambda p: (p / "p.png").write_text("text")),
        1,
        ("p.png: cannot be read as an image",),
    ),
)
