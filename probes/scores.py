"""Exact thresholds and scores of sparse columns against a concept.

Everything works on latents that are *sorted*: entries descending by value within each column.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num, Shaped
from sklearn.metrics import roc_auc_score

from saejax.latents import LatentColumns


class Thresholds(NamedTuple):
    """The F1-best cut of every column."""

    threshold: Float[np.ndarray, " columns"]
    """Positive where ``z >= threshold`` (sign > 0) or ``z < threshold`` (sign < 0)."""
    f1: Float[np.ndarray, " columns"]
    """F1 at that cut; 0 with an infinite threshold where a column offers no cut."""


class Scores(NamedTuple):
    """Precision = tp / predicted, recall = tp / positives, F1 = 2 tp / (predicted + positives)."""

    precision: Float[np.ndarray, "*columns"]
    """NaN where nothing is predicted."""
    recall: Float[np.ndarray, "*columns"]
    """Share of the positives that are found."""
    f1: Float[np.ndarray, "*columns"]
    """Harmonic mean of the two; 0 where nothing is predicted."""
    n_predicted: Int[np.ndarray, "*columns"]
    """Residues called positive."""


def restrict(columns: LatentColumns, keep: Bool[np.ndarray, " rows"]) -> LatentColumns:
    """The rows marked in ``keep``, renumbered from 0, sorted by value (descending) per column."""
    kept = keep[columns.rows]
    latent = np.repeat(np.arange(len(columns.indptr) - 1), np.diff(columns.indptr))[kept]
    values = columns.values[kept].astype(np.float32)
    new_row = np.cumsum(keep, dtype=np.int32) - 1
    rows = new_row[columns.rows[kept]]
    # Positive floats order like their bits: one integer sort does column and value together.
    key = (latent.astype(np.uint64) << np.uint64(32)) | (~values.view(np.uint32)).astype(np.uint64)
    order = np.argsort(key, kind="stable")
    indptr = np.append(0, np.cumsum(np.bincount(latent, minlength=len(columns.indptr) - 1)))
    return LatentColumns(indptr, rows[order], values[order], int(keep.sum()))


def column_sums(
    values: Shaped[np.ndarray, " entries"], indptr: Int[np.ndarray, " columns_and_end"]
) -> Int[np.ndarray, " columns"]:
    """Exact integer sum over each column's entries (0 for an empty one)."""
    total = np.append(0, np.cumsum(values, dtype=np.int64))
    return total[indptr[1:]] - total[indptr[:-1]]


def best_f1_thresholds(
    columns: LatentColumns,
    labels: Bool[np.ndarray, " rows"],
    sign: Num[np.ndarray, " columns"],
) -> Thresholds:
    """The cut of highest F1 among all that split the rows, in the direction of ``sign``.

    A 1-D logistic probe is monotone, so a threshold on its probability is one on z. Calling every
    row positive is no cut; compare with :func:`f1_all_positive`. Of equals the strictest wins.

    Args:
        columns: sorted.
        labels: True for the concept.
        sign: of the probe's coefficient; 0 has no direction.
    """
    counts = np.diff(columns.indptr)
    n_pos, n_rows = int(labels.sum()), columns.n_rows
    hits = np.cumsum(labels[columns.rows], dtype=np.int32)
    starts = columns.indptr[:-1][counts > 0]
    before = np.append(np.int32(0), hits)[columns.indptr[:-1]]
    tp = hits - np.repeat(before, counts)
    n = np.arange(1, len(hits) + 1, dtype=np.int32)
    n -= np.repeat(columns.indptr[:-1], counts).astype(np.int32)
    negative = np.repeat(sign < 0, counts)
    f1 = np.where(negative, n_pos - tp, tp) / (np.where(negative, n_rows - n, n) + n_pos) * 2.0
    last_of_ties = np.append(columns.values[1:] != columns.values[:-1], True)
    last_of_ties[columns.indptr[1:][counts > 0] - 1] = True
    f1[~last_of_ties | (n == n_rows)] = -1.0
    threshold, best = np.full(len(counts), np.inf), np.zeros(len(counts))
    if len(starts):
        top = np.maximum.reduceat(f1, starts)
        at = np.flatnonzero(f1 == np.repeat(top, counts[counts > 0]))
        column = np.searchsorted(columns.indptr, at, side="right") - 1
        column, first = np.unique(column, return_index=True)
        usable = (sign[column] != 0) & (top >= 0)
        threshold[column[usable]] = columns.values[at[first[usable]]]
        best[column[usable]] = top[usable]
    return Thresholds(threshold, best)


def score_at(
    columns: LatentColumns,
    labels: Bool[np.ndarray, " rows"],
    sign: Num[np.ndarray, " columns"],
    threshold: Float[np.ndarray, " columns"],
) -> Scores:
    """Scores of every column at frozen thresholds (``Thresholds.threshold``'s rule)."""
    fires = columns.values >= np.repeat(threshold, np.diff(columns.indptr))
    predicted = column_sums(fires, columns.indptr)
    tp = column_sums(fires & labels[columns.rows], columns.indptr)
    n_pos = int(labels.sum())
    flip = (sign < 0) & np.isfinite(threshold)
    predicted = np.where(flip, columns.n_rows - predicted, predicted)
    return scores(np.where(flip, n_pos - tp, tp), predicted, n_pos)


def scores(tp: Any, predicted: Any, n_positives: int) -> Scores:
    """Precision, recall and F1 from counts (numbers or arrays); ``n_positives`` > 0."""
    tp, predicted = np.asarray(tp), np.asarray(predicted)
    precision = np.divide(tp, predicted, out=np.full(tp.shape, np.nan), where=predicted > 0)
    return Scores(precision, tp / n_positives, 2.0 * tp / (predicted + n_positives), predicted)


def f1_all_positive(labels: Bool[np.ndarray, " rows"]) -> float:
    """F1 of calling every row positive: 2 base / (1 + base)."""
    base = float(labels.mean())
    return 2 * base / (1 + base)


def auroc(labels: Bool[np.ndarray, " rows"], score: Float[np.ndarray, " rows"]) -> float:
    """Probability that a positive outscores a negative, ties counting half; both must occur."""
    return float(roc_auc_score(labels, score))


def dense_column(columns: LatentColumns, latent: int) -> Float[np.ndarray, " rows"]:
    """One latent on every row, zeros included."""
    dense = np.zeros(columns.n_rows)
    rows, values = columns.column(latent)
    dense[rows] = values
    return dense
