"""The cookbook's Sampson error against a direct call of OpenCV; the robust one under known noise; repeatability."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from test_sampson import textured_flight, two_views

from cosmos_exp.config.registry import MATCHERS
from cosmos_exp.config.schema import Sampson
from cosmos_exp.metrics.geometry.cross_view import ViewMatches, cross_error, view_geometry
from cosmos_exp.metrics.geometry.epipolar import cookbook_errors, estimate_fundamental, robust_fit, sampson_distance
from cosmos_exp.metrics.geometry.refine import _linearised, _State, refine
from cosmos_exp.metrics.geometry.results import lower_median, repeatability_of
from cosmos_exp.metrics.geometry.sampson import measure_views, temporal_sampson
from cosmos_exp.metrics.geometry.temporal import pair_error, summarize, track_view
from cosmos_exp.metrics.geometry.views import View
from cosmos_exp.tabletop.scene import Scene

HALF_NORMAL = 0.6745  # median of |N(0, 1)|


def noisy(seed, count, noise):
    x, y, _, _ = two_views(seed, count)
    rng = np.random.RandomState(seed + 1000)
    return x + rng.normal(0, noise, x.shape), y + rng.normal(0, noise, y.shape)


def cookbook_video(frames):
    """The cookbook's figures in a few lines: TemporalSampsonMetric.compute and evaluate_single_video, with SIFT matches."""
    means, medians = [], []
    brute = cv2.BFMatcher(cv2.NORM_L2)
    for pair in pairwise(frames):
        grey = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in pair]
        (k0, d0), (k1, d1) = (cv2.SIFT.create(nfeatures=2048).detectAndCompute(g, None) for g in grey)
        good = [
            {m.queryIdx: m.trainIdx for m, n in brute.knnMatch(a, b, k=2) if m.distance < 0.8 * n.distance}
            for a, b in ((d0, d1), (d1, d0))
        ]
        both = sorted((i, j) for i, j in good[0].items() if good[1].get(j) == i)
        kp0, kp1 = np.array([k0[i].pt for i, _ in both]), np.array([k1[j].pt for _, j in both])
        f, _ = cv2.findFundamentalMat(kp1, kp0, method=cv2.RANSAC)
        kp0_h, kp1_h = (np.hstack([k, np.ones((len(k), 1))]) for k in (kp0, kp1))
        a_error = np.sum(kp0_h.T * (f @ kp1_h.T), axis=0)
        d0_, d1_ = (f.T @ kp0_h.T) ** 2, (f @ kp1_h.T) ** 2
        error = np.sqrt(a_error**2 / (d0_[0] + d0_[1] + d1_[0] + d1_[1]))
        means.append(error.mean())
        medians.append(np.sort(error)[(len(error) - 1) // 2])  # torch.median
    return np.nanmedian(medians), np.nanmean(means), medians, means


def test_tse_is_the_cookbooks_number():
    frames = textured_flight(5)
    value, mean, medians, means = cookbook_video(frames)
    ours = temporal_sampson(frames, Sampson())
    assert ours.tse == pytest.approx(value, rel=1e-12)
    assert ours.tse_mean == pytest.approx(mean, rel=1e-12)
    np.testing.assert_allclose(ours.detail()["frame_medians"], medians, rtol=1e-3)
    np.testing.assert_allclose(ours.detail()["frame_means"], means, rtol=1e-3)


def test_cse_is_the_cookbooks_number_one_f_for_the_pooled_matches_of_all_frames():
    x, y = noisy(0, 120, 0.5)
    parts = [slice(0, 40), slice(40, 81), slice(81, 120)]
    f, _ = cv2.findFundamentalMat(y, x, method=cv2.RANSAC)
    medians = [lower_median(sampson_distance(y[p], x[p], f)) for p in parts]
    matches = ViewMatches(("a", "b"), x, y, np.zeros(120, dtype=bool), [40, 41, 39])
    cross = cross_error(matches, view_geometry(matches, Sampson()), Sampson())
    assert cross.cse == pytest.approx(np.median(medians), rel=1e-12)
    assert cross.cse_moving is None


def test_a_frames_median_is_the_lower_of_two_as_torch_median():
    assert lower_median(np.array([4.0, 1.0, 3.0, 2.0])) == 2
    assert lower_median(np.array([3.0, 1.0, 2.0])) == 2


@pytest.mark.parametrize("noise", [0.1, 0.25, 0.5, 1.0])
def test_the_robust_error_has_the_size_of_the_noise_where_ransacs_is_too_large(noise):
    truth, ours, plain = HALF_NORMAL * noise, [], []
    for seed in range(8):
        x, y = noisy(seed, 200, noise)
        ours.append(robust_fit(x, y, Sampson(), 0).median)
        plain.append(np.median(cookbook_errors(x, y)))
    assert np.mean(ours) == pytest.approx(truth, rel=0.06)
    assert noise == 1 or np.mean(plain) > 1.15 * truth


def test_wrong_matches_do_not_move_the_robust_f():
    x, y = noisy(3, 200, 0.25)
    y[:60] += np.random.RandomState(0).uniform(20, 60, (60, 2))
    fit = robust_fit(x, y, Sampson(), 0)
    assert np.median(fit.errors[60:]) == pytest.approx(HALF_NORMAL * 0.25, rel=0.25)


@pytest.mark.parametrize("count", [20, 30, 60, 120])
def test_few_matches_read_the_same_error_as_many(count):
    """MAGSAC++ alone reads about half of the truth from 20 matches: 7 unknowns fit much of the noise."""
    ours, raw = [], []
    for seed in range(24):
        x, y = noisy(seed, count, 1.0)
        fit = robust_fit(x, y, Sampson(), 0)
        ours.append(fit.median / HALF_NORMAL)
        raw.append(np.median(sampson_distance(x, y, estimate_fundamental(x, y, "magsac", 1.0, 0))) / HALF_NORMAL)
    assert np.mean(ours) == pytest.approx(1, abs=0.15)
    assert count > 20 or np.mean(raw) < 0.75


def test_leverages_sum_to_the_unknowns_and_derivatives_are_right():
    x, y = noisy(1, 60, 0.5)
    _, _, f, _ = two_views(1, 60)
    refined = refine(x, y, np.stack([f, f * 3]))
    assert refined.leverages.sum(axis=1) == pytest.approx([7, 7], abs=0.05)  # Tukey's weights lower it a little
    np.testing.assert_allclose(refined.residuals[0] ** 2, refined.residuals[1] ** 2, atol=1e-6)
    np.testing.assert_allclose(np.abs(refined.residuals[0]), sampson_distance(x, y, refined.fundamentals[0]), atol=1e-6)
    assert np.linalg.svd(refined.fundamentals[0])[1][2] < 1e-9 * np.linalg.svd(refined.fundamentals[0])[1][0]
    one = np.ones((60, 1))
    xh, yh = np.hstack([x / 300 - 1, one]), np.hstack([y / 300 - 1, one])
    state = _State.of(np.random.RandomState(0).rand(1, 3, 3))
    residuals, rows = _linearised(state, xh, yh)
    for k in range(7):
        step = np.zeros((1, 7))
        step[0, k] = 1e-6
        moved, _ = _linearised(state.moved(step), xh, yh)
        np.testing.assert_allclose((moved - residuals)[0] / 1e-6, rows[0, :, k], atol=1e-4, rtol=1e-3)


def test_each_value_has_its_repeatability_and_its_number_of_pairs():
    errors = [pair_error(*noisy(seed, 80, 0.25), Sampson(repeats=5), (seed, seed + 1)) for seed in range(4)]
    result = summarize("video", tuple(errors), Sampson())
    assert result.repeatability["tse_robust"] < 0.02 < result.repeatability["tse"]
    assert repeatability_of([1.0, 1.2]) == pytest.approx(2.8 * 0.2 / 2**0.5)
    assert (result.pairs_measured, result.pairs_moving, result.moving_matches) == (4, 4, 80)
    # The recorded figure is what other orders of the same matches do.
    videos = []
    for order in range(8):
        rng, shuffled = np.random.RandomState(order), []
        for seed in range(4):
            x, y = noisy(seed, 80, 0.25)
            chosen = rng.permutation(80)
            shuffled.append(pair_error(x[chosen], y[chosen], Sampson(), (seed, seed + 1)))
        videos.append(summarize("video", tuple(shuffled), Sampson()))
    for measure in ("tse", "tse_robust"):
        real = repeatability_of([getattr(v, measure) for v in videos])
        assert result.repeatability[measure] == pytest.approx(real, rel=2, abs=0.005)


@pytest.mark.parametrize("failing", [1, 3])
def test_a_pair_where_opencv_raises_is_counted_and_the_value_rests_on_the_others(monkeypatch, failing):
    """A rendered clip with a moving camera, 5 frames; MAGSAC raises for the first `failing` of its 4 pairs."""
    frames = Scene.sample(83_000_001, "robot").clip().frames[:5]
    whole, original = temporal_sampson(frames, Sampson()), cv2.findFundamentalMat
    track = track_view(View("video", frames), MATCHERS.get("sift")(Sampson(), 1), 1, None)
    broken = {tuple(point) for x in track.matched_points()[0][:failing] for point in x}

    def raising(x, y, *words, **named):
        if words and words[0] == cv2.USAC_MAGSAC and tuple(x[0]) in broken:
            raise cv2.error("vect.size() > 7")
        return original(x, y, *words, **named)

    monkeypatch.setattr(cv2, "findFundamentalMat", raising)
    result = measure_views([View("video", frames)], Sampson())
    view, (value, reason) = result.views[0], result.measures()["tse_robust"]
    assert value == pytest.approx(np.median([p.robust for p in whole.errors[failing:]]), rel=1e-12)
    assert result.measures()["tse"] == (whole.tse, None)
    assert (result.pairs()["tse"], result.pairs()["tse_robust"]) == (4, 4 - failing)
    lost = result.detail()["pairs_lost"]
    assert (lost["tse"], lost["tse_robust"]) == ({}, {"no fundamental matrix fits": failing})
    assert view.errors[0].cookbook is not None
    assert view.errors[0].robust is None
    few = "rests on 1 of 4 frame pairs (3: no fundamental matrix fits)"
    assert reason == (few if failing == 3 else None)


def test_a_video_where_nothing_moves_gets_no_robust_fit():
    x = two_views()[0]
    error = pair_error(x, x + 0.01, Sampson(), (0, 1), robust_too=False)
    assert (error.robust, error.moving, error.static_share) == (None, None, 1)
    result = summarize("video", (error,), Sampson())
    assert (result.tse, result.tse_robust, result.tse_moving) == (None, None, None)
    assert result.repeatability == {"tse": None, "tse_robust": None, "tse_moving": None}
