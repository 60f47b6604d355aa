"""Local optimisation of fundamental matrices: Sampson errors minimised by Levenberg-Marquardt with Tukey's weights.

The 7 unknowns are those of F = U diag(cos p, sin p, 0) V^T with rotations U and V (Bartoli and Sturm 2004, Nonlinear
estimation of the fundamental matrix with minimal parameters), so that every F has rank 2. Arrays hold B starts side by side: F is
(B, 3, 3), residuals are (B, N)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

UNKNOWNS = 7
TUKEY = 4.685  # times the scale: 95 % efficiency under Gaussian noise (Huber 1981)
# Pixels. Keypoints are not more accurate than the first; the cookbook's RANSAC takes more than the second for an outlier.
SCALE_RANGE = (0.02, 3.0)
ROUNDS, STEPS = 3, 6
SMALL_GAIN = 1e-5  # relative decrease of the cost below which a fit has converged
MOST_LEVERAGE = 0.95

_CROSS = np.zeros((3, 3, 3))  # the generators of rotations about x, y and z
for _axis, (_i, _j) in enumerate([(2, 1), (0, 2), (1, 0)]):
    _CROSS[_axis, _i, _j], _CROSS[_axis, _j, _i] = 1, -1


@dataclass(frozen=True)
class Refined:
    """B refined fits to N matches.

    Attributes:
        fundamentals: (B, 3, 3).
        residuals: signed Sampson errors, pixels, (B, N).
        leverages: how much each match attracts its own fit, 0 to 1, (B, N). They sum to the number of unknowns that the matches
            determine. A residual has the standard deviation s sqrt(1 - leverage) if the noise has s (Cook and Weisberg 1982).
        costs: robust mean square error, under the median scale of the B fits, (B,).
    """

    fundamentals: np.ndarray
    residuals: np.ndarray
    leverages: np.ndarray
    costs: np.ndarray

    @property
    def corrected(self) -> np.ndarray:
        """Sampson errors as large as those of matches that were not used in the fit's estimate of F, pixels, (B, N).

        Studentised residuals: |residual| / sqrt(1 - leverage). Uncorrected, N matches read about sqrt(1 - 7 / N) of the noise.
        """
        return _corrected(self.residuals, self.leverages)


@dataclass
class _State:
    """B fits in normalised coordinates, factored: F = U diag(cos p, sin p, 0) V^T."""

    u: np.ndarray
    p: np.ndarray
    v: np.ndarray

    @classmethod
    def of(cls, fundamentals: np.ndarray) -> _State:
        u, s, vt = np.linalg.svd(fundamentals)
        return cls(u, np.arctan2(s[:, 1], s[:, 0]), np.swapaxes(vt, 1, 2))

    def fundamentals(self) -> np.ndarray:
        return (self.u * _diagonal(self.p)) @ np.swapaxes(self.v, 1, 2)

    def moved(self, step: np.ndarray) -> _State:
        """The state after rotations of U and V and a change of p, (B, 7)."""
        return _State(self.u @ _rotations(step[:, :3]), self.p + step[:, 6], self.v @ _rotations(step[:, 3:6]))

    def tangents(self) -> np.ndarray:
        """Derivatives of F with respect to the 7 unknowns, as rows of F's 9 entries, (B, 7, 9)."""
        vt = np.swapaxes(self.v, 1, 2)
        turned_u = (self.u[:, None] @ _CROSS) @ (np.swapaxes(_diagonal(self.p), 1, 2) * vt)[:, None]
        turned_v = (self.u * _diagonal(self.p))[:, None] @ (np.swapaxes(_CROSS, 1, 2) @ vt[:, None])
        changed = (self.u * _diagonal(self.p + np.pi / 2)) @ vt
        return np.concatenate([turned_u, turned_v, changed[:, None]], axis=1).reshape(-1, UNKNOWNS, 9)

    def replaced(self, other: _State, where: np.ndarray) -> _State:
        """The fits of `other` where it says so, bool (B,)."""
        wide = where[:, None, None]
        return _State(
            np.where(wide, other.u, self.u), np.where(where, other.p, self.p), np.where(wide, other.v, self.v)
        )


def refine(x: np.ndarray, y: np.ndarray, fundamentals: np.ndarray) -> Refined:
    """Minimise Tukey's function of the Sampson errors, from B starts at once.

    Args:
        x, y: matched points of the first and second image, pixels, (N, 2), N at least 8.
        fundamentals: the starts, (B, 3, 3), y^T F x = 0.
    """
    to_normal, zoom = _normalisation(x, y)
    back = np.linalg.inv(to_normal)
    one = np.ones((len(x), 1))
    xh, yh = np.hstack([x, one]) @ to_normal.T, np.hstack([y, one]) @ to_normal.T
    state = _State.of(back.T @ fundamentals @ back)
    least, most = zoom * SCALE_RANGE[0], zoom * SCALE_RANGE[1]
    scale = np.clip(_scales(_residuals(state.fundamentals(), xh, yh)[0]), least, most)
    for _ in range(ROUNDS):
        state = _minimise(state, xh, yh, TUKEY * scale)
        residuals, leverages = _studied(state, xh, yh, TUKEY * scale)
        # Uncorrected, few matches have a scale that is too small: more and more of them would lose their weight.
        new_scale = np.clip(_scales(_corrected(residuals, leverages)), least, most)
        if np.allclose(new_scale, scale, rtol=0.01):
            break
        scale = new_scale
    # The least scale would favour a start that fits few matches perfectly, the largest one that includes wrong matches.
    costs = _costs(residuals, np.full(len(scale), TUKEY * np.median(scale))) / zoom**2
    return Refined(to_normal.T @ state.fundamentals() @ to_normal, residuals / zoom, leverages, costs)


def _studied(state: _State, xh: np.ndarray, yh: np.ndarray, limit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Residuals and leverages of the weighted fit, (B, N) each."""
    residuals, rows = _linearised(state, xh, yh)
    weights = _weights(residuals, limit)
    normal = np.swapaxes(rows * weights[..., None], 1, 2) @ rows
    inverse = np.linalg.pinv(normal, rcond=1e-9, hermitian=True)  # a plane determines fewer unknowns
    return residuals, np.sum((rows @ inverse) * rows, axis=2) * weights


def _corrected(residuals: np.ndarray, leverages: np.ndarray) -> np.ndarray:
    out: np.ndarray = np.abs(residuals) / np.sqrt(1 - np.minimum(leverages, MOST_LEVERAGE))
    return out


def _normalisation(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """One similarity for both images, so that the Sampson error is only scaled, and its scale."""
    points = np.concatenate([x, y])
    zoom = float(np.sqrt(2) / max(points.std(), 1e-6))
    shift = -zoom * points.mean(axis=0)
    return np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]], [0, 0, 1]]), zoom


def _minimise(state: _State, xh: np.ndarray, yh: np.ndarray, limit: np.ndarray) -> _State:
    """Levenberg-Marquardt; `limit` (B,) is the residual from which a match has no weight."""
    damping = np.full(len(limit), 1e-4)
    costs = _costs(_residuals(state.fundamentals(), xh, yh)[0], limit)
    for _ in range(STEPS):
        residuals, rows = _linearised(state, xh, yh)
        weighted = rows * _weights(residuals, limit)[..., None]
        normal = np.swapaxes(weighted, 1, 2) @ rows
        gradient = np.swapaxes(weighted, 1, 2) @ residuals[..., None]
        largest = np.maximum(np.einsum("bii->bi", normal).max(axis=1), 1e-30)
        damped = normal + (damping * largest)[:, None, None] * np.eye(UNKNOWNS)
        tried = state.moved(-np.linalg.solve(damped, gradient)[..., 0])
        new = _costs(_residuals(tried.fundamentals(), xh, yh)[0], limit)
        better = new < costs
        gain = np.where(better, (costs - new) / np.maximum(costs, 1e-300), 0)
        state, costs = state.replaced(tried, better), np.where(better, new, costs)
        damping = np.where(better, damping / 10, damping * 10)
        if better.any() and gain.max() < SMALL_GAIN:
            break
    return state


def _residuals(f: np.ndarray, xh: np.ndarray, yh: np.ndarray) -> tuple[np.ndarray, ...]:
    """Signed Sampson errors (B, N), and what their derivatives need: F x, F^T y and the denominator."""
    fx, fty = xh @ np.swapaxes(f, 1, 2), yh @ f
    squared = fx[..., 0] ** 2 + fx[..., 1] ** 2 + fty[..., 0] ** 2 + fty[..., 1] ** 2
    length = np.sqrt(np.maximum(squared, 1e-30))
    return np.einsum("bni,ni->bn", fx, yh) / length, fx, fty, length


def _linearised(state: _State, xh: np.ndarray, yh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Residuals (B, N), and their derivatives with respect to the 7 unknowns (B, N, 7)."""
    residuals, fx, fty, length = _residuals(state.fundamentals(), xh, yh)
    # d(y^T F x / d) = (y x^T) / d - residual / d^2 * (the first two rows of Fx x^T, and columns of y (F^T y)^T)
    share = (residuals / length)[..., None]
    plane = np.array([1.0, 1.0, 0.0])
    left = (yh - fx * plane * share) / length[..., None]
    right = fty * plane * share / length[..., None]
    entries = left[..., :, None] * xh[:, None, :] - yh[:, :, None] * right[..., None, :]
    rows = entries.reshape(*residuals.shape, 9) @ np.swapaxes(state.tangents(), 1, 2)
    return residuals, rows


def _scales(residuals: np.ndarray) -> np.ndarray:
    """Standard deviation of the noise of each fit from the median residual (Rousseeuw and Leroy 1987, eq. 5.1.3)."""
    small = 1 + 5 / max(residuals.shape[1] - UNKNOWNS, 1)
    out: np.ndarray = 1.4826 * small * np.median(np.abs(residuals), axis=1)
    return out


def _weights(residuals: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Tukey's weights, 0 from `limit` on."""
    share: np.ndarray = np.minimum(np.abs(residuals) / limit[:, None], 1)
    return (1 - share**2) ** 2


def _costs(residuals: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Tukey's function, the mean over matches."""
    share = np.minimum(np.abs(residuals) / limit[:, None], 1)
    out: np.ndarray = (1 - (1 - share**2) ** 3).mean(axis=1) * limit**2 / 3
    return out


def _diagonal(p: np.ndarray) -> np.ndarray:
    """Rows (cos p, sin p, 0) that multiply the columns of U, (B, 1, 3)."""
    out = np.zeros((len(p), 1, 3))
    out[:, 0, 0], out[:, 0, 1] = np.cos(p), np.sin(p)
    return out


def _rotations(vectors: np.ndarray) -> np.ndarray:
    """Rotation matrices (B, 3, 3) of rotation vectors (B, 3), by Cayley's formula: to second order the exponential.

    R = I + 2 (S + S S) / (1 + |v|^2), where S is the cross product with v, half the rotation vector.
    """
    half = vectors / 2
    skew = np.tensordot(half, _CROSS, axes=1)
    out: np.ndarray = np.eye(3) + 2 * (skew + skew @ skew) / (1 + (half**2).sum(axis=1))[:, None, None]
    return out
