"""Sampson error against OpenCV, scikit-image, closed forms, rendered scenes with known cameras, and recordings."""

import json

import cv2
import numpy as np
import pytest

from cosmos_exp.config.schema import Sampson
from cosmos_exp.data.video import read_video, write_video
from cosmos_exp.errors import UserError
from cosmos_exp.metrics.geometry.cross_view import ViewMatches, cross_error, view_geometry
from cosmos_exp.metrics.geometry.epipolar import fundamental_from_intrinsics, robust_fit, sampson_distance
from cosmos_exp.metrics.geometry.matching import SiftMatcher, mutual_matches
from cosmos_exp.metrics.geometry.sampson import Source, measure_sources, measure_views, temporal_sampson
from cosmos_exp.metrics.geometry.temporal import pair_error
from cosmos_exp.metrics.geometry.views import (
    View,
    ViewCalibration,
    fundamental_of_views,
    load_calibration,
    parse_pairs,
    split_views,
    views_of,
)

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


def test_the_error_equals_opencvs_and_scikit_images():
    from skimage.transform import FundamentalMatrixTransform

    x, y, f, _ = two_views()
    y = y + np.random.RandomState(1).normal(0, 1, y.shape)
    ours = sampson_distance(x, y, f)
    for i in range(0, 200, 17):
        theirs = cv2.sampsonDistance(np.append(x[i], 1.0)[:, None], np.append(y[i], 1.0)[:, None], f)
        assert ours[i] ** 2 == pytest.approx(theirs, rel=1e-6)
    np.testing.assert_allclose(ours, FundamentalMatrixTransform(f).residuals(x, y), rtol=1e-9)


@pytest.mark.parametrize("estimator", ["magsac", "ransac", "five_point"])
def test_exact_correspondences_have_no_error_under_every_estimator(estimator):
    x, y, f, _ = two_views()
    assert sampson_distance(x, y, f).max() < 1e-6
    camera = ViewCalibration(K, (480, 640))
    error = pair_error(x, y, Sampson(estimator=estimator), (0, 1), camera)
    assert error.cookbook < 1e-3
    assert error.robust < 1e-3
    assert error.moving < 1e-3
    assert error.inlier_share == 1


def test_noise_has_its_theoretical_size():
    x, y, f, _ = two_views()
    rng, sigma = np.random.RandomState(2), 0.5
    errors = np.concatenate(
        [sampson_distance(x + rng.normal(0, sigma, x.shape), y + rng.normal(0, sigma, y.shape), f) for _ in range(50)]
    )
    # To first order e is |N(0, sigma^2)|: its mean is sigma sqrt(2 / pi).
    assert errors.mean() == pytest.approx(sigma * (2 / np.pi) ** 0.5, rel=0.03)


def test_wrong_matches_lower_the_inlier_share():
    x, y, _, _ = two_views(count=300)
    y[:60] += np.random.RandomState(3).uniform(20, 90, (60, 2))
    error = pair_error(x, y, Sampson(), (0, 1))
    assert error.inlier_share == pytest.approx(0.8, abs=0.03)
    assert error.robust < 0.05
    assert np.median(sampson_distance(x[60:], y[60:], robust_fit(x, y, Sampson(), 0).fundamental)) < 0.05


def test_a_calibrations_geometry_is_the_cameras():
    x, y, f, (rotation, t) = two_views()
    a = ViewCalibration(K, (480, 640), rotation=np.eye(3), translation=np.zeros(3))
    b = ViewCalibration(K, (480, 640), rotation=rotation, translation=t)
    ours = fundamental_of_views(("a", "b"), a, b)
    np.testing.assert_allclose(ours / ours[2, 2], f / f[2, 2], rtol=1e-9)
    five = fundamental_from_intrinsics(x, y, K, 1.0, 0)
    assert sampson_distance(x, y, five).max() < 1e-4
    with pytest.raises(UserError, match="same place"):
        fundamental_of_views(("a", "a"), a, a)


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


def test_matches_are_those_of_opencvs_brute_force():
    frames = textured_flight(2)
    a, b = SiftMatcher(Sampson(max_keypoints=500)).features([cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in frames])

    def good(p, q):
        found = cv2.BFMatcher(cv2.NORM_L2).knnMatch(p, q, k=2)
        return {m.queryIdx: m.trainIdx for m, n in found if m.distance < 0.8 * n.distance}

    there, back = good(a.descriptors, b.descriptors), good(b.descriptors, a.descriptors)
    theirs = sorted((i, j) for i, j in there.items() if back.get(j) == i)
    ours = mutual_matches(a.descriptors, b.descriptors, 0.8)
    assert [tuple(m) for m in ours.tolist()] == theirs
    assert len(ours) > 50


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
    clean = temporal_sampson(frames, Sampson())
    assert clean.tse < 0.15
    assert clean.tse_moving < 0.15
    rows = [clean]
    y, x = np.mgrid[0:360, 0:640].astype(np.float32)
    for size in (0.25, 0.5, 1.0):
        shaken = frames.copy()
        for k in range(1, len(frames), 2):
            bend = size * np.sin(x / 23 + y / 31 + k)
            shaken[k] = cv2.remap(frames[k], x, (y + bend).astype(np.float32), cv2.INTER_LINEAR)
        rows.append(temporal_sampson(shaken, Sampson()))
    for values in ([r.tse for r in rows], [r.tse_moving for r in rows]):
        assert values == sorted(values)
        assert values[-1] > 5 * values[0]
    assert rows[-1].inlier_share < rows[0].inlier_share


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
        content[name] = {
            "intrinsics": cameras[0].tolist(),
            "size": [360, 640],
            "rotation": rotation.tolist(),
            "translation": t.tolist(),
        }
    file = tmp_path_factory.mktemp("rig") / "rig.yaml"
    file.write_text(json.dumps({"views": content}))
    return views, file


def test_a_known_moving_camera_has_a_small_error():
    frames = []
    for k in range(6):
        turn, _ = cv2.Rodrigues(np.array([0.004, 0.006, -0.003]) * k)
        frames.append(rendered(turn, np.array([0.05, 0.01, -0.03]) * k, 0)[0])
    result = temporal_sampson(np.stack(frames), Sampson())
    assert result.tse < 0.15
    assert result.tse_moving < 0.15
    assert result.pairs_measured == 5


def test_a_known_rig_has_a_small_cross_view_error_calibrated_and_estimated(rig):
    views, file = rig
    calibrated = measure_views(views, Sampson(), load_calibration(Sampson(calibration=str(file)))).crosses[0]
    assert calibrated.geometry == "calibration"
    assert calibrated.cse_robust < 0.2
    estimated = measure_views(views, Sampson()).crosses[0]
    assert estimated.cse < 0.2
    assert estimated.cse_robust < 0.2
    assert estimated.frames_measured == estimated.frames == 9


def test_a_delayed_view_raises_the_cross_view_error(rig):
    """The cameras are static, so the delay shows in the moving matches."""
    views, file = rig
    calibration = load_calibration(Sampson(calibration=str(file)))
    values = []
    for delay in (0, 1, 2, 4):
        late = [View("left", views[0].frames[: 9 - delay]), View("right", views[1].frames[delay:])]
        values.append(measure_views(late, Sampson(), calibration).crosses[0])
    moving = [v.cse_moving for v in values]
    assert moving == sorted(moving)
    assert moving[0] < 0.5 < moving[1]


def test_the_embedded_worlds_truth_is_a_calibration_and_a_bent_rig_is_rejected(tmp_path):
    from cosmos_exp.tabletop.dataset import Kind, truth
    from cosmos_exp.tabletop.scene import LABELS

    scene = Kind("robot", (192, 320), 3).scene(5)
    clips = {view: scene.clip(view) for view in ("left", "right")}
    content = truth(clips)
    (tmp_path / "truth.json").write_text(json.dumps(content))
    cameras = load_calibration(Sampson(calibration=str(tmp_path / "truth.json")))
    left, right = (cameras[name].scaled(192, 320) for name in ("left", "right"))
    f = fundamental_of_views(("left", "right"), left, right)
    for name in {scene.objects[0].name, scene.containers[0].name} - set(
        LABELS.values()
    ):  # visible in both views all the time
        x, y = (np.array(c.tracks[name]) for c in clips.values())
        assert sampson_distance(x, y, f).max() < 0.01
    content["views"]["right"]["translations"][1][0] += 0.1
    (tmp_path / "bent.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="one rig"):
        load_calibration(Sampson(calibration=str(tmp_path / "bent.json")))
    (tmp_path / "bad.yaml").write_text("views: {left: {size: [96, 160]}}")
    with pytest.raises(UserError, match="intrinsics"):
        load_calibration(Sampson(calibration=str(tmp_path / "bad.yaml")))


def test_the_error_of_a_static_video_is_undefined_not_zero():
    frame = textured_flight(1)
    result = temporal_sampson(np.repeat(frame, 5, axis=0), Sampson())
    assert result.tse is None
    assert result.static_share == 1.0
    assert "stand still" in result.reason


@pytest.mark.parametrize("shape", [(1, 96, 160, 3), (4, 96, 160, 3), (3, 16, 16, 3)])
@pytest.mark.parametrize("fill", ["black", "noise"])
def test_degenerate_input_gives_none_with_a_reason(shape, fill):
    frames = np.zeros(shape, np.uint8)
    if fill == "noise":
        frames = np.random.RandomState(0).randint(0, 255, shape).astype(np.uint8)
    views, notes = views_of(frames, Sampson())
    result = measure_views(views, Sampson(), notes=notes)
    for value, reason in result.measures().values():
        assert value is None or fill == "noise"
        assert reason
    json.dumps(result.detail())


@pytest.mark.parametrize("count", [0, 1, 4, 7, 8, 14])
def test_few_matches_are_counted_not_averaged(count):
    x, y, _, _ = two_views(count=max(count, 1))
    error = pair_error(x[:count], y[:count], Sampson(), (0, 1))
    assert (error.cookbook, error.moving, error.matches) == (None, None, count)
    pair_error(x[:count], y[:count], Sampson(min_matches=8), (0, 1))
    pair_error(np.repeat(x[:1], 30, 0), np.repeat(y[:1], 30, 0), Sampson(), (0, 1))  # the same match 30 times
    matches = ViewMatches(("a", "b"), x[:count], y[:count], np.ones(count, dtype=bool), [count])
    cross = cross_error(matches, view_geometry(matches, Sampson()), Sampson())
    assert cross.cse is None
    assert cross.reason


def test_tiles_are_named_and_empty_ones_left_out():
    frames = np.random.RandomState(0).randint(0, 255, (3, 64, 96, 3)).astype(np.uint8)
    frames[:, 32:, 64:] = 0
    views, notes = split_views(frames, (2, 3), [])
    assert [v.name for v in views] == ["view1", "view2", "view3", "view4", "view5"]
    np.testing.assert_array_equal(views[3].frames, frames[:, 32:, :32])
    assert "view6 (row 2, column 3) is empty" in notes[0]
    named, _ = split_views(frames, (2, 3), ["a", "-", "-", "-", "b", "-"])
    assert [v.name for v in named] == ["a", "b"]
    assert parse_pairs("a:b", ["a", "b"], []) == [("a", "b")]
    assert parse_pairs("a:c,a:b", ["a", "b"], ["c"]) == [("a", "b")]
    assert parse_pairs(None, ["a", "b", "c"], []) == [("a", "b"), ("a", "c"), ("b", "c")]
    for bad in ("a", "a:z", "a:a"):
        with pytest.raises(UserError, match="A:B"):
            parse_pairs(bad, ["a", "b"], [])
    for layout, names in (((5, 1), []), ((2, 3), ["a"])):
        with pytest.raises(UserError):
            split_views(frames, layout, names)


def test_numbers_are_the_same_with_any_number_of_threads_and_processes(tmp_path):
    def measure(sources, workers):
        return [r.detail() for r in measure_sources(sources, Sampson(), workers)]

    frames = textured_flight(4)
    once = temporal_sampson(frames, Sampson())
    assert temporal_sampson(frames, Sampson()) == once == temporal_sampson(frames, Sampson(), threads=2)
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

    small = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY)[:96, :160] for f in textured_flight(3)]
    grey = [cv2.resize(f, (1024, 608)) for f in small]
    settings = Sampson(
        matcher="superpoint_lightglue", matcher_source=str(tiny_lightglue), max_keypoints=60, batch_frames=2
    )
    matcher = LightGlueMatcher(settings)
    found = matcher.features(grey)
    ours = matcher.match([(found[0], found[1]), (found[1], found[2])], (608, 1024))
    whole = LightGlueForKeypointMatching.from_pretrained(tiny_lightglue).eval()
    whole.keypoint_detector.keypoint_decoder.max_keypoints = 60
    whole.keypoint_detector.keypoint_decoder.keypoint_threshold = 0.0005
    for k, matches in enumerate(ours):
        pixels = torch.from_numpy(np.stack(grey[k : k + 2])).float()[None, :, None].expand(-1, -1, 3, -1, -1) / 255
        with torch.no_grad():
            out = whole(pixels)
        theirs = {(i, int(j)) for i, j in enumerate(out.matches.reshape(2, -1)[0].tolist()) if j >= 0}
        assert {(int(i), int(j)) for i, j in matches} == theirs
        assert theirs
        np.testing.assert_allclose(
            found[k].points, out.keypoints[0, 0][: len(found[k].points)] * torch.tensor([1024, 608]), atol=1e-3
        )
    assert temporal_sampson(textured_flight(2)[:, :96, :160], settings).pairs == 1


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


def test_lightglue_without_weights_is_an_error_that_names_the_setting(cli, tmp_path, capsys):
    write_video(tmp_path / "a.mp4", textured_flight(2), 8)
    assert (
        cli(
            "sampson",
            tmp_path / "a.mp4",
            "--set",
            "sampson.matcher=superpoint_lightglue",
            "sampson.matcher_source=/nowhere",
        )
        == 2
    )
    assert "matcher_source=/nowhere" in capsys.readouterr().err


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
    assert [v["view"] for v in row["views"]] == ["left", "right"]
    assert row["crosses"][0]["geometry"] == "calibration"
    assert cli("sampson", tmp_path / "left.mp4", tmp_path / "right.mp4", *common) == 0
    assert "left:right" in capsys.readouterr().out
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    assert cli("sampson", tmp_path / "broken.mp4", tmp_path / "left.mp4") == 1
    assert "broken.mp4" in capsys.readouterr().out
    for bad in (
        ["--layout", "2"],
        ["--layout", "7x1"],
        ["--set", "sampson.gap=0"],
        ["--views", "a,b"],
        ["--set", "sampson.estimator=five_point"],
    ):
        assert cli("sampson", tmp_path / "grid.mp4", *bad) == 2
        assert capsys.readouterr().err


def test_a_runs_several_views_are_measured_across(tmp_path, cli):
    from conftest import SMALL

    from cosmos_exp.files import read_json_lines
    from cosmos_exp.run_folder import RunFolder

    words = ["data=tabletop_multiview", "adapter=none", f"run_dir={tmp_path / 'run'}"]
    assert cli("run", *SMALL, *words) == 0
    rows = read_json_lines(RunFolder(tmp_path / "run").scores)
    assert {"tse", "cse", "cse_moving"} <= {r["measure"] for r in rows}
    detail = rows[0]["detail"]
    assert [v["view"] for v in detail["views"]] == ["left", "right"]


def test_recordings(real_data, cli, capsys):
    moving = temporal_sampson(read_video(real_data / "videos" / "generated_robot.mp4")[:8], Sampson())
    assert 0 < moving.tse < 2
    gr1 = real_data / "gr1_pick_place/videos/chunk-000/observation.images.ego_view/episode_000004.mp4"
    still = temporal_sampson(read_video(gr1)[:40], Sampson())
    assert still.static_share > 0.8
    assert "stand" in (still.note or still.reason)
    settings = Sampson(layout="2x2")
    views, notes = views_of(read_video(real_data / "videos/multiview_2x2_kitchen.mp4")[:6], settings)
    kitchen = measure_views(views, settings, notes=notes)
    assert [v.view for v in kitchen.views] == ["view1", "view2", "view3"]
    assert "view4 (row 2, column 2) is empty" in kitchen.notes[0]
    assert kitchen.crosses[0].cse is not None
    assert cli("sampson", real_data / "nothing.mp4") == 2
