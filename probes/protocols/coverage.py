"""How many latents does it take to cover a concept?

Concepts such as "helix" are spread over many rare latents that are each right when they fire.
Among latents whose precision on the choosing part is high, and higher than the amino acids they
fire on explain, the next one taken is the one that finds most residues that none has found yet.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

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
    select: LatentColumns,
    labels_select: Bool[np.ndarray, " select_rows"],
    test: LatentColumns,
    labels_test: Bool[np.ndarray, " test_rows"],
    candidates: Bool[np.ndarray, " latents"],
) -> Cover:
    """Greedy maximum coverage (Nemhauser et al. 1978: within 1 − 1/e of the best set).

    Args:
        select: columns of the part that chooses.
        labels_select: the concept there.
        test: columns of the test part.
        labels_test: the concept there.
        candidates: latents that may be taken.
    """
    latents = np.flatnonzero(candidates)
    column, rows = _entries(select, latents)
    hit = labels_select[rows]
    column, rows = column[hit], rows[hit]
    found, taken = np.zeros(len(labels_select), bool), []
    called = np.zeros(len(labels_test), bool)
    curves: list[tuple[float, float, float]] = []
    while len(taken) < min(MAX_LATENTS, len(latents)):
        gain = np.bincount(column[~found[rows]], minlength=len(latents))
        if not gain.max(initial=0):
            break
        best = int(gain.argmax())
        taken.append(int(latents[best]))
        found[rows[column == best]] = True
        called[test.column(taken[-1])[0]] = True
        hits = int((called & labels_test).sum())
        curves.append((
            found.sum() / labels_select.sum(), hits / labels_test.sum(), hits / max(called.sum(), 1)
        ))  # fmt: skip
    recall_select, recall_test, precision = np.array(curves).reshape(-1, 3).T
    return Cover(np.array(taken, np.int64), recall_select, recall_test, precision)


def _entries(columns: LatentColumns, latents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(position in ``latents``, row) of every entry of some columns."""
    rows = [columns.column(j)[0] for j in latents.tolist()]
    which = np.repeat(np.arange(len(latents)), [len(r) for r in rows])
    return which, np.concatenate([np.zeros(0, np.int64), *rows]).astype(np.int64)
