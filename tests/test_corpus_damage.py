"""Damaged run folders through the real command line: named, with the way out, and nothing is taken from half a file."""

import contextlib
import errno
import json
import re
import resource

import numpy as np
import pytest
from corpus.cases import check
from corpus.damage import PLACES, REPORTED, RESUMED, VALUES, spoil
from corpus.records import run_folder

from cosmos_exp.errors import DiskError


@pytest.mark.parametrize("case", REPORTED + VALUES, ids=lambda c: c.name)
def test_a_damaged_record_is_named(case, tmp_path, cli, capsys):
    check(case, tmp_path, cli, capsys)
    assert not list(tmp_path.rglob("report.md"))


@pytest.mark.parametrize("case", RESUMED, ids=lambda c: c.name)
def test_a_run_with_a_damaged_record_is_not_resumed(case, tmp_path, cli, capsys):
    check(case, tmp_path, cli, capsys)
    files = {p.name for p in (tmp_path / "theirs").iterdir()}
    assert files == {"config.yaml", "status.json", "manifest.json", "metrics.json", "scores.jsonl", "videos"}


@pytest.mark.parametrize("case", PLACES, ids=lambda c: c.name)
def test_a_place_that_cannot_be_written_is_named(case, tmp_path, cli, capsys):
    check(case, tmp_path, cli, capsys)


def test_a_report_lists_the_bad_folder_and_shows_the_others(tmp_path, cli, capsys):
    for name in ("good", "bad"):
        run_folder(tmp_path / "runs" / name)
    spoil(tmp_path / "runs" / "bad", "manifest.json", lambda content: content[:20])
    note = "bad: not reported: manifest.json: it is not JSON"
    assert cli("report", tmp_path / "runs") == 1
    out, err = capsys.readouterr()
    assert note in err
    assert "base" in out
    for name in ("report.md", "page.html", "report.json"):
        text = (tmp_path / "runs" / name).read_text()
        assert note in text, name
        assert str(tmp_path) not in text, "a report is published; the place of the folder is not"
    runs = json.loads((tmp_path / "runs" / "report.json").read_text())["runs"]
    assert [run["run"] for run in runs] == ["good"]
    assert cli("report", tmp_path / "runs", "--verify") == 1
    assert "manifest.json: it is not JSON" in capsys.readouterr().out


def test_a_report_lists_a_run_without_its_configuration(tmp_path, cli, capsys):
    for name in ("good", "bad"):
        run_folder(tmp_path / name)
    (tmp_path / "bad" / "config.yaml").unlink()
    assert cli("report", tmp_path) == 1
    assert "bad: not reported: config.yaml: it is missing" in capsys.readouterr().err


def test_a_measure_without_a_value_is_called_undefined(tmp_path, cli, capsys):
    run_folder(tmp_path, rows=[{"value": None, "detail": {"reason": "too few matches"}}])
    assert cli("report", tmp_path) == 0
    pages = [(tmp_path / name).read_text() for name in ("page.html", "report.md")]
    for page in pages:
        assert re.search(r"base: tse missing for 1 of 1 videos \(too few matches\)", page)


@pytest.mark.parametrize("arms", [[{"name": [None], "runs": ["run"]}], [{"name": "base", "runs": [None]}]])
def test_names_in_the_record_of_a_sweep_are_texts(arms, tmp_path, cli, capsys):
    """Found by `make soak`."""
    run_folder(tmp_path / "run")
    (tmp_path / "sweep.json").write_text(json.dumps({"arms": arms}))
    assert cli("report", tmp_path) == 2
    assert "sweep.json: not a record of a sweep" in capsys.readouterr().err


def test_a_record_of_a_sweep_that_is_nested_too_deeply(tmp_path, cli, capsys):
    """Found by `make soak`."""
    run_folder(tmp_path / "run")
    (tmp_path / "sweep.json").write_text("[" * 100_000)
    assert cli("report", tmp_path) == 2
    assert "sweep.json: not a record of a sweep (it is nested too deeply)" in capsys.readouterr().err


def test_a_judge_whose_name_is_a_list_is_shown_as_text(tmp_path, cli):
    """Found by `make soak`."""
    for kind in ("lora", "none"):
        run_folder(tmp_path / kind, {"adapter.kind": kind}, [{"detail": {"judge": [1]}}])
    assert cli("report", tmp_path) == 0


def test_a_group_of_a_configuration_is_a_group(tmp_path, cli, capsys):
    """Found by `make soak`."""
    run_folder(tmp_path, {"approximate": 5})
    assert cli("report", tmp_path) == 2
    assert "approximate" in capsys.readouterr().err


def test_one_end_of_an_interval_alone_is_no_interval(tmp_path, cli, capsys):
    """Found by `make soak`."""
    run_folder(tmp_path)
    (tmp_path / "metrics.json").write_text(json.dumps({"measures": {"tse": {"mean": 1.5, "ci_high": 2, "n": 1}}}))
    assert cli("report", tmp_path) == 0
    assert "Traceback" not in capsys.readouterr().err


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
    from safetensors.torch import save_file

    from cosmos_exp.data.video import write_video
    from cosmos_exp.files import append_json_line, atomic_path, read_json_lines, write_text
    from cosmos_exp.training.checkpoints import Checkpoints

    frames = np.random.default_rng(0).integers(0, 256, (5, 96, 160, 3)).astype(np.uint8)
    checkpoints = Checkpoints(tmp_path / "checkpoints", 2)
    checkpoints.save(1, {"adapter": torch.zeros(10)})

    def tensors():
        with atomic_path(tmp_path / "a.safetensors") as temporary:
            save_file({"a": torch.zeros(100_000)}, temporary)

    writers = {
        "a.txt": lambda: write_text(tmp_path / "a.txt", "x" * 100_000),
        "a.mp4": lambda: write_video(tmp_path / "a.mp4", frames, 8),
        "a.safetensors": tensors,
        "step_00000002": lambda: checkpoints.save(2, {"adapter": torch.zeros(100_000)}),
        "a.jsonl": lambda: [append_json_line(tmp_path / "a.jsonl", {"a": "x" * 3000}) for _ in range(9)],
    }
    with largest_file(8000):
        for name, write in writers.items():
            with pytest.raises(
                DiskError, match=rf"{name}: cannot be written \(File too large\)\. .* run the same command"
            ):
                write()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "checkpoints"]
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step_00000001"]
    assert len(read_json_lines(tmp_path / "a.jsonl")) == 2  # the third is cut off, and not read


def test_the_same_command_finishes_when_the_disk_has_room_again(tmp_path, cli, capsys):
    run_folder(tmp_path / "run")
    with largest_file(2000):
        assert cli("report", tmp_path / "run") == 1
    assert "cannot be written (File too large)" in capsys.readouterr().err
    assert not list(tmp_path.rglob(".tmp-*"))
    assert cli("report", tmp_path / "run") == 0


def test_the_errors_of_a_disk():
    from cosmos_exp.files import as_disk_error

    full = OSError(errno.ENOSPC, "No space left on device", "/data/x.json")
    assert str(as_disk_error(full)).startswith(
        "/data/x.json: cannot be written (No space left on device). Free some space"
    )
    assert as_disk_error(FileNotFoundError(errno.ENOENT, "x")) is None
    assert as_disk_error(ValueError("x")) is None
