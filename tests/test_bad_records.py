"""Damaged run folders and full disks: named, with the way out, and nothing is taken from half a file."""

import contextlib
import resource

import numpy as np
import pytest
from bad_inputs import run_folder

from cosmos_exp.data.video import write_video
from cosmos_exp.errors import DiskError
from cosmos_exp.files import append_json_line, read_json_lines, write_text
from cosmos_exp.training.checkpoints import Checkpoints

# What the error says besides the file's name.
FIX = {
    "config.yaml": "Without one, delete it",
    "status.json": "Delete this file and resume the run: it is written again",
    "manifest.json": "Delete this file and resume the run: finished work is kept",
    "metrics.json": "Delete this file and resume the run: it is made again",
    "scores.jsonl": "Delete this file and resume the run: the scores are made again",
}
DAMAGES = {
    "cut short": lambda content: content[: len(content) // 2],
    "garbage": lambda content: b"\x00\xff\x1b[2J\xfe" * 20 + b"\n" + content,
    "another type": lambda content: b"[1, 2]\n",
}
WRONG = [  # a file, its content, what is said
    ("run/metrics.json", '{"training": {"train_loss": NaN}}', "it holds NaN"),
    (
        "run/scores.jsonl",
        '{"sample": "a", "seed": 0, "video": "a.mp4", "measure": "tse"}\n',
        "row 1: value is no number",
    ),
    ("sweep.json", '{"arms": [{"name": [null], "runs": ["run"]}]}', "not a record of a sweep"),
]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FIX)
def test_a_damaged_record_is_named_and_the_run_is_not_resumed(name, damage, tmp_path, answered):
    file = run_folder(tmp_path / "run") / name
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    before = sorted(tmp_path.rglob("*"))
    answered(["report", tmp_path / "run"], 2, name, FIX[name])
    if (name, damage) != ("scores.jsonl", "cut short"):  # as after a kill: what is missing is made
        answered(["run", f"run_dir={tmp_path / 'run'}"], 2, name, FIX[name])
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("name", "content", "said"), WRONG)
def test_a_wrong_value_in_a_record_is_named(name, content, said, tmp_path, answered):
    run_folder(tmp_path / "run")
    (tmp_path / name).write_text(content)
    answered(["report", tmp_path], 2, name.removeprefix("run/"), said)


def test_a_report_lists_the_bad_folders_and_shows_the_others(tmp_path, answered):
    folder = tmp_path / "runs"
    for name in ("good", "bad", "worse"):
        run_folder(folder / name, rows=[{"value": None, "detail": {"reason": "too few matches"}}])
    (folder / "bad" / "manifest.json").write_text("{")
    (folder / "worse" / "config.yaml").unlink()
    notes = ("bad: not reported: manifest.json: it is not JSON", "worse: not reported: config.yaml: it is missing")
    answered(["report", folder], 1, *notes)
    for name in ("report.md", "page.html", "report.json"):
        text = (folder / name).read_text()
        assert notes[0] in text, name
        assert str(tmp_path) not in text, "a report is published; the place of the folder is not"
    assert "base: tse missing for 1 of 1 videos (too few matches)" in (folder / "report.md").read_text()


@pytest.mark.parametrize(
    ("command", "out", "said"),
    [
        ("report", "/sys/cosmos_exp", "cannot be written"),
        ("report", "/etc/passwd/x/y", "/etc/passwd is a file"),
        ("rerun", "/etc/passwd", "/etc/passwd is a file"),
    ],
)
def test_a_place_that_cannot_be_written_is_named(command, out, said, tmp_path, answered):
    answered([command, run_folder(tmp_path / "run"), "--out", out], 2, f"--out {out}: ", said, "Choose")


@contextlib.contextmanager
def largest_file(size):
    """No file may grow beyond `size` bytes: as on a full disk, a write takes a part and then fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_names_the_file_whatever_writes_it(tmp_path):
    import torch

    frames = np.random.default_rng(0).integers(0, 256, (5, 96, 160, 3)).astype(np.uint8)
    checkpoints, log = Checkpoints(tmp_path / "checkpoints", 2), tmp_path / "a.jsonl"
    checkpoints.save(1, {"adapter": torch.zeros(10)})
    writers = {
        "a.txt": lambda: write_text(tmp_path / "a.txt", "x" * 100_000),
        "a.mp4": lambda: write_video(tmp_path / "a.mp4", frames, 8),
        "step_00000002": lambda: checkpoints.save(2, {"adapter": torch.zeros(100_000)}),
        "a.jsonl": lambda: [append_json_line(log, {"a": "x" * 3000}) for _ in range(9)],
    }
    with largest_file(8000):
        for name, write in writers.items():
            with pytest.raises(DiskError, match=rf"{name}: cannot be written \(File too large\)\. .* start again"):
                write()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "checkpoints"]
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step_00000001"]
    assert len(read_json_lines(log)) == 2  # the third is cut off, and not read
