"""Three-component vectors whose components are numbers or one array per component, and their products."""

from __future__ import annotations

import numpy as np

Triple = tuple[float, float, float]
Component = float | np.floating | np.ndarray  # one value for all rays, or one per ray
Vector = tuple[Component, Component, Component]


def dot(a: Vector | Triple, b: Vector | Triple) -> Component:
    """Return a0 b0 + a1 b1 + a2 b2, added in this order."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def subtract(a: Triple, b: Triple) -> Triple:
    """Return a - b for points in metres."""
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]
