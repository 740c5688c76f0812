"""Latents on some rows of a store, read a block of latents at a time.

All entries of the latents of Swiss-Prot, 64 for each of 200 million residues, are 100 GB. So what
looks at all latents reads neighbouring ones together, at most ``BLOCK_ENTRIES`` entries (or one
latent) at a time; only where a part is small altogether, it is held.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float

from probes.data.firing import ColumnSource, block_bounds, read_columns
from probes.fit.scores import Cut
from saejax.latents import LatentColumns

HELD_BYTES = 1 << 28
"""A part whose source has no more entries than this, of 8 bytes, is read once and held."""


class PartColumns:
    """Latents on the rows that a part keeps, renumbered from 0; largest value first in each."""

    def __init__(
        self,
        source: ColumnSource,
        keep: Bool[np.ndarray, " rows"],
        *,
        held_bytes: int | None = None,
    ) -> None:
        """Nothing is read yet.

        Args:
            source: latents on all rows, on the disk or in memory.
            keep: which rows.
            held_bytes: blocks are kept for the next pass where ``source`` has no more bytes; by
                default ``HELD_BYTES``.
        """
        self._source, self._cut = source, Cut(keep)
        self.n_rows, self.n_latents = self._cut.n_rows, len(source.indptr) - 1
        self._held: dict[int, LatentColumns] | None = None
        if 8 * int(source.indptr[-1]) <= (HELD_BYTES if held_bytes is None else held_bytes):
            self._held = {}
        self._bounds = list(block_bounds(source.indptr))
        self._firsts = np.array([first for first, _ in self._bounds])

    def blocks(self) -> Iterator[tuple[int, LatentColumns]]:
        """(first latent, neighbouring latents from it on), in order."""
        for first, end in self._bounds:
            yield first, self._block(first, end)

    def column(self, latent: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows, values) of one latent, largest value first."""
        if self._held is None:
            return self._cut(read_columns(self._source, latent, latent + 1)).column(0)
        i = int(np.searchsorted(self._firsts, latent, side="right")) - 1
        first, end = self._bounds[i]
        return self._block(first, end).column(latent - first)

    def _block(self, first: int, end: int) -> LatentColumns:
        if self._held is None:
            return self._cut(read_columns(self._source, first, end))
        if first not in self._held:
            self._held[first] = self._cut(read_columns(self._source, first, end))
        return self._held[first]


Columns = PartColumns | LatentColumns
"""Latents one by one."""


def dense_column(columns: Columns, latent: int) -> Float[np.ndarray, " rows"]:
    """One latent on every row, zeros included."""
    dense = np.zeros(columns.n_rows)
    rows, values = columns.column(latent)
    dense[rows] = values
    return dense
