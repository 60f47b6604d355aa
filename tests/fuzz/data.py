"""Data sets with changed captions, metadata and tables, answered by `data check`."""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from corpus.data_cases import CHECK, made
from hypothesis import strategies as st

from cosmos_exp.config import composing
from cosmos_exp.config.schema import Config
from fuzz import Property, answer
from fuzz.values import DEEP, JSON, NUMBERS, TEXTS, TRICKS, changed, encoded, spoiled

composing_config = composing.compose_config
OUTSIDE = "a caption of somebody else"  # in a file beside the data set: nothing may read it


@cache
def captioned() -> Path:
    """The folder set with captions/*.json."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-data-")) / "captions"
    shutil.copytree(made("folder"), folder)
    shutil.rmtree(folder / "metas")
    (folder / "captions").mkdir()
    for name in ("a", "b"):
        text = json.dumps({"model": {"long": f"prompt of {name}", "short": name}})
        (folder / "captions" / f"{name}.json").write_text(text)
    return folder


@cache
def tabled() -> Path:
    """The folder set with captions.csv."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-data-")) / "table"
    shutil.copytree(made("folder"), folder)
    shutil.rmtree(folder / "metas")
    (folder / "captions.csv").write_text('file,caption\na.mp4,"wave, twice"\nvideos/b.mp4,point\n')
    return folder


def base(kind: str) -> Path:
    """A good data set to spoil."""
    return captioned() if kind == "captions" else tabled() if kind == "table" else made(kind)


TEXT_FILES = {
    "v2": ("meta/info.json", "meta/episodes.jsonl"),
    "v3": ("meta/info.json",),
    "gr1": ("metadata.csv",),
    "folder": ("metas/a.txt",),
    "captions": ("captions/a.json",),
    "table": ("captions.csv",),
}


@cache
def top() -> Path:
    """A folder for every data set in turn, so that its configuration is composed once."""
    return Path(tempfile.mkdtemp(prefix="fuzz-data-"))


@contextlib.contextmanager
def composed_once() -> Iterator[None]:
    """A configuration is composed once for the same words: that takes longer than all the rest."""
    before = composing.compose_config
    composing.compose_config = lambda words: copy.deepcopy(_composed(tuple(words)))
    try:
        yield
    finally:
        composing.compose_config = before


@cache
def _composed(words: tuple[str, ...]) -> Config:
    return composing_config(list(words))


def data_set(case: tuple[str, str, bytes]) -> None:
    """`data check` of a good set with one file replaced: no traceback, nothing raw printed, nothing read outside."""
    kind, name, content = case
    folder = top() / kind / "set"
    if not folder.is_dir():
        shutil.copytree(base(kind), folder)
        (top() / "private.txt").write_text(OUTSIDE)
        shutil.copy(made("folder") / "videos" / "a.mp4", top() / "private.mp4")
    before = sorted(top().rglob("*"))
    (folder / name).write_bytes(content)
    try:
        with composed_once():
            _, text = answer(["data", "check", folder, *CHECK])
    finally:
        shutil.copy(base(kind) / name, folder / name)
    assert OUTSIDE not in text
    assert sorted(top().rglob("*")) == before, "files were written"
    assert len(text) < 100_000, "a wall of text"


@st.composite
def changed_text(draw: Any) -> tuple[str, str, bytes]:
    """A text file of a set with other bytes, or with other JSON."""
    kind = draw(st.sampled_from(sorted(TEXT_FILES)))
    name = draw(st.sampled_from(TEXT_FILES[kind]))
    raw = (base(kind) / name).read_bytes()
    if name.endswith((".json", ".jsonl")) and draw(st.integers(0, 3)):
        lines = [json.loads(line) for line in raw.decode().splitlines()] if name.endswith("l") else [json.loads(raw)]
        values = st.one_of(
            JSON,
            st.sampled_from(
                (
                    "../../{video_key}.mp4",
                    "{video_key.x}",
                    "{episode_index:99999d}",
                    "{0[x]}",
                    "videos/{video_key}/../../../../private.mp4",
                )
            ),
        )
        at = draw(st.integers(0, len(lines) - 1))
        lines[at] = draw(changed(lines[at], values))
        return kind, name, "\n".join(json.dumps(v) for v in lines).encode()
    other = st.one_of(spoiled(raw), TEXTS.map(encoded), DEEP.map(encoded), st.binary(max_size=20))
    if name.endswith(".csv"):
        row = st.lists(st.one_of(TEXTS, st.sampled_from(("a.mp4", "b.mp4", '"', "\0", ""))), max_size=3).map(",".join)
        other = st.one_of(other, st.lists(row, max_size=4).map(lambda rows: encoded("\n".join(rows))))
    return kind, name, draw(other)


@cache
def v3_rows() -> tuple[str, list[dict[str, Any]]]:
    import pyarrow.parquet as pq

    path = next(made("v3").rglob("*.parquet"))
    return path.relative_to(made("v3")).as_posix(), pq.read_table(path).to_pylist()


@st.composite
def changed_table(draw: Any) -> tuple[str, str, bytes]:
    """The parquet table of episodes with columns fewer, more or of another type, rows fewer or twice, or other bytes."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    name, rows = v3_rows()
    if draw(st.integers(0, 4)) == 0:
        return "v3", name, draw(spoiled((made("v3") / name).read_bytes()))
    rows = [dict(r) for r in rows]
    for _ in range(draw(st.integers(1, 3))):
        column = draw(st.sampled_from(sorted(rows[0])))
        how = draw(st.sampled_from(("value", "type", "remove", "add", "twice", "none")))
        values = st.one_of(NUMBERS.filter(lambda v: isinstance(v, float) or abs(v) < 2**63), TEXTS, st.none())
        if how == "value":
            value = draw(values)
            same = value is None or isinstance(value, type(rows[0][column]))
            rows[draw(st.integers(0, len(rows) - 1))][column] = value if same else None
        elif how == "type":
            value = draw(
                st.one_of(values, st.lists(st.text(max_size=3), max_size=2), st.binary(max_size=4), st.booleans())
            )
            rows = [{**r, column: value} for r in rows]
        elif how == "remove" and len(rows[0]) > 1:
            rows = [{k: v for k, v in r.items() if k != column} for r in rows]
        elif how == "add":
            rows = [{**r, draw(st.sampled_from(TRICKS)): 1, "videos/x/file_index": 0} for r in rows]
        elif how == "twice":
            rows += [dict(rows[0])]
        else:
            rows = rows[:0] or [{column: None}]
    out = io.BytesIO()
    try:
        pq.write_table(pa.Table.from_pylist(rows), out)
    except (pa.ArrowException, OverflowError, TypeError, UnicodeError):
        return "v3", name, b""
    return "v3", name, out.getvalue()


PROPERTIES = (
    Property("captions and metadata", data_set, changed_text(), 25),
    Property("parquet", data_set, changed_table(), 12),
)
