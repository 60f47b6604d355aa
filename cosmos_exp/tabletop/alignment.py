"""Removes the motion of the camera from a video of the tabletop world, and measures it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

Features = tuple[Sequence[cv2.KeyPoint], np.ndarray | None]  # keypoints and their descriptors; None without keypoints
LARGEST = 48  # pixels; a larger shift of a corner means wrong matches


def aligned(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every frame warped onto the first, and how far the picture shifts from frame to frame.

    The warp is the homography of matched SIFT keypoints. A frame without a plausible homography is kept as it is.

    Args:
        frames: uint8 (T, H, W, 3).

    Returns:
        uint8 (T, H, W, 3), and (T - 1,): median shift of four points of the table between two frames, pixels; nan where
        one of the two frames has no homography.
    """
    sift, matcher = cv2.SIFT_create(contrastThreshold=0.02), cv2.BFMatcher()  # type: ignore[attr-defined]
    grey = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in frames]
    first = sift.detectAndCompute(grey[0], None)
    out, height, width = [frames[0]], *frames.shape[1:3]
    points = np.array([[[i * width, j * height] for i in (0.3, 0.7) for j in (0.35, 0.8)]], np.float32)
    places = [points[0]]
    for index in range(1, len(frames)):
        warp = _homography(sift.detectAndCompute(grey[index], None), first, matcher, width, height)
        if warp is None:
            out.append(frames[index])
            places.append(np.full((4, 2), np.nan))
            continue
        out.append(cv2.warpPerspective(frames[index], warp, (width, height), borderMode=cv2.BORDER_REPLICATE))
        places.append(cv2.perspectiveTransform(points, warp)[0])
    steps = np.linalg.norm(np.diff(without_outliers(np.stack(places)), axis=0), axis=-1)
    return np.stack(out), np.median(steps, axis=-1)


def without_outliers(places: np.ndarray) -> np.ndarray:
    """Median of three successive frames of (T, ...): one wrong homography is no jump, and a jump stays one."""
    padded = np.concatenate([places[:1], places, places[-1:]])
    windows = np.stack([padded[:-2], places, padded[2:]])
    known = ~np.isnan(windows).any(axis=0)
    return np.where(known, np.median(windows, axis=0), places)


def _homography(
    features: Features, first: Features, matcher: cv2.BFMatcher, width: int, height: int
) -> np.ndarray | None:
    """3x3 homography from a frame to the first; None with too few matches or an implausible shift."""
    (own, found), (points, descriptors) = features, first
    if descriptors is None or found is None or len(found) <= 8 or len(descriptors) <= 8:
        return None
    pairs = matcher.knnMatch(found, descriptors, k=2)
    good = [m for m, n in pairs if m.distance < 0.75 * n.distance]
    if len(good) < 8:
        return None
    a = np.array([own[m.queryIdx].pt for m in good], np.float32)
    b = np.array([points[m.trainIdx].pt for m in good], np.float32)
    warp, kept = cv2.findHomography(a, b, cv2.USAC_MAGSAC, 1.5)
    if warp is None or _corner_shift(warp, width, height) > LARGEST or kept.sum() < 8:
        return None
    return warp


def _corner_shift(warp: np.ndarray, width: int, height: int) -> float:
    """Largest shift of a picture corner along one axis, in pixels."""
    corners = np.array([[[0, 0], [width, 0], [0, height], [width, height]]], np.float32)
    return float(np.abs(cv2.perspectiveTransform(corners, warp) - corners).max())
