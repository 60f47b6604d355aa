"""Epipolar geometry of two images: the Sampson error, and fundamental matrices estimated from matches.

Points are float64 (N, 2), column and row in pixels. F obeys y^T F x = 0 for matches x (first image) and y (second)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

METHODS = {"magsac": cv2.USAC_MAGSAC, "ransac": cv2.FM_RANSAC}
ITERATIONS, CONFIDENCE = 5000, 0.999


@dataclass(frozen=True)
class Fit:
    """A fundamental matrix (3, 3), and which matches lie within the threshold, bool (N,)."""

    fundamental: np.ndarray
    inliers: np.ndarray


def sampson_distance(x: np.ndarray, y: np.ndarray, fundamental: np.ndarray) -> np.ndarray:
    """Sampson error of each match, pixels, (N,) (Hartley and Zisserman, Multiple View Geometry, eq. 11.9):

    e^2 = (y^T F x)^2 / ((F x)_1^2 + (F x)_2^2 + (F^T y)_1^2 + (F^T y)_2^2).

    Args:
        x, y: matched points of the first and second image, (N, 2).
        fundamental: F, (3, 3).
    """
    one = np.ones((len(x), 1))
    xh, yh = np.hstack([x, one]), np.hstack([y, one])
    fx, fty = xh @ fundamental.T, yh @ fundamental
    numerator = np.sum(yh * fx, axis=1) ** 2
    denominator = fx[:, 0] ** 2 + fx[:, 1] ** 2 + fty[:, 0] ** 2 + fty[:, 1] ** 2
    error: np.ndarray = np.sqrt(numerator / np.maximum(denominator, 1e-24))
    return error


def estimate_fundamental(x: np.ndarray, y: np.ndarray, method: str, threshold: float, seed: int) -> Fit | None:
    """F from matches alone; None if none fits.

    Args:
        x, y: matched points, (N, 2).
        method: a key of METHODS.
        threshold: largest error of an inlier, pixels.
        seed: of OpenCV's random choices; the same seed gives the same F.
    """
    if len(x) < 8:
        return None
    cv2.setRNGSeed(seed)
    try:
        found, mask = cv2.findFundamentalMat(x, y, METHODS[method], threshold, CONFIDENCE, ITERATIONS)
    except cv2.error:
        return None
    if found is None or found.shape[0] < 3 or mask is None or not np.isfinite(found).all():
        return None
    return Fit(found[:3], mask.ravel().astype(bool))


def fundamental_from_intrinsics(
    x: np.ndarray, y: np.ndarray, intrinsics: np.ndarray, threshold: float, seed: int
) -> Fit | None:
    """F by the five-point algorithm (Nister 2004) from a known intrinsic matrix K (3, 3); None if none fits.

    Args:
        x, y, threshold, seed: as in `estimate_fundamental`.
    """
    if len(x) < 5:
        return None
    cv2.setRNGSeed(seed)
    try:
        essential, mask = cv2.findEssentialMat(x, y, intrinsics, cv2.RANSAC, CONFIDENCE, threshold)
    except cv2.error:
        return None
    if essential is None or essential.shape[0] < 3 or mask is None:
        return None
    inverse = np.linalg.inv(intrinsics)
    return Fit(inverse.T @ essential[:3] @ inverse, mask.ravel().astype(bool))
