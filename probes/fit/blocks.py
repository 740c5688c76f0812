"""Latents × concepts in blocks of bounded memory: where each latent's entries are positive.

What depends on the labels needs only the *positive* entries of a pair: (latent, concept, entry)
triples, listed pair by pair. There are as many as entries times the mean number of concepts that
hold for a residue, far fewer than entries × concepts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array

from saejax.latents import LatentColumns

BLOCK_ITEMS = 1 << 22
"""Entries, positive entries and 8 × pairs in a block: about 200 bytes each while it is worked on.
More only if one latent has more entries."""
PAIR_ITEMS = 8


class PairBlock(NamedTuple):
    """Some latents and some concepts; pair = concept · latents + latent, counted in the block."""

    latents: slice
    """Which latents of the whole."""
    concepts: slice
    """Which concepts of the whole."""
    indptr: Int[np.ndarray, " latents+1"]
    """Where each latent's entries start within the block."""
    x: Float[np.ndarray, " entries"]
    """Values, latent by latent, in the columns' order."""
    latent: Int[np.ndarray, " entries"]
    """Latent of each entry."""
    n_rows: int
    """Rows, zeros included."""
    n_pos: Int[np.ndarray, " concepts"]
    """Positive rows of each concept, zeros included."""
    hit: Int[np.ndarray, " hits"]
    """Positive entries, pair by pair, ascending within each."""
    hit_pair: Int[np.ndarray, " hits"]
    """Their pairs, ascending."""

    @property
    def n_latents(self) -> int:
        """Latents in the block."""
        return len(self.indptr) - 1

    @property
    def shape(self) -> tuple[int, int]:
        """(concepts, latents): what an array over pairs reshapes to."""
        return len(self.n_pos), self.n_latents

    @property
    def n_pairs(self) -> int:
        """Latents times concepts."""
        return self.n_latents * len(self.n_pos)

    def hits(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Number, or sum of ``weights`` [hits], of positive entries: ``[concepts, latents]``."""
        return np.bincount(self.hit_pair, weights, minlength=self.n_pairs).reshape(self.shape)


def pair_blocks(
    columns: LatentColumns, labels: Bool[np.ndarray, "rows concepts"]
) -> Iterator[PairBlock]:
    """Every pair once.

    Raises:
        ValueError: the labels have another number of rows.
    """
    if len(labels) != columns.n_rows:
        raise ValueError(
            f"labels have {len(labels)} rows and the latents {columns.n_rows}; they must be equal"
        )
    n_pos = labels.sum(axis=0)
    for concepts in runs_of(n_pos + PAIR_ITEMS):
        chosen = csr_array(labels[:, concepts])
        per_row = np.diff(chosen.indptr)
        n_concepts = concepts.stop - concepts.start
        items = _column_sums(1 + per_row, columns) + PAIR_ITEMS * n_concepts
        for latents in runs_of(items):
            yield _block(columns, latents, concepts, chosen, n_pos[concepts])


def ragged(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """``starts[0] … starts[0] + counts[0] − 1, starts[1] …``: positions of several stretches."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + counts, counts)


def runs_of(items: np.ndarray, most: int | None = None) -> Iterator[slice]:
    """Consecutive stretches of at most ``most`` items (:data:`BLOCK_ITEMS`), at least one each."""
    most = BLOCK_ITEMS if most is None else most
    ends = np.cumsum(items)
    start = 0
    while start < len(items):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + most, "right")))
        yield slice(start, stop)
        start = stop


def _column_sums(of_row: np.ndarray, columns: LatentColumns) -> np.ndarray:
    """Sum over each latent's rows, without an array as long as all entries."""
    sums = np.zeros(len(columns.indptr) - 1, dtype=np.int64)
    for latents in runs_of(np.diff(columns.indptr)):
        first, last = columns.indptr[latents.start], columns.indptr[latents.stop]
        total = np.append(0, np.cumsum(of_row[columns.rows[first:last]]))
        sums[latents] = np.diff(total[columns.indptr[latents.start : latents.stop + 1] - first])
    return sums


def _block(
    columns: LatentColumns, latents: slice, concepts: slice, labels: csr_array, n_pos: np.ndarray
) -> PairBlock:
    indptr = columns.indptr[latents.start : latents.stop + 1]
    entries = slice(int(indptr[0]), int(indptr[-1]))
    indptr = indptr - indptr[0]
    latent = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    by_concept = labels[columns.rows[entries]].tocsc()
    hit = by_concept.indices
    pair = np.repeat(np.arange(len(n_pos)) * (len(indptr) - 1), np.diff(by_concept.indptr))
    pair += latent[hit]
    return PairBlock(
        latents, concepts, indptr, columns.values[entries].astype(np.float64), latent,
        columns.n_rows, n_pos, hit, pair,
    )  # fmt: skip
