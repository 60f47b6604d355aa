"""Two-view geometry: Sampson error, fundamental matrices from matches, an intrinsic matrix or a full calibration.

Points are (N, 2) float64, pixel column and row. F obeys y^T F x = 0 for matches x (first picture) and y (second).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

METHODS = {"magsac": cv2.USAC_MAGSAC, "ransac": cv2.FM_RANSAC}
ITERATIONS, CONFIDENCE = 5000, 0.999


@dataclass(frozen=True)
class Fit:
    """fundamental (3, 3); inliers (N,) bool: within the threshold, pixels."""

    fundamental: np.ndarray
    inliers: np.ndarray


def sampson_distance(x: np.ndarray, y: np.ndarray, fundamental: np.ndarray) -> np.ndarray:
    """e of each match in pixels, (N,) (Hartley and Zisserman, eq. 11.9):

    e^2 = (y^T F x)^2 / ((F x)_1^2 + (F x)_2^2 + (F^T y)_1^2 + (F^T y)_2^2).
    """
    one = np.ones((len(x), 1))
    xh, yh = np.hstack([x, one]), np.hstack([y, one])
    fx, fty = xh @ fundamental.T, yh @ fundamental
    numerator = np.sum(yh * fx, axis=1) ** 2
    denominator = fx[:, 0] ** 2 + fx[:, 1] ** 2 + fty[:, 0] ** 2 + fty[:, 1] ** 2
    return np.sqrt(numerator / np.maximum(denominator, 1e-24))


def estimate_fundamental(x: np.ndarray, y: np.ndarray, method: str, threshold: float, seed: int) -> Fit | None:
    """F from matches alone; None when none fits.

    Args:
        method: magsac or ransac. threshold: pixels. seed: OpenCV's random choices; the same seed gives the same F.
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
    """F by the five-point algorithm (Nister 2004) from a known K (3, 3); None when none fits."""
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


@dataclass(frozen=True)
class ViewCalibration:
    """One camera. intrinsics (3, 3) in pixels at `size` (height, width); world to camera: X_c = R X + t.

    distortion: OpenCV's coefficients; model: pinhole (k1 k2 p1 p2 k3 …) or fisheye (k1 k2 k3 k4).
    """

    intrinsics: np.ndarray
    size: tuple[int, int]
    model: str = "pinhole"
    distortion: np.ndarray | None = None
    rotation: np.ndarray | None = None
    translation: np.ndarray | None = None

    def scaled(self, height: int, width: int) -> ViewCalibration:
        """The same camera for pictures of another size; pixel centres at whole numbers."""
        sy, sx = height / self.size[0], width / self.size[1]
        if (sy, sx) == (1.0, 1.0):
            return self
        k = self.intrinsics.copy()
        k[0] *= sx
        k[1] *= sy
        k[0, 2] += (sx - 1) / 2
        k[1, 2] += (sy - 1) / 2
        return ViewCalibration(k, (height, width), self.model, self.distortion, self.rotation, self.translation)

    def undistorted(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 2) where a camera without distortion of the same intrinsics would see them."""
        if self.distortion is None or not len(points):
            return points
        undo = cv2.fisheye.undistortPoints if self.model == "fisheye" else cv2.undistortPoints
        return undo(points[:, None], self.intrinsics, self.distortion, P=self.intrinsics)[:, 0]


def fundamental_from_calibration(a: ViewCalibration, b: ViewCalibration) -> np.ndarray:
    """F = K_b^-T [t]_x R K_a^-1 with the motion from camera a to camera b (Hartley and Zisserman, eq. 9.12).

    Raises:
        ValueError: a camera without rotation and translation, or both at the same place.
    """
    if a.rotation is None or a.translation is None or b.rotation is None or b.translation is None:
        raise ValueError("a calibration without rotation and translation fixes no geometry between views")
    rotation = b.rotation @ a.rotation.T
    t = b.translation - rotation @ a.translation
    if np.linalg.norm(t) < 1e-12:
        raise ValueError("both cameras stand at the same place: there is no epipolar geometry")
    cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    return np.linalg.inv(b.intrinsics).T @ cross @ rotation @ np.linalg.inv(a.intrinsics)
