"""Sampson error against OpenCV, scikit-image, the cookbook, known noise, rendered scenes with known cameras, and recordings."""

import json
from itertools import pairwise

import cv2
import numpy as np
import pytest

from cosmos_exp.config.schema import Sampson
from cosmos_exp.data.video import write_video
from cosmos_exp.errors import UserError
from cosmos_exp.metrics.geometry.cross_view import ViewMatches, cross_error
from cosmos_exp.metrics.geometry.epipolar import cookbook_errors, robust_fit, sampson_distance
from cosmos_exp.metrics.geometry.results import lower_median, repeatability_of
from cosmos_exp.metrics.geometry.sampson import Source, measure_sources, measure_views, temporal_sampson
from cosmos_exp.metrics.geometry.temporal import pair_error, summarize
from cosmos_exp.metrics.geometry.views import View, ViewCalibration, load_calibration, parse_pairs, views_of

HALF_NORMAL = 0.6745  # median of |N(0, 1)|
K = np.array([[500, 0, 320], [0, 500, 240], [0, 0, 1.0]])


def two_views(seed=0, count=200):
    """Exact matches of random points under two random pinhole cameras, their F, and the motion of the camera."""
    rng = np.random.RandomState(seed)
    points = np.c_[rng.uniform(-1, 1, (count, 2)), rng.uniform(3, 6, count)]
    rotation, _ = cv2.Rodrigues(rng.uniform(-0.15, 0.15, 3))
    t = np.array([0.4, 0.1, 0.05])
    a, b = points @ K.T, (points @ rotation.T + t) @ K.T
    cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    f = np.linalg.inv(K).T @ cross @ rotation @ np.linalg.inv(K)
    return a[:, :2] / a[:, 2:], b[:, :2] / b[:, 2:], f, (rotation, t)


def noisy(seed, count, noise):
    x, y, _, _ = two_views(seed, count)
    rng = np.random.RandomState(seed + 1000)
    return x + rng.normal(0, noise, x.shape), y + rng.normal(0, noise, y.shape)


def test_the_error_equals_scikit_images():
    from skimage.transform import FundamentalMatrixTransform

    x, y, f, _ = two_views()
    assert sampson_distance(x, y, f).max() < 1e-6
    y = y + np.random.RandomState(1).normal(0, 1, y.shape)
    np.testing.assert_allclose(sampson_distance(x, y, f), FundamentalMatrixTransform(f).residuals(x, y), rtol=1e-9)


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
    return np.nanmedian(medians), np.nanmean(means), medians


def test_tse_is_the_cookbooks_number():
    frames = textured_flight(5)
    value, mean, medians = cookbook_video(frames)
    ours = temporal_sampson(frames, Sampson())
    assert ours.values["tse"] == pytest.approx(value, rel=1e-12)
    assert ours.values["tse_mean"] == pytest.approx(mean, rel=1e-12)
    np.testing.assert_allclose(ours.detail()["frame_medians"], medians, rtol=1e-3)


def test_cse_is_the_cookbooks_number_one_f_for_the_pooled_matches_of_all_frames():
    x, y = noisy(0, 120, 0.5)
    parts = [slice(0, 40), slice(40, 81), slice(81, 120)]
    f, _ = cv2.findFundamentalMat(y, x, method=cv2.RANSAC)
    medians = [lower_median(sampson_distance(y[p], x[p], f)) for p in parts]
    cross = cross_error(ViewMatches("a:b", x, y, np.zeros(120, dtype=bool), [40, 41, 39]), Sampson())
    assert cross.values["cse"] == pytest.approx(np.median(medians), rel=1e-12)
    assert cross.values["cse_moving"] is None


@pytest.mark.parametrize(("count", "noise", "within"), [(200, 0.25, 0.06), (200, 1, 0.06), (20, 1, 0.15)])
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
    x, y, _, _ = two_views(count=300)
    y[:60] += np.random.RandomState(3).uniform(20, 90, (60, 2))
    error = pair_error(x, y, Sampson(estimator=estimator), (0, 1))
    assert error.values["inlier_share"] == pytest.approx(0.8, abs=0.03)
    assert error.values["tse_robust"] < 0.05
    assert np.median(sampson_distance(x[60:], y[60:], robust_fit(x, y, Sampson(), 0).fundamental)) < 0.05


def test_each_value_has_its_repeatability():
    """The recorded figure is what other orders of the same matches do."""
    (x, y), videos = noisy(0, 80, 0.25), []
    for order in range(12):
        chosen = np.random.RandomState(order).permutation(80)
        error = pair_error(x[chosen], y[chosen], Sampson(repeats=5), (0, 1))
        videos.append(summarize("video", (error,), Sampson()))
    assert repeatability_of([1.0, 1.2]) == pytest.approx(2.8 * 0.2 / 2**0.5)
    for measure in ("tse", "tse_robust"):
        real = repeatability_of([video.values[measure] for video in videos])
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
    assert np.abs(bent - straight).max() > 1
    camera = ViewCalibration(K, (480, 640), model, np.array(k))
    np.testing.assert_allclose(camera.undistorted(bent), straight, atol=2e-2)
    # The same camera at half the size sees the same points at half the coordinates.
    half = camera.scaled(240, 320).undistorted((bent + 0.5) / 2 - 0.5)
    np.testing.assert_allclose(half, (straight + 0.5) / 2 - 0.5, atol=2e-2)


def textured_flight(count=6):
    """A textured plane at two depths seen by a camera that moves sideways: exact epipolar geometry, enough texture for SIFT."""
    rng = np.random.RandomState(0)
    far = cv2.resize(rng.randint(0, 255, (90, 160, 3)).astype(np.uint8), (960, 540), interpolation=cv2.INTER_CUBIC)
    near = cv2.resize(rng.randint(0, 255, (30, 160, 3)).astype(np.uint8), (960, 180), interpolation=cv2.INTER_CUBIC)
    frames = []
    for k in range(count):
        frame = far[:360, 3 * k : 3 * k + 640].copy()
        frame[200:360] = near[:160, 9 * k : 9 * k + 640]
        frames.append(frame)
    return np.stack(frames)


def test_error_of_a_known_camera_is_small_and_rises_with_known_jitter():
    frames = textured_flight()
    rows = [temporal_sampson(frames, Sampson()).values]
    y, x = np.mgrid[0:360, 0:640].astype(np.float32)
    for size in (0.25, 1.0):
        shaken = frames.copy()
        for k in range(1, len(frames), 2):
            bend = size * np.sin(x / 23 + y / 31 + k)
            shaken[k] = cv2.remap(frames[k], x, (y + bend).astype(np.float32), cv2.INTER_LINEAR)
        rows.append(temporal_sampson(shaken, Sampson()).values)
    for measure in ("tse", "tse_moving"):
        values = [row[measure] for row in rows]
        assert values == sorted(values)
        assert values[0] < 0.15
        assert values[-1] > 5 * values[0]
    assert rows[-1]["inlier_share"] < rows[0]["inlier_share"]


def rendered(rotation, t, time, size=(360, 640)):
    """Three textured planes in true perspective, the nearest one moving with `time`, seen by the camera X_c = R X + t."""
    camera = np.array([[520, 0, 319.5], [0, 520, 179.5], [0, 0, 1.0]])
    picture = np.zeros((*size, 3), np.uint8)
    corners = {  # origin, then the world's way of a texture's pixel in x and y
        "wall": ([-4, -2.5, 6], [0.01, 0, 0], [0, 0.01, 0]),
        "floor": ([-2.4, 0.9, 2.2], [0.006, 0, 0], [0, -0.0005, 0.006]),
        "box": ([-1.0 + 0.05 * time, -0.5 + 0.03 * time, 2.6], [0.004, 0, 0.0008], [0, 0.004, 0]),
    }
    sizes = {"wall": (500, 800), "floor": (500, 800), "box": (160, 200)}
    for seed, (name, plane) in enumerate(corners.items()):
        rng = np.random.RandomState(seed)
        rows, columns = sizes[name]
        texture = cv2.resize(
            rng.randint(0, 255, (rows // 5, columns // 5, 3)).astype(np.uint8),
            (columns, rows),
            interpolation=cv2.INTER_CUBIC,
        )
        origin, across, down = (np.array(v, dtype=float) for v in plane)
        h = camera @ np.stack([rotation @ across, rotation @ down, rotation @ origin + t], axis=1)
        seen = cv2.warpPerspective(texture, h, size[::-1], flags=cv2.INTER_LINEAR)
        mask = cv2.warpPerspective(np.full((rows, columns), 255, np.uint8), h, size[::-1], flags=cv2.INTER_NEAREST)
        picture[mask > 0] = seen[mask > 0]
    return picture, camera


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    """Nine frames of a moving box from two known static cameras, and their calibration file."""
    turn, _ = cv2.Rodrigues(np.array([0.02, -0.08, 0.01]))
    poses = {"left": (np.eye(3), np.zeros(3)), "right": (turn, np.array([-0.35, 0.03, 0.02]))}
    views, content = [], {}
    for name, (rotation, t) in poses.items():
        frames, cameras = zip(*(rendered(rotation, t, k) for k in range(9)), strict=True)
        views.append(View(name, np.stack(frames)))
        content[name] = {"intrinsics": cameras[0].tolist(), "size": [360, 640]}
    file = tmp_path_factory.mktemp("rig") / "rig.yaml"
    file.write_text(json.dumps({"views": content}))
    return views, file


def test_a_known_rig_has_a_small_cross_view_error_and_a_delay_raises_it(rig):
    """The cameras are static, so the delay shows in the moving matches."""
    views, file = rig
    calibration, moving = load_calibration(Sampson(calibration=str(file))), []
    for delay in (0, 1, 4):
        late = [View("left", views[0].frames[: 9 - delay]), View("right", views[1].frames[delay:])]
        cross = measure_views(late, Sampson(), calibration).crosses[0]
        moving.append(cross.values["cse_moving"])
        assert delay or cross.values["cse_robust"] < 0.2
    assert moving == sorted(moving)
    assert moving[0] < 0.5 < moving[1]
    estimated = measure_views(views, Sampson()).crosses[0]
    assert estimated.values["cse"] < 0.2
    assert estimated.values["cse_robust"] < 0.2
    assert estimated.count("cse") == 9


def test_the_error_of_a_static_video_is_undefined_not_zero():
    result = temporal_sampson(np.repeat(textured_flight(1), 5, axis=0), Sampson())
    assert {result.values[measure] for measure in ("tse", "tse_robust", "tse_moving")} == {None}
    assert set(result.repeatability.values()) == {None}
    assert result.values["static_share"] == 1.0
    assert "stand still" in result.reason


@pytest.mark.parametrize("shape", [(1, 96, 160, 3), (4, 96, 160, 3), (3, 16, 16, 3)])
@pytest.mark.parametrize("most", [1, 255])
def test_degenerate_input_gives_none_with_a_reason(shape, most):
    """Black frames, and noise."""
    views, notes = views_of(np.random.RandomState(0).randint(0, most, shape).astype(np.uint8), Sampson())
    result = measure_views(views, Sampson(), notes=notes)
    for value, reason in result.measures().values():
        assert value is None or most == 255
        assert reason
    json.dumps(result.detail())


@pytest.mark.parametrize("count", [0, 1, 7, 14])
def test_few_matches_are_counted_not_averaged(count):
    x, y, _, _ = two_views(count=14)
    x, y = x[:count], y[:count]
    assert pair_error(x, y, Sampson(), (0, 1)).values == {"matches": count, "moving_matches": count}
    cross = cross_error(ViewMatches("a:b", x, y, np.ones(count, dtype=bool), [count]), Sampson())
    assert cross.values["cse"] is None
    assert cross.reason


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
    value, reason = result.measures()["tse_robust"]
    assert value == whole.errors[3].values["tse_robust"]
    assert reason == "rests on 1 of 4 frame pairs (3: no fundamental matrix fits)"
    assert result.measures()["tse"] == (whole.values["tse"], None)
    assert result.detail()["pairs"] == {"tse": 4, "tse_robust": 1, "tse_moving": 1}
    assert result.detail()["pairs_lost"]["tse_robust"] == {"no fundamental matrix fits": 3}


def test_tiles_are_named_and_empty_ones_left_out():
    frames = np.random.RandomState(0).randint(0, 255, (3, 64, 96, 3)).astype(np.uint8)
    frames[:, 32:, 64:] = 0
    views, notes = views_of(frames, Sampson(layout="2x3"))
    assert [v.name for v in views] == ["view1", "view2", "view3", "view4", "view5"]
    np.testing.assert_array_equal(views[3].frames, frames[:, 32:, :32])
    assert "view6 (row 2, column 3) is empty" in notes[0]
    named, _ = views_of(frames, Sampson(layout="2x3", views=["a", "-", "-", "-", "b", "-"]))
    assert [v.name for v in named] == ["a", "b"]
    assert parse_pairs("a:c,a:b", ["a", "b"], ["c"]) == [("a", "b")]
    with pytest.raises(UserError, match="A:B"):
        parse_pairs("a:z", ["a", "b"], [])


def test_numbers_are_the_same_with_any_number_of_threads_and_processes(tmp_path):
    def measure(sources, workers):
        return [r.detail() for r in measure_sources(sources, Sampson(), workers)]

    frames = textured_flight(4)
    assert temporal_sampson(frames, Sampson()) == temporal_sampson(frames, Sampson(), threads=2)
    write_video(tmp_path / "a.mp4", frames, 8)
    sources = [Source(str(k), (tmp_path / "a.mp4",)) for k in range(5)]
    assert measure(sources, workers=2) == measure(sources[:1], workers=1) * 5


@pytest.fixture(scope="module")
def tiny_lightglue(tmp_path_factory):
    """Randomly initialised SuperPoint and LightGlue of the real classes."""
    import torch
    from transformers import LightGlueConfig, LightGlueForKeypointMatching, SuperPointConfig

    torch.manual_seed(0)
    points = SuperPointConfig(
        encoder_hidden_sizes=[8, 8, 16, 16],
        decoder_hidden_size=16,
        keypoint_decoder_dim=65,
        descriptor_decoder_dim=16,
        keypoint_threshold=0.001,
        border_removal_distance=4,
    )
    config = LightGlueConfig(
        keypoint_detector_config=points,
        descriptor_dim=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        filter_threshold=0.0,
    )
    folder = tmp_path_factory.mktemp("lightglue")
    model = LightGlueForKeypointMatching(config)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3)  # the class's own initialisation gives no distinct keypoints
    model.save_pretrained(folder)
    return folder


def test_lightglue_matches_as_the_whole_model_does(tiny_lightglue):
    """Keypoints found once per frame give the same matches as transformers' own forward pass over the pair.

    The frames are as wide as SuperPoint sees them, so that none is resized.
    """
    import torch
    from transformers import LightGlueForKeypointMatching

    from cosmos_exp.metrics.geometry.lightglue import LightGlueMatcher

    small = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY)[:96, :160] for f in textured_flight(2)]
    grey = [cv2.resize(f, (1024, 608)) for f in small]
    settings = Sampson(matcher="superpoint_lightglue", matcher_source=str(tiny_lightglue), max_keypoints=60)
    matcher = LightGlueMatcher(settings)
    (ours,) = matcher.match([tuple(matcher.features(grey))], (608, 1024))
    whole = LightGlueForKeypointMatching.from_pretrained(tiny_lightglue).eval()
    whole.keypoint_detector.keypoint_decoder.max_keypoints = 60
    whole.keypoint_detector.keypoint_decoder.keypoint_threshold = 0.0005
    pixels = torch.from_numpy(np.stack(grey)).float()[None, :, None].expand(-1, -1, 3, -1, -1) / 255
    with torch.no_grad():
        partners = whole(pixels).matches.reshape(2, -1)[0].tolist()
    theirs = {(i, int(j)) for i, j in enumerate(partners) if j >= 0}
    assert {(int(i), int(j)) for i, j in ours} == theirs != set()
    assert len(temporal_sampson(textured_flight(2)[:, :96, :160], settings).errors) == 1


def test_superpoint_sees_a_long_side_of_1024_and_points_are_in_the_frames_pixels(tiny_lightglue):
    """As cvg/LightGlue, which the cookbook uses: (p + 0.5) / scale - 0.5; a threshold of 0.0005; 2,048 points."""
    from types import SimpleNamespace

    import torch

    from cosmos_exp.metrics.geometry.lightglue import LightGlueMatcher

    matcher = LightGlueMatcher(Sampson(matcher="superpoint_lightglue", matcher_source=str(tiny_lightglue)))
    decoder = matcher.detector.keypoint_decoder
    assert (decoder.keypoint_threshold, decoder.max_keypoints) == (0.0005, 2048)

    def detect(pixels):
        assert pixels.shape == (1, 3, 576, 1024)
        points = torch.tensor([[[0.0, 0.0], [511.0, 287.0], [1023.0, 575.0]]]) / torch.tensor([1024, 576])
        return SimpleNamespace(keypoints=points, descriptors=torch.zeros(1, 3, 16), mask=torch.ones(1, 3))

    matcher.detector = detect
    (found,) = matcher.features([np.zeros((432, 768), np.uint8)])  # scale 4 / 3
    np.testing.assert_allclose(found.points, [[-0.125, -0.125], [383.125, 215.125], [767.125, 431.125]], atol=1e-4)


def test_the_command_with_tiles_files_and_errors(tmp_path, cli, capsys, rig):
    views, file = rig
    grid = np.concatenate([v.frames for v in views], axis=2)
    write_video(tmp_path / "grid.mp4", grid, 8)
    for view in views:
        write_video(tmp_path / f"{view.name}.mp4", view.frames, 8)
    common = ["--views", "left,right", "--calibration", file]
    words = ["sampson", tmp_path / "grid.mp4", "--layout", "1x2", *common, "--json"]
    assert cli(*words) == 0
    printed = capsys.readouterr().out
    row = json.loads(printed[printed.index("[\n") :])[0]
    assert [v["name"] for v in row["views"]] == ["left", "right"]
    assert row["crosses"][0]["name"] == "left:right"
    assert cli("sampson", tmp_path / "left.mp4", tmp_path / "right.mp4", *common) == 0
    assert "left:right" in capsys.readouterr().out
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    assert cli("sampson", tmp_path / "broken.mp4", tmp_path / "left.mp4") == 1
    assert "broken.mp4" in capsys.readouterr().out
    (tmp_path / "bad.yaml").write_text("views: {video: {size: [96, 160]}}")
    lightglue = ["--set", "sampson.matcher=superpoint_lightglue", "sampson.matcher_source=/nowhere"]
    for bad in (["--layout", "2"], ["--views", "a,b"], ["--calibration", tmp_path / "bad.yaml"], lightglue):
        assert cli("sampson", tmp_path / "grid.mp4", *bad) == 2
        assert capsys.readouterr().err.startswith("cosmos-exp: ")
