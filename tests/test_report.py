"""The report of a sweep from run folders: tables, figures, verdicts, and what may be compared."""

import csv
import itertools
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from conftest import program

from cosmos_exp.config.measures import LIMITS, MARGINS
from cosmos_exp.data.video import write_video
from cosmos_exp.errors import UserError
from cosmos_exp.files import read_json, write_json, write_json_lines
from cosmos_exp.report.comparisons import check_comparable, margins_of, mark_of, verdict_of
from cosmos_exp.report.runs import Run
from cosmos_exp.report.study import load_study
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.statistics.comparisons import Difference
from cosmos_exp.statistics.intervals import summarize
from cosmos_exp.statistics.power import Design
from cosmos_exp.statistics.scores import read_scores

HOSTILE = 'Pick up the <b>"red"</b> & <script>window.hacked = 1</script> block'
SCORES = {"base": 2.0, "lora-r8": 3.5, "lora-r32": 4.0, "dora-r8": 3.5}


def make_run(folder, name, seed=0, judge="scripted", missing=()):
    """The folder of a finished run with scores around a known mean; its videos become brighter."""
    kind, rank = ("none", 32) if name == "base" else (name.split("-r")[0], int(name.split("-r")[1]))
    run = RunFolder(folder)
    run.path.mkdir(parents=True)
    adapter = {"kind": kind, "rank": rank, "alpha": float(rank), "scaling": "standard"}
    config = {"name": "sweep", "seed": seed, "adapter": adapter, "judge": {"name": judge}, "generation": {"fps": 8}}
    run.config.write_text(yaml.safe_dump(config))
    run.set_status("done", "record")
    run.update_manifest(data={"scenes": {}}, stages={"train": {"seconds": 60.0, "peak_memory_gib": 1.5}})
    rows, rng = [], np.random.RandomState(sum(map(ord, name)) + seed)
    frames = np.linspace(rank, 200, 9 * 32 * 48 * 3).reshape(9, 32, 48, 3).astype(np.uint8)
    write_video(run.path / "video.mp4", frames, 8)
    run.videos.mkdir()
    for k, video_seed in itertools.product(range(8), (0, 1)):
        video = run.video(f"p{k}", video_seed)
        shutil.copy(run.path / "video.mp4", video)
        text = (HOSTILE, f"Lift thing {k}")[k > 0]
        row = {"sample": f"p{k}", "seed": video_seed, "prompt": text, "video": video.name}
        value = float(np.clip(SCORES[name] + 0.3 * rng.standard_normal(), 1, 5))
        if (f"p{k}", video_seed) in missing:
            value = None
        detail = {"judge": judge, "answer": "<i>because</i>"}
        rows.append(row | {"measure": "instruction", "value": value, "detail": detail})
        rows.append(row | {"measure": "tse", "value": 0.2 + 0.01 * rng.rand(), "detail": {}})
    write_json_lines(run.scores, rows)
    write_json(run.metrics, {"training": {"train_loss": 0.5}, "measures": summarize(rows, limits=LIMITS)})
    write_json_lines(run.train_log, [{"step": step, "loss": 1 / step} for step in range(1, 30)])
    return run


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    root = tmp_path_factory.mktemp("outputs") / "sweeps" / "mine"
    for name in SCORES:
        make_run(root / name, name, missing=[("p3", 1)] if name == "lora-r32" else ())
    make_run(root / "lora-r8-seed1", "lora-r8", 1)
    return root


def test_the_report_shows_what_the_runs_contain(sweep, tmp_path, answered, monkeypatch):
    """Each file of scores is read once. Two reports of the same runs are the same to the byte."""
    reads = []
    monkeypatch.setattr("cosmos_exp.report.runs.read_scores", lambda path: reads.append(path) or read_scores(path))
    out, again = tmp_path / "a" / "mine", tmp_path / "b" / "mine"
    answered(["report", sweep, "--out", out], 0, str(out / "page.html"))
    assert len(reads) == len(set(reads)) == 3 * 5  # with those of real and frozen
    text = (out / "report.md").read_text()
    table = text[text.index("| adapter") : text.index("## All measures")]
    (row,) = [line for line in table.splitlines() if line.startswith("| lora-r8 ")]
    assert row.split("|")[2].strip() == "2"  # two training seeds are one row
    assert row.rstrip(" |").endswith("(+)")  # two training runs say nothing of a third
    assert "Fewer than 3 training runs (dora-r8: 1, lora-r8: 2, lora-r32: 1)" in text
    assert "lora-r32: instruction missing for 1 of 16 videos" in text
    assert (out / "table.tex").read_text().count(r"\\") == 5
    with open(out / "scores.csv") as file:
        assert len(list(csv.DictReader(file))) == 5 * 8 * 2 * 2
    assert {p.name for p in (out / "figures").iterdir()} >= {"loss.png", "loss.pdf", "rank.svg", "differences.pdf"}
    answered(["report", sweep, "--out", again], 0)
    for name in ("report.md", "table.tex", "scores.csv", "page.html", "figures/rank.png", "figures/rank.pdf"):
        assert (out / name).read_bytes() == (again / name).read_bytes(), name


def test_a_study_is_one_frame_of_scores(sweep):
    study = load_study(sweep)
    assert list(study.arms.index) == ["base", "dora-r8", "lora-r8", "lora-r32"]
    assert list(study.runs.loc["lora-r8-seed1", ["arm", "phase", "seed"]]) == ["lora-r8", "test", 1]
    scores = study.scores.set_index(["arm", "measure"]).loc[("lora-r32", "instruction"), "value"]
    assert (len(scores), scores.isna().sum()) == (16, 1)  # what is missing stays missing
    row = study.differences.set_index(["measure", "arm", "reference"]).loc[("instruction", "lora-r32", "base")]
    assert (row["left_out"], row["dropped"], row["verdict"]) == (1, "p3", "better")


def test_a_copy_of_a_run_is_no_further_training_run(sweep, tmp_path):
    for name in ("base", "lora-r8"):
        shutil.copytree(sweep / name, tmp_path / name)
    shutil.copytree(sweep / "lora-r8", tmp_path / "backup")
    study = load_study(tmp_path)
    assert study.arms.loc["lora-r8", "done"] == 1
    assert set(study.differences["arm_runs"]) == {1}


def test_a_report_needs_no_torch_and_a_notebooks_backend_and_an_ascii_terminal_do_not_stop_it(sweep, tmp_path):
    words = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTHONIOENCODING": "ascii"}
    code = "import sys; from cosmos_exp.cli import main; sys.exit(main(sys.argv[1:]) or 'torch' in sys.modules)"
    done = program(sys.executable, "-c", code, "report", sweep, "--out", tmp_path, **words)
    assert (done.returncode, done.stderr) == (0, "")
    assert "tse ?" in done.stdout  # an arrow


def test_margins_are_the_strictest_of_the_runs_or_those_of_the_command_line(sweep, tmp_path, answered):
    first, second = ({"margins": m} for m in ({"instruction": 0.5, "tse": 0.1}, {"instruction": 0.3}))
    runs = [SimpleNamespace(config=config) for config in (first, second, {})]
    assert margins_of(runs) == MARGINS | {"instruction": 0.25, "tse": 0.05}  # the defaults of the last
    assert margins_of(runs[:2]) == {"instruction": 0.3, "tse": 0.1}
    answered(["report", sweep, "--out", tmp_path, "--margin", "tse=0.5"], 0)
    written = read_json(tmp_path / "report.json")
    assert {row["margin"] for row in written["differences"] if row["measure"] == "tse"} == {0.5}
    assert "The margin tse=0.5 was given on the command line, after the scores." in written["notes"]
    for wrong in ("tse=-1", "instructoin=1"):
        answered(["report", sweep, "--margin", wrong], 2, "MEASURE=NUMBER")


def described(name, height=96, played=8, prompts=2, judge="a", scenes=None):
    """A run as far as comparisons read it."""
    config = {"data": {"height": height}, "generation": {"fps": played}}
    row = {"prompt": "Lift", "measure": "physics", "detail": {"judge": judge}}
    scores = [row | {"sample": prompt} for prompt in ("p", "q")[:prompts]]
    run = Run(RunFolder(name))
    vars(run).update(config=config, manifest={"data": {"scenes": scenes}}, scores=scores)
    return run


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"height": 48}, "data.height: 96 -> 48; 1 in all"),
        ({"played": 16}, "generation.fps: 8 -> 16"),
        ({"prompts": 1}, "prompts.q: Lift -> None"),
        ({"judge": "b"}, "judged.physics by a: True -> None"),
        ({"scenes": {"p": "2"}}, "first_frames.p: None -> 2"),
    ],
)
def test_scores_of_other_conditions_are_not_compared(changed, words):
    """Also where it is not the first run of an arm that differs."""
    check_comparable([described("a"), described("c")])
    with pytest.raises(UserError) as error:
        check_comparable([described("a"), described("c"), described("b", **changed)])
    assert "a and b have different prompts, settings or judges" in str(error.value)
    assert words in str(error.value)


def test_runs_that_are_not_comparable_are_reported_without_differences(tmp_path, answered):
    make_run(tmp_path / "base", "base")
    make_run(tmp_path / "lora-r8", "lora-r8", judge="another")
    answered(["report", tmp_path], 0, "settings or judges (judge.name: scripted -> another")
    assert "## All comparisons" not in (tmp_path / "report.md").read_text()


def test_the_notes_explain_what_is_missing(tmp_path):
    run = make_run(tmp_path / "r1", "lora-r8")
    run.update_manifest(labels={"random_weights": True})
    rows = [row | {"value": None, "detail": {"reason": "static"}} for row in Run(run).scores if row["measure"] == "tse"]
    write_json_lines(run.scores, rows)
    make_run(tmp_path / "r2", "lora-r8", seed=1).set_status("failed", "train", "out of memory\ndetails")
    assert load_study(tmp_path).notes == [
        "The base model's weights are random: these numbers only show that the pipeline runs.",
        "r2: failed: out of memory",
        "lora-r8: tse missing for 16 of 16 videos (static).",
    ]


EQUIVALENT = {"low": -0.01, "high": 0.02, "p_holm": 0.9, "p_equivalent_holm": 0.01}


@pytest.mark.parametrize(
    ("numbers", "verdict", "mark"),
    [
        ({"p_holm": None}, "inconclusive", ""),
        ({}, "worse", "(−)"),
        ({"mean": -0.1}, "better", "(+)"),
        ({"recipe": True, "reference_runs": 3, "arm_runs": 3}, "worse", "−°"),
        ({"recipe": True, "reference_runs": 1, "arm_runs": 5}, "worse", "−"),
        (EQUIVALENT, "equivalent", "(=)"),
        (EQUIVALENT | {"n": 2}, "inconclusive", ""),
        ({"repeatability": 0.2}, "inconclusive", ""),
    ],
)
def test_the_verdict_and_mark_of_each_kind_of_comparison(numbers, verdict, mark):
    d = replace(Difference("a", "b", "tse", 0.1, 0.0, 0.2, 30, margin=0.05, p_holm=0.02), **numbers)
    assert (verdict_of(d), mark_of(d)) == (verdict, mark)


def test_how_many_scenes_an_inconclusive_comparison_needs():
    one = Difference("a", "b", "tse", 0.1, 0.0, 0.2, 2, p_holm=0.5, margin=0.5, design=Design(4.0, 0.0, 1.0))
    assert one.needs()[0] > 23
    assert replace(one, margin=50.0).needs() == (23, None)  # as equivalence asks for
    for decided in ({"margin": 50.0, "n": 23}, {"p_holm": 0.01}):
        assert replace(one, **decided).needs() == (None, None)
