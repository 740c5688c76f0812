"""What is probed, in one form: the latents of an SAE, and what they must beat.

Raw neurons and principal components are dense, and fire with either sign. Each becomes a column of
values > 0, shifted by its smallest; a column's ranks, and so every threshold, AUROC and 1-D probe,
stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from saejax.data import RowStore
from saejax.evaluate import row_blocks
from saejax.latent_store import LatentStore
from saejax.latents import LatentColumns

ENTRIES_AT_ONCE = 1 << 24
"""Entries of a latent store that are well held in memory."""
DENSE_AT_ONCE = 16
"""Dense columns held at a time."""


@runtime_checkable
class Features(Protocol):
    """A matrix [n_rows, n_features] that is read by columns."""

    name: str
    """``latents``, ``neurons``, ``principal components``, ``random dictionary``, …"""

    @property
    def n_features(self) -> int:
        """Columns."""
        ...

    @property
    def n_rows(self) -> int:
        """Residues."""
        ...

    @property
    def at_once(self) -> int:
        """Columns that are well read together."""
        ...

    def columns(self, first: int, last: int) -> LatentColumns:
        """Columns first to last − 1, their nonzero entries with rows ascending."""
        ...


class SparseFeatures:
    """Latents that are held in memory."""

    def __init__(self, name: str, columns: LatentColumns) -> None:
        """Name them."""
        self.name, self._columns = name, columns

    @property
    def n_features(self) -> int:
        """Latents."""
        return len(self._columns.indptr) - 1

    @property
    def n_rows(self) -> int:
        """Residues."""
        return self._columns.n_rows

    @property
    def at_once(self) -> int:
        """All."""
        return self.n_features

    def columns(self, first: int, last: int) -> LatentColumns:
        """See :class:`Features`."""
        indptr = self._columns.indptr[first : last + 1]
        entries = slice(int(indptr[0]), int(indptr[-1]))
        return LatentColumns(
            indptr - indptr[0], self._columns.rows[entries], self._columns.values[entries],
            self.n_rows,
        )  # fmt: skip


class StoreFeatures:
    """Latents of a latent store, read from its disk."""

    def __init__(self, name: str, store: LatentStore) -> None:
        """Name them."""
        self.name, self._store = name, store

    @property
    def n_features(self) -> int:
        """Latents."""
        return self._store.d_sae

    @property
    def n_rows(self) -> int:
        """Residues."""
        return self._store.n_rows

    @property
    def at_once(self) -> int:
        """As many as hold about ``ENTRIES_AT_ONCE``."""
        entries = max(int(self._store.indptr[-1]), 1)
        return max(1, min(self.n_features, self.n_features * ENTRIES_AT_ONCE // entries))

    def columns(self, first: int, last: int) -> LatentColumns:
        """See :class:`Features`."""
        return self._store.columns(first, last)


class DenseFeatures:
    """Columns of a dense matrix that is held in memory, such as the parent's neurons."""

    def __init__(self, name: str, x: Float[np.ndarray, "rows features"]) -> None:
        """Name them; each is shifted by its smallest value."""
        self.name = name
        self.x_T = np.ascontiguousarray(x.T, dtype=np.float32)
        low, high = self.x_T.min(axis=1), self.x_T.max(axis=1)
        self.x_T -= (low - np.maximum(1e-6 * (high - low), 1e-30))[:, None]

    @property
    def n_features(self) -> int:
        """Columns."""
        return self.x_T.shape[0]

    @property
    def n_rows(self) -> int:
        """Residues."""
        return self.x_T.shape[1]

    @property
    def at_once(self) -> int:
        """A few."""
        return DENSE_AT_ONCE

    def columns(self, first: int, last: int) -> LatentColumns:
        """See :class:`Features`; every row has an entry."""
        n = last - first
        rows = np.tile(np.arange(self.n_rows, dtype=np.int32), n)
        indptr = np.arange(n + 1) * self.n_rows
        return LatentColumns(indptr, rows, self.x_T[first:last].ravel(), self.n_rows)


def principal_components(
    stores: Sequence[RowStore], n: int | None = None
) -> Float[np.ndarray, "d_model n"]:
    """Directions of largest variance of the stores' activations, one pass, float64.

    Args:
        stores: activations, laid end to end.
        n: how many; None for all.

    Returns:
        Unit columns, the largest variance first; their order and span do not depend on the mean
        (it is removed), their signs make the largest entry positive.
    """
    d_model = next(iter(row_blocks(stores[0]))).shape[1]
    total, products, count = np.zeros(d_model), np.zeros((d_model, d_model)), 0
    for store in stores:
        for block in row_blocks(store):
            x = block.astype(np.float64)
            total += x.sum(axis=0)
            products += x.T @ x
            count += len(x)
    mean = total / count
    _, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
    found = vectors[:, ::-1][:, :n]
    largest = found[np.abs(found).argmax(axis=0), np.arange(found.shape[1])]
    return found * np.sign(largest)
