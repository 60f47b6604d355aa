"""Keypoints, found once a frame, and matches between frames: SIFT without any weights, or SuperPoint + LightGlue."""

from __future__ import annotations

from typing import Any

from cosmos_exp.metrics.geometry.matching import Matcher
from cosmos_exp.metrics.geometry.sift import SiftMatcher


def load_matcher(settings: Any, threads: int = 1) -> Matcher:
    """The matcher that `sampson.matcher` names."""
    if settings.matcher == "sift":
        return SiftMatcher(settings.max_keypoints, settings.ratio, threads)
    from cosmos_exp.metrics.geometry.lightglue import LightGlueMatcher

    return LightGlueMatcher(settings)
