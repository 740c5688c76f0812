"""How many latents does it take to cover a concept?

Concepts such as "helix" are spread over many rare latents that are each right when they fire.
Among latents whose precision on the choosing part is high, and higher than the amino acids they
fire on explain, the next one taken is the one that finds most residues that none has found yet.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from probes.data.part_columns import Columns
from probes.fit.scores import column_sums
from saejax.latents import LatentColumns

MIN_PRECISION = 0.8
"""On the choosing part; a latent below it is not taken."""
MIN_EXCESS = 0.1
"""Precision above what composition predicts there."""
MIN_FIRES = 50
"""Residues of the choosing part on which a latent fires: fewer say little about precision."""
MAX_LATENTS = 200


class Cover(NamedTuple):
    """Latents in the order taken, and what the first n of them reach together."""

    latents: Int[np.ndarray, " taken"]
    """Ids."""
    recall_select: Float[np.ndarray, " taken"]
    """Share of the concept's residues found, on the part that chose."""
    recall_test: Float[np.ndarray, " taken"]
    """On test."""
    precision_test: Float[np.ndarray, " taken"]
    """Share of the residues on which any of them fires, on test."""

    def needed(self, recall: float) -> int | None:
        """Latents for this recall on test; None when all together stay below."""
        reached = np.flatnonzero(self.recall_test >= recall)
        return int(reached[0]) + 1 if len(reached) else None


def eligible(
    columns: LatentColumns,
    labels: Bool[np.ndarray, " rows"],
    expected: Float[np.ndarray, " latents"],
) -> Bool[np.ndarray, " latents"]:
    """Latents that are precise on the choosing part, beyond what composition predicts."""
    counts = np.diff(columns.indptr)
    precision = column_sums(labels[columns.rows], columns.indptr) / np.maximum(counts, 1)
    excess = np.nan_to_num(precision - expected, nan=-1.0)
    return (counts >= MIN_FIRES) & (precision >= MIN_PRECISION) & (excess >= MIN_EXCESS)


def cover(
    select: Columns,
    labels_select: Bool[np.ndarray, " select_rows"],
    test: Columns,
    labels_test: Bool[np.ndarray, " test_rows"],
    candidates: Bool[np.ndarray, " latents"],
) -> Cover:
    """Greedy maximum coverage (Nemhauser et al. 1978: within 1 − 1/e of the best set).

    Of equal gains the first latent is taken. What a latent adds never grows, so it is counted again
    only when it comes first by an earlier count (Minoux 1978), and one latent is held at a time.

    Args:
        select: columns of the part that chooses.
        labels_select: the concept there.
        test: columns of the test part.
        labels_test: the concept there.
        candidates: latents that may be taken.
    """
    found, taken = np.zeros(len(labels_select), bool), []
    called = np.zeros(len(labels_test), bool)
    curves: list[tuple[float, float, float]] = []

    def wanted(latent: int) -> Int[np.ndarray, " rows"]:
        rows = select.column(latent)[0]
        return rows[labels_select[rows] & ~found[rows]]

    queue = [(-len(wanted(j)), j) for j in np.flatnonzero(candidates).tolist()]
    heapq.heapify(queue)
    while queue and len(taken) < MAX_LATENTS:
        _, best = heapq.heappop(queue)
        rows = wanted(best)
        if queue and (-len(rows), best) > queue[0]:
            heapq.heappush(queue, (-len(rows), best))
            continue
        if not len(rows):
            break
        taken.append(best)
        found[rows] = True
        called[test.column(best)[0]] = True
        hits = int((called & labels_test).sum())
        curves.append((
            found.sum() / labels_select.sum(), hits / labels_test.sum(), hits / max(called.sum(), 1)
        ))  # fmt: skip
    recall_select, recall_test, precision = np.array(curves).reshape(-1, 3).T
    return Cover(np.array(taken, np.int64), recall_select, recall_test, precision)
