"""PSNR, SSIM and PSNR of moving pixels: each frame of a video against the same frame of its recording."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

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
    errors = [
        _mse(a, b, None if masks is None else masks[t]) for t, (a, b) in enumerate(zip(video, recording, strict=True))
    ]
    return [None if e is None else _decibel(e) for e in errors]


def cosmos_dynamic_psnr(video: np.ndarray, recording: np.ndarray) -> float:
    """`compute_dynamic_psnr` of NVIDIA's cosmos-framework (`inference/metrics.py`), in dB.

    A pixel counts in frame t if its mean absolute change of colour from t-1 to t in the recording is above the 80th
    percentile of the whole clip; frame 0 has the mask of frame 1; one MSE over all of them. Where the camera is static, that
    threshold is coding noise.

    Args:
        video, recording: uint8 (T, H, W, 3), T > 1.
    """
    steps = [cv2.absdiff(a, b).sum(axis=-1, dtype=np.uint16) for a, b in pairwise(recording)]
    histogram = np.sum([np.bincount(step.ravel(), minlength=3 * 255 + 1) for step in steps], axis=0)
    threshold = _percentile(histogram, 0.8)
    masks = [step > threshold for step in steps]
    if not any(mask.any() for mask in masks):  # as theirs: all pixels count
        masks = [np.ones_like(mask) for mask in masks]
    squares = [_squares(a, b).sum(axis=-1) for a, b in zip(video, recording, strict=True)]
    total = sum(int((s * m).sum()) for s, m in zip(squares, [masks[0], *masks], strict=True))
    return _decibel(total / (3 * sum(int(m.sum()) for m in [masks[0], *masks])))


def _percentile(histogram: np.ndarray, share: float) -> float:
    """`np.percentile` of whole numbers from how often each occurs."""
    ranks = np.cumsum(histogram)
    position = share * (ranks[-1] - 1)
    low, high = np.searchsorted(ranks, [np.floor(position) + 1, np.ceil(position) + 1])
    return float(low + (high - low) * (position % 1))


def ssim(video: np.ndarray, recording: np.ndarray) -> list[float]:
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


def _squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.square(cv2.absdiff(a, b), dtype=np.uint32)


def _mse(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None) -> float | None:
    squares = _squares(a, b) if mask is None else _squares(a, b)[mask]
    return float(squares.mean()) if squares.size else None


def _decibel(mse: float) -> float:
    return float(10 * np.log10(255**2 / max(mse, LEAST_MSE)))
