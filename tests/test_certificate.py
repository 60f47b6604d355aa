"""benchmarks/certificate: the faults do what they say, the verdicts by hand, and a small certificate."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from conftest import ROOT

from benchmarks.certificate.clips import Footage
from benchmarks.certificate.faults import FAULTS, Fault, fault_rng
from benchmarks.certificate.page import cell
from benchmarks.certificate.response import auc, clean_baseline, respond
from cosmos_exp.data.video import write_video


def texture(height=96, width=128, frames=9, seed=0):
    """A static clip with detail at a scale of some pixels: every shift is visible and can be interpolated."""
    picture = np.random.default_rng(seed).uniform(0, 255, (height, width, 3)).astype(np.float32)
    picture = cv2.GaussianBlur(picture, (0, 0), 2.0)
    picture = cv2.normalize(picture, None, 20, 235, cv2.NORM_MINMAX).astype(np.uint8)
    return np.repeat(picture[None], frames, axis=0)


def footage(frames, after=None):
    return Footage(frames, frames[:0] if after is None else after, 8.0)


def plant(name, frames, dose, after=None):
    return FAULTS[name].plant(footage(frames, after), dose, fault_rng(0, "clip", name))


def counted(frames=9, height=32, width=48):
    """A clip whose frames are numbered by their grey level, 10 apart."""
    return np.stack([np.full((height, width, 3), 10 * t, np.uint8) for t in range(frames)])


def numbers(frames):
    return [int(f[0, 0, 0]) // 10 for f in frames]


@pytest.fixture(scope="module")
def square():
    """A bright textured square that moves 6 px a frame over a grey ground."""
    ground = texture(seed=1)[0] // 4
    thing = cv2.resize(texture(48, 48, 1, seed=2)[0], (20, 20)) // 2 + 120
    frames = np.repeat(ground[None], 13, axis=0)
    for t, frame in enumerate(frames):
        frame[40:60, 20 + 6 * t : 40 + 6 * t] = thing
    return frames


class TestFaults:
    def test_every_dose_changes_the_clip_but_not_its_form_and_is_the_same_again(self, square):
        frames = square.copy()
        for name, fault in FAULTS.items():
            for dose in fault.doses:
                once, again = plant(name, frames, dose, frames[-4:]), plant(name, frames, dose, frames[-4:])
                assert once.dtype == np.uint8
                assert once.shape == frames.shape
                assert np.array_equal(once, again), name
                assert not np.array_equal(once, frames), (name, dose)
                if name != "reversed time":
                    assert np.array_equal(once[0], frames[0]), name
        assert np.array_equal(square, frames)

    def test_faults_of_time_reorder_the_frames(self):
        clip, after = counted(9), counted(25)[9:]
        order = numbers(plant("shuffled frames", clip, 1.0))
        assert sorted(order) == list(range(9))
        assert sum(a != b for a, b in enumerate(order)) == 8
        dropped = numbers(plant("dropped frames", clip, 0.5, after))
        assert dropped == sorted(dropped)
        assert (len(dropped), dropped[-4:]) == (9, [9, 10, 11, 12])  # 4 of 8 are gone, 4 follow
        assert len(set(numbers(plant("dropped frames", clip, 0.5))[-4:])) == 1  # nothing follows: the last one is held
        assert numbers(plant("frozen frames", clip, 0.5)) == [0, 1, 2, 3, 4, 4, 4, 4, 4]
        assert numbers(plant("reversed time", clip, 1.0)) == list(range(8, -1, -1))


CLIPS = [f"c{i:02d}" for i in range(20)]
ALONE = {c: c for c in CLIPS}
PIXELS = Fault("f", "px", (1.0, 2.0), FAULTS["blur"].plant)


def response(faulty, better=-1, clean=None, recordings=ALONE):
    """The response of a measure that is 0, 1, … 19 in the clean clips."""
    clean = clean or {c: float(i) for i, c in enumerate(CLIPS)}
    return respond(faulty, recordings, clean_baseline(clean, better))


def above(count, by=100.0):
    """All clips are worse than clean; `count` of them exceed the threshold by far."""
    return {c: i + (by if i >= len(CLIPS) - count else 0.01) for i, c in enumerate(CLIPS)}


class TestResponse:
    @pytest.mark.parametrize("count", [2, 3, 4])
    def test_fewer_than_4_recordings_are_too_few_to_tell(self, count):
        """Badness rises by 1, 2, 3 and 4. With all four: mean 2.5 +- t(0.975, 3 df) sqrt(5 / 3) / 2 = 2.5 +- 2.0543."""
        clean = dict.fromkeys(CLIPS[:count], 0.0)
        r = response({1.0: {c: float(i) for i, c in enumerate(clean, 1)}}, clean=clean)
        if count < 4:
            assert (r.verdict, cell(r, PIXELS), r.doses[0].shift) == ("too few", "too few", None)
        else:
            assert r.doses[0].shift == pytest.approx((2.5 - 2.0543, 2.5 + 2.0543), abs=1e-4)
            assert r.verdict == "partly"

    def test_the_smallest_dose_is_the_first_from_which_on_19_of_20_are_found(self):
        r = response({1.0: above(18), 2.0: above(19), 4.0: above(20)})
        assert [a.found for a in r.doses] == [0.9, 0.95, 1.0]
        assert (r.smallest, r.verdict, cell(r, PIXELS)) == (2.0, "found", "**2 px**")
        assert response({1.0: above(20), 2.0: above(3), 4.0: above(20)}).smallest == 4.0

    def test_the_direction_of_a_measure_turns_the_sign(self):
        clean = {c: float(i) for i, c in enumerate(CLIPS)}
        lower = {1.0: {c: v - 100 for c, v in clean.items()}}
        assert response(lower, better=1).verdict == "found"
        assert response(lower, better=-1).verdict == "better"
        r = response(lower, better=0)  # without direction: what is far from the clean median
        assert (r.verdict, r.better_at) == ("found", ())

    def test_partly_better_and_invisible(self):
        assert response({1.0: above(0)}).verdict == "partly"  # all worse than their own clean version
        better = response({1.0: {c: i - 0.01 for i, c in enumerate(CLIPS)}})
        assert (better.verdict, better.better_at) == ("better", (1.0,))
        same = response({1.0: {c: float(i) for i, c in enumerate(CLIPS)}})
        assert (same.verdict, same.doses[0].auc) == ("invisible", 0.5)
        assert auc(np.array([0.0, 1.0]), np.array([1.0, 2.0])) == 3.5 / 4

    def test_undefined_values_are_counted_and_never_found(self):
        r = response({1.0: {c: (None if i < 10 else 1000.0) for i, c in enumerate(CLIPS)}})
        assert (r.doses[0].n, r.doses[0].undefined, r.doses[0].found, r.smallest) == (10, 10, 0.5, None)
        assert "50% undefined at 1 px" in cell(r, PIXELS)
        assert response({1.0: dict.fromkeys(CLIPS)}).verdict == "undefined"
        assert response({1.0: above(20)}, clean=dict.fromkeys(CLIPS)).verdict == "undefined"


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "data" / "videos"
    for i in range(2):
        still = texture(64, 96, 1, seed=i)[0]
        frames = np.stack([np.roll(still, 2 * t, axis=1) for t in range(10 + i)])
        write_video(folder / f"s{i}__seed0.mp4", frames, 8)
    return folder


def test_a_certificate_is_complete_and_computed_once(videos, tmp_path):
    words = [
        "--data",
        videos,
        *["--clips", "2", "--clean", "3", "--frames", "7", "--faults"],
        "blur=0.5/4,frozen frames=0.125/1",
    ]
    program = [sys.executable, "-m", "benchmarks.certificate", *words, "--out", tmp_path / "out"]
    first = subprocess.run([str(word) for word in program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "| blur |" in first.stdout
    content = json.loads((tmp_path / "out" / "certificate.json").read_text())
    assert {r["verdict"] for r in content["responses"]} <= {"too few", "undefined"}
    assert [d["dose"] for d in content["responses"][0]["doses"]] in ([0.5, 4.0], [])
    scores = (tmp_path / "out" / "scores.jsonl").read_text()
    subprocess.run([str(word) for word in program], capture_output=True, check=True, cwd=ROOT)
    assert (tmp_path / "out" / "scores.jsonl").read_text() == scores
    assert (tmp_path / "out" / "certificate.png").stat().st_size > 1000
