"""A latent's values as a few weighted nodes, for sums over all its entries.

Newton's method needs ``Σ_i g(x_i)`` over a latent's entries for smooth ``g`` = σ, σ', σ x, … of
``w x + b``. Within a bin of half-width a, ``g`` is its own interpolant at m Chebyshev nodes t_j up
to an error of order ρ^−m, ρ = s + √(1 + s²), s = π / (|w| a), since its nearest poles lie π / |w|
from the real axis (Trefethen 2013, *Approximation Theory and Approximation Practice*, theorem 8.2).
Hence::

    Σ_i g(x_i) = Σ_j W_j g(t_j),   W_j = Σ_i L_j(x_i) = (1/m) Σ'_k T_k(u_j) Σ_i T_k(u(x_i))

with L_j the Lagrange polynomials and T_k the Chebyshev ones (k = 0 counts once, others twice).
The weights know nothing of the concept, w or b: all concepts share them.

Entries are first spread over few nodes of many small bins, and those nodes over the many nodes of
few bins: the same sums, for a third of the work.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

N_CHEBYSHEV = 16
"""m: nodes in a bin."""
REACH = 1.5
"""Largest |w| · half-width of a bin: ρ = 4.4."""
SPLIT, N_FINE = 32, 5
"""Small bins in a bin, and nodes in a small one."""
CHUNK = 1 << 15
"""Entries at a time: temporaries stay in the processor's cache."""


def _chebyshev(m: int) -> np.ndarray:
    """The m Chebyshev nodes of [−1, 1]."""
    return np.cos(np.pi * (np.arange(m) + 0.5) / m)


def _lagrange(u: np.ndarray, m: int) -> np.ndarray:
    """L_j(u) for the m Chebyshev nodes: ``[m, len(u)]``."""
    return _to_weights(m) @ np.cos(np.arange(m)[:, None] * np.arccos(u))


def _to_weights(m: int) -> np.ndarray:
    """From moments Σ_i T_k(u_i) to weights Σ_i L_j(u_i): ``[m, m]``."""
    factor = np.where(np.arange(m) == 0, 1.0, 2.0) / m
    return factor * np.cos(np.arccos(_chebyshev(m))[:, None] * np.arange(m))


_FINE_TO_WEIGHTS = _to_weights(N_FINE)
_FINE_IN_BIN = (2 * np.arange(SPLIT) + 1 + _chebyshev(N_FINE)[:, None]).ravel() / SPLIT - 1
_SPREAD = _lagrange(_FINE_IN_BIN, N_CHEBYSHEV).T.reshape(N_FINE, SPLIT, N_CHEBYSHEV)
"""From weights of the small bins' nodes to weights of the bin's nodes."""


class Bins(NamedTuple):
    """Equal bins over the values of every owner (a latent, or a latent's positive entries)."""

    low: Float[np.ndarray, " owners"]
    """Smallest value."""
    width: Float[np.ndarray, " owners"]
    """Of a bin; 0 where all values are the same, and then all nodes are that value."""
    n: int
    """Bins of each."""

    @classmethod
    def over(cls, low: np.ndarray, high: np.ndarray, n: int) -> Bins:
        """``n`` bins from the smallest value to the largest."""
        return cls(low, (high - low) / n, n)

    def take(self, owners: np.ndarray) -> Bins:
        """Those of ``owners``."""
        return Bins(self.low[owners], self.width[owners], self.n)

    def nodes(self) -> Float[np.ndarray, "nodes owners"]:
        """Where the nodes lie."""
        place = np.arange(self.n)[:, None] + 0.5 + 0.5 * _chebyshev(N_CHEBYSHEV)
        return self.low + self.width * place.reshape(-1, 1)

    def weights(
        self, x: Float[np.ndarray, " entries"], owner: Int[np.ndarray, " entries"]
    ) -> Float[np.ndarray, "nodes owners"]:
        """W of every owner's entries; owners ascend."""
        n_small = self.n * SPLIT
        per_width = SPLIT / np.where(self.width > 0, self.width, 1.0)
        moments = np.zeros((N_FINE, len(self.low) * n_small))
        for start in range(0, len(x), CHUNK):
            own = owner[start : start + CHUNK]
            place = (x[start : start + CHUNK] - self.low[own]) * per_width[own]
            small = np.minimum(place.astype(np.int64), n_small - 1)
            first, last = int(own[0]) * n_small, (int(own[-1]) + 1) * n_small
            group = (own - own[0]) * n_small + small
            _add_moments(moments[:, first:last], 2 * (place - small) - 1, group)
        fine = (_FINE_TO_WEIGHTS @ moments).reshape(N_FINE, -1, SPLIT)
        weights = sum(f @ spread for f, spread in zip(fine, _SPREAD, strict=True))
        return np.asarray(weights).reshape(len(self.low), -1).T


def _add_moments(moments: np.ndarray, u: np.ndarray, group: np.ndarray) -> None:
    """Add Σ T_k(u) of every group: T_0 = 1, T_1 = u, T_k+1 = 2 u T_k − T_k−1."""
    n_groups = moments.shape[1]
    before, now, twice = u, np.ones_like(u), 2 * u
    for total in moments:
        total += np.bincount(group, now, minlength=n_groups)
        before, now = now, twice * now - before
