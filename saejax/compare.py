"""Two dictionaries of one parent, latent by latent: which latents do both have?

- **Same site**: the cosine of decoder rows. Each latent's nearest in the other dictionary is its
  match; from 0.7 two latents count as the same (Paulo & Belrose 2025, arXiv 2501.16615).
- **Other sites** have other bases, so that decoder rows say nothing: Pearson correlation of the
  latents' values over the same residues, zeros included (as "Universal neurons", Gurnee et al.
  2024, arXiv 2401.12181, compares neurons of two models).

Several latents of a wider dictionary whose match is one latent of the other are what that latent
*splits* into (Bricken et al. 2023, "feature splitting"); seen from the other side they *merge*.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csc_matrix, csr_matrix

from saejax.latents import LatentColumns

BLOCK_LATENTS = 512
PAIR_BUDGET = 400_000_000
"""Pairs of latents on one residue that a correlation counts; beyond that residues are sampled."""


class Matches(NamedTuple):
    """The nearest latent of another dictionary, for each latent of one."""

    other: Int[np.ndarray, " latents"]
    """Which; −1 for a latent that has none because it never fires."""
    value: Float[np.ndarray, " latents"]
    """Cosine or correlation; NaN where there is none."""


class Comparison(NamedTuple):
    """Matches of both dictionaries."""

    forth: Matches
    """From each latent of the first."""
    back: Matches
    """From each latent of the second."""
    n_residues: int | None
    """Over which correlations were taken; None of cosines."""


def compare_decoders(
    ours: Float[np.ndarray, "ours d_model"], theirs: Float[np.ndarray, "theirs d_model"]
) -> Comparison:
    """Match latents by the cosine of their decoder rows; both dictionaries are of one site."""
    a, b = (w / np.maximum(np.linalg.norm(w, axis=1, keepdims=True), 1e-30) for w in (ours, theirs))
    best = _Best(len(a), len(b))
    for start in range(0, len(a), BLOCK_LATENTS):
        best.take(start, a[start : start + BLOCK_LATENTS] @ b.T)
    return Comparison(*best.matches(), None)


def compare_activations(
    ours: LatentColumns, theirs: LatentColumns, *, seed: int = 0, pair_budget: int = PAIR_BUDGET
) -> Comparison:
    """Match latents by the Pearson correlation of their values over the same residues.

    r_ij = (Σ z_i z′_j − N m_i m′_j) / (N s_i s′_j), with means and standard deviations over all N
    residues. A latent that is the same everywhere has no correlation.

    Args:
        ours: latents by column; rows are residues.
        theirs: of the same residues, in the same order.
        seed: of the residues that are drawn where there are too many.
        pair_budget: see :data:`PAIR_BUDGET`.

    Raises:
        ValueError: another number of residues.
    """
    if ours.n_rows != theirs.n_rows:
        raise ValueError(f"{ours.n_rows} and {theirs.n_rows} residues; give the same ones")
    a, b = csr_matrix(_sparse(ours)), csr_matrix(_sparse(theirs))
    pairs = float(np.diff(a.indptr).astype(float) @ np.diff(b.indptr).astype(float))
    if pairs > pair_budget:
        n = max(2, int(ours.n_rows * pair_budget / pairs))
        taken = np.sort(np.random.default_rng(seed).permutation(ours.n_rows)[:n])
        a, b = csr_matrix(a[taken]), csr_matrix(b[taken])
    (mean_a, std_a), (mean_b, std_b) = _moments(a), _moments(b)
    n_rows, by_latent = len(a.indptr) - 1, csc_matrix(a)
    best = _Best(len(mean_a), len(mean_b))
    for start in range(0, len(mean_a), BLOCK_LATENTS):
        block = slice(start, start + BLOCK_LATENTS)
        product = np.asarray((by_latent[:, block].T @ b).todense(), dtype=np.float64) / n_rows
        product -= mean_a[block, None] * mean_b
        spread = std_a[block, None] * std_b
        best.take(start, np.divide(product, spread, out=np.full_like(product, -np.inf),
                                   where=spread > 0))  # fmt: skip
    return Comparison(*best.matches(), n_rows)


class _Best:
    """The largest value of each row and each column, of a matrix seen in blocks of rows."""

    def __init__(self, n_ours: int, n_theirs: int) -> None:
        self._forth = Matches(np.full(n_ours, -1), np.full(n_ours, -np.inf))
        self._back = Matches(np.full(n_theirs, -1), np.full(n_theirs, -np.inf))

    def take(self, start: int, block: Float[np.ndarray, "some theirs"]) -> None:
        rows = np.arange(start, start + len(block))
        self._forth.other[rows] = block.argmax(axis=1)
        self._forth.value[rows] = block.max(axis=1)
        highest = block.max(axis=0)
        higher = highest > self._back.value
        self._back.other[higher] = start + block.argmax(axis=0)[higher]
        self._back.value[higher] = highest[higher]

    def matches(self) -> tuple[Matches, Matches]:
        for other, value in (self._forth, self._back):
            nothing = ~np.isfinite(value)
            other[nothing], value[nothing] = -1, np.nan
        return self._forth, self._back


def _sparse(columns: LatentColumns) -> csc_matrix:
    shape = (columns.n_rows, len(columns.indptr) - 1)
    values = columns.values.astype(np.float32)
    return csc_matrix((values, columns.rows, columns.indptr), shape=shape)


def _moments(matrix: csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every column, zeros included."""
    n = len(matrix.indptr) - 1
    mean = np.asarray(matrix.sum(axis=0, dtype=np.float64)).ravel() / n
    square = np.asarray(matrix.multiply(matrix).sum(axis=0, dtype=np.float64)).ravel() / n
    return mean, np.sqrt(np.maximum(square - mean**2, 0))


def mutual(forth: Matches, back: Matches) -> Int[np.ndarray, " pairs"]:
    """Latents of the first dictionary that are their match's own match."""
    mine = np.arange(len(forth.other))
    has = forth.other >= 0
    return mine[has & (back.other[np.where(has, forth.other, 0)] == mine)]
