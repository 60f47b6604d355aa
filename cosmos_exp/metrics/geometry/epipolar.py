"""Epipolar geometry of two images: the Sampson error, and fundamental matrices from matches.

Points are float64 (N, 2), column and row in pixels. F obeys y^T F x = 0 for matches x (first image) and y (second). Where no F
fits, or OpenCV fails on the matches, functions return None."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cosmos_exp.config.schema import Sampson
from cosmos_exp.metrics.geometry.refine import refine

METHODS = {"magsac": cv2.USAC_MAGSAC, "ransac": cv2.FM_RANSAC}
ITERATIONS, CONFIDENCE = 1000, 0.99
NO_FIT = "no fundamental matrix fits"


@dataclass(frozen=True)
class RobustFit:
    """F of N matches from several starts.

    Attributes:
        fundamental: of the start with the least cost, (3, 3).
        errors: Sampson errors of the matches under it, pixels, corrected for the fit's degrees of freedom, (N,).
        all_errors: likewise for each start, (B, N). A start is one full estimate with random choices of its own.
    """

    fundamental: np.ndarray
    errors: np.ndarray
    all_errors: np.ndarray

    @property
    def median(self) -> float:
        """The median error, pixels."""
        return float(np.median(self.errors))

    @property
    def medians(self) -> list[float]:
        """The median error of each start, pixels."""
        medians: list[float] = np.median(self.all_errors, axis=1).tolist()
        return medians


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
    if order is None:
        order = np.arange(len(x))
    fundamental = _find(y[order], x[order], method=cv2.RANSAC)
    return None if fundamental is None else sampson_distance(y, x, fundamental)


def cookbook_repeats(x: np.ndarray, y: np.ndarray, repeats: int, seed: int) -> list[np.ndarray]:
    """The cookbook's errors with the matches in several random orders, (N,) each."""
    rng, errors = np.random.RandomState(seed), []
    for _ in range(repeats):
        errors_of_order = cookbook_errors(x, y, rng.permutation(len(x)))
        if errors_of_order is not None:
            errors.append(errors_of_order)
    return errors


def robust_fit(x: np.ndarray, y: np.ndarray, settings: Sampson, seed: int) -> RobustFit | None:
    """F of matches for the measures that compare videos; None if no start gives one.

    `sampson.repeats` starts by MAGSAC++ (Barath 2020), each with the matches in another order and refined by `refine`. The
    start with the least cost is the result.

    Args:
        x, y: matched points, (N, 2), N at least 8.
        seed: of the orders.
    """
    starts = []
    for start in range(seed * settings.repeats, (seed + 1) * settings.repeats):
        order = np.random.RandomState(start).permutation(len(x))  # OpenCV's own random choices have a fixed seed
        options = (METHODS[settings.estimator], settings.threshold, CONFIDENCE, ITERATIONS)
        fundamental = _find(x[order], y[order], *options)
        if fundamental is not None:
            starts.append(fundamental)
    if not starts:
        return None
    refined = refine(x, y, np.stack(starts))
    best = int(refined.costs.argmin())
    return RobustFit(refined.fundamentals[best], refined.corrected[best], refined.corrected)


def _find(x: np.ndarray, y: np.ndarray, *options: float, **named: int) -> np.ndarray | None:
    """OpenCV's F. It may raise, or return None, three matrices, zeros or infinite entries: then None."""
    try:
        fundamental, _ = cv2.findFundamentalMat(x, y, *options, **named)  # type: ignore[call-overload]
    except cv2.error:
        return None
    if (
        fundamental is None
        or fundamental.shape != (3, 3)
        or not np.isfinite(fundamental).all()
        or not fundamental.any()
    ):
        return None
    return fundamental
