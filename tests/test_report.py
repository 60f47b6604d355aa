"""The report of a sweep from run folders: tables, figures, conclusions, and the page in a real browser."""

import csv
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import SMALL

from cosmos_exp.config.layers import update_scale
from cosmos_exp.config.measures import LIMITS, MARGINS, Measure, measure_info
from cosmos_exp.config.schema import Adapter
from cosmos_exp.data.video import write_video
from cosmos_exp.errors import UserError
from cosmos_exp.files import write_json, write_json_lines
from cosmos_exp.report.adapter_info import effective_rank, update_spectra
from cosmos_exp.report.comparisons import margins_of, mark_of, verdict_of
from cosmos_exp.report.runs import Run, find_runs
from cosmos_exp.report.study import load_study
from cosmos_exp.report.tables import print_study, write_report
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.statistics.comparisons import Difference
from cosmos_exp.statistics.intervals import summarize
from cosmos_exp.statistics.power import Design

HOSTILE = 'Pick up the <b>"red"</b> & <script>window.hacked = 1</script> block'
SCORES = {"base": 2.0, "lora-r8": 3.5, "lora-r32": 4.0, "dora-r8": 3.5}


def make_run(folder, name, seed=0, prompts=8, shift=0.0, judge="scripted", missing=()):
    """The folder of a finished run with scores around a known mean; its videos show a moving coloured square."""
    kind, rank = ("none", 32) if name == "base" else (name.split("-r")[0], int(name.split("-r")[1]))
    run = RunFolder(folder)
    run.path.mkdir(parents=True)
    adapter = {"kind": kind, "rank": rank, "alpha": float(rank), "scaling": "standard"}
    config = {
        "name": "sweep",
        "seed": seed,
        "adapter": adapter,
        "training": {"epochs": 1},
        "generation": {"seeds": [0, 1]},
        "judge": {"name": judge},
        "sampson": {"gap": 1},
        "model": {},
        "data": {},
    }
    run.config.write_text(yaml.safe_dump(config))
    run.set_status("done", "record")
    names = [f"p{k}" for k in range(prompts)]
    run.update_manifest(
        data={"test": names, "train": ["a"]},
        model={"fingerprints": {"vae": "1"}},
        labels={"adapter": name},
        stages={"train": {"seconds": 60.0, "peak_memory_gib": 1.5}} if kind != "none" else {},
    )
    rows, rng = [], np.random.RandomState(sum(map(ord, name)) + seed)
    for k, sample in enumerate(names):
        for video_seed in (0, 1):
            noise = 0.3 * rng.standard_normal()
            value = None if (sample, video_seed) in missing else float(np.clip(SCORES[name] + shift + noise, 1, 5))
            base = {
                "sample": sample,
                "seed": video_seed,
                "prompt": HOSTILE if k == 0 else f"Lift thing {k}",
                "video": f"{sample}__seed{video_seed}.mp4",
            }
            rows.append(
                base
                | {"measure": "instruction", "value": value, "detail": {"judge": judge, "answer": "<i>because</i>"}}
            )
            rows.append(base | {"measure": "tse", "value": 0.2 + 0.01 * rng.rand(), "detail": {}})
    write_json_lines(run.scores, rows)
    training = {} if kind == "none" else {"train_loss": 0.5, "validation_loss": 0.6, "adapter_mib": 1.0}
    write_json(run.metrics, {"training": training, "measures": summarize(rows, limits=LIMITS)})
    frames = np.full((9, 32, 48, 3), 90, np.uint8)
    for t in range(9):
        frames[t, 8:24, 4 * t : 4 * t + 8] = (250, 40, 10 * rank % 250)
    write_video(run.video("p0", 0), frames, 8)
    for row in rows:
        if not run.video(row["sample"], row["seed"]).is_file():
            shutil.copy(run.video("p0", 0), run.video(row["sample"], row["seed"]))
    if kind != "none":
        losses = [
            {"step": s, "loss": 1 / s + 1e-4 * seed, "seconds": 0.1} for s in range(1, 30)
        ]  # no two trainings agree
        write_json_lines(run.train_log, losses)
    return run


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    root = tmp_path_factory.mktemp("outputs") / "sweeps" / "mine"
    for name in SCORES:
        for seed in (0, 1) if name == "lora-r8" else (0,):
            make_run(
                root / (name + (f"-seed{seed}" if seed else "")),
                name,
                seed,
                missing=[("p3", 1)] if name == "lora-r32" else (),
            )
    return root


def test_the_report_shows_what_the_runs_contain(sweep, cli, capsys):
    assert cli("report", sweep) == 0
    assert "page.html" in capsys.readouterr().out
    text = (sweep / "report.md").read_text()
    table = text[text.index("| adapter") : text.index("## All measures")]
    rows = {line.split("|")[1].strip(): line for line in table.splitlines() if line.startswith("| ")}
    assert "**" in rows["lora-r32"]  # the best mean of instruction
    assert [cell.strip() for cell in rows["lora-r8"].split("|")][2] == "2"  # two training seeds are one row
    assert rows["lora-r8"].rstrip(" |").endswith("(+)")  # two training runs say nothing of a third
    assert "Fewer than 3 training runs (dora-r8: 1, lora-r8: 2, lora-r32: 1)" in text
    assert "instruction missing for 1 of 16 videos" in text
    assert "lora-r32 − base: 1 videos dropped from instruction, of the prompts p3: not all runs have a score." in text
    assert "![differences](figures/differences.png)" in text
    assert "](http" not in text
    latex = (sweep / "table.tex").read_text()
    assert latex.count(r"\\") == 5
    assert r"\toprule" in latex
    assert r"\textbf{" in latex
    assert r"{\scriptsize [" in latex
    with open(sweep / "scores.csv") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 5 * 8 * 2 * 2
    assert {p.name for p in (sweep / "figures").iterdir()} >= {"loss.png", "loss.pdf", "rank.png", "differences.pdf"}


def test_a_study_is_one_frame_of_scores(sweep):
    study = load_study(sweep)
    assert list(study.arms.index) == ["base", "dora-r8", "lora-r8", "lora-r32"]
    assert list(study.runs.loc["lora-r8-seed1", ["arm", "phase", "seed"]]) == ["lora-r8", "test", 1]
    own = study.scores[(study.scores["arm"] == "lora-r32") & (study.scores["measure"] == "instruction")]
    assert (len(own), own["value"].isna().sum()) == (16, 1)  # what is missing stays missing
    assert study.mean("lora-r32", "instruction")["missing"] == 1
    row = study.differences.set_index(["measure", "arm", "reference"]).loc[("instruction", "lora-r32", "base")]
    assert (row["left_out"], row["dropped"]) == (1, "p3")
    assert row["verdict"] == "better"
    assert row["scenes_needed"] != row["scenes_needed"]  # decided


def test_the_scores_of_a_run_are_read_once(sweep, tmp_path, monkeypatch):
    from cosmos_exp.report import runs

    read = []
    own = runs.read_scores
    monkeypatch.setattr(runs, "read_scores", lambda path: read.append(path) or own(path))
    write_report(sweep, tmp_path)
    assert len(read) == len(set(read)) == 5 * 3  # with both kinds of references


def test_a_notebooks_backend_and_an_ascii_terminal_do_not_stop_a_report(sweep, tmp_path):
    words = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "cosmos_exp", "report", str(sweep), "--out", str(tmp_path)]
    done = subprocess.run(command, env=os.environ | words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "tse ?" in done.stdout  # an arrow


def test_reports_are_the_same_every_time(sweep, tmp_path, cli):
    assert (
        cli("report", sweep, "--out", tmp_path / "a" / "mine")
        == cli("report", sweep, "--out", tmp_path / "b" / "mine")
        == 0
    )
    for name in ("report.md", "table.tex", "scores.csv", "page.html", "figures/rank.png", "figures/rank.pdf"):
        assert (tmp_path / "a" / "mine" / name).read_bytes() == (tmp_path / "b" / "mine" / name).read_bytes(), name


@pytest.mark.parametrize("what", ["judge", "prompts"])
def test_runs_that_are_not_comparable_are_not_compared(tmp_path, cli, capsys, what):
    make_run(tmp_path / "base", "base")
    make_run(tmp_path / "lora-r8", "lora-r8", **({"judge": "another"} if what == "judge" else {"prompts": 5}))
    assert cli("report", tmp_path) == 0
    out = capsys.readouterr().out
    assert {"judge": "different judges", "prompts": "different test prompts"}[what] in out
    assert "## All comparisons" not in (tmp_path / "report.md").read_text()


def test_the_strictest_margin_of_the_runs_is_used(tmp_path):
    runs = [make_run(tmp_path / n, n) for n in ("base", "lora-r8", "dora-r8")]
    for run, margins in zip(runs[1:], ({"instruction": 0.5, "tse": 0.1}, {"instruction": 0.3}), strict=True):
        run.config.write_text(yaml.safe_dump(yaml.safe_load(run.config.read_text()) | {"margins": margins}))
    assert margins_of(list(map(Run, runs))) == MARGINS | {
        "instruction": 0.25,
        "tse": 0.05,
    }  # the base's are the defaults
    assert margins_of(list(map(Run, runs[1:]))) == {"instruction": 0.3, "tse": 0.1}


def test_margins_on_the_command_line(sweep, tmp_path, cli, capsys):
    assert cli("report", sweep, "--out", tmp_path, "--margin", "tse=0.5", "--margin", "instruction=0.9") == 0
    text = (tmp_path / "report.md").read_text()
    line = next(
        line for line in text.splitlines() if [c.strip() for c in line.split("|")][1:4] == ["tse", "lora-r8", "base"]
    )
    assert "0.5" in [cell.strip() for cell in line.split("|")]
    assert "inconclusive" in line  # 8 scenes are too few to call them equivalent
    assert cli("report", sweep, "--margin", "tse") == 2
    assert "MEASURE=NUMBER" in capsys.readouterr().err
    assert cli("report", sweep, "--margin", "instructoin=1") == 2
    assert "no such measure is tested. Did you mean instruction? The tested ones: tse," in capsys.readouterr().err
    assert cli("report", sweep, "--margin", "static_share=1") == 2  # it has no better direction


def test_the_report_as_a_function(sweep, tmp_path):
    report = write_report(sweep, tmp_path, ["tse=0.1"])
    assert [p.name for p in report.files] == ["report.md", "table.tex", "scores.csv", "report.json", "sheet.png"]
    assert all(p.is_file() for p in (*report.files, *report.figures, report.page))
    assert len(report.study.runs) == 5
    assert report.study.not_compared == ""
    assert not report.any_failed
    with pytest.raises(UserError, match="no runs found"):
        write_report(tmp_path / "figures")
    with pytest.raises(UserError, match="does not exist"):
        write_report(tmp_path / "nothing")


def test_runs_of_one_arm_with_other_prompts_are_refused_by_name(tmp_path):
    """Also where it is not the first run of an arm that differs."""
    for name, seed, prompts in (("base", 0, 8), ("lora-r8", 0, 8), ("lora-r8", 1, 6)):
        make_run(tmp_path / f"{name}-seed{seed}", name, seed, prompts)
    study = load_study(tmp_path)
    assert (
        "base-seed0 and lora-r8-seed1 have different test prompts (p6: Lift thing 6 and missing; p7"
        in study.not_compared
    )
    assert study.differences.empty


def test_the_notes_explain_what_is_missing(tmp_path):
    run = make_run(tmp_path / "r1", "lora-r8")
    run.set_status("done", "record")
    run.update_manifest(labels={"random_weights": True})
    rows = [row | {"value": None, "detail": {"reason": "static"}} for row in Run(run).scores if row["measure"] == "tse"]
    write_json_lines(run.scores, rows)
    make_run(tmp_path / "r2", "lora-r8", seed=1).set_status("failed", "train", "out of memory\ndetails")
    assert load_study(tmp_path).notes[:3] == [
        "The base model's weights are random: these numbers only show that the pipeline runs.",
        "r2: failed: out of memory",
        "lora-r8: tse missing for 16 of 16 videos (static).",
    ]


def test_the_verdict_and_mark_of_each_kind_of_comparison():
    one = Difference("a", "b", "tse", 0.1, 0.0, 0.2, 30, 30, 0, margin=0.05)

    def said(**numbers):
        d = replace(one, **numbers)
        return verdict_of(d), mark_of(d)

    assert said() == ("inconclusive", "")
    assert said(p=0.01, p_holm=0.02) == ("worse", "(−)")
    assert said(mean=-0.1, p=0.01, p_holm=0.02) == ("better", "(+)")
    assert said(p=0.01, p_holm=0.02, recipe=True, runs=(3, 3)) == ("worse", "−°")
    assert said(p=0.01, p_holm=0.02, recipe=True, runs=(1, 5)) == ("worse", "−")
    earned = {"ci_low": -0.01, "ci_high": 0.02, "p": 0.9, "p_holm": 0.9, "p_equivalent_holm": 0.01}
    assert said(**earned) == ("equivalent", "(=)")
    assert said(**earned, n=2) == ("inconclusive", "")
    assert said(p=0.01, p_holm=0.02, repeatability=0.2) == ("inconclusive", "")


def test_how_many_scenes_an_inconclusive_comparison_needs():
    one = Difference(
        "a", "b", "tse", 0.1, 0.0, 0.2, 2, 2, 0, p=0.5, p_holm=0.5, margin=0.5, design=Design(4.0, 0.0, 1.0)
    )
    scenes, runs = one.needs()
    assert (scenes > 23, runs) == (True, None)
    assert replace(one, margin=50.0).needs() == (23, None)  # as equivalence asks for
    assert replace(one, margin=50.0, n=23).needs() == (None, None)
    assert replace(one, margin=None).needs() == (None, None)
    assert replace(one, p_holm=0.01).needs() == (None, None)


def test_the_terminal_answers_first(sweep, capsys):
    print_study(load_study(sweep))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Take: ")
    assert "instruction" in lines[0]


def test_the_table_of_measures():
    pixels = ["tse", "tse_robust", "tse_moving", "cse", "cse_robust", "cse_moving"]
    assert list(MARGINS) == ["physics", "instruction", *pixels]  # as in config.yaml
    assert measure_info("mine") == Measure(better=1, margin=None, unit="")


def test_the_scale_of_the_update():
    assert update_scale(Adapter(rank=16, alpha=32.0)) == 2
    assert update_scale(Adapter(rank=16, alpha=32.0, scaling="rslora")) == 8


def test_a_real_runs_report_with_its_spectrum(tmp_path, cli):
    assert cli("run", *SMALL, "rank=8", f"run_dir={tmp_path / 'lora-r8'}") == 0
    assert cli("report", tmp_path) == 0
    assert cli("report", tmp_path, "--verify") == 0  # the evaluation recorded what it scored
    assert (tmp_path / "figures" / "spectrum.png").is_file()
    file = RunFolder(tmp_path / "lora-r8").adapter_file
    from safetensors.numpy import load_file

    weights = load_file(file)
    spectra = update_spectra(file)
    name = "transformer.transformer_blocks.0.attn2.to_k.lora_{}.weight"
    whole = weights[name.format("B")].astype(np.float64) @ weights[name.format("A")].astype(np.float64)
    np.testing.assert_allclose(
        spectra["attn2.to_k"][0], np.linalg.svd(whole, compute_uv=False)[:8], rtol=1e-6, atol=1e-12
    )
    assert effective_rank(np.ones(5)) == pytest.approx(5)
    assert effective_rank(np.array([1.0, 0, 0])) == pytest.approx(1)


def test_a_folder_may_be_given_by_a_relative_path(tmp_path, monkeypatch):
    run = tmp_path / "sweep" / "lora-r8"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("name: x\n")
    (run / "status.json").write_text('{"state": "done"}')
    monkeypatch.chdir(tmp_path)
    assert [r.path for r in find_runs(Path("sweep"))] == [run]
