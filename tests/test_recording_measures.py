"""Measures against the recording, and of motion alone: closed forms, scikit-image, hand-made clips, the recordings."""

import numpy as np
import pytest
from conftest import texture

from cosmos_exp.data.video import write_video
from cosmos_exp.errors import RunError
from cosmos_exp.metrics.interface import ScoredVideo
from cosmos_exp.metrics.recording.measures import compare_with_recording, motion_of
from cosmos_exp.metrics.recording.motion import Tracks, follow, grey_images, mask_overlap, motion_masks
from cosmos_exp.metrics.recording.pixels import cosmos_dynamic_psnr, psnr, ssim

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 96, 160
OVERLAPS = ("mask_iou_space", "mask_iou_spacetime", "mask_iou_weighted")


def panned(offsets):
    """A window on `texture` that is moved by `offsets` pixels: uint8 (T, 96, 160, 3)."""
    image = texture(200, 300)
    return np.stack([image[40 : 40 + HEIGHT, 60 + x : 60 + x + WIDTH] for x in offsets])


def with_object(columns):
    """A textured square of 24 px at `columns` before a textured ground: uint8 (T, 96, 160, 3)."""
    frames = texture(HEIGHT, WIDTH)[None].repeat(len(columns), axis=0) // 3
    for frame, x in zip(frames, columns, strict=True):
        frame[36:60, x : x + 24] = 120 + texture(24, 24, seed=1) // 2
    return frames


@pytest.fixture
def scored(tmp_path):
    """Write frames as video and recording; returns the ScoredVideo."""

    def make(frames, recording, conditioning=1, name="video"):
        path, real = tmp_path / f"{name}.mp4", tmp_path / f"{name}_real.mp4"
        write_video(path, frames, 8)
        write_video(real, recording, 8)
        return ScoredVideo("sample", 0, None, path, real, conditioning)

    return make


def test_psnr_and_ssim_equal_scikit_image():
    from skimage import metrics

    clean = panned(range(3))
    noisy = (clean + RNG.normal(0, 20, clean.shape)).clip(0, 255).astype(np.uint8)
    pairs = list(zip(clean, noisy, strict=True))
    wanted = [metrics.peak_signal_noise_ratio(a, b, data_range=255) for a, b in pairs]
    assert psnr(noisy, clean) == pytest.approx(wanted, abs=1e-9)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    wanted = [metrics.structural_similarity(b, a, data_range=255, channel_axis=-1, **options) for a, b in pairs]
    assert ssim(noisy, clean) == pytest.approx(wanted, abs=1e-5)


def test_psnr_of_masks_and_of_equal_frames_in_closed_form():
    black = np.zeros((2, 16, 16, 3), np.uint8)
    assert psnr(black, black) == pytest.approx([10 * np.log10(12 * 255**2)] * 2)  # the rounding error of 8 bits
    masks = np.zeros((2, 16, 16), bool)
    masks[0, :4] = True
    half = black.copy()
    half[:, :2] = 10  # half of the pixels that count: MSE 50
    assert psnr(half, black, masks) == [pytest.approx(10 * np.log10(255**2 / 50)), None]


def test_cosmos_dynamic_psnr_in_closed_form():
    recording = np.zeros((3, 10, 10, 3), np.uint8)
    recording[1, :1] = 30  # 10 % of the pixels change at frame 1 and back at frame 2: the 80th percentile is 0
    video = recording.copy()
    video[:, 0, :5] += 6  # half of the pixels that count, in each frame
    video[:, 5:] += 100  # does not count
    assert cosmos_dynamic_psnr(video, recording) == pytest.approx(10 * np.log10(255**2 / 18))


def test_motion_masks_of_a_square_that_appears():
    frames = np.zeros((10, 64, 64, 3), np.uint8)
    frames[1:, 20:36, 20:36] = 100
    masks = motion_masks(frames)
    # Blurred by (1 4 6 4 1) / 16 and weighted by 0.7, a straight edge passes 10 levels one pixel outside (21.9) and not two (4.4);
    # a corner does not (6.8).
    wanted = np.zeros((64, 64), bool)
    wanted[19:37, 19:37] = True
    wanted[[19, 19, 36, 36], [19, 36, 19, 36]] = False
    assert not masks[0].any()
    np.testing.assert_array_equal(masks[1], wanted)
    # 100 * 0.7^6 = 11.8 levels, 100 * 0.7^7 = 8.2
    assert [bool(m[28, 28]) for m in masks] == [False] + [True] * 6 + [False] * 3


def test_overlaps_in_closed_form():
    a, b = np.zeros((3, 10, 10), bool), np.zeros((3, 10, 10), bool)
    a[1, :, :4] = b[1, :, 2:6] = True  # 20 of 60
    a[2, :, :4] = True
    b[2, :, :1] = True  # 10 of 40
    overlap = mask_overlap(a, b)
    assert overlap["mask_iou_spacetime"] == pytest.approx([1, 20 / 60, 10 / 40])
    assert overlap["mask_iou_space"] == pytest.approx([1, 20 / 60, 30 / 60])
    # how often columns 0 to 5 move: 2 2 2 2 0 0 and 1 0 1 1 1 1
    assert overlap["mask_iou_weighted"] == pytest.approx([1, 20 / 60, 3 / 10])


def test_tracks_survive_a_translation_and_not_a_cut():
    cut = np.concatenate([panned([0, 2, 4]), texture(HEIGHT, WIDTH, seed=7)[None].repeat(2, axis=0)])
    tracks = follow(grey_images(cut)[0])
    assert tracks.alive.shape[1] > 50
    survival = tracks.survival()
    assert survival[2] > 0.97
    assert survival[3] < 0.4  # a quarter of the corners has a double in an unrelated picture


def test_roughness_in_closed_form():
    def of(*x):
        """Roughness of 12 equal tracks along one axis."""
        positions = np.zeros((len(x), 12, 2), np.float32)
        positions[..., 0] = np.array(x)[:, None]
        return Tracks(positions, np.ones((len(x), 12), bool), np.zeros((len(x), 12), bool)).roughness()

    held = of(0, 2, 4, 4, 8, 10)  # steps 2 2 0 4 2: changes 0 2 4 2, sums 4 2 4 6
    assert held[0] == pytest.approx(8 / 16)
    assert held[1] == [None, None, 0, 1, 1, pytest.approx(1 / 3)]
    assert of(0, 0.1, 0, 0.1)[0] is None


def test_a_frozen_video_loses_where_its_recording_moves(scored):
    clip = with_object(range(20, 88, 4))
    same = {name: value for name, (value, _) in compare_with_recording(scored(clip, clip)).values.items()}
    best = dict.fromkeys((*OVERLAPS, "ssim", "motion_ratio"), 1) | {"psnr": 58.92, "psnr_moving": 58.92}
    assert same == pytest.approx(best, abs=0.01)
    frozen = scored(clip[:1].repeat(len(clip), axis=0), clip, name="frozen")
    late = scored(with_object([20, 20, *range(20, 80, 4)]), clip, name="late")
    a, b = compare_with_recording(frozen).values, compare_with_recording(late).values
    assert [a[name][0] for name in (*OVERLAPS, "motion_ratio")] == [0] * 4
    assert all(b[name][0] > a[name][0] for name in best)
    motion = motion_of(frozen)
    assert motion.values["track_survival"] == (1.0, None)
    assert motion.values["track_roughness"] == (None, "no track moves")
    assert "track_roughness" not in motion.curves


def test_a_still_recording_has_no_motion_to_compare(scored):
    still = with_object([30] * 5)
    result = compare_with_recording(scored(with_object(range(20, 40, 4)), still))
    assert result.values["mask_iou_space"] == (None, "nothing moves in the recording")
    assert result.values["motion_ratio"][0] is result.values["psnr_moving"][0] is None
    assert result.values["psnr"][0] is not None
    assert set(result.curves) == {"psnr", "ssim"}


def test_conditioning_frames_do_not_count(scored):
    clip = with_object(range(20, 56, 4))
    other = clip.copy()
    other[:4] = 0
    a, b = scored(clip, clip, 5), scored(other, clip, 5, name="other")
    for result in (compare_with_recording(a), motion_of(a)):
        assert {len(curve) for curve in result.curves.values()} == {len(clip) - 5}
    a, b = compare_with_recording(a).values, compare_with_recording(b).values
    for name in ("mask_iou_space", "mask_iou_weighted", "motion_ratio"):
        assert b[name][0] == pytest.approx(a[name][0], abs=0.1), name
    assert b["psnr"][0] > 35
    nothing = compare_with_recording(scored(clip, clip, len(clip), name="all"))
    assert set(nothing.values.values()) == {(None, "no frames after the conditioning frames")}


def test_a_video_of_another_length_is_refused(scored):
    clip = with_object(range(20, 40, 4))
    with pytest.raises(
        RunError, match=r"video\.mp4: 4 frames of 96x160, but its recording .*video_real\.mp4: 5 frames"
    ):
        compare_with_recording(scored(clip[:4], clip))
