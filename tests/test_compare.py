"""benchmarks/compare.py on result files made here: verdicts, spreads, machines, exit codes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.append(str(BENCHMARKS))

import common  # noqa: E402
import compare  # noqa: E402


@pytest.fixture
def result(tmp_path):
    """result("old", data) writes a result file with its page beside it and returns its path."""

    def write(folder, data, name="train_step_cpu_2026-11-23", device="AMD EPYC, 2 cores"):
        path = tmp_path / folder / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(data))
        if device:
            path.with_suffix(".md").write_text(f"# Training step on {device}, 2026-11-23\n\n{device}; Python 3.11.7\n")
        return path

    return write


def rows(*samples_per_second):
    return [{"model": "tabletop", "variant": "ours", "samples_per_second": list(samples_per_second), "peak_gib": None}]


def run(capsys, *words):
    code = compare.main([str(w) for w in words])
    return code, capsys.readouterr()


def test_a_rate_that_fell_beyond_tolerance_and_spread_is_slower(result, capsys):
    old, new = result("old", rows(4.0, 4.1, 4.2)), result("new", rows(2.0, 2.05, 2.1))
    code, shown = run(capsys, old, new)
    assert code == 1
    assert "slower     2.00 (1.90 to 2.10)  tabletop, ours: samples_per_second" in shown.out
    code, shown = run(capsys, new, old)
    assert code == 0
    assert "faster     0.50 (0.48 to 0.53)" in shown.out


def test_no_verdict_where_spreads_overlap_or_the_change_is_within_the_tolerance(result, capsys):
    old = result("old", rows(3.0, 4.1, 4.2))
    overlapping = result("new", rows(2.0, 2.05, 3.1))
    assert run(capsys, old, overlapping)[0] == 0
    small = result("small", rows(3.9, 3.95, 3.99))
    assert run(capsys, result("steady", rows(4.1, 4.15, 4.2)), small)[0] == 0
    assert run(capsys, result("steady", rows(4.1, 4.15, 4.2)), small, "--tolerance", 0.02)[0] == 1
    shown = run(capsys, old, overlapping)[1].out
    assert "1 figures without a verdict" in shown
    assert "-          2.00 (0.97 to 2.10)" in run(capsys, old, overlapping, "--all")[1].out


def test_other_or_unknown_machines_are_refused_unless_forced(result, capsys):
    old = result("old", rows(4.0, 4.1, 4.2))
    for other in (result("gpu", rows(40, 41, 42), device="NVIDIA H100"), result("none", rows(1, 2, 3), device=None)):
        code, shown = run(capsys, old, other)
        assert code == 2
        assert "--force" in shown.err
    assert "an unknown machine" in shown.err
    assert run(capsys, old, other, "--force")[0] == 1


def test_repeats_single_numbers_and_nested_rows_are_read():
    gpu = {"reference": {"adapter": "lora", "seconds": [1.0, 2.0, 4.0], "peak_gib": 30.5}, "train": rows(1, 2)}
    assert dict(compare.figures(gpu)) == {
        "reference, lora: seconds": compare.Figure("time", 2.0, 1.0, 4.0, True),
        "reference, lora: peak_gib": compare.Figure("memory", 30.5, 30.5, 30.5, False),
        "train, tabletop, ours: samples_per_second": compare.Figure("rate", 1.5, 1, 2, True),
    }
    assert dict(compare.figures({"psnr": [1.0, 2.0], "tse": [None]})) == {}


def test_memory_needs_no_repeats_and_a_single_time_gets_no_verdict(result, capsys):
    old = result("old", [{"adapter": "lora", "peak_gib": 10.0, "seconds": 1.0}])
    new = result("new", [{"adapter": "lora", "peak_gib": 12.0, "seconds": 9.0}])
    code, shown = run(capsys, old, new)
    assert code == 1
    assert "larger     1.20 (1.20 to 1.20)  lora: peak_gib" in shown.out
    assert "seconds" not in shown.out


def test_folders_are_compared_by_the_newest_result_of_each_kind(result, capsys):
    result("old", rows(9.0, 9.1), "train_step_cpu_2026-11-22")
    result("old", rows(4.0, 4.1))
    result("old", rows(1.0, 1.1), "scaling_2026-11-23")
    new = result("new", rows(4.0, 4.1), "train_step_cpu_2026-12-01")
    code, shown = run(capsys, new.parent.parent / "old", new.parent)
    assert code == 0
    assert "train_step_cpu_2026-11-23.json -> train_step_cpu_2026-12-01.json" in shown.out
    assert "only in" in shown.out
    assert "scaling" in shown.out


def test_what_cannot_be_compared_is_named(result, tmp_path, capsys):
    old = result("old", rows(4.0, 4.1))
    assert run(capsys, old, tmp_path / "absent.json")[0] == 2
    assert run(capsys, old, old.parent)[0] == 2
    code, shown = run(capsys, old, result("new", {"psnr": [1, 2]}))
    assert (code, "no figure in common" in shown.err) == (2, True)
    broken = result("broken", {})
    broken.write_text("{")
    assert run(capsys, old, broken)[0] == 2


def test_a_folder_equals_itself_for_the_stored_results(capsys):
    code, shown = run(capsys, BENCHMARKS / "results", BENCHMARKS / "results")
    assert code == 0
    assert shown.out.count("without a verdict") == len(compare.newest(BENCHMARKS / "results"))


def test_results_of_benchmarks_are_json_and_undefined_numbers_are_null():
    def refuse(name):
        raise ValueError(f"{name} is not JSON")

    text = common.json_text({"a": [float("nan"), np.float64("inf"), np.float32(0.5), 1], "b": {"c": (None, "x", True)}})
    assert json.loads(text, parse_constant=refuse) == {"a": [None, None, 0.5, 1], "b": {"c": [None, "x", True]}}
    files = [*BENCHMARKS.rglob("results/*.json"), *(BENCHMARKS.parent / "docs").rglob("*.json")]
    assert len(files) > 20
    for file in files:
        json.loads(file.read_text(), parse_constant=refuse)
