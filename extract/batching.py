"""Which proteins a shard needs, and how they are packed into forward passes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np


def proteins_of_rows(offsets: np.ndarray, start: int, stop: int) -> range:
    """Proteins that own at least one of the rows ``[start, stop)``.

    Args:
        offsets: first row of every protein and the number of rows at the end, ascending.
        start: first row.
        stop: one past the last row.
    """
    first = int(np.searchsorted(offsets, start, side="right")) - 1
    last = int(np.searchsorted(offsets, stop, side="left"))
    return range(first, last)


def token_batches(
    proteins: Iterable[int], lengths: Sequence[int], max_tokens: int
) -> Iterator[list[int]]:
    """Cut proteins, in order, into batches of at most ``max_tokens`` residues.

    Packed batches have no padding, so sorting by length would gain nothing. A protein longer than
    ``max_tokens`` gets a batch of its own.
    """
    batch: list[int] = []
    total = 0
    for protein in proteins:
        if batch and total + lengths[protein] > max_tokens:
            yield batch
            batch, total = [], 0
        batch.append(protein)
        total += lengths[protein]
    if batch:
        yield batch
