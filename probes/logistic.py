"""One-dimensional logistic regressions, thousands at once.

For every column z of a matrix, minimise over (w, b)::

    ½ l2 w² + Σ_i [softplus(w z_i + b) − y_i (w z_i + b)]

which is scikit-learn's ``LogisticRegression(C=1 / l2)`` on that column alone: the intercept is not
penalised. Newton's method, damped by step halving (Boyd & Vandenberghe 2004, section 9.5), runs
on the nonzero entries; the rows where z = 0 share one margin b, so they enter as two counts.
float64 throughout.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from saejax.latents import LatentColumns

BLOCK_ENTRIES = 1 << 16
"""Entries fitted together: their temporaries stay in the processor's cache."""
MAX_ITERATIONS = 200
STEP_TOLERANCE = 1e-5
"""A Newton step below this (relative to 1 + the parameter) is the last one: what remains after it
is of the order of its square."""


class LogisticFit(NamedTuple):
    """P(y | z) = σ(coef · z + intercept), for every column."""

    coef: Float[np.ndarray, " columns"]
    """w; 0 for a column that is empty or constant."""
    intercept: Float[np.ndarray, " columns"]
    """b."""


class _Block(NamedTuple):
    """Columns without empty ones, entries end to end."""

    x: np.ndarray
    y: np.ndarray
    counts: np.ndarray
    n_pos0: np.ndarray
    n_neg0: np.ndarray

    def take(self, keep: np.ndarray) -> _Block:
        """The columns marked in ``keep``."""
        entries = np.repeat(keep, self.counts)
        return _Block(self.x[entries], self.y[entries], *(a[keep] for a in self[2:]))


class _Local(NamedTuple):
    """Objective, gradient and Hessian at (w, b): each ``[columns]``."""

    loss: np.ndarray
    g_w: np.ndarray
    g_b: np.ndarray
    h_ww: np.ndarray
    h_wb: np.ndarray
    h_bb: np.ndarray

    def newton_step(self) -> tuple[np.ndarray, np.ndarray]:
        """−H⁻¹ g, from the 2×2 formula."""
        det = np.maximum(self.h_ww * self.h_bb - self.h_wb**2, 1e-300)
        d_w = (self.h_wb * self.g_b - self.h_bb * self.g_w) / det
        d_b = (self.h_wb * self.g_w - self.h_ww * self.g_b) / det
        return d_w, d_b


def fit_logistic_1d(
    columns: LatentColumns, labels: Bool[np.ndarray, " rows"], *, l2: float = 1.0
) -> LogisticFit:
    """Regress ``labels`` on every latent by itself.

    Args:
        columns: the latents of ``rows`` residues; order within a column does not matter.
        labels: True for the concept; both classes must occur.
        l2: penalty on the coefficient, scikit-learn's ``1 / C``.

    Raises:
        ValueError: one class only (the intercept would be infinite).
    """
    base = _base_logit(labels)
    counts = np.diff(columns.indptr)
    coef, intercept = np.zeros(len(counts)), np.full(len(counts), base)
    filled = np.flatnonzero(counts)
    ends = np.cumsum(counts[filled])
    start = 0
    while start < len(filled):
        first_entry = ends[start] - counts[filled[start]]
        stop = max(start + 1, int(np.searchsorted(ends, first_entry + BLOCK_ENTRIES, "right")))
        block = filled[start:stop]
        entries = slice(int(columns.indptr[block[0]]), int(columns.indptr[block[-1] + 1]))
        y = labels[columns.rows[entries]].astype(np.float64)
        n_pos0 = labels.sum() - _sums(y, counts[block])
        n_neg0 = columns.n_rows - counts[block] - n_pos0
        x = columns.values[entries].astype(np.float64)
        coef[block], intercept[block] = _newton(_Block(x, y, counts[block], n_pos0, n_neg0), l2)
        start = stop
    return LogisticFit(coef, intercept)


def fit_logistic_dense(
    x: Float[np.ndarray, "rows columns"], labels: Bool[np.ndarray, " rows"], *, l2: float = 1.0
) -> LogisticFit:
    """The same for dense columns, such as raw neurons (centred first, for conditioning).

    Raises:
        ValueError: one class only.
    """
    _base_logit(labels)
    n_rows, n_columns = x.shape
    coef, intercept = np.zeros(n_columns), np.zeros(n_columns)
    width = max(1, BLOCK_ENTRIES // n_rows)
    for start in range(0, n_columns, width):
        block = x[:, start : start + width].T.astype(np.float64)
        mean = block.mean(axis=1)
        none = np.zeros(len(block))
        y = np.tile(labels.astype(np.float64), len(block))
        counts = np.full(len(block), n_rows)
        centred = (block - mean[:, None]).ravel()
        w, b = _newton(_Block(centred, y, counts, none, none), l2)
        coef[start : start + width], intercept[start : start + width] = w, b - w * mean
    return LogisticFit(coef, intercept)


def _base_logit(labels: np.ndarray) -> float:
    n_pos, n = int(labels.sum()), len(labels)
    if not 0 < n_pos < n:
        raise ValueError(f"labels must hold both classes, found {n_pos} positives in {n} rows")
    return float(np.log(n_pos / (n - n_pos)))


def _sums(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sum over each column's entries; no column is empty."""
    return np.add.reduceat(values, np.append(0, np.cumsum(counts)[:-1]))


def _start(block: _Block) -> tuple[np.ndarray, np.ndarray]:
    """The exact fit if a latent had one value wherever it fires, with half a count added."""
    n_pos = _sums(block.y, block.counts)
    mean = _sums(block.x, block.counts) / block.counts
    b = np.log((block.n_pos0 + 0.5) / (block.n_neg0 + 0.5))
    fires = np.log((n_pos + 0.5) / (block.counts - n_pos + 0.5))
    b = np.where(block.n_pos0 + block.n_neg0 > 0, b, fires)
    w = np.divide(fires - b, mean, out=np.zeros_like(b), where=np.abs(mean) > 1e-3)
    return w, b


def _evaluate(block: _Block, w: np.ndarray, b: np.ndarray, l2: float) -> _Local:
    x, y, counts = block.x, block.y, block.counts
    eta = np.repeat(w, counts) * x + np.repeat(b, counts)
    small = np.exp(-np.abs(eta))
    sigma = 1.0 / (1.0 + small)
    variance = small * sigma * sigma
    residual = np.where(eta >= 0, sigma, small * sigma) - y
    loss = np.maximum(eta, 0.0) - y * eta - np.log(sigma)
    vx = variance * x
    n_0 = block.n_pos0 + block.n_neg0
    small_b = np.exp(-np.abs(b))
    p_b = np.where(b >= 0, 1.0, small_b) / (1.0 + small_b)
    zeros = n_0 * (np.maximum(b, 0.0) + np.log1p(small_b)) - block.n_pos0 * b
    return _Local(
        _sums(loss, counts) + zeros + 0.5 * l2 * w * w,
        _sums(residual * x, counts) + l2 * w,
        _sums(residual, counts) + n_0 * p_b - block.n_pos0,
        _sums(vx * x, counts) + l2,
        _sums(vx, counts),
        _sums(variance, counts) + n_0 * small_b / (1.0 + small_b) ** 2,
    )


def _newton(block: _Block, l2: float) -> tuple[np.ndarray, np.ndarray]:
    """(w, b) of every column; columns leave the block as they converge."""
    w, b = _start(block)
    active = np.arange(len(w))
    local = _evaluate(block, w, b, l2)
    d_w, d_b = local.newton_step()
    scale = np.ones(len(w))
    for _ in range(MAX_ITERATIONS):
        full = scale == 1.0
        small = np.abs(d_w) <= STEP_TOLERANCE * (1 + np.abs(w[active]))
        small &= np.abs(d_b) <= STEP_TOLERANCE * (1 + np.abs(b[active]))
        done = full & small
        if done.any():
            w[active[done]] += d_w[done]
            b[active[done]] += d_b[done]
            keep = ~done
            if not keep.any():
                return w, b
            block, active, scale = block.take(keep), active[keep], scale[keep]
            local = _Local(*(a[keep] for a in local))
            d_w, d_b = d_w[keep], d_b[keep]
        w_new, b_new = w[active] + scale * d_w, b[active] + scale * d_b
        trial = _evaluate(block, w_new, b_new, l2)
        slope = scale * (local.g_w * d_w + local.g_b * d_b)
        rounding = 1e-12 * (1 + np.abs(local.loss))
        better = trial.loss <= local.loss + 1e-4 * slope + rounding
        w[active] = np.where(better, w_new, w[active])
        b[active] = np.where(better, b_new, b[active])
        local = _Local(*(np.where(better, t, o) for t, o in zip(trial, local, strict=True)))
        d_w, d_b = local.newton_step()
        scale = np.where(better, 1.0, 0.5 * scale)
    raise AssertionError(f"{len(active)} logistic regressions did not converge")
