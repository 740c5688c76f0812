"""One-dimensional logistic regressions: every latent against every concept at once.

For every latent z and concept y, minimise over (w, b)::

    ½ l2 w² + Σ_i c_i [softplus(w z_i + b) − y_i (w z_i + b)]

which is scikit-learn's ``LogisticRegression(C=1 / l2)`` on that column alone, with c = 1, or with
``class_weight="balanced"``, c_i = n / (2 n_class of i). The intercept is not penalised.

Only ``Σ_i c_i y_i z_i`` and ``Σ_i c_i y_i`` depend on the labels: sums over positive entries. The
rest are sums of smooth functions of w z_i + b, for which a few nodes stand for the entries
(``probes/fit/nodes.py``; more of them the larger |w|, the entries themselves where those are fewer)
and one node for all rows with z = 0. Newton's method (``probes/fit/newton.py``) runs on the nodes,
in batches of pairs, float64 throughout.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float
from tqdm import tqdm

from probes.fit.block_fit import BlockFit
from probes.fit.blocks import pair_blocks
from saejax.latents import LatentColumns

DENSE_ENTRIES = 1 << 21
"""Rows × dense columns worked on together."""


class LogisticFit(NamedTuple):
    """P(y | z) = σ(coef · z + intercept), for every latent and concept."""

    coef: Float[np.ndarray, " latents *concepts"]
    """w; 0 for a latent that is empty or constant. NaN for a concept of one class only."""
    intercept: Float[np.ndarray, " latents *concepts"]
    """b. NaN for a concept of one class only."""


def fit_logistic_1d(
    columns: LatentColumns,
    labels: Bool[np.ndarray, " rows *concepts"],
    *,
    l2: float = 1.0,
    balanced: bool = False,
) -> LogisticFit:
    """Regress every concept on every latent by itself.

    Args:
        columns: the latents of ``rows`` residues; order within a column does not matter.
        labels: True for the concept. With one axis, the fit has one axis too.
        l2: penalty on the coefficient, scikit-learn's ``1 / C``; > 0.
        balanced: weigh both classes the same in sum, scikit-learn's ``class_weight="balanced"``.

    Returns:
        The fits. Concepts of one class only have none (the intercept would be infinite): NaN, so
        ``np.isnan(fit.intercept[0]).sum()`` counts them.

    Raises:
        ValueError: ``l2`` is not positive; rows differ; one class only, where ``labels`` has one
            axis.
    """
    if not l2 > 0:
        raise ValueError(f"l2 ({l2}) must be positive: a separable latent has no fit without it")
    table = labels.reshape(len(labels), -1)
    n_pos = table.sum(axis=0)
    if labels.ndim == 1 and not 0 < n_pos[0] < len(labels):
        raise ValueError(
            f"labels must hold both classes, found {n_pos[0]} positives in {len(labels)} rows"
        )
    both = np.flatnonzero((n_pos > 0) & (n_pos < len(labels)))
    if len(both) < len(n_pos):
        table = table[:, both]
    n_latents = len(columns.indptr) - 1
    coef, intercept = np.full((2, n_latents, len(n_pos)), np.nan)
    progress = tqdm(total=n_latents * len(both), desc="fit", unit="pair", unit_scale=True,
                    disable=None, delay=2)  # fmt: skip
    with progress, jax.enable_x64(True):
        for block in pair_blocks(columns, table):
            fit = BlockFit(block, l2, balanced)
            fit.solve()
            coef[block.latents, both[block.concepts]] = fit.coef.reshape(block.shape).T
            intercept[block.latents, both[block.concepts]] = fit.intercept.reshape(block.shape).T
            progress.update(block.n_pairs)
    shape = n_latents, *labels.shape[1:]
    return LogisticFit(coef.reshape(shape), intercept.reshape(shape))


def fit_logistic_dense(
    x: Float[np.ndarray, "rows columns"],
    labels: Bool[np.ndarray, " rows *concepts"],
    *,
    l2: float = 1.0,
    balanced: bool = False,
) -> LogisticFit:
    """The same for dense columns, such as raw neurons.

    Raises:
        ValueError: as :func:`fit_logistic_1d`.
    """
    n_rows, n_columns = x.shape
    width = max(1, DENSE_ENTRIES // n_rows)
    fits = []
    for start in range(0, n_columns, width):
        block = x[:, start : start + width]
        full = LatentColumns(
            np.arange(block.shape[1] + 1) * n_rows,
            np.tile(np.arange(n_rows, dtype=np.int32), block.shape[1]),
            block.T.ravel(),
            n_rows,
        )
        fits.append(fit_logistic_1d(full, labels, l2=l2, balanced=balanced))
    return LogisticFit(*(np.concatenate(part) for part in zip(*fits, strict=True)))
