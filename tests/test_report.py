"""The report of a sweep from run folders: tables, figures, conclusions, and the page in a real browser."""

import csv
import shutil
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
from cosmos_exp.report.conclusions import conclusions
from cosmos_exp.report.margins import margins_of
from cosmos_exp.report.results import Results
from cosmos_exp.report.spectrum import effective_rank, update_spectra
from cosmos_exp.report.tables import RunRow, notes
from cosmos_exp.report.variants import Run, Variant, find_runs, group_runs
from cosmos_exp.report.writing import write_report
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.statistics.comparisons import Difference
from cosmos_exp.statistics.intervals import summarize

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
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert "**" in rows["lora-r32"]  # the best mean of instruction
    assert "| 2 |" in rows["lora-r8"]  # two training seeds are one row
    assert rows["lora-r8"].rstrip().endswith("(+) |")  # two training runs say nothing of a third
    assert "instruction (1 to 5): these 2 lora-r8 adapters are better than base" in text
    assert "Fewer than 3 training runs (dora-r8: 1, lora-r8: 2, lora-r32: 1)" in text
    assert "this dora-r8 adapter compared with these 2 lora-r8 adapters" in text
    assert "inconclusive: " in text
    assert "needs about " in text
    assert "The scenes of 8 prompts are unknown" in text
    assert "instruction is missing for 1 of 16 videos" in text
    assert "| 1 |" in next(line for line in text.splitlines() if line.startswith("| instruction | lora-r32 − base"))
    latex = (sweep / "table.tex").read_text()
    assert latex.count(r"\\") == 5
    assert r"\textbf{" in latex
    with open(sweep / "scores.csv") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 5 * 8 * 2 * 2
    assert {p.name for p in (sweep / "figures").iterdir()} >= {"loss.png", "loss.pdf", "rank.png", "differences.pdf"}


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
    assert {"judge": "different judges", "prompts": "different test sets"}[what] in out
    assert "better than" not in (tmp_path / "report.md").read_text()


def test_the_strictest_margin_of_the_runs_is_used(tmp_path):
    runs = [make_run(tmp_path / n, n) for n in ("base", "lora-r8", "dora-r8")]
    for run, margins in zip(runs[1:], ({"instruction": 0.5, "tse": 0.1}, {"instruction": 0.3}), strict=True):
        run.config.write_text(yaml.safe_dump(yaml.safe_load(run.config.read_text()) | {"margins": margins}))
    assert margins_of(group_runs(runs)) == MARGINS | {"instruction": 0.25, "tse": 0.05}  # the base's are the defaults
    assert margins_of(group_runs(runs[1:])) == {"instruction": 0.3, "tse": 0.1}


def test_margins_on_the_command_line(sweep, tmp_path, cli, capsys):
    assert cli("report", sweep, "--out", tmp_path, "--margin", "tse=0.5", "--margin", "instruction=0.9") == 0
    text = (tmp_path / "report.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith("| tse | lora-r8 − base"))
    assert "| 0.5 |" in line
    assert "Too few scenes to call them equivalent: 8, at least 23 are needed." in text
    assert cli("report", sweep, "--margin", "tse") == 2
    assert "MEASURE=NUMBER" in capsys.readouterr().err
    assert cli("report", sweep, "--margin", "instructoin=1") == 2
    assert "no such measure is tested. Did you mean instruction? The tested ones: tse," in capsys.readouterr().err
    assert cli("report", sweep, "--margin", "static_share=1") == 2  # it has no better direction


def test_the_report_as_a_function(sweep, tmp_path):
    report = write_report(sweep, tmp_path, ["tse=0.1"])
    assert [p.name for p in report.files] == ["report.md", "table.tex", "scores.csv", "report.json", "sheet.png"]
    assert all(p.is_file() for p in (*report.files, *report.figures, report.page))
    assert len(report.runs) == 5
    assert report.not_compared is None
    assert not report.any_failed
    with pytest.raises(UserError, match="no runs found"):
        write_report(tmp_path / "figures")
    with pytest.raises(UserError, match="does not exist"):
        write_report(tmp_path / "nothing")


def test_the_notes_explain_what_is_missing():
    summary = {"mean": None, "ci_low": None, "ci_high": None, "n": 0, "videos": 4, "missing": 4, "reason": "static"}
    row = RunRow("r1", "failed", "out of memory\ndetails", "lora", {}, {"tse": summary}, {}, random_weights=True)
    assert notes([row])[1:] == [
        "The base model's weights are random: these numbers only show that the pipeline runs.",
        "r1: tse is missing for 4 of 4 videos (static).",
        "r1: failed: out of memory",
    ]


def test_the_sentence_of_each_kind_of_comparison(tmp_path):
    def sentence(**numbers):
        d = Difference("a", "b", "tse", 0.1, 0.0, 0.2, 2, 2, 0, margin=0.05)
        return conclusions(Results("t", variants, [replace(d, **numbers)], []))[0]

    variants = [Variant("a"), Variant("b")]
    for variant, shift in zip(variants, (0.0, 0.5), strict=True):
        run = Run(make_run(tmp_path / variant.name, "lora-r8", prompts=2))
        run.scores = [r | {"value": (k + 1) * shift} for k, r in enumerate(run.scores)]
        variant.runs.append(run)
    b, a = "this b adapter", "this a adapter"
    assert sentence() == f"tse (px): {b} compared with {a}: +0.1 [0, 0.2]; a test needs at least two scenes."
    assert sentence(p=0.01, p_holm=0.02) == f"tse (px): {b} is worse than {a}: +0.1 [0, 0.2], p = 0.02 (Holm)."
    assert f"{b} is better than {a}" in sentence(mean=-0.1, p=0.01, p_holm=0.02)
    assert "tse (px): b is worse than a: " in sentence(p=0.01, p_holm=0.02, recipe=True, runs=(3, 3))
    earned = {"ci_low": -0.01, "ci_high": 0.02, "p": 0.9, "p_holm": 0.9, "p_equivalent_holm": 0.01}
    assert "are equivalent within ±0.05" in sentence(**earned, n=30)
    assert "Too few scenes to call them equivalent: 2" in sentence(**earned)
    assert "below the measure's own repeatability (0.2)" in sentence(p=0.01, p_holm=0.02, repeatability=0.2)
    same = sentence(mean=0.0, ci_low=0.0, ci_high=0.0, p=1.0, p_holm=1.0)
    assert "have the same score in every scene" in same
    assert "does not show that they are equal" in same
    unknown = sentence(p=0.5, p_holm=0.5)
    assert unknown.startswith(f"tse (px): {b} compared with {a}: inconclusive: +0.1 [0, 0.2], p = 0.5 (Holm).")
    assert "80 % power for a true difference of 0.05 needs " in unknown
    assert " needs about 23 scenes (here: 2 scenes" in sentence(
        p=0.5, p_holm=0.5, margin=50.0
    )  # as equivalence asks for
    assert "power" not in sentence(p=0.5, p_holm=0.5, margin=50.0, n=23)
    assert "power" not in sentence(p=0.5, p_holm=0.5, margin=None)


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
