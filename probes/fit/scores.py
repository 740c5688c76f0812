"""Exact thresholds and scores of sparse columns against a concept.

Everything works on latents that are *sorted*: entries descending by value within each column.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num, Shaped
from scipy.sparse import csr_matrix
from sklearn.metrics import roc_auc_score

from probes.fit.blocks import pair_blocks, runs_of
from probes.fit.ranking import count_at_least, rank_block
from saejax.latents import LatentColumns

PRODUCT_BYTES = 1 << 29
"""Labels that are held as numbers at a time, to be multiplied."""


class RankScores(NamedTuple):
    """How well the score sign · z ranks the rows, for every latent and concept.

    NaN for a concept of one class only.
    """

    auroc: Float[np.ndarray, " latents *concepts"]
    """Probability that a positive outscores a negative, ties counting half."""
    average_precision: Float[np.ndarray, " latents *concepts"]
    """Σ_n (R_n − R_n−1) P_n over the distinct scores, descending; no interpolation."""
    f1: Float[np.ndarray, " latents *concepts"]
    """The highest F1 of any cut; 0 where no cut finds a positive."""
    threshold: Float[np.ndarray, " latents *concepts"]
    """That cut: positive where ``z >= threshold`` (sign > 0) or ``z < threshold`` (sign < 0). Of
    equals the strictest. Infinite where no cut finds a positive."""


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
    """:class:`Cut` of a single block."""
    return Cut(keep)(columns)


class Cut:
    """Takes the rows marked in ``keep``, for as many blocks of latents as there are.

    They are renumbered from 0 and sorted by value (descending) per column. Equal values stay in the
    order of their rows. Values become float32.
    """

    def __init__(self, keep: Bool[np.ndarray, " rows"]) -> None:
        """Number the rows that are kept."""
        self._keep, self.n_rows = keep, int(keep.sum())
        self._new_row = np.cumsum(keep, dtype=np.uint32) - np.uint32(1)

    def __call__(self, columns: LatentColumns) -> LatentColumns:
        """The kept rows of some latents."""
        kept = self._keep[columns.rows]
        indptr = np.append(0, np.cumsum(column_sums(kept, columns.indptr)))
        # Positive floats order like their bits: one integer sort does value and row together.
        packed = (~columns.values[kept].astype(np.float32).view(np.uint32)).astype(np.uint64)
        packed <<= np.uint64(32)
        packed |= self._new_row[columns.rows[kept]]
        for start, stop in pairwise(indptr.tolist()):
            packed[start:stop].sort()
        rows = packed.astype(np.uint32).view(np.int32)
        packed >>= np.uint64(32)
        values = (~packed.astype(np.uint32)).view(np.float32)
        return LatentColumns(indptr, rows, values, self.n_rows)


def column_sums(
    values: Shaped[np.ndarray, " entries"], indptr: Int[np.ndarray, " columns_and_end"]
) -> Int[np.ndarray, " columns"]:
    """Exact integer sum over each column's entries (0 for an empty one)."""
    total = np.append(0, np.cumsum(values, dtype=np.int64))
    return total[indptr[1:]] - total[indptr[:-1]]


def hits_of(
    columns: LatentColumns, labels: Bool[np.ndarray, "rows concepts"]
) -> Int[np.ndarray, "latents concepts"]:
    """Rows of each concept on which each latent fires.

    Of few entries, their labels are looked up; else all labels are multiplied.
    """
    if len(columns.rows) < columns.n_rows:
        return _looked_up(columns, labels)
    fires = csr_matrix(
        (np.ones(len(columns.rows), np.int32), columns.rows, columns.indptr),
        (len(columns.indptr) - 1, columns.n_rows),
    )
    hits = np.empty((len(columns.indptr) - 1, labels.shape[1]), dtype=np.int32)
    for some in runs_of(np.full(labels.shape[1], 4 * columns.n_rows), PRODUCT_BYTES):
        hits[:, some] = fires @ labels[:, some].astype(np.int32)
    return hits


def _looked_up(
    columns: LatentColumns, labels: Bool[np.ndarray, "rows concepts"]
) -> Int[np.ndarray, "latents concepts"]:
    """:func:`hits_of`, without making numbers of labels that no entry asks for."""
    hits = np.zeros((len(columns.indptr) - 1, labels.shape[1]), dtype=np.int32)
    filled = np.flatnonzero(np.diff(columns.indptr))
    for some in runs_of(np.full(labels.shape[1], max(len(columns.rows), 1)), PRODUCT_BYTES):
        if len(filled):
            hit = labels[:, some][columns.rows]
            hits[filled, some] = np.add.reduceat(
                hit, columns.indptr[:-1][filled], axis=0, dtype=np.int32
            )
    return hits


def rank_scores(
    columns: LatentColumns,
    labels: Bool[np.ndarray, " rows *concepts"],
    sign: Num[np.ndarray, " latents *concepts"] | None = None,
) -> RankScores:
    """AUROC, average precision and the F1-best cut of the score sign · z, exactly, for all pairs.

    The first two equal scikit-learn's ``roc_auc_score`` and ``average_precision_score`` on the
    dense column. A 1-D logistic probe is monotone, so a threshold on its probability is one on z.
    Calling every row positive is no cut; compare with :func:`f1_all_positive`.

    Only positive entries are visited: between two of them recall stands still, so that the best
    cut is next to one, and AUROC and average precision are sums over positives.

    Args:
        columns: sorted (:func:`restrict`), which all concepts share.
        labels: True for the concept. With one axis, the scores have one axis too.
        sign: direction of each probe, such as its coefficient's sign; 0 scores all rows the same.
            All +1 if left out.

    Raises:
        ValueError: columns are not sorted; rows differ.
    """
    table = labels.reshape(len(labels), -1)
    shape = len(columns.indptr) - 1, table.shape[1]
    signs = np.ones(shape, np.int8) if sign is None else sign.reshape(shape)
    found = np.empty((4, *shape))
    for block in pair_blocks(columns, table):
        here = (slice(None), block.latents, block.concepts)
        found[here] = rank_block(block, signs[here[1:]].T).transpose(0, 2, 1)
    return RankScores(*found.reshape(4, *shape[:1], *labels.shape[1:]))


def score_at(
    columns: LatentColumns,
    labels: Bool[np.ndarray, " rows *concepts"],
    sign: Num[np.ndarray, " latents *concepts"],
    threshold: Float[np.ndarray, " latents *concepts"],
) -> Scores:
    """Scores of every pair at frozen thresholds > 0 (``RankScores.threshold``'s rule).

    Args:
        columns: sorted (:func:`restrict`).
        labels: True for the concept.
        sign: direction of each probe.
        threshold: infinite or NaN predicts nothing, in either direction.
    """
    table = labels.reshape(len(labels), -1)
    shape = len(columns.indptr) - 1, table.shape[1]
    n_pos = table.sum(axis=0)
    cut = np.nan_to_num(threshold.reshape(shape), nan=np.inf, posinf=np.inf)
    tp, predicted = np.zeros((2, *shape), dtype=np.int64)
    for block in pair_blocks(columns, table):
        here = block.latents, block.concepts
        cuts = cut[here].T
        tp[here] = block.hits(block.x[block.hit] >= cuts.ravel()[block.hit_pair]).T
        predicted[here] = count_at_least(block, cuts).T
    flip = (sign.reshape(shape) < 0) & np.isfinite(cut)
    tp = np.where(flip, n_pos - tp, tp)
    predicted = np.where(flip, columns.n_rows - predicted, predicted)
    found = scores(tp, predicted, n_pos)
    return Scores(*(a.reshape(*shape[:1], *labels.shape[1:]) for a in found))


def scores(tp: Any, predicted: Any, n_positives: Any) -> Scores:
    """Precision, recall and F1 from counts (numbers or arrays); recall NaN without positives."""
    tp, predicted = np.asarray(tp), np.asarray(predicted)
    n_pos = np.broadcast_to(n_positives, tp.shape)

    def ratio(a: Any, b: Any, otherwise: float) -> Any:
        return np.divide(a, b, out=np.full(tp.shape, otherwise), where=b > 0)

    return Scores(
        ratio(tp, predicted, np.nan),
        ratio(tp, n_pos, np.nan),
        ratio(2.0 * tp, predicted + n_pos, 0.0),
        predicted,
    )


def f1_all_positive(labels: Bool[np.ndarray, " rows"]) -> float:
    """F1 of calling every row positive: 2 base / (1 + base)."""
    base = float(labels.mean())
    return 2 * base / (1 + base)


def auroc(labels: Bool[np.ndarray, " rows"], score: Float[np.ndarray, " rows"]) -> float:
    """Probability that a positive outscores a negative, ties counting half; both must occur."""
    return float(roc_auc_score(labels, score))
