"""Is an association more than chance? Tests and intervals that do not take residues for a sample.

Residues of a protein, and proteins of a family, resemble each other; a test that counts residues
finds everything significant. Here clusters of homologous proteins are the sample: in the score test
each contributes one number, and the bootstrap draws whole clusters.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import ndtr
from scipy.stats import false_discovery_control

from saejax.latents import LatentColumns

ENTRIES_AT_ONCE = 1 << 18
"""Entries × concepts are held in memory for these many entries."""
Z_CAP = 38.0
"""P-values below 1e-315 would underflow; their order is lost, not their significance."""


class ScoreTest(NamedTuple):
    """Association of every column with every concept."""

    z: Float[np.ndarray, "columns concepts"]
    """Standard normal when there is none; positive when the column fires in the concept."""
    p: Float[np.ndarray, "columns concepts"]
    """Two-sided; 1 where a column or concept does not vary, or lives in fewer than two clusters."""


def score_test(
    columns: LatentColumns,
    labels: Bool[np.ndarray, "rows concepts"],
    cluster: Int[np.ndarray, " rows"],
) -> ScoreTest:
    """Rao's score test of the 1-D logistic probe, with cluster-robust variance::

        u_c = Σ_{i in cluster c} (z_i − z̄)(y_i − ȳ);    Z = Σ_c u_c / √(Σ_c u_c²)

    (Liang & Zeger 1986's sandwich at the null). Zeros enter in closed form: a cluster where the
    column never fires has u_c = −z̄ Σ_{i in c} (y_i − ȳ).

    Args:
        columns: in any order within a column.
        labels: concepts.
        cluster: 0 … n−1, the homology cluster of each row.
    """
    n_rows, n_concepts = labels.shape
    n_clusters = int(cluster.max(initial=-1)) + 1
    rate = labels.mean(axis=0)
    of_cluster = np.zeros((n_clusters, n_concepts))
    for j in range(n_concepts):
        of_cluster[:, j] = np.bincount(cluster, labels[:, j], minlength=n_clusters)
    of_cluster -= np.bincount(cluster, minlength=n_clusters)[:, None] * rate
    everything = (of_cluster**2).sum(axis=0)
    n_columns = len(columns.indptr) - 1
    total, squares = np.zeros((n_columns, n_concepts)), np.zeros((n_columns, n_concepts))
    mean = np.array([
        columns.values[columns.indptr[j] : columns.indptr[j + 1]].sum(dtype=np.float64)
        for j in range(n_columns)
    ]) / n_rows  # fmt: skip
    for j in range(n_columns):
        rows, values = columns.column(j)
        here, inverse = np.unique(cluster[rows], return_inverse=True)
        fired = _sums_by_cluster(values, inverse, labels, rows, rate, len(here))
        u = fired - mean[j] * of_cluster[here]
        total[j] = fired.sum(axis=0)  # Σ_c −z̄ r_c is 0: the residuals sum to 0
        elsewhere = everything - (of_cluster[here] ** 2).sum(axis=0)
        squares[j] = (u**2).sum(axis=0) + mean[j] ** 2 * np.maximum(elsewhere, 0.0)
    constant = (rate == 0) | (rate == 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.where((squares > 0) & ~constant[None], total / np.sqrt(squares), 0.0)
    z = np.clip(z, -Z_CAP, Z_CAP)
    return ScoreTest(z, 2 * ndtr(-np.abs(z)))


def _sums_by_cluster(values, inverse, labels, rows, rate, n) -> np.ndarray:
    """Σ z (y − ȳ) of one column's entries, for each of the clusters it fires in."""
    order = np.argsort(inverse, kind="stable")
    fired = np.zeros((n, labels.shape[1]))
    for start in range(0, len(rows), ENTRIES_AT_ONCE):
        some = order[start : start + ENTRIES_AT_ONCE]
        weighted = values[some, None] * (labels[rows[some]] - rate)
        first = np.flatnonzero(np.diff(inverse[some], prepend=-1))
        fired[inverse[some][first]] += np.add.reduceat(weighted, first, axis=0)
    return fired


def false_discovery_rate(p: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """q-values of Benjamini & Hochberg 1995 over all tests together."""
    return false_discovery_control(p.ravel()).reshape(p.shape) if p.size else p


class Counts(NamedTuple):
    """What F1 is made of, cluster by cluster."""

    hits: Float[np.ndarray, " clusters *pairs"]
    """Predicted residues that are in the concept."""
    predicted: Float[np.ndarray, " clusters *pairs"]
    """Predicted residues."""
    found: Float[np.ndarray, " clusters *pairs"]
    """Units of recall that were found: residues, or whole domains."""
    positives: Float[np.ndarray, " clusters *pairs"]
    """Units of recall."""


def f1_of(counts: Counts) -> Float[np.ndarray, "*pairs"]:
    """Harmonic mean of Σhits/Σpredicted and Σfound/Σpositives; 0 where nothing is predicted."""
    hits, predicted, found, positives = (c.sum(axis=0) for c in counts)
    return _f1(hits, predicted, found, positives)


def _f1(hits, predicted, found, positives):
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(predicted > 0, hits / predicted, 0.0)
        recall = np.where(positives > 0, found / positives, 0.0)
        return np.where(precision + recall > 0, 2 * precision * recall / (precision + recall), 0.0)


def bootstrap(
    counts: Counts, *, n_draws: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, Float[np.ndarray, " 2 *pairs"]]:
    """Percentile intervals (Efron 1979) of precision, recall and F1 over clusters.

    Args:
        counts: cluster by cluster.
        n_draws: resamplings; each draws as many clusters as there are, with replacement.
        seed: of the draws.
        level: share of the resamplings inside.

    Returns:
        ``precision``, ``recall``, ``f1``: lower and upper ends. Draws without a prediction have
        no precision and are left out of its interval; NaN when none is left.
    """
    rng = np.random.default_rng(seed)
    n = len(counts.hits)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=n_draws).astype(np.float64)
    hits, predicted, found, positives = (
        np.tensordot(weights, np.asarray(c, np.float64), axes=1) for c in counts
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = {
            "precision": hits / np.where(predicted > 0, predicted, np.nan),
            "recall": found / np.where(positives > 0, positives, np.nan),
            "f1": _f1(hits, predicted, found, positives),
        }
    ends = ((1 - level) / 2, (1 + level) / 2)
    return {name: _quantiles(values, ends) for name, values in drawn.items()}


def _quantiles(values: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Over the first axis, without NaN; NaN where there is nothing else."""
    flat = values.reshape(len(values), -1)
    found = np.full((2, flat.shape[1]), np.nan)
    for j in range(flat.shape[1]):
        column = flat[~np.isnan(flat[:, j]), j]
        if len(column):
            found[:, j] = np.quantile(column, ends)
    return found.reshape(2, *values.shape[1:])
