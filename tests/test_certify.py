"""measures certify: the statistics against closed forms, the faults against what they say, and a small certificate."""

import json

import cv2
import numpy as np
import pytest
from scipy import stats

from cosmos_exp.cli.entry import parser
from cosmos_exp.cli.measures import request_of
from cosmos_exp.config.composing import compose_config
from cosmos_exp.data.video import read_video, write_video
from cosmos_exp.errors import UserError
from cosmos_exp.metrics.certify import intervals
from cosmos_exp.metrics.certify.certificate import build, limits
from cosmos_exp.metrics.certify.clips import Footage, cut_clips, find_videos
from cosmos_exp.metrics.certify.dose_response import clean_baseline, respond
from cosmos_exp.metrics.certify.faults import FAULTS, fault_rng, warp_field
from cosmos_exp.metrics.certify.patches import first_changed, moving_path
from cosmos_exp.metrics.certify.run import Material, Request, chosen_measures, score
from cosmos_exp.metrics.certify.tables import cell, markdown


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
    """A bright textured square that moves 6 px a frame over a grey ground, and the ground."""
    ground = texture(seed=1)[0] // 4
    thing = cv2.resize(texture(48, 48, 1, seed=2)[0], (20, 20)) // 2 + 120
    frames = np.repeat(ground[None], 13, axis=0)
    for t, frame in enumerate(frames):
        frame[40:60, 20 + 6 * t : 40 + 6 * t] = thing
    return frames, ground


class TestFaults:
    def test_every_dose_changes_the_clip_but_not_its_form_and_is_the_same_again(self, square):
        frames, _ = square
        for name, fault in FAULTS.items():
            for dose in fault.doses:
                once, again = plant(name, frames, dose, frames[-4:]), plant(name, frames, dose, frames[-4:])
                assert once.dtype == np.uint8
                assert once.shape == frames.shape
                assert np.array_equal(once, again), name
                assert not np.array_equal(once, frames), (name, dose)
                if name != "reversed time":
                    assert np.array_equal(once[0], frames[0]), name
        assert np.array_equal(square[0], frames)

    @pytest.mark.parametrize("dose", [0.25, 1.0, 4.0])
    def test_jitter_shifts_each_frame_by_its_dose(self, dose):
        y, x = np.mgrid[:96, :128] * (2 * np.pi / 16)
        waves = np.stack([128 + 100 * np.sin(x), 128 + 100 * np.sin(y), 0 * x], axis=-1).round().astype(np.uint8)
        frames = plant("frame jitter", np.repeat(waves[None], 9, axis=0), dose)[:, 16:80, 16:112]
        # A shift by d turns the phase of a wave of 16 px by 2 pi d / 16.
        turns = [np.angle((f[..., :2] * np.exp(1j * np.stack([x, y], -1)[16:80, 16:112])).mean((0, 1))) for f in frames]
        shifts = np.angle(np.exp(1j * (np.array(turns) - turns[0])))[1:] * 16 / (2 * np.pi)
        assert np.hypot(*shifts.T) == pytest.approx(dose, abs=0.03)  # OpenCV shifts in steps of 1/32 px
        assert np.ptp(np.arctan2(shifts[:, 1], shifts[:, 0])) > 1  # in different directions

    def test_a_camera_jump_is_one_shift(self):
        frames = plant("camera jump", texture(), 4.0)
        start = first_changed(len(frames))
        assert np.array_equal(frames[start - 1], frames[0])
        assert all(np.array_equal(f, frames[start]) for f in frames[start:])
        grey = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY).astype(np.float64) for f in frames[[0, start]]]
        moved, _ = cv2.phaseCorrelate(*grey, cv2.createHanningWindow((128, 96), cv2.CV_64F))
        assert np.hypot(*moved) == pytest.approx(4.0, abs=0.2)

    def test_the_warp_has_the_root_mean_square_of_its_dose_and_changes_over_time(self):
        squares = [(warp_field((40, 48, 64), np.random.RandomState(s)) ** 2).sum(-1).mean() for s in range(12)]
        assert np.sqrt(np.mean(squares)) == pytest.approx(1, abs=0.05)
        field = warp_field((40, 48, 64), np.random.RandomState(0))
        assert np.abs(field[1] - field[0]).max() > 0.3
        assert np.abs(np.diff(field, axis=2)).max() < 0.6  # smooth: per pixel at most 6 pi waves / side

    def test_melting_grows_from_nothing_to_its_dose_in_one_region(self):
        frames = texture(frames=5)
        frames = plant("melting", frames, 10.0)
        change = np.abs(frames.astype(float) - frames[0]).mean(axis=(1, 2, 3))
        assert change[0] == 0
        assert (np.diff(change) > 0).all()
        assert (np.abs(frames[-1].astype(int) - frames[0]).max(axis=2) < 3).mean() > 0.4  # the rest of the picture

    def test_shuffled_frames_change_places_and_none_is_lost(self):
        clip = counted(17)
        for share, moved in ((0.25, 4), (1.0, 16)):
            order = numbers(plant("shuffled frames", clip, share))
            assert sorted(order) == list(range(17))
            assert sum(a != b for a, b in enumerate(order)) == moved

    def test_dropped_frames_are_gone_and_the_clip_continues(self):
        clip, after = counted(9), counted(25)[9:]
        order = numbers(plant("dropped frames", clip, 0.5, after))
        assert order == sorted(order)
        assert len(order) == 9
        assert order[-4:] == [9, 10, 11, 12]  # 4 of 8 are gone, 4 follow
        assert (
            numbers(plant("dropped frames", clip, 0.5))[-4:] == [max(numbers(plant("dropped frames", clip, 0.5)))] * 4
        )

    def test_frozen_and_reversed_frames(self):
        clip = counted(9)
        assert numbers(plant("frozen frames", clip, 0.5)) == [0, 1, 2, 3, 4, 4, 4, 4, 4]
        assert numbers(plant("frozen frames", clip, 1.0)) == [0] * 9
        assert numbers(plant("reversed time", clip, 1.0)) == list(range(8, -1, -1))

    def test_noise_and_blur_have_their_standard_deviation(self):
        grey = np.full((3, 64, 64, 3), 128, np.uint8)
        assert (plant("noise", grey, 10.0)[1:].astype(float) - 128).std() == pytest.approx(10, abs=0.2)
        point = np.zeros((2, 65, 65, 3), np.uint8)
        point[:, 32, 32] = 255
        spot = plant("blur", point, 1.0)[1, 32, 32, 0]
        assert spot == pytest.approx(255 / (2 * np.pi), abs=2)  # the peak of a Gaussian of sd 1

    def test_more_compression_loses_more(self):
        frames = texture()
        lost = [np.abs(plant("compression", frames, crf).astype(float) - frames).mean() for crf in (20, 45)]
        assert lost[1] > 2 * lost[0]

    def test_a_colour_swap_of_weight_1_exchanges_red_and_blue(self):
        frames = texture()
        swapped = plant("colour swap", frames, 1.0)
        assert np.array_equal(swapped[-1], frames[-1][..., ::-1])
        assert np.array_equal(swapped[1], frames[1])

    def test_the_patch_follows_what_moves(self, square):
        path = moving_path(footage(square[0]), 20)
        start = first_changed(13)
        assert [x for x, _ in path] == pytest.approx([20 + 6 * t for t in range(start, 13)], abs=4)
        assert [y for _, y in path] == pytest.approx([40] * len(path), abs=4)

    def test_a_vanishing_patch_leaves_the_ground_and_a_duplicate_leaves_the_original(self, square):
        frames, ground = square
        bright = (frames[-1] > ground + 50).sum()
        gone = plant("vanishing patch", frames, 0.4)
        assert (gone[-1] > ground + 50).sum() < 0.2 * bright
        twice = plant("duplicated patch", frames, 0.4)
        assert (twice[-1] > ground + 50).sum() > 1.7 * bright

    def test_a_teleporting_patch_is_as_far_away_as_its_dose_says(self, square):
        before, after = square[0][-1].astype(int), plant("teleporting patch", square[0], 0.4)[-1].astype(int)
        gained, lost = (np.nonzero(d.max(axis=2) > 50)[1].mean() for d in (after - before, before - after))
        assert abs(gained - lost) == pytest.approx(0.4 * 128, abs=3)


class TestIntervals:
    def test_auc_of_separated_identical_and_tied_samples(self):
        low, high = np.arange(5.0), np.arange(5.0) + 10
        assert intervals.auc(low, high) == 1
        assert intervals.auc(high, low) == 0
        assert intervals.auc(low, low) == 0.5
        assert intervals.auc(np.array([0.0, 1.0]), np.array([1.0, 2.0])) == 3.5 / 4
        rng = np.random.default_rng(0)
        a, b = rng.integers(0, 9, 30).astype(float), rng.integers(0, 9, 20).astype(float)
        assert intervals.auc(a, b) == pytest.approx(stats.mannwhitneyu(b, a).statistic / 600)

    def test_the_interval_of_an_auc_is_symmetric_has_a_width_at_1_and_shrinks(self):
        low, high = intervals.auc_interval(0.8, 20)
        assert 0.5 < low < 0.8 < high < 1
        assert intervals.auc_interval(0.2, 20) == pytest.approx((1 - high, 1 - low))
        assert intervals.auc_interval(1.0, 20)[1] == 1
        assert 0.8 < intervals.auc_interval(1.0, 20)[0] < 0.95
        assert np.diff(intervals.auc_interval(0.8, 200)) < np.diff((low, high))

    def test_the_interval_of_an_auc_covers_the_truth(self):
        rng, covered = np.random.default_rng(1), 0
        truth = stats.norm.cdf(1 / np.sqrt(2))  # two normal distributions, one standard deviation apart
        for _ in range(400):
            low, high = intervals.auc_interval(intervals.auc(rng.normal(size=15), rng.normal(1, 1, 15)), 15)
            covered += low <= truth <= high
        assert covered / 400 == pytest.approx(0.95, abs=0.035)

    def test_shares_and_means_are_those_of_the_libraries(self):
        from statsmodels.stats.proportion import proportion_confint

        assert intervals.wilson(0.7, 20) == pytest.approx(proportion_confint(14, 20, method="wilson"))
        values = np.array([1.0, 2.0, 4.0, 4.5])
        expected = stats.ttest_1samp(values, 0).confidence_interval()
        assert intervals.t_interval(values) == pytest.approx((expected.low, expected.high))

    def test_recordings_count_once_however_many_clips_they_have(self):
        values = {"a1": 1.0, "a2": 3.0, "b1": 10.0}
        assert intervals.by_recording(values, {"a1": "a", "a2": "a", "b1": "b"}).tolist() == [2, 10]


CLIPS = [f"c{i:02d}" for i in range(20)]
ALONE = {c: c for c in CLIPS}


def response(faulty, better=-1, clean=None, recordings=ALONE):
    """The response of a measure that is 0, 1, … 19 in the clean clips."""
    clean = clean or {c: float(i) for i, c in enumerate(CLIPS)}
    return respond("m", "f", "px", clean, faulty, recordings, better, clean_baseline(clean, recordings, better))


def above(count, by=100.0):
    """All clips are worse than clean; `count` of them exceed the threshold by far."""
    return {c: i + (by if i >= len(CLIPS) - count else 0.01) for i, c in enumerate(CLIPS)}


class TestDoseResponse:
    def test_the_threshold_has_the_false_alarms_that_it_states(self):
        rng, alarms = np.random.default_rng(0), []
        for _ in range(3000):
            values = {str(i): float(v) for i, v in enumerate(rng.normal(size=39))}
            base = clean_baseline(values, {c: c for c in values}, -1)
            alarms.append(rng.normal() > base.threshold)
        assert base.false_alarms == 2 / 40
        assert np.mean(alarms) == pytest.approx(0.05, abs=0.012)

    def test_few_clips_say_that_they_cannot_resolve_the_false_alarms(self):
        base = clean_baseline({"a": 1.0, "b": 2.0}, {"a": "a", "b": "b"}, -1)
        assert base.false_alarms == pytest.approx(1 / 3)
        assert base.left_out == 0.5  # b is above the threshold from a, a is not above that from b
        assert "cannot resolve 5%" in limits(2, 2, 2)
        assert "cannot" not in limits(24, 24, 24)
        assert "intervals count recordings" in limits(24, 24, 6)
        assert "cannot resolve 5%" in limits(18, 18, 18)  # 1 / 19 > 5 %
        assert "cannot" not in limits(19, 4, 4)  # 1 / 20 = 5 %: clean clips set the threshold, not those with faults
        assert "95% would take 59 recordings" in limits(24, 24, 24)  # 0.95^59 < 0.05 < 0.95^58

    @pytest.mark.parametrize("count", [2, 3, 4])
    def test_fewer_than_4_recordings_are_too_few_to_tell(self, count):
        """Badness rises by 1, 2, 3 and 4. With all four: mean 2.5 +- t(0.975, 3 df) sqrt(5 / 3) / 2 = 2.5 +- 2.0543."""
        clean = dict.fromkeys(CLIPS[:count], 0.0)
        r = response({1.0: {c: float(i) for i, c in enumerate(clean, 1)}}, clean=clean)
        if count < 4:
            assert (r.verdict, cell(r), r.doses[0].shift_interval) == ("too few", "too few", None)
            assert f"With {count} recordings nothing can be said" in limits(count, count, count)
            assert "takes 4 recordings" in limits(count, count, count)
        else:
            assert r.doses[0].shift_interval == pytest.approx((2.5 - 2.0543, 2.5 + 2.0543), abs=1e-4)
            assert r.verdict == "partly"
            assert "nothing can be said" not in limits(4, 4, 4)

    def test_a_fault_that_leaves_values_in_three_recordings_is_not_called_invisible(self):
        r = response({1.0: {c: (float(i) if i < 3 else None) for i, c in enumerate(CLIPS)}})
        assert (r.verdict, r.doses[0].n, r.undefined_at) == ("too few", 3, 1.0)
        assert (
            response({1.0: {"c00": 9.0}}, clean={"c00": 0.0}).verdict == "too few"
        )  # no threshold from one clean clip

    def test_more_clean_clips_than_faulty_ones_set_the_threshold(self):
        clean = {c: float(i) for i, c in enumerate(CLIPS)}
        r = response({1.0: dict.fromkeys(CLIPS[:5], 18.5)}, clean=clean)
        assert (r.doses[0].n, r.doses[0].undefined, r.doses[0].found) == (
            5,
            0,
            0.0,
        )  # 1 of 20 clean clips is above 18.5
        assert r.doses[0].auc == 19 / 20

    def test_the_smallest_dose_is_the_first_from_which_on_19_of_20_are_found(self):
        r = response({1.0: above(18), 2.0: above(19), 4.0: above(20)})
        assert [a.found for a in r.doses] == [0.9, 0.95, 1.0]
        assert r.smallest == 2.0
        assert r.verdict == "found"
        assert r.direction == "worse"
        assert cell(r) == "**2 px**"

    def test_too_few_clean_clips_certify_nothing(self):
        clean = {c: (float(i) if i < 18 else None) for i, c in enumerate(CLIPS)}
        r = response({1.0: {c: None if v is None else v + 100 for c, v in clean.items()}}, clean=clean)
        assert r.doses[0].found == 1.0  # but at 1 / 19 false alarms
        assert r.smallest is None
        assert r.verdict == "partly"

    def test_a_dose_that_is_missed_above_one_that_is_found_is_not_certified(self):
        r = response({1.0: above(20), 2.0: above(3), 4.0: above(20)})
        assert r.smallest == 4.0
        assert r.turns_at == 1.0
        assert "turns at 1 px" in cell(r)

    def test_higher_is_better_turns_the_sign(self):
        clean = {c: float(i) for i, c in enumerate(CLIPS)}
        r = response({1.0: {c: v - 100 for c, v in clean.items()}}, better=1)
        assert r.verdict == "found"
        assert r.doses[0].auc == 1
        assert response({1.0: {c: v - 100 for c, v in clean.items()}}, better=-1).verdict == "better"

    def test_a_measure_without_direction_finds_what_is_far_from_the_clean_median(self):
        for step in (100, -100):
            r = response({1.0: {c: i + step for i, c in enumerate(CLIPS)}}, better=0)
            assert r.verdict == "found"
            assert r.direction == ("up" if step > 0 else "down")
            assert r.better_at == ()

    def test_partly_better_and_invisible(self):
        assert response({1.0: above(0)}).verdict == "partly"  # all worse than their own clean version
        better = response({1.0: {c: i - 0.01 for i, c in enumerate(CLIPS)}})
        assert (better.verdict, better.better_at, better.direction) == ("better", (1.0,), "better")
        same = response({1.0: {c: float(i) for i, c in enumerate(CLIPS)}})
        assert (same.verdict, same.direction, same.doses[0].auc, same.doses[0].worse) == ("invisible", "none", 0.5, 0.5)

    def test_undefined_values_are_counted_and_never_found(self):
        half = {c: (None if i < 10 else 1000.0) for i, c in enumerate(CLIPS)}
        r = response({1.0: half})
        assert (r.doses[0].n, r.doses[0].undefined, r.doses[0].found) == (10, 10, 0.5)
        assert r.undefined_at == 1.0
        assert r.smallest is None
        nothing = dict.fromkeys(CLIPS)
        assert response({1.0: nothing}).verdict == "undefined"
        assert response({1.0: above(20)}, clean=nothing).verdict == "undefined"

    def test_monotony_of_rising_flat_and_falling_responses(self):
        def rho(*steps):
            return response(
                {float(d): {c: i + s for i, c in enumerate(CLIPS)} for d, s in enumerate(steps, 1)}
            ).spearman

        assert rho(1, 2, 3) == pytest.approx(1)
        assert rho(-1, -2, -3) == pytest.approx(-1)
        assert rho(0, 0, 0) == 0
        assert rho(3, 2, 1) == pytest.approx(stats.spearmanr([0, 1, 2, 3], [0, 3, 2, 1]).statistic)
        assert rho(1) is None  # a single dose has no trend

    def test_windows_of_two_recordings_are_no_evidence_for_a_verdict(self):
        two = {c: ("a" if i < 10 else "b") for i, c in enumerate(CLIPS)}
        assert response({1.0: above(0)}).verdict == "partly"
        assert response({1.0: above(0)}, recordings=two).verdict == "too few"


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "data" / "videos"
    for i in range(2):
        still = texture(64, 96, 1, seed=i)[0]
        frames = np.stack([np.roll(still, 2 * t, axis=1) for t in range(10 + i)])
        write_video(folder / f"clip{i}.mp4", frames, 8)
    return folder.parent


class TestClips:
    def test_videos_are_found_below_a_folder_and_missing_ones_named(self, videos, tmp_path):
        (videos / ".hidden").mkdir()
        write_video(videos / ".hidden" / "x.mp4", counted(), 8)
        assert [p.name for p in find_videos([videos])] == ["clip0.mp4", "clip1.mp4"]
        assert find_videos([videos / "videos" / "clip1.mp4"]) == [videos / "videos" / "clip1.mp4"]
        (tmp_path / "empty").mkdir()
        with pytest.raises(UserError, match="no videos"):
            find_videos([tmp_path / "empty"])
        with pytest.raises(UserError, match="does not exist"):
            find_videos([tmp_path / "nowhere"])

    def test_windows_have_their_frames_and_what_follows(self, videos):
        clips = cut_clips(find_videos([videos]), 4, 6, (32, 48))
        assert len({c.name for c in clips}) == 4
        assert {c.recording for c in clips} == {"clip0", "clip1"}
        loaded = clips[0].load()
        assert loaded.frames.shape == (6, 32, 48, 3)
        start = int(clips[0].name.split("@")[1])
        assert len(loaded.after) == min(3, 10 - 6 - start)

    def test_views_and_seeds_of_one_sample_are_one_recording(self, videos):
        (videos / "videos" / "clip0.mp4").rename(videos / "videos" / "s__seed0.mp4")
        (videos / "videos" / "clip1.mp4").rename(videos / "videos" / "s__seed1.mp4")
        assert {c.recording for c in cut_clips(find_videos([videos]), 4, 6, None)} == {"s"}

    def test_a_lower_rate_takes_every_other_frame(self, videos):
        whole = read_video(videos / "videos" / "clip1.mp4")
        loaded = cut_clips([videos / "videos" / "clip1.mp4"], 2, 5, None, fps=4)[0].load()
        start = int(cut_clips([videos / "videos" / "clip1.mp4"], 2, 5, None, fps=4)[0].name.split("@")[1])
        assert np.array_equal(loaded.frames, whole[start : start + 9 : 2])
        assert loaded.fps == 4


def marked(videos, config, workers):
    """A measure: the mean grey of the frames after the first, relative to the recording's."""
    from cosmos_exp.metrics.interface import Measured

    for video in videos:
        marked.calls += 1
        mine, true = (read_video(p)[1:].astype(float).std() for p in (video.path, video.recording))
        yield Measured({"contrast": (mine / true, None)})


class TestCertify:
    def test_a_certificate_from_the_command_line_is_complete_resumed_and_the_same_again(
        self, cli, videos, tmp_path, capsys
    ):
        words = ["measures", "certify", "--data", videos, "--clips", 2, "--clean", 3, "--frames", 7, "--workers", 1]
        words += ["--faults", "blur=0.5/4,frozen frames", "--measures", "static_share", "--doses", 2]
        assert cli(*words, "--out", tmp_path / "a") == 0
        assert "| blur |" in capsys.readouterr().out
        found = json.loads((tmp_path / "a" / "certificate.json").read_text())
        assert (found["clips"], found["recordings"], found["clean_clips"]) == (2, 2, 4)  # as many from each video
        assert {r["verdict"] for r in found["responses"]} <= {"too few", "undefined"}
        assert [(r["fault"], [d["dose"] for d in r["doses"]]) for r in found["responses"]] == [
            ("blur", [0.5, 4.0]),
            ("frozen frames", [0.125, 1.0]),
        ]
        assert found["clean"]["static_share"]["median"] == 0  # everything moves by 2 px
        assert found["responses"][1]["doses"][1]["median"] in (1.0, None)  # nothing moves
        assert "cannot resolve 5%" in (tmp_path / "a" / "certificate.md").read_text()
        assert (tmp_path / "a" / "certificate.png").stat().st_size > 1000
        values = (tmp_path / "a" / "values.jsonl").read_text()
        assert len(values.splitlines()) == 2 * 5 + 2
        assert cli(*words, "--out", tmp_path / "b") == 0
        for name in ("values.jsonl", "certificate.json", "certificate.md", "certificate.png"):
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    def test_what_is_done_is_not_measured_again_and_a_new_dose_is_added(self, videos, tmp_path, monkeypatch):
        from cosmos_exp.config.measures import MEASURES, Measure
        from cosmos_exp.config.registry import MEASURE_FUNCTIONS

        monkeypatch.setattr(MEASURE_FUNCTIONS, "targets", {"marked": marked})
        monkeypatch.setitem(MEASURES, "contrast", Measure(function="marked"))
        marked.calls = 0
        clips = cut_clips(find_videos([videos]), 2, 7, None)
        config = compose_config(["judge=none"])

        def request(*doses):
            from dataclasses import replace

            return Request("test", Material(clips, [replace(FAULTS["blur"], doses=doses)]), config)

        rows = score(request(4.0), tmp_path, show=False)
        assert marked.calls == 2 * 2
        assert score(request(4.0), tmp_path, show=False) == rows
        assert marked.calls == 4
        more = score(request(0.5, 4.0), tmp_path, show=False)
        assert marked.calls == 4 + 2
        certificate = build(request(0.5, 4.0), more)
        assert certificate.clean["contrast"].median == pytest.approx(1, abs=0.02)
        medians = [d.median for d in certificate.responses["contrast", "blur"].doses]
        assert 1 > medians[0] > medians[1]
        assert "contrast" in markdown(certificate, "f.png")
        with pytest.raises(UserError, match="another request"):
            score(Request("other", request(4.0).material, config), tmp_path, show=False)

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--frames", "7", "--measures", "tsee"], "no measure tsee. Choose from "),
            (["--frames", "7", "--faults", "blurr"], "no fault blurr. Choose from frame jitter"),
            (["--frames", "7", "--faults", "blur=3"], "blur has no dose 3. Choose from 0.5, 1, 2, 4"),
            (["--frames", "40"], "has 10 frames, a clip of 40 needs 40. Set --frames to at most 10"),
            (["--frames", "3"], "at least 5 frames"),
            (["--clips", "1"], "--clips 1: at least 2"),
            (["--size", "64"], "--size 64: pass height and width"),
            (["--size", "33x64"], "even"),
            (["--frames", "7", "--doses", "0"], "--doses 0"),
        ],
    )
    def test_a_wrong_option_is_named_with_its_fix(self, cli, videos, capsys, words, message):
        assert cli("measures", "certify", "--data", videos, *words) == 2
        assert message in capsys.readouterr().err

    def test_scene_faults_of_the_tabletop_come_with_the_picture_faults(self):
        from cosmos_exp.tabletop.certificate import make_material, plant_scene

        material = make_material(1, 17, None, 0)
        names = [f.name for f in material.faults]
        assert len(set(names)) == len(names)
        assert {"wrong hand", "third arm", "teleport", "object melting", "see-through arm", *FAULTS} <= set(names)
        loaded = material.clips[0].load()
        assert loaded.frames.shape == (17, 96, 160, 3)
        assert "hand" in material.clips[0].prompt
        wrong = plant_scene("wrong hand", loaded, 1.0, np.random.RandomState(0))
        assert np.array_equal(wrong[0], loaded.frames[0])
        assert not np.array_equal(wrong[8], loaded.frames[8])
        with pytest.raises(UserError, match="autoencoder"):
            make_material(2, 16, None, 0)

    def test_the_rule_judge_belongs_to_the_tabletops_measures(self):
        words = [
            "measures",
            "certify",
            "--data",
            "tabletop",
            "--clips",
            "2",
            "--clean",
            "5",
            "--faults",
            "third arm=0.2",
        ]
        request = request_of(parser().parse_args(words))
        assert chosen_measures(request)[-2:] == ["physics", "instruction"]
        assert [c.clean_only for c in request.material.clips] == [False, True, False, True, True]
        assert request_of(parser().parse_args([*words, "--judge", "none"])).load_judge is None
