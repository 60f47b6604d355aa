"""Recordings of test pairs, reference rows of a report, and curves over the horizon."""

import numpy as np
import pytest
from lerobot_sets import flat

from cosmos_exp.config.schema import Data
from cosmos_exp.data.inspection import inspect_data
from cosmos_exp.data.pairs import frozen_frames, has_recording, pair_frames, read_test_pairs, recorded_frames
from cosmos_exp.data.video import write_image, write_video
from cosmos_exp.errors import UserError
from cosmos_exp.files import write_json_lines
from cosmos_exp.report.study import load_study
from cosmos_exp.report.tables import write_report
from cosmos_exp.run_folder import RunFolder

DATA = Data(height=32, width=48, num_frames=5, fps=8.0)


def make_pair(folder, name, levels, fps=8.0, image=None):
    frames = flat(levels, 32, 48)
    write_image(folder / f"{name}.png", frames[0] if image is None else image)
    (folder / f"{name}.txt").write_text(f"do {name}")
    write_video(folder / f"{name}.mp4", frames, fps, crf=0)


def test_a_pair_finds_its_recording_at_the_frame_rate_of_the_data(tmp_path):
    make_pair(tmp_path, "a", range(20, 200, 20), fps=16.0)
    make_pair(tmp_path, "b", [10])
    (tmp_path / "b.mp4").unlink()
    problems = []
    a, b = read_test_pairs(tmp_path, problems)
    assert not problems
    assert (has_recording(a), has_recording(b)) == (True, False)
    recorded = recorded_frames(a, DATA)
    assert recorded.shape == (5, 32, 48, 3)
    assert np.allclose(recorded.mean(axis=(1, 2, 3)), [20, 60, 100, 140, 180], atol=2)
    assert np.allclose(pair_frames(a, DATA, 2).mean(axis=(1, 2, 3)), [20, 60], atol=2)
    with pytest.raises(UserError, match=r"b\.mp4"):
        pair_frames(b, DATA, 2)
    assert frozen_frames(flat([1, 2]), 5)[:, 0, 0, 0].tolist() == [1, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("levels", "image", "said"),
    [
        ([20, 40], None, "has 2 frames, 5 are needed"),
        ([20, 40, 60, 80, 100], flat([200], 32, 48)[0], "its first frame is not bad.png"),
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


def scores(measure, a, b, detail=None):
    """Rows of the samples a and b."""
    rows = []
    for sample, value in (("a", a), ("b", b)):
        row = {"sample": sample, "seed": 0, "prompt": f"do {sample}", "video": f"{sample}__seed0.mp4"}
        rows.append(row | {"measure": measure, "value": value, "detail": detail or {"reason": None}})
    return rows


@pytest.fixture
def run(tmp_path):
    """A finished run with scores of an adapter, of the recordings and of the frozen videos."""
    folder = RunFolder(tmp_path / "lora-r8")
    folder.path.mkdir()
    folder.config.write_text("adapter: {kind: lora, rank: 8, alpha: 8.0}\nseed: 0\n")
    folder.set_status("done", "record")
    folder.update_manifest(data={"test": ["a", "b"]}, labels={"adapter": "lora-r8"})
    same = scores("ssim", 0.8, 0.6)
    frozen = scores("instruction", 1.0, 1.0) + scores("physics", 5.0, 5.0) + scores("psnr", 24.0, 26.0) + same
    write_json_lines(folder.reference_scores("frozen"), frozen)
    real = scores("instruction", 5.0, 5.0) + scores("physics", 5.0, 4.0) + same
    write_json_lines(folder.reference_scores("real"), real)
    made = scores("instruction", 3.0, 4.0) + scores("physics", 2.0, 3.0) + scores("psnr", 20.0, 22.0) + same
    write_json_lines(folder.scores, made)
    return folder


def test_a_measure_that_a_still_picture_wins_is_marked(run, tmp_path):
    study = load_study(run.path)
    assert study.means.set_index(["arm", "measure"])["mean"]["real", "physics"] == pytest.approx(4.5)
    marked = study.unreadable
    assert set(marked) == {"physics", "psnr", "ssim"}  # of ssim all have the same scores
    assert "the frozen videos score 5 and real 4.5 (2 prompts)" in marked["physics"]
    assert "the frozen videos score 25 and lora-r8 21" in marked["psnr"]
    write_report(run.path, tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "\n| real " in text
    assert "physics ↑ †" in text
    assert "A still picture is not beaten here" in text


def test_what_is_missing_of_a_reference_is_counted_with_its_reason(run):
    still = {"reason": "camera and scene stand still: too few matches move"}
    few = {"reason": "rests on 3 of 16 frame pairs (13: few)"}
    frozen = scores("tse", None, None, still) + scores("tse_robust", None, None, still)
    write_json_lines(run.reference_scores("frozen"), frozen + scores("instruction", None, None, {"answer": "5 or 4"}))
    write_json_lines(run.reference_scores("real"), scores("tse", 0.5, 0.4, few)[:1] + scores("tse", 0.5, 0.4)[1:])
    write_json_lines(run.scores, [r for m in ("tse", "tse_robust", "instruction") for r in scores(m, 1.0, 1.0)])
    said = {
        f"real: tse to be read with caution for 1 of 2 videos ({few['reason']}).",
        f"frozen: tse, tse_robust missing for 2 of 2 videos ({still['reason']}).",
        "frozen: instruction missing for 2 of 2 videos (no reason given).",
    }
    assert said <= set(load_study(run.path).notes)
