"""PSNR, SSIM and PSNR of moving pixels: each frame of a video against the same frame of its recording."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from skimage.metrics import mean_squared_error

# Mean squared error of rounding to 8 bits. A smaller error cannot be told from none, so that an identical frame has
# a finite PSNR: 58.92 dB.
LEAST_MSE = 1 / 12

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr(video: np.ndarray, recording: np.ndarray, masks: np.ndarray | None = None) -> list[float | None]:
    """Peak signal-to-noise ratio of each frame in dB: 10 log10(255^2 / MSE), MSE over pixels and colours.

    Identical frames have 58.92 dB (see `LEAST_MSE`); below that it is `skimage.metrics.peak_signal_noise_ratio`.

    Args:
        video, recording: uint8 (T, H, W, 3).
        masks: bool (T, H, W), the pixels that count; a frame without any is None. None: all pixels count.
    """
    values: list[float | None] = []
    for t, (frame, true) in enumerate(zip(video, recording, strict=True)):
        if masks is not None:
            frame, true = frame[masks[t]], true[masks[t]]
        values.append(_decibel(mean_squared_error(frame, true)) if frame.size else None)
    return values


def cosmos_dynamic_psnr(video: np.ndarray, recording: np.ndarray) -> float:
    """`compute_dynamic_psnr` of NVIDIA's cosmos-framework (`inference/metrics.py`), in dB.

    A pixel counts in frame t if its mean absolute change of colour from t-1 to t in the recording is above the 80th
    percentile of the whole clip; frame 0 has the mask of frame 1; one MSE over all of them. Where the camera is static, that
    threshold is coding noise.

    Args:
        video, recording: uint8 (T, H, W, 3), T > 1.
    """
    steps = np.stack([cv2.absdiff(a, b).sum(axis=-1, dtype=np.uint16) for a, b in pairwise(recording)])
    masks = steps > np.percentile(steps, 80)
    if not masks.any():  # as theirs: all pixels count
        masks[:] = True
    total = count = 0
    for a, b, mask in zip(video, recording, [masks[0], *masks], strict=True):
        squares = np.square(cv2.absdiff(a, b), dtype=np.uint32)[mask]
        total += int(squares.sum())
        count += squares.size
    return _decibel(total / count)


def ssim(video: np.ndarray, recording: np.ndarray) -> list[float | None]:
    """Structural similarity of each frame, -1 to 1 (Wang, Bovik, Sheikh and Simoncelli 2004), mean over pixels and colours.

    Gaussian window of 11x11 pixels with sigma 1.5, K1 = 0.01, K2 = 0.03, population covariance, without the border of 5
    pixels. It equals `skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    data_range=255, channel_axis=-1)` to 1e-5 and takes a third of its time.

    Args:
        video, recording: uint8 (T, H, W, 3) of at least 11x11 pixels.
    """
    return [_ssim(a.astype(np.float32), b.astype(np.float32)) for a, b in zip(video, recording, strict=True)]


def _ssim(a: np.ndarray, b: np.ndarray) -> float:
    mean_a, mean_b = _window_mean(a), _window_mean(b)
    var_a, var_b = _window_mean(a * a) - mean_a**2, _window_mean(b * b) - mean_b**2
    covariance = _window_mean(a * b) - mean_a * mean_b
    similar = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    return float(np.mean(similar / ((mean_a**2 + mean_b**2 + _C1) * (var_a + var_b + _C2)), dtype=np.float64))


def _window_mean(image: np.ndarray) -> np.ndarray:
    border = _WINDOW // 2
    return cv2.GaussianBlur(image, (_WINDOW, _WINDOW), _SIGMA)[border:-border, border:-border]


def _decibel(mse: float) -> float:
    return float(10 * np.log10(255**2 / max(mse, LEAST_MSE)))
