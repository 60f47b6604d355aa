"""Epipolar geometry of two images: the Sampson error, and fundamental matrices estimated by OpenCV.

Points are float64 (N, 2), column and row in pixels. F obeys y^T F x = 0 for matches x (first image) and y (second)."""

from __future__ import annotations

import cv2
import numpy as np

METHODS = {"magsac": cv2.USAC_MAGSAC, "ransac": cv2.FM_RANSAC}
ITERATIONS, CONFIDENCE = 1000, 0.99
NO_FIT = "no fundamental matrix fits"
FAILED = "OpenCV fails on these matches"  # its own text is a line of its source


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


def cookbook_errors(x: np.ndarray, y: np.ndarray, order: np.ndarray | None = None) -> np.ndarray | None:
    """Sampson errors of all matches as the Cosmos cookbook computes them, pixels, (N,); None if no F fits.

    Its `mvbench/metrics/sampson.py` calls `cv2.findFundamentalMat(kp1, kp0, method=cv2.RANSAC)`: OpenCV's defaults of
    3 px, confidence 0.99 and 1,000 iterations, and the second image first. It then measures outliers too. (It computes
    the error in float32. Here it is float64.)

    Args:
        x, y: matched points of the first and second image, (N, 2).
        order: the order in which RANSAC gets the matches, int (N,); None: as given. OpenCV's RANSAC has a fixed seed,
            so only the order changes its F.
    """
    fundamental = cookbook_fundamental(x, y, order)
    return None if fundamental is None else sampson_distance(y, x, fundamental)


def cookbook_fundamental(x: np.ndarray, y: np.ndarray, order: np.ndarray | None = None) -> np.ndarray | None:
    """The cookbook's F (3, 3), with x^T F y = 0; None if none fits. Arguments as in `cookbook_errors`."""
    chosen: slice | np.ndarray = slice(None) if order is None else order
    try:
        found, _ = cv2.findFundamentalMat(y[chosen], x[chosen], method=cv2.RANSAC)
    except cv2.error:
        return None
    return found if _is_matrix(found) else None


def estimate_fundamental(x: np.ndarray, y: np.ndarray, method: str, threshold: float, seed: int) -> np.ndarray | str:
    """F (3, 3) from matches alone, or the reason why there is none.

    Args:
        x, y: matched points, (N, 2).
        method: a key of METHODS.
        threshold: largest error of an inlier, pixels.
        seed: of the order of the matches. OpenCV's own random choices have a fixed seed.
    """
    if len(x) < 8:
        return "fewer than 8 matches"
    order = np.random.RandomState(seed).permutation(len(x))
    try:
        found, _ = cv2.findFundamentalMat(x[order], y[order], METHODS[method], threshold, CONFIDENCE, ITERATIONS)
    except cv2.error:
        return FAILED
    return found if _is_matrix(found) else NO_FIT


def fundamental_from_intrinsics(
    x: np.ndarray, y: np.ndarray, intrinsics: np.ndarray, threshold: float, seed: int
) -> np.ndarray | str:
    """F (3, 3) by the five-point algorithm (Nister 2004) from a known intrinsic matrix K (3, 3), or why there is none.

    Args:
        x, y, threshold, seed: as in `estimate_fundamental`.
    """
    if len(x) < 5:
        return "fewer than 5 matches"
    order = np.random.RandomState(seed).permutation(len(x))
    try:
        essential, _ = cv2.findEssentialMat(x[order], y[order], intrinsics, cv2.RANSAC, 0.999, threshold)
    except cv2.error:
        return FAILED
    if essential is None or essential.shape[0] < 3:
        return NO_FIT
    inverse = np.linalg.inv(intrinsics)
    fundamental: np.ndarray = inverse.T @ essential[:3] @ inverse
    return fundamental


def _is_matrix(found: np.ndarray | None) -> bool:
    """Whether OpenCV found one F. It may return None, three of them, zeros, or infinite entries."""
    return found is not None and found.shape == (3, 3) and bool(np.isfinite(found).all()) and bool(found.any())
