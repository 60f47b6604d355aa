"""benchmarks/certificate: the faults do what they say, the verdicts by hand, and a small certificate."""

import json
import sys

import numpy as np
import pytest
from conftest import texture

from benchmarks.certificate.__main__ import main
from benchmarks.certificate.clips import Footage
from benchmarks.certificate.faults import FAULTS, fault_rng
from benchmarks.certificate.response import clean_baseline, respond
from cosmos_exp.data.video import write_video


def plant(name, frames, dose, after):
    return FAULTS[name].plant(Footage(frames, after, 8.0), dose, fault_rng(0, "clip", name))


class TestFaults:
    def test_every_dose_changes_the_clip_but_not_its_form_and_is_the_same_again(self):
        frames = np.stack([np.roll(texture(), 3 * t, axis=1) for t in range(13)])
        for name, fault in FAULTS.items():
            for dose in fault.doses:
                once, again = plant(name, frames, dose, frames[-4:]), plant(name, frames, dose, frames[-4:])
                assert (once.dtype, once.shape) == (np.uint8, frames.shape)
                assert np.array_equal(once, again), name
                assert not np.array_equal(once, frames), (name, dose)
                assert np.array_equal(once[0], frames[0]) or name == "reversed time", name


CLIPS = [f"c{i:02d}" for i in range(20)]


def response(faulty, clean=None):
    """The response of a measure that is 0, 1, … 19 in the clean clips."""
    clean = clean or {c: float(i) for i, c in enumerate(CLIPS)}
    return respond(faulty, {c: c for c in CLIPS}, clean_baseline(clean, -1))


def above(count):
    """All clips are worse than clean; `count` of them exceed the threshold by far."""
    return {c: i + (100 if i >= len(CLIPS) - count else 0.01) for i, c in enumerate(CLIPS)}


class TestResponse:
    @pytest.mark.parametrize("count", [3, 4])
    def test_fewer_than_4_recordings_are_too_few_to_tell(self, count):
        """Badness rises by 1, 2, 3 and 4. With all four: mean 2.5 +- t(0.975, 3 df) sqrt(5 / 3) / 2 = 2.5 +- 2.0543."""
        clean = dict.fromkeys(CLIPS[:count], 0.0)
        r = response({1.0: {c: float(i) for i, c in enumerate(clean, 1)}}, clean=clean)
        expected = {3: ("too few", None), 4: ("partly", pytest.approx((2.5 - 2.0543, 2.5 + 2.0543), abs=1e-4))}
        assert (r.verdict, r.doses[0].shift) == expected[count]

    def test_the_smallest_dose_is_the_first_from_which_on_19_of_20_are_found(self):
        r = response({1.0: above(18), 2.0: above(19), 4.0: above(20)})
        assert [a.found for a in r.doses] == [0.9, 0.95, 1.0]
        assert (r.smallest, r.verdict) == (2.0, "found")
        assert response({1.0: above(20), 2.0: above(3), 4.0: above(20)}).smallest == 4.0

    def test_undefined_values_are_counted_and_never_found(self):
        r = response({1.0: {c: (None if i < 10 else 1000.0) for i, c in enumerate(CLIPS)}})
        assert (r.doses[0].n, r.doses[0].undefined, r.doses[0].found, r.smallest) == (10, 10, 0.5, None)
        assert response({1.0: dict.fromkeys(CLIPS)}).verdict == "undefined"


def test_a_certificate_is_complete_and_computed_once(tmp_path, monkeypatch):
    for i in range(2):
        frames = np.stack([np.roll(texture(64, 96, i), 2 * t, axis=1) for t in range(10 + i)])
        write_video(tmp_path / "videos" / f"s{i}__seed0.mp4", frames, 8)
    words = f"--data {tmp_path}/videos --out {tmp_path}/out --clips 2 --clean 3 --frames 7 --faults"
    monkeypatch.setattr(sys, "argv", ["certificate", *words.split(), "blur=0.5/4,frozen frames=0.125/1"])
    scores = []
    for _ in range(2):
        main()
        scores.append((tmp_path / "out" / "scores.jsonl").read_text())
    assert scores[0] == scores[1]
    responses = json.loads((tmp_path / "out" / "certificate.json").read_text())["responses"]
    assert {r["verdict"] for r in responses} <= {"too few", "undefined"}
