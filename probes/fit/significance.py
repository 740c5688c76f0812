"""Is an association more than chance? Tests and intervals that do not take residues for a sample.

Residues of a protein, and proteins of a family, resemble each other; a test that counts residues
finds everything significant. Here clusters of homologous proteins are the sample: in the score test
each contributes one number, and the bootstrap draws whole clusters. In both a cluster weighs by its
residues; what is said to be found or confirmed passes the tests of ``probes/fit/cluster_tests.py``,
in which clusters weigh alike.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_matrix
from scipy.special import ndtr
from scipy.stats import false_discovery_control

from probes.data.firing import block_bounds
from probes.fit.scores import PRODUCT_BYTES
from saejax.latents import LatentColumns

ENTRIES_AT_ONCE, CONCEPTS_AT_ONCE = 1 << 20, 64
"""Held in memory together; fewer concepts where their labels as numbers take more than
``probes.fit.scores.PRODUCT_BYTES``."""
MIN_CLUSTERS = 3
"""Homology clusters that an interval needs: drawn from one, every draw is the same."""
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
    n_concepts, n_columns = labels.shape[1], len(columns.indptr) - 1
    at_once = max(1, min(CONCEPTS_AT_ONCE, PRODUCT_BYTES // (4 * max(len(labels), 1))))
    parts = [
        _statistics(columns, labels[:, first : first + at_once], cluster)
        for first in range(0, n_concepts, at_once)
    ]
    z = np.concatenate([np.zeros((n_columns, 0)), *parts], axis=1)
    return ScoreTest(z, 2 * ndtr(-np.abs(z)))


def _statistics(
    columns: LatentColumns,
    labels: Bool[np.ndarray, "rows concepts"],
    cluster: Int[np.ndarray, " rows"],
) -> Float[np.ndarray, "columns concepts"]:
    """Z of a few concepts; 0 where there is none."""
    n_columns, n_clusters = len(columns.indptr) - 1, int(cluster.max(initial=-1)) + 1
    y = labels.astype(np.float32)
    rate = labels.mean(axis=0)
    size = np.bincount(cluster, minlength=n_clusters)
    positives = [np.bincount(cluster[yes], minlength=n_clusters) for yes in labels.T]
    of_cluster = np.stack(positives, axis=1) - size[:, None] * rate
    everything = (of_cluster**2).sum(axis=0)
    total, squares = np.zeros((n_columns, len(rate))), np.zeros((n_columns, len(rate)))
    for first, last in block_bounds(columns.indptr, max_entries=ENTRIES_AT_ONCE):
        sums = _by_cluster(columns, first, last, cluster, n_clusters)
        fired = (sums.matrix @ y).astype(np.float64) - sums.total[:, None] * rate
        mean = np.bincount(sums.column, sums.total, minlength=last - first) / len(y)
        here = of_cluster[sums.cluster]
        u = fired - mean[sums.column][:, None] * here
        of_column = csr_matrix(
            (np.ones(len(u)), (sums.column, np.arange(len(u)))), (last - first, len(u))
        )
        # Σ_c −z̄ r_c is 0, since the residuals sum to 0: the total is that of the entries
        total[first:last] = of_column @ fired
        elsewhere = np.maximum(everything - of_column @ here**2, 0.0)
        squares[first:last] = of_column @ u**2 + mean[:, None] ** 2 * elsewhere
    constant = (rate == 0) | (rate == 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.where((squares > 0) & ~constant[None], total / np.sqrt(squares), 0.0)
    return np.clip(z, -Z_CAP, Z_CAP)


class _ByCluster(NamedTuple):
    """Entries of a block of columns, gathered by column and cluster."""

    matrix: csr_matrix
    """Values, [column and cluster, rows]."""
    total: Float[np.ndarray, " gathered"]
    """Their sums."""
    column: Int[np.ndarray, " gathered"]
    """Column within the block."""
    cluster: Int[np.ndarray, " gathered"]
    """Cluster."""


def _by_cluster(
    columns: LatentColumns, first: int, last: int, cluster: np.ndarray, n_clusters: int
) -> _ByCluster:
    indptr = columns.indptr[first : last + 1]
    entries = slice(int(indptr[0]), int(indptr[-1]))
    rows, values = columns.rows[entries], columns.values[entries]
    key = np.repeat(np.arange(last - first), np.diff(indptr)) * n_clusters + cluster[rows]
    order = np.argsort(key, kind="stable")
    key = key[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    ends = np.append(starts, len(key))
    matrix = csr_matrix((values[order], rows[order], ends), (len(starts), len(cluster)))
    gathered, total = key[starts], matrix @ np.ones(len(cluster))
    return _ByCluster(matrix, total, gathered // n_clusters, gathered % n_clusters)


def false_discovery_rate(p: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """q-values of Benjamini & Hochberg 1995 over all tests together."""
    return false_discovery_control(p.ravel()).reshape(p.shape) if p.size else p


def effective_number(
    counts: Float[np.ndarray, " clusters *tests"],
) -> Float[np.ndarray, "*tests"]:
    """How many clusters of equal size say as much: (Σ_c n_c)² / Σ_c n_c² (Kish 1965); 0 of none.

    Args:
        counts: residues by which each cluster weighs.
    """
    squares = (counts**2).sum(axis=0)
    total = counts.sum(axis=0, dtype=np.float64)
    return np.divide(total**2, squares, out=np.zeros_like(total), where=squares > 0)


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
        no precision and are left out of its interval. NaN when none is left, and where fewer than
        ``MIN_CLUSTERS`` clusters have a prediction (precision) or a positive (recall, F1).
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
    carriers = {"precision": counts.predicted, "recall": counts.positives, "f1": counts.positives}
    for name, carried_by in carriers.items():
        too_few = (np.asarray(carried_by) > 0).sum(axis=0) < MIN_CLUSTERS
        drawn[name] = np.where(too_few, np.nan, drawn[name])
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
