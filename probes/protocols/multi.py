"""Probes on several columns: the best k latents together, and all raw dimensions."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from sklearn.linear_model import LogisticRegression

from probes.data.firing import latent_of_entries
from probes.data.part_columns import PartColumns, dense_column

MAX_ITERATIONS = 25
STEP_TOLERANCE = 1e-3
"""Enough to choose the next latent; the probe itself is fitted by scikit-learn."""


def choose_latents(columns: PartColumns, labels: Bool[np.ndarray, " rows"], k: int) -> list[int]:
    """Greedy forward selection of k latents by Rao's score test.

    With p the logistic fit on the latents chosen so far (and an intercept), the next one is::

        argmax_j  (Σ_i z_ij (y_i − p_i))² / V_j,
        V_j = Σ_i s_i z_ij² − (Σ_i s_i z_ij)² / Σ_i s_i,   s = p (1 − p)

    the score statistic for adding latent j (Rao 1948, adjusted for the intercept alone), which is
    orthogonal matching pursuit for the logistic loss (Lozano et al. 2011). Every choice goes
    through all latents, block by block; beside one, 8 (k + 8) bytes for each row are held.

    Returns:
        Latents in the order chosen; fewer than k if no other one carries a signal.
    """
    y = labels.astype(np.float64)
    design = np.ones((columns.n_rows, 1))
    beta = np.array([np.log(y.mean() / (1 - y.mean()))])
    chosen: list[int] = []
    while len(chosen) < k:
        p = _sigmoid(design @ beta)
        statistic = _statistics(columns, y - p, p * (1 - p))
        statistic[chosen] = 0.0
        if statistic.max() <= 0:
            break
        chosen.append(int(statistic.argmax()))
        column = dense_column(columns, chosen[-1])
        design = np.column_stack([design, column / column.std()])
        beta = _refit(design, y, np.append(beta, 0.0))
    return chosen


def _statistics(
    columns: PartColumns, residual: Float[np.ndarray, " rows"], s: Float[np.ndarray, " rows"]
) -> Float[np.ndarray, " latents"]:
    """Rao's of every latent; 0 of one that is constant."""
    statistic, total = np.zeros(columns.n_latents), s.sum()
    for first, block in columns.blocks():
        n = len(block.indptr) - 1
        values, latent = block.values.astype(np.float64), latent_of_entries(block)
        sz = s[block.rows] * values
        u = np.bincount(latent, residual[block.rows] * values, minlength=n)
        v = np.bincount(latent, sz * values, minlength=n)
        v = v - np.bincount(latent, sz, minlength=n) ** 2 / total  # counts where nothing fires
        np.divide(u**2, v, out=statistic[first : first + n], where=v > 1e-9)
    return statistic


def _sigmoid(x: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def _refit(x: np.ndarray, y: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Newton's method from a near start, L2 = 1 on all but the first column (ones)."""
    penalty = np.append(0.0, np.ones(x.shape[1] - 1))
    for _ in range(MAX_ITERATIONS):
        p = _sigmoid(x @ beta)
        gradient = x.T @ (p - y) + penalty * beta
        hessian = (x * (p * (1 - p))[:, None]).T @ x + np.diag(penalty + 1e-9)
        step = np.linalg.solve(hessian, gradient)
        step *= min(1.0, 5.0 / max(np.abs(step).max(), 1e-12))
        beta = beta - step
        if np.abs(step).max() < STEP_TOLERANCE:
            break
    return beta


def probe_scores(
    x_select: Float[np.ndarray, "select_rows columns"],
    labels_select: Bool[np.ndarray, " select_rows"],
    x_test: Float[np.ndarray, "test_rows columns"],
) -> Float[np.ndarray, " test_rows"]:
    """Log-odds on test of scikit-learn's LogisticRegression (C = 1), standardised by select."""
    mean, std = x_select.mean(axis=0), x_select.std(axis=0)
    std = np.where(std > 0, std, 1.0)
    model = LogisticRegression(C=1.0, max_iter=2000, tol=1e-3)
    model.fit((x_select - mean) / std, labels_select)
    return model.decision_function((x_test - mean) / std)
