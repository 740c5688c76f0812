"""The latents of some proteins' residues, read from a latent store."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from saejax.latent_store import LatentStore

READ_THROUGH_ROWS = 2048
"""Rows of other proteins that are read with two neighbours: cheaper than a second read."""


class Entries(NamedTuple):
    """Latents above zero, protein by protein, residues ascending."""

    protein: Int[np.ndarray, " entries"]
    """Which of the proteins asked for, counted from 0."""
    position: Int[np.ndarray, " entries"]
    """Residue in the protein, from 0."""
    latent: Int[np.ndarray, " entries"]
    """Which latent."""
    value: Float[np.ndarray, " entries"]
    """Its value."""


def entries_of(
    latents: LatentStore,
    offsets: Int[np.ndarray, " proteins_and_end"],
    proteins: Int[np.ndarray, " some"],
) -> Entries:
    """Entries of some of the stores' proteins, given in ascending order."""
    parts = [_read(latents, offsets, proteins, *run) for run in _runs(offsets, proteins)]
    return Entries(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _runs(offsets: np.ndarray, proteins: np.ndarray) -> Iterator[tuple[int, int]]:
    """(first, stop) in ``proteins`` of those that are read at once."""
    gaps = offsets[proteins[1:]] - offsets[proteins[:-1] + 1]
    cuts = np.flatnonzero(gaps > READ_THROUGH_ROWS) + 1
    bounds = [0, *cuts.tolist(), len(proteins)]
    yield from itertools.pairwise(bounds)


def _read(
    latents: LatentStore, offsets: np.ndarray, proteins: np.ndarray, first: int, stop: int
) -> Entries:
    mine = proteins[first:stop]
    low, high = int(mine[0]), int(mine[-1]) + 1
    start = int(offsets[low])
    block = latents.row_block(start, int(offsets[high]))
    number = np.full(high - low, -1)
    number[mine - low] = np.arange(first, stop)
    of_row = np.repeat(number, np.diff(offsets[low : high + 1]))
    position = np.arange(len(of_row)) - np.repeat(
        offsets[low:high] - start, np.diff(offsets[low : high + 1])
    )
    counts = np.diff(block.indptr)
    protein = np.repeat(of_row, counts)
    keep = protein >= 0
    return Entries(
        protein[keep], np.repeat(position, counts)[keep], block.indices[keep], block.values[keep]
    )
