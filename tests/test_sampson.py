"""Sampson error against OpenCV, scikit-image, the cookbook, known noise, rendered scenes with known cameras, and recordings."""

import json
import tracemalloc
from itertools import pairwise

import cv2
import hub_repositories
import numpy as np
import pytest
from skimage.transform import FundamentalMatrixTransform

from cosmos_exp.config.schema import Sampson
from cosmos_exp.data.video import VideoFrames, read_video, write_video
from cosmos_exp.metrics.geometry.cross_view import ViewMatches, cross_error
from cosmos_exp.metrics.geometry.epipolar import cookbook_errors, robust_fit, sampson_distance
from cosmos_exp.metrics.geometry.results import lower_median
from cosmos_exp.metrics.geometry.sampson import Source, measure_source, measure_sources, measure_views, temporal_sampson
from cosmos_exp.metrics.geometry.temporal import pair_error, planar_share, summarize
from cosmos_exp.metrics.geometry.views import View, ViewCalibration, views_of

HALF_NORMAL = 0.6745  # median of |N(0, 1)|
K = np.array([[500, 0, 320], [0, 500, 240], [0, 0, 1.0]])


def two_views(seed=0, count=200):
    """Exact matches of random points under two random pinhole cameras."""
    rng = np.random.RandomState(seed)
    points = np.c_[rng.uniform(-1, 1, (count, 2)), rng.uniform(3, 6, count)]
    rotation, _ = cv2.Rodrigues(rng.uniform(-0.15, 0.15, 3))
    a, b = points @ K.T, (points @ rotation.T + np.array([0.4, 0.1, 0.05])) @ K.T
    return a[:, :2] / a[:, 2:], b[:, :2] / b[:, 2:]


def noisy(seed, count, noise):
    x, y = two_views(seed, count)
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
        error = FundamentalMatrixTransform(f).residuals(kp1, kp0)  # scikit-image's Sampson distance
        means.append(error.mean())
        medians.append(np.sort(error)[(len(error) - 1) // 2])  # torch.median
    return np.nanmedian(medians), np.nanmean(means), medians


def test_tse_is_the_cookbooks_number():
    frames = textured_flight(5)
    value, mean, medians = cookbook_video(frames)
    ours = temporal_sampson(frames, Sampson())
    assert (ours.values["tse"], ours.values["tse_mean"]) == pytest.approx((value, mean), rel=1e-9)
    np.testing.assert_allclose(ours.detail()["frame_medians"], medians, rtol=1e-3)


def test_cse_is_the_cookbooks_number_one_f_for_the_pooled_matches_of_all_frames():
    x, y = noisy(0, 120, 0.5)
    parts = [slice(0, 40), slice(40, 81), slice(81, 120)]
    f, _ = cv2.findFundamentalMat(y, x, method=cv2.RANSAC)
    medians = [lower_median(sampson_distance(y[p], x[p], f)) for p in parts]
    cross = cross_error(ViewMatches("a:b", x, y, np.zeros(120, dtype=bool), [40, 41, 39]), Sampson())
    assert cross.values["cse"] == pytest.approx(np.median(medians), rel=1e-12)
    assert cross.values["cse_moving"] is None


@pytest.mark.parametrize(("count", "noise", "within"), [(200, 0.25, 0.06), (20, 1, 0.15)])
def test_the_robust_error_has_the_size_of_the_noise_where_ransacs_is_too_large(count, noise, within):
    """Few matches read the same error as many: it is corrected for the 7 unknowns, which fit much of their noise."""
    truth, ours, plain = HALF_NORMAL * noise, [], []
    for seed in range(16):
        x, y = noisy(seed, count, noise)
        ours.append(robust_fit(x, y, Sampson(), 0).median)
        plain.append(np.median(cookbook_errors(x, y)))
    assert np.mean(ours) == pytest.approx(truth, rel=within)
    assert noise == 1 or np.mean(plain) > 1.15 * truth


@pytest.mark.parametrize("estimator", ["magsac", "ransac"])
def test_wrong_matches_lower_the_inlier_share_and_do_not_move_f(estimator):
    x, y = two_views(count=300)
    y[:60] += np.random.RandomState(3).uniform(20, 90, (60, 2))
    error = pair_error(x, y, Sampson(estimator=estimator), (0, 1))
    assert error.values["inlier_share"] == pytest.approx(0.8, abs=0.03)
    assert error.values["tse_robust"] < 0.05


def test_each_value_has_its_repeatability():
    """The recorded figure is what other orders of the same matches do."""
    (x, y), videos = noisy(0, 80, 0.25), []
    for order in range(12):
        chosen = np.random.RandomState(order).permutation(80)
        error = pair_error(x[chosen], y[chosen], Sampson(repeats=5), (0, 1))
        videos.append(summarize("video", (error,), Sampson()))
    for measure in ("tse", "tse_robust"):
        values = [video.values[measure] for video in videos]
        real = 2.8 * np.std(values, ddof=1)
        assert videos[0].repeatability[measure] == pytest.approx(real, rel=2, abs=0.005)


@pytest.mark.parametrize(
    ("model", "k"), [("pinhole", [-0.3, 0.1, 0.001, -0.002, 0.0]), ("fisheye", [0.05, -0.02, 0.01, 0.0])]
)
def test_undistortion_undoes_opencvs_distortion(model, k):
    rng = np.random.RandomState(0)
    rays = np.c_[rng.uniform(-0.4, 0.4, (50, 2)), np.ones(50)]
    straight = (rays @ K.T)[:, :2]
    project = cv2.fisheye.projectPoints if model == "fisheye" else cv2.projectPoints
    bent = project(rays[:, None], np.zeros(3), np.zeros(3), K, np.array(k))[0].reshape(-1, 2)
    camera = ViewCalibration(K, (480, 640), model, np.array(k))
    np.testing.assert_allclose(camera.undistorted(bent), straight, atol=2e-2)
    # The same camera at half the size sees the same points at half the coordinates.
    half = camera.scaled(240, 320).undistorted((bent + 0.5) / 2 - 0.5)
    np.testing.assert_allclose(half, (straight + 0.5) / 2 - 0.5, atol=2e-2)


def picture(step, time=None):
    """A textured plane at two depths from a camera `step` to the right; with a `time`, a nearer plane that moves right and down."""
    rng, frame = np.random.RandomState(0), np.zeros((360, 640, 3), np.uint8)
    layers = [(0, 0, 360, 640, 3), (200, 0, 160, 640, 9)]  # top, left, height, width, pixels a step
    if time is not None:
        layers.append((60 + 2 * time, 250 + 3 * time - 15 * step, 100, 140, 0))
    for top, left, height, width, speed in layers:
        texture = rng.randint(0, 255, (height // 6 + 1, 160, 3)).astype(np.uint8)
        texture = cv2.resize(texture, (960, 6 * len(texture)), interpolation=cv2.INTER_CUBIC)
        frame[top : top + height, left : left + width] = texture[:height, speed * step :][:, :width]
    return frame


def textured_flight(count=6):
    """A textured plane at two depths seen by a camera that moves sideways: exact epipolar geometry, enough texture for SIFT."""
    return np.stack([picture(step) for step in range(count)])


def test_error_of_a_known_camera_is_small_and_rises_with_known_jitter():
    frames = textured_flight()
    calm = temporal_sampson(frames, Sampson()).values
    y, x = np.mgrid[0:360, 0:640].astype(np.float32)
    for k in range(1, len(frames), 2):
        bend = np.sin(x / 23 + y / 31 + k).astype(np.float32)
        frames[k] = cv2.remap(frames[k], x, y + bend, cv2.INTER_LINEAR)
    shaken = temporal_sampson(frames, Sampson()).values
    for measure in ("tse", "tse_moving"):
        assert 5 * calm[measure] < min(0.75, shaken[measure])
    assert shaken["inlier_share"] < calm["inlier_share"]


@pytest.fixture(scope="module")
def rig():
    """Seven frames of a moving box from two static cameras."""
    return [View(name, np.stack([picture(k, time) for time in range(7)])) for k, name in enumerate(("left", "right"))]


def test_a_rig_has_a_small_cross_view_error_and_a_delay_raises_it(rig):
    """The cameras are static, so the delay shows in the moving matches."""
    moving = []
    for delay in (0, 1, 4):
        late = [View("left", rig[0].frames[: 7 - delay]), View("right", rig[1].frames[delay:])]
        cross = measure_views(late, Sampson(repeats=2)).crosses[0]
        moving.append(cross.values["cse_moving"])
        assert max(cross.values["cse"], cross.values["cse_robust"]) < 0.2
        assert cross.count("cse") == 7 - delay
    assert moving == sorted(moving)
    assert moving[0] < 0.5 < moving[1]


def test_degenerate_input_gives_none_with_a_reason():
    """A still video, a single frame of noise, and black frames: undefined, not zero."""
    noise = np.random.RandomState(0).randint(0, 255, (1, 96, 160, 3)).astype(np.uint8)
    for frames in (np.repeat(textured_flight(1), 5, axis=0), noise, np.zeros((4, 96, 160, 3), np.uint8)):
        measures = measure_views([View("video", frames)], Sampson()).measures()
        for measure in ("tse", "tse_robust", "tse_moving"):
            value, reason = measures[measure]
            assert value is None
            assert reason


def test_few_matches_are_counted_not_averaged():
    x, y = two_views(count=14)
    assert pair_error(x, y, Sampson(), (0, 1)).values == {"matches": 14, "moving_matches": 14}
    assert cross_error(ViewMatches("a:b", x, y, x[:, 0] > 0, [14]), Sampson()).reason


def test_a_pair_where_opencv_raises_is_counted_and_the_value_rests_on_the_others(monkeypatch):
    """MAGSAC++ raises for the first 3 of 4 pairs."""
    frames = textured_flight(5)
    whole, original = temporal_sampson(frames, Sampson()), cv2.findFundamentalMat
    calls = []

    def raising(x, y, *words, **named):
        if words and words[0] == cv2.USAC_MAGSAC:
            calls.append(None)
            if len(calls) <= 3 * Sampson().repeats:  # all matches move: one fit per pair
                raise cv2.error("vect.size() > 7")
        return original(x, y, *words, **named)

    monkeypatch.setattr(cv2, "findFundamentalMat", raising)
    result = measure_views([View("video", frames)], Sampson())
    reason = "rests on 1 of 4 frame pairs (3: no fundamental matrix fits)"
    assert result.measures()["tse_robust"] == (whole.errors[3].values["tse_robust"], reason)
    assert result.measures()["tse"] == (whole.values["tse"], None)


def test_tiles_are_named_and_empty_ones_left_out():
    frames = np.random.RandomState(0).randint(0, 255, (3, 64, 96, 3)).astype(np.uint8)
    frames[:, 32:, 64:] = 0
    views, notes = views_of(frames, Sampson(layout="2x3"))
    assert [v.name for v in views] == ["view1", "view2", "view3", "view4", "view5"]
    np.testing.assert_array_equal(np.stack(list(views[3])), frames[:, 32:, :32])
    assert "view6 (row 2, column 3) is empty" in notes[0]
    named, _ = views_of(frames, Sampson(layout="2x3", views=["a", "-", "-", "-", "b", "-"]))
    assert [v.name for v in named] == ["a", "b"]


def test_numbers_are_the_same_with_any_number_of_threads_and_processes(tmp_path):
    frames = textured_flight(4)
    ways = [(8, 1), (8, 2), (1, 1), (3, 2)]  # frames in memory, threads
    results = [temporal_sampson(frames, Sampson(batch_frames=batch), threads=threads) for batch, threads in ways]
    assert results == results[:1] * len(ways)
    write_video(tmp_path / "a.mp4", frames, 8)
    source = Source("a", (tmp_path / "a.mp4",))
    assert list(measure_sources([source] * 3, Sampson(), 2)) == [measure_source(source, Sampson())] * 3


def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path):
    peaks, frames = [], textured_flight(3)[:, :96, :160]
    for count in (20, 80):
        write_video(tmp_path / "a.mp4", frames[np.arange(count) % 3], 8)
        tracemalloc.start()
        measure_source(Source("", (tmp_path / "a.mp4",)), Sampson(batch_frames=2))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
    np.testing.assert_array_equal(list(VideoFrames(tmp_path / "a.mp4", (2, 9))), read_video(tmp_path / "a.mp4")[2:9])


@pytest.mark.parametrize(("frames", "fps"), [(8, 16), (6, 8), (8, 9.6)])
def test_views_of_another_rate_or_length_are_refused(tmp_path, frames, fps):
    pictures = textured_flight(1)[[0] * 8]
    write_video(tmp_path / "a.mp4", pictures, 8)
    write_video(tmp_path / "b.mp4", pictures[:frames], fps)
    refusal = measure_source(Source("", (tmp_path / "a.mp4", tmp_path / "b.mp4")), Sampson(views=["a", "b"]))
    assert f"b.mp4 has {frames} frames at {fps:g} fps" in refusal
    assert "fps=8" in refusal


@pytest.fixture(scope="module")
def tiny_lightglue(tmp_path_factory):
    """Randomly initialised SuperPoint and LightGlue of the real classes."""
    return hub_repositories.lightglue(tmp_path_factory.mktemp("hub"))


def test_lightglue_matches_as_the_whole_model_does(tiny_lightglue):
    """Keypoints found once per frame give the same matches as transformers' own forward pass over the pair.

    The frames are as wide as SuperPoint sees them, so that none is resized.
    """
    import torch
    from transformers import LightGlueForKeypointMatching

    from cosmos_exp.metrics.geometry.lightglue import LightGlueMatcher

    grey = [cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY)[:96, :160], (1024, 608)) for f in textured_flight(2)]
    matcher = LightGlueMatcher(Sampson(matcher_source=str(tiny_lightglue), max_keypoints=60))
    (ours,) = matcher.match([tuple(matcher.features(grey))], (608, 1024))
    whole = LightGlueForKeypointMatching.from_pretrained(tiny_lightglue).eval()
    whole.keypoint_detector.keypoint_decoder.max_keypoints = 60
    whole.keypoint_detector.keypoint_decoder.keypoint_threshold = 0.0005
    pixels = torch.from_numpy(np.stack(grey)).float()[None, :, None].expand(-1, -1, 3, -1, -1) / 255
    with torch.no_grad():
        partners = whole(pixels).matches.reshape(2, -1)[0].tolist()
    theirs = {(i, int(j)) for i, j in enumerate(partners) if j >= 0}
    assert {(int(i), int(j)) for i, j in ours} == theirs != set()


def test_superpoint_sees_a_long_side_of_1024_and_points_are_in_the_frames_pixels(tiny_lightglue):
    """As cvg/LightGlue, which the cookbook uses: (p + 0.5) / scale - 0.5; a threshold of 0.0005; 2,048 points."""
    from types import SimpleNamespace

    import torch

    from cosmos_exp.metrics.geometry.lightglue import LightGlueMatcher

    matcher = LightGlueMatcher(Sampson(matcher_source=str(tiny_lightglue)))
    decoder = matcher.detector.keypoint_decoder
    assert (decoder.keypoint_threshold, decoder.max_keypoints) == (0.0005, 2048)

    def detect(pixels):
        assert pixels.shape == (1, 3, 576, 1024)
        points = torch.tensor([[[511 / 1024, 287 / 576]]])
        return SimpleNamespace(keypoints=points, descriptors=torch.zeros(1, 1, 16), mask=torch.ones(1, 1))

    matcher.detector = detect
    (found,) = matcher.features([np.zeros((432, 768), np.uint8)])  # scale 4 / 3
    np.testing.assert_allclose(found.points, [[383.125, 215.125]], atol=1e-4)


def test_the_command_with_tiles_files_and_errors(tmp_path, rig, answered):
    video, calibration = tmp_path / "grid.mp4", tmp_path / "rig.yaml"
    write_video(video, np.concatenate([v.frames[:2] for v in rig], axis=2), 8)
    camera = {"intrinsics": K.tolist(), "size": [360, 640]}
    calibration.write_text(json.dumps({"views": {"left": camera, "right": camera}}))
    common = ["--views", "left,right", "--calibration", calibration]
    printed = answered(["sampson", video, "--layout", "1x2", *common, "--json"], 0)
    row = json.loads(printed[printed.index("[\n") :])[0]
    assert [v["name"] for v in row["views"]] == ["left", "right"]
    answered(["sampson", video, video, *common], 0, "left:right")
    calibration.write_text("views: {video: {size: [96, 160]}}")
    answered(["sampson", calibration, video], 1, "rig.yaml")
    assert len(answered(["sampson", "a" * 65536], 1, "cannot be used (File name too long)")) < 200
    lightglue = ["--set", "sampson.matcher=superpoint_lightglue", "sampson.matcher_source=/nowhere"]
    for wrong in (["--layout", "2"], ["--pairs", "a:z"], ["--calibration", calibration], lightglue):
        assert answered(["sampson", video, *wrong], 2).startswith("cosmos-exp: ")


def test_a_camera_that_only_turns_leaves_the_geometry_undetermined():
    """Points at all depths move by one homography K R K^-1 if the camera turns, and not if it moves."""
    x, moved = noisy(0, 200, 0.1)
    turned = np.c_[x, np.ones(200)] @ (K @ cv2.Rodrigues(np.array([0.0, 0.03, 0.0]))[0] @ np.linalg.inv(K)).T
    assert planar_share(x, turned[:, :2] / turned[:, 2:], 1.0) > 0.95
    assert planar_share(x, moved, 1.0) < 0.6
