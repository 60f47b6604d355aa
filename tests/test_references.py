"""Recordings of test pairs, reference rows of a report, and curves over the horizon."""

import numpy as np
import pandas as pd
import pytest

from cosmos_exp.config.schema import Data
from cosmos_exp.data.inspection import inspect_data
from cosmos_exp.data.pairs import frozen_frames, has_recording, pair_frames, read_test_pairs, recorded_frames
from cosmos_exp.data.video import write_image, write_video
from cosmos_exp.errors import UserError
from cosmos_exp.files import write_json_lines
from cosmos_exp.report.study import load_study
from cosmos_exp.report.tables import print_runs, report_texts, write_report
from cosmos_exp.run_folder import RunFolder

DATA = Data(height=32, width=48, num_frames=5, fps=8.0)


def grey_frames(levels, height=32, width=48):
    return np.stack([np.full((height, width, 3), level, np.uint8) for level in levels])


def make_pair(folder, name, levels, fps=8.0, image=None):
    frames = grey_frames(levels)
    write_image(folder / f"{name}.png", frames[0] if image is None else image)
    (folder / f"{name}.txt").write_text(f"do {name}")
    write_video(folder / f"{name}.mp4", frames, fps, crf=0)


def test_a_pair_finds_its_recording_at_the_frame_rate_of_the_data(tmp_path):
    make_pair(tmp_path, "a", [20, 40, 60, 80, 100, 120, 140, 160, 180], fps=16.0)
    write_image(tmp_path / "b.png", grey_frames([10])[0])
    (tmp_path / "b.txt").write_text("do b")
    problems = []
    a, b = read_test_pairs(tmp_path, problems)
    assert not problems
    assert (has_recording(a), has_recording(b)) == (True, False)
    recorded = recorded_frames(a, {}, DATA)
    assert recorded.shape == (5, 32, 48, 3)
    assert np.allclose(recorded.mean(axis=(1, 2, 3)), [20, 60, 100, 140, 180], atol=2)
    assert np.allclose(pair_frames(a, {}, DATA, 2).mean(axis=(1, 2, 3)), [20, 60], atol=2)
    with pytest.raises(UserError, match=r"b\.mp4"):
        pair_frames(b, {}, DATA, 2)
    assert frozen_frames(grey_frames([1, 2]), 5)[:, 0, 0, 0].tolist() == [1, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("levels", "image", "said"),
    [
        ([20, 40], None, "has 2 frames, 5 are needed"),
        ([20, 40, 60, 80, 100], grey_frames([200])[0], "its first frame is not bad.png"),
    ],
)
def test_a_recording_that_does_not_fit_is_reported(tmp_path, levels, image, said):
    (tmp_path / "data" / "videos").mkdir(parents=True)
    (tmp_path / "tests").mkdir()
    make_pair(tmp_path / "tests", "bad", levels, image=image)
    problems = inspect_data(DATA, tmp_path / "data", tmp_path / "tests").problems
    assert len(problems) == 1
    assert said in problems[0]
    assert "bad.mp4" in problems[0]


def score(sample, measure, value, seed=0, curve=None):
    detail = {"reason": None} | ({"curve": curve} if curve else {})
    return {
        "sample": sample,
        "seed": seed,
        "prompt": f"do {sample}",
        "video": f"{sample}__seed{seed}.mp4",
        "measure": measure,
        "value": value,
        "detail": detail,
    }


@pytest.fixture
def run(tmp_path):
    """A finished run with scores of an adapter, of the recordings and of the frozen videos."""
    folder = RunFolder(tmp_path / "sweeps" / "s" / "lora-r8")
    folder.path.mkdir(parents=True)
    folder.config.write_text("adapter: {kind: lora, rank: 8, alpha: 8.0}\nseed: 0\n")
    folder.set_status("done", "record")
    folder.update_manifest(data={"test": ["a", "b"]}, labels={"adapter": "lora-r8"})
    by_file = {
        folder.scores: {"instruction": (3.0, 4.0), "physics": (2.0, 3.0), "psnr": (20.0, 22.0)},
        folder.reference_scores("real"): {"instruction": (5.0, 5.0), "physics": (5.0, 4.0)},
        folder.reference_scores("frozen"): {"instruction": (1.0, 1.0), "physics": (5.0, 5.0), "psnr": (24.0, 26.0)},
    }
    for file, measures in by_file.items():
        rows = [score(s, m, v) for m, values in measures.items() for s, v in zip("ab", values, strict=True)]
        rows += [score("a", "ssim", 0.8, curve=[1.0, 0.6]), score("b", "ssim", 0.6, curve=[0.8, 0.4])]
        write_json_lines(file, rows)
    return folder


def test_a_measure_that_a_still_picture_wins_is_marked(run):
    study = load_study(run.path)
    assert study.references == ["real", "frozen"]
    means = study.means.set_index(["arm", "measure"])["mean"]
    assert means["real", "physics"] == pytest.approx(4.5)
    found = study.unreadable
    assert set(found) == {"physics", "psnr", "ssim"}  # of ssim all have the same scores
    assert "the frozen videos score 5 and real 4.5 (2 prompts)" in found["physics"]
    assert "the frozen videos score 25 and lora-r8 21" in found["psnr"]


def test_the_report_shows_the_references(run, tmp_path):
    write_report(run.path, tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert any(line.startswith("| real ") for line in text.splitlines())
    assert "physics ↑ †" in text
    assert "A still picture wins here" in text
    assert "frozen & " in (tmp_path / "report" / "table.tex").read_text()
    page = (tmp_path / "report" / "page.html").read_text(encoding="utf-8")
    assert "the recorded continuation" in page
    scores = pd.read_csv(tmp_path / "report" / "scores.csv").set_index(["arm", "prompt", "measure"])
    assert scores.loc[("real", "a", "instruction"), "value"] == 5.0


def test_what_is_missing_of_a_reference_is_counted_with_its_reason(run, capsys):
    still = "camera and scene stand still: too few matches move"
    rows = [score(s, m, None) for s in "ab" for m in ("tse", "tse_robust", "instruction")]
    for row in rows:
        row["detail"] = {"reason": still} if row["measure"] != "instruction" else {"answer": "5 or 4"}
    few = [score("a", "tse", 0.5), score("b", "tse", 0.4)]
    few[0]["detail"] = {"reason": "rests on 3 of 16 frame pairs (13: few)"}
    write_json_lines(run.reference_scores("frozen"), rows)
    write_json_lines(run.reference_scores("real"), few)
    named = ("tse", "tse_robust", "instruction", "psnr")
    write_json_lines(run.scores, [score(s, m, 1.0) for s in "ab" for m in named])
    said = [
        "real: tse to be read with caution for 1 of 2 videos (rests on 3 of 16 frame pairs (13: few)).",
        f"frozen: tse, tse_robust missing for 2 of 2 videos ({still}).",
        "frozen: instruction missing for 2 of 2 videos (no reason given).",
    ]
    study = load_study(run.path)
    print_runs([run])
    terminal = " ".join(capsys.readouterr().out.split())
    for line in said:
        assert line in study.notes
        assert f"- {line}" in report_texts(study)["report.md"]
        assert line in terminal
