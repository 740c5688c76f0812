"""One logistic regression by nested root finding: slow, and certain to end.

Newton's method crawls where a latent separates a concept by firing and its values differ by many
orders of magnitude: the curvature says nothing of the rows that a step would bring back into play.
For a given w the best b is the root of an increasing function, and the slope along w at that b
increases too (the minimum of a convex function over b is convex in w): Brent's method on both.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import root_scalar
from scipy.special import expit

PRECISION = 4 * float(np.finfo(np.float64).eps)
"""Relative; the finest that Brent's method takes."""


def _root(f: Callable[[float], float], low: float, high: float, error: float) -> float:
    found = root_scalar(f, bracket=(low, high), method="brentq", xtol=error, rtol=PRECISION)
    return float(found.root)


def fit_by_bisection(
    x: Float[np.ndarray, " rows"],
    y: Bool[np.ndarray, " rows"],
    weight: Float[np.ndarray, " rows"],
    l2: float,
) -> tuple[float, float]:
    """(w, b) that minimise ``½ l2 w² + Σ_i c_i [softplus(w x_i + b) − y_i (w x_i + b)]``.

    Args:
        x: values.
        y: labels; both classes have weight.
        weight: c; rows of weight 0 are left out.
        l2: penalty, > 0.
    """
    x, y, weight = (a[weight > 0] for a in (x, y, weight))
    near = 2 * np.abs(x).min() > np.abs(x).max() and x.min() * x.max() > 0
    centre = 0.5 * (x.min() + x.max()) if near else 0.0  # else b would be lost in w · centre
    x = x - centre
    side = np.where(y, -1.0, 1.0)
    scale = 1.0 / max(np.abs(x).max(), 1e-300)

    def residual(w: float, b: float) -> np.ndarray:
        return side * weight * expit(side * (w * x + b))

    def best_b(w: float) -> float:
        ends = -w * x.min(), -w * x.max()
        low, high = min(ends) - 1.0, max(ends) + 1.0
        step = 1.0
        while residual(w, low).sum() > 0:
            low, step = low - step, 2 * step
        while residual(w, high).sum() < 0:
            high, step = high + step, 2 * step
        return _root(lambda b: float(residual(w, b).sum()), low, high, 1e-13)

    def slope(w: float) -> float:
        return float(residual(w, best_b(w)) @ x) + l2 * w

    at_zero = slope(0.0)
    if at_zero == 0:
        return 0.0, best_b(0.0)
    near, far = 0.0, -np.sign(at_zero) * scale * 1e-9
    while slope(far) * at_zero > 0:
        near, far = far, 8 * far
    w = _root(slope, near, far, 1e-300)
    return w, best_b(w) - w * centre
