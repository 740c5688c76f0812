"""Where latents fire, a block of latents at a time: every analysis of patterns reads these."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from saejax.latent_store import LatentStore
from saejax.latents import LatentColumns

ColumnSource = LatentColumns | LatentStore
"""Latents in memory, or on the disk: both know where each one's entries lie."""

BLOCK_ENTRIES = 2_000_000
"""Entries in a block: analyses hold about 150 B for each, so some 300 MB at a time."""

BLOCK_LATENTS = 4096
"""Latents in a block: a logo of each is 1,680 B, and information needs a few copies of it."""

FIRING_FRACTION = 0.25
"""A latent *fires* where z > a quarter of its own maximum. TopK keeps weak values everywhere (half
of a latent's residues lie below a tenth of its maximum); the pattern is in the strong ones."""


class FiringBlock(NamedTuple):
    """Neighbouring latents, and where they fire."""

    first: int
    """Index of the block's first latent."""
    columns: LatentColumns
    """Entries above ``fraction · maximum``; rows ascending within each of the block's latents."""
    n_active: Int[np.ndarray, " block"]
    """Residues with z > 0."""
    maximum: Float[np.ndarray, " block"]
    """Largest value; 0 for a dead latent."""

    @property
    def latents(self) -> slice:
        """Where the block lies in the dictionary."""
        return slice(self.first, self.first + len(self.n_active))


def latent_of_entries(columns: LatentColumns) -> Int[np.ndarray, " entries"]:
    """Which column each entry belongs to, int32."""
    n = len(columns.indptr) - 1
    return np.repeat(np.arange(n, dtype=np.int32), np.diff(columns.indptr))


def block_bounds(
    indptr: Int[np.ndarray, " latents_and_end"],
    *,
    max_entries: int | None = None,
    max_latents: int = BLOCK_LATENTS,
) -> Iterator[tuple[int, int]]:
    """(first, end) of consecutive latents that fit a block; one may be larger by itself.

    Args:
        indptr: where each latent's entries start.
        max_entries: of a block, by default ``BLOCK_ENTRIES``.
        max_latents: of a block.
    """
    max_entries = BLOCK_ENTRIES if max_entries is None else max_entries
    first, d_sae = 0, len(indptr) - 1
    while first < d_sae:
        end = int(np.searchsorted(indptr, indptr[first] + max_entries, side="right")) - 1
        end = min(max(end, first + 1), first + max_latents, d_sae)
        yield first, end
        first = end


def read_columns(source: ColumnSource, first: int, end: int) -> LatentColumns:
    """Latents ``first`` to ``end - 1`` alone."""
    if isinstance(source, LatentStore):
        return source.columns(first, end)
    entries = slice(int(source.indptr[first]), int(source.indptr[end]))
    indptr = source.indptr[first : end + 1] - source.indptr[first]
    return LatentColumns(indptr, source.rows[entries], source.values[entries], source.n_rows)


def firing_blocks(
    columns: ColumnSource,
    *,
    fraction: float = FIRING_FRACTION,
    max_entries: int | None = None,
) -> Iterator[FiringBlock]:
    """All latents in order, in blocks of at most ``max_entries`` (or of one latent).

    Args:
        columns: in any order within a latent; a store is read block by block.
        fraction: of a latent's maximum above which it counts as firing; 0 takes every z > 0.
        max_entries: bounds the memory of what is done with a block; by default ``BLOCK_ENTRIES``.
    """
    for first, end in block_bounds(columns.indptr, max_entries=max_entries):
        yield _block(read_columns(columns, first, end), first, fraction)


def _block(part: LatentColumns, first: int, fraction: float) -> FiringBlock:
    n_active = np.diff(part.indptr)
    maximum = np.zeros(len(n_active), dtype=np.float32)
    filled = n_active > 0
    if filled.any():
        maximum[filled] = np.maximum.reduceat(part.values, part.indptr[:-1][filled])
    latent = latent_of_entries(part)
    fires = part.values > np.float32(fraction) * maximum[latent]
    n_fires = np.bincount(latent[fires], minlength=len(n_active))
    kept = LatentColumns(
        np.append(0, np.cumsum(n_fires)), part.rows[fires], part.values[fires], part.n_rows
    )
    return FiringBlock(first, _by_row(kept), n_active, maximum)


def _by_row(columns: LatentColumns) -> LatentColumns:
    """The same entries with rows ascending within each latent."""
    latent = latent_of_entries(columns)
    key = latent * np.int64(columns.n_rows) + columns.rows
    if (key[1:] > key[:-1]).all():
        return columns
    order = np.argsort(key)
    return columns._replace(rows=columns.rows[order], values=columns.values[order])
