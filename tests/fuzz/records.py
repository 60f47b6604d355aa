"""Run folders and sweeps of somebody else, with changed records, read by `report` and `report --verify`."""

from __future__ import annotations

import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from claimed_sweep import write_sweep
from corpus.records import SECRET, run_folder, video
from hypothesis import strategies as st

from fuzz import Property, answer
from fuzz.values import DEEP, ESCAPE, JSON, SCRIPT, TEXTS, TRICKS, changed, encoded, spoiled

RUN_FILES = ("config.yaml", "status.json", "manifest.json", "metrics.json", "scores.jsonl", "train_log.jsonl")
SWEEP_FILES = ("claims.json", "sweep.json")
SEEDS = {"base": [0], "lora-r8": [0]}


@cache
def good() -> Path:
    """A finished sweep of two small runs, with claims and the record of its arms."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-records-")) / "sweep"
    write_sweep(folder, ["instruction: lora-r8 > base"], SEEDS)
    arms = [{"name": p.name, "runs": [p.name]} for p in sorted(folder.iterdir()) if (p / "status.json").is_file()]
    (folder / "sweep.json").write_text(json.dumps({"arms": arms}))
    return folder


@cache
def runs() -> list[str]:
    return sorted(p.parent.name for p in good().glob("*/status.json"))


def raw(name: str) -> bytes:
    """The content of a record of the good sweep."""
    return (good() / name).read_bytes()


@st.composite
def changed_record(draw: Any) -> dict[str, bytes]:
    """One or two records with other content, by their path in the sweep."""
    found = {}
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(SWEEP_FILES)) if draw(st.integers(0, 4)) == 0 else _of_run(draw)
        how = draw(st.sampled_from(("json", "json", "json", "bytes", "anything")))
        if how == "bytes":
            found[name] = draw(spoiled(raw(name)))
        elif how == "anything":
            found[name] = encoded(draw(st.one_of(JSON.map(json.dumps), DEEP, TEXTS)))
        else:
            found[name] = _changed(draw, name)
    return found


def _of_run(draw: Any) -> str:
    return f"{draw(st.sampled_from(runs()))}/{draw(st.sampled_from(RUN_FILES))}"


def _changed(draw: Any, name: str) -> bytes:
    text = raw(name).decode()
    if name.endswith(".yaml"):
        return encoded(yaml.safe_dump(draw(changed(yaml.safe_load(text))), allow_unicode=True))
    if name.endswith(".json"):
        return json.dumps(draw(changed(json.loads(text)))).encode()
    lines = [json.loads(line) for line in text.splitlines()]
    at = draw(st.integers(0, len(lines) - 1))
    lines[at] = draw(changed(lines[at]))
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def report(files: dict[str, bytes]) -> None:
    """`report` and `report --verify` of the changed sweep: no traceback, nothing raw, nothing outside read or written."""
    from cosmos_exp.report import figures

    drawn, figures.draw_all = figures.draw_all, lambda *_: []  # seconds each; they show names and numbers only
    try:
        with tempfile.TemporaryDirectory() as top:
            folder = Path(top) / "a" / "b" / "sweep"
            shutil.copytree(good(), folder)
            (Path(top) / "private.mp4").write_bytes(video() + SECRET.encode())
            (Path(top) / "private.txt").write_text(SECRET)
            for name, content in files.items():
                (folder / name).write_bytes(content)
            outside = _outside(top, folder)
            for more in ([], ["--verify"]):
                _, text = answer(["report", folder, "--out", folder / "report", *more])
                assert SECRET not in text
            assert _outside(top, folder) == outside, "files were written outside"
            check_written(folder / "report")
    finally:
        figures.draw_all = drawn


def _outside(top: str, folder: Path) -> list[str]:
    return sorted(str(p) for p in Path(top).rglob("*") if not p.is_relative_to(folder))


def check_written(out: Path) -> None:
    """Nothing raw of the data is in the files of a report."""
    for path in out.glob("*.*") if out.is_dir() else ():
        if path.suffix == ".png":
            continue
        text = path.read_text(encoding="utf-8")
        assert "\x1b" not in text, f"a raw escape in {path.name}"
        assert "\u202e" not in text, f"a raw change of direction in {path.name}"
        if path.name in ("report.md", "scores.csv", "page.html"):
            assert SCRIPT not in text, f"a script in {path.name}"
            assert "<img src=x" not in text, f"a tag in {path.name}"
        assert "](http://attacker" not in text or path.name != "report.md", "a link"
        assert SECRET not in text, f"a file outside is in {path.name}"


def names(rows: list[dict[str, Any]]) -> None:
    """Prompts, answers, samples and file names of scores.jsonl in a report."""
    from cosmos_exp.report import figures

    drawn, figures.draw_all = figures.draw_all, lambda *_: []
    try:
        with tempfile.TemporaryDirectory() as top:
            run_folder(Path(top) / "runs" / "theirs", rows=rows)
            (Path(top) / "private.mp4").write_bytes(video() + SECRET.encode())
            answer(["report", Path(top) / "runs", "--out", Path(top) / "report"])
            check_written(Path(top) / "report")
    finally:
        figures.draw_all = drawn


EVIL = st.one_of(
    TEXTS,
    st.lists(st.sampled_from((ESCAPE, SCRIPT, "<img src=x onerror=alert(1)>", *TRICKS)), min_size=2, max_size=3).map(
        " ".join
    ),
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "prompt": EVIL,
            "sample": st.one_of(st.just("a"), EVIL),
            "video": st.one_of(st.just("a__seed0.mp4"), EVIL),
            "measure": st.one_of(st.sampled_from(("tse", "instruction")), EVIL),
            "detail": st.dictionaries(st.sampled_from(("answer", "judge", "reason")), EVIL, max_size=2),
            "value": st.floats(0, 5),
            "seed": st.integers(0, 3),
        },
    ),
    min_size=1,
    max_size=3,
)

PROPERTIES = (Property("names", names, ROWS, 8), Property("records", report, changed_record(), 8))
