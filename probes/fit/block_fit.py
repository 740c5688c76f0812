"""Fits a block of latents × concepts: sums over the labels, a start, then Newton on nodes.

Pair = concept · latents + latent; arrays over pairs are flat unless they say otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from probes.fit.bisection import fit_by_bisection
from probes.fit.blocks import PairBlock, ragged
from probes.fit.newton import Problems, advance
from probes.fit.nodes import N_CHEBYSHEV, REACH, Bins

FIRST_BINS, MORE_BINS = 4, 8
"""Bins of a latent at the first level, and how many times more at each further one."""
START_WITHIN = 0.7
"""A pair joins a level whose reach exceeds its first |w| by this much."""
CHUNK_TERMS, MAX_CHUNK, MIN_CHUNK = 1 << 18, 4096, 8
"""Nodes × pairs solved together, and bounds on the pairs. All powers of two."""
LEFT_OVER = 16
"""Pairs that would fill a quarter of a chunk or less go into some of ``1 / LEFT_OVER`` of it."""
STEPS = 6
"""Newton steps before finished pairs leave their chunk."""
MAX_STEPS = 120
"""Steps before a pair is left to ``probes/fit/bisection.py``."""


class BlockFit:
    """One block's problems and where they stand.

    Latents that always fire are centred on their mean; ``intercept`` is that at the centre until
    :meth:`solve` has ended.
    """

    def __init__(self, block: PairBlock, l2: float, balanced: bool) -> None:
        """Sum over the labels and make a first guess.

        Args:
            block: latents and concepts; every concept has both classes.
            l2: penalty on the coefficient.
            balanced: weigh both classes the same in sum.
        """
        self.block, self.l2, self.balanced = block, l2, balanced
        n_pos = block.n_pos.astype(np.float64)[:, None]
        self.c_neg, self.c_pos = np.ones(n_pos.shape), np.ones(n_pos.shape)
        if balanced:
            self.c_neg = block.n_rows / (2 * (block.n_rows - n_pos))
            self.c_pos = block.n_rows / (2 * n_pos)
        self.count = np.diff(block.indptr)
        self.low, self.high, self.total = _range_and_sum(block)
        # Without zeros, w and b would pull at the same rows. With them, nothing is left to gain.
        mean = np.where(self.low == self.high, self.low, self.total / block.n_rows)
        self.centre = np.where(self.count == block.n_rows, mean, 0.0)
        self.n_hits = block.hits()
        self.first_hit = np.cumsum(self.n_hits.ravel()) - self.n_hits.ravel()
        x_hits = block.hits(block.x[block.hit])
        self.side = np.where(2 * self.n_hits > self.count, -1.0, 1.0)
        few, x_few, c = self.n_hits, x_hits, self.c_pos
        few = np.where(self.side > 0, few, self.count - few)
        x_few = np.where(self.side > 0, x_few, self.total - x_few)
        c = np.where(self.side > 0, c, self.c_neg)
        self.s_1, self.s_x = c * few, c * (x_few - self.centre * few)
        self.coef, self.intercept = self._start()

    def _start(self) -> tuple[np.ndarray, np.ndarray]:
        """The fit if a latent had one value wherever it fires, with half a count added.

        w is shrunk by what the penalty would take from it.
        """
        n_pos = self.block.n_pos[:, None]
        n_off = self.block.n_rows - self.count
        n_pos_off = n_pos - self.n_hits
        on = self.c_pos * self.n_hits + 0.5, self.c_neg * (self.count - self.n_hits) + 0.5
        off = self.c_pos * n_pos_off + 0.5, self.c_neg * (n_off - n_pos_off) + 0.5
        mean = self.total / np.maximum(self.count, 1)
        information = mean**2 / sum(1 / side for side in (*on, *off))
        b = np.log(off[0] / off[1])
        slope = np.divide(np.log(on[0] / on[1]) - b, mean, out=np.zeros_like(b), where=mean != 0)
        two_valued = (self.count > 0) & (n_off > 0)
        w = np.where(two_valued, slope * information / (information + self.l2), 0.0)
        base = self.c_pos * n_pos, self.c_neg * (self.block.n_rows - n_pos)
        b = np.where(two_valued, b + w * self.centre, np.log(base[0] / base[1]))
        return w.ravel(), b.ravel()

    def solve(self) -> None:
        """All pairs to convergence, those of small |w| first."""
        latent = np.tile(np.arange(self.block.n_latents), self.block.shape[0])
        pairs = np.flatnonzero(self.count[latent])
        n_bins = FIRST_BINS
        while len(pairs):
            fits = np.abs(self.coef[pairs]) < START_WITHIN * self.reach(n_bins)[latent[pairs]]
            fits |= self.count[latent[pairs]] <= n_bins * N_CHEBYSHEV
            beyond = [self._solve(p, n_bins, n) for p, n in self._buckets(pairs[fits], n_bins)]
            pairs = np.concatenate([pairs[~fits], *beyond])
            n_bins *= MORE_BINS
        self.intercept -= self.coef * self.centre[latent]

    def reach(self, n_bins: int) -> np.ndarray:
        """|w| up to which ``n_bins`` bins stand for the entries: ``[latents]``."""
        return 2 * n_bins * REACH / np.maximum(self.high - self.low, 1e-300)

    def _buckets(self, pairs: np.ndarray, n_bins: int) -> Iterator[tuple[np.ndarray, int]]:
        """(pairs, number of entries padded to one of few sizes, or 0 for bins)."""
        most, smallest = n_bins * N_CHEBYSHEV, 2 * N_CHEBYSHEV
        power = np.ceil(np.log2(np.maximum(self.count, smallest) / smallest) / 2)
        size = np.minimum(smallest * 4 ** power.astype(np.int64), most)
        size[self.count > most] = 0
        size = size[pairs % self.block.n_latents]
        for n_entries in np.unique(size):
            yield pairs[size == n_entries], int(n_entries)

    def _solve(self, pairs: np.ndarray, n_bins: int, n_entries: int) -> np.ndarray:
        """Solve pairs of a bucket; returns those that need more bins."""
        nodes = _Nodes(self, pairs, n_bins, n_entries)
        most = max(MIN_CHUNK, min(MAX_CHUNK, CHUNK_TERMS // len(nodes.t)))
        beyond = [pairs[:0]]
        for _ in range(0, MAX_STEPS, STEPS):
            left = [pairs[:0]]
            for chunk, width in _chunks(pairs, most):
                problems = nodes.problems(chunk), self.coef[chunk], self.intercept[chunk]
                found = advance(*_pad(problems, width), np.float64(self.l2), np.int32(STEPS))
                w, b, done, stopped = (a[: len(chunk)] for a in jax.device_get(found))
                self.coef[chunk], self.intercept[chunk] = w, b
                beyond.append(chunk[stopped])
                left.append(chunk[~(done | stopped)])
            pairs = np.concatenate(left)
            if not len(pairs):
                break
        for pair in pairs.tolist():
            self._bisect(pair)
        return np.concatenate(beyond)

    def _bisect(self, pair: int) -> None:
        block = self.block
        concept, latent = divmod(pair, block.n_latents)
        n_hits, count = self.n_hits[concept, latent], self.count[latent]
        first = block.indptr[latent]
        y = np.zeros(count + 2, dtype=bool)
        y[block.hit[self.first_hit[pair] : self.first_hit[pair] + n_hits] - first] = y[-1] = True
        n = np.ones(count + 2)
        n[-1] = block.n_pos[concept] - n_hits
        n[-2] = block.n_rows - count - n[-1]
        x = np.append(block.x[first : first + count], [0.0, 0.0])
        c = np.where(y, self.c_pos[concept, 0], self.c_neg[concept, 0])
        self.coef[pair], b = fit_by_bisection(x, y, n * c, self.l2)
        self.intercept[pair] = b + self.coef[pair] * self.centre[latent]


def _range_and_sum(block: PairBlock) -> np.ndarray:
    """Smallest, largest and sum of each latent's entries, 0 if it has none: ``[3, latents]``."""
    found = np.zeros((3, block.n_latents))
    full = np.flatnonzero(np.diff(block.indptr))
    if len(full):
        starts = block.indptr[:-1][full]
        found[0, full] = np.minimum.reduceat(block.x, starts)
        found[1, full] = np.maximum.reduceat(block.x, starts)
    # one by one, as PairBlock.hits adds: a latent whose entries are all positive has equal sums
    found[2] = np.bincount(block.latent, block.x, minlength=block.n_latents)
    return found


def _chunks(pairs: np.ndarray, most: int) -> Iterator[tuple[np.ndarray, int]]:
    """(at most ``width`` pairs, width), with two widths only, since each is compiled."""
    few = max(1, most // LEFT_OVER)
    start = 0
    while start < len(pairs):
        width = most if len(pairs) - start > most // 4 else few
        yield pairs[start : start + width], width
        start += width


def _pad(tree: Any, width: int) -> Any:
    """Repeat the last pair up to ``width`` pairs."""

    def pad(a: np.ndarray) -> np.ndarray:
        n = a.shape[-1]
        return a if n == width else a[..., np.minimum(np.arange(width), n - 1)]

    return jax.tree.map(pad, tree)


class _Nodes:
    """Nodes of the latents of some pairs: their entries, or Chebyshev nodes in bins."""

    def __init__(self, fit: BlockFit, pairs: np.ndarray, n_bins: int, n_entries: int) -> None:
        self.fit, block = fit, fit.block
        self.latents = np.unique(pairs % block.n_latents)
        low, high, count = (a[self.latents] for a in (fit.low, fit.high, fit.count))
        entries = ragged(block.indptr[self.latents], count)
        owner = np.repeat(np.arange(len(count)), count)
        if n_entries:
            self.bins = None
            self.reach = np.full(len(count), np.inf)
            self.t, self.weight = np.zeros((2, n_entries, len(count)))
            place = entries - block.indptr[self.latents][owner]
            self.t[place, owner], self.weight[place, owner] = block.x[entries], 1.0
        else:
            self.bins = Bins.over(low, high, n_bins)
            self.reach = fit.reach(n_bins)[self.latents]
            self.t, self.weight = self.bins.nodes(), self.bins.weights(block.x[entries], owner)
        self.t -= fit.centre[self.latents]

    def problems(self, pairs: np.ndarray) -> Problems:
        """The problems of some of the pairs."""
        fit, block = self.fit, self.fit.block
        concept, latent = np.divmod(pairs, block.n_latents)
        local = np.searchsorted(self.latents, latent)
        weight = self.weight[:, local]
        c_neg, c_pos = fit.c_neg[concept, 0], fit.c_pos[concept, 0]
        if fit.balanced:
            weight = c_neg * weight + (c_pos - c_neg) * self._of_hits(pairs, latent, local)
        n_off = block.n_rows - fit.count[latent]
        n_pos_off = block.n_pos[concept] - fit.n_hits[concept, latent]
        low = np.where(n_off > 0, np.minimum(fit.low[latent], 0.0), fit.low[latent])
        high = np.where(n_off > 0, np.maximum(fit.high[latent], 0.0), fit.high[latent])
        centre = fit.centre[latent]
        return Problems._make((
            self.t[:, local], weight, -centre, c_neg * (n_off - n_pos_off), c_pos * n_pos_off,
            fit.side[concept, latent], fit.s_x[concept, latent], fit.s_1[concept, latent],
            low - centre, high - centre, self.reach[local],
        ))  # fmt: skip

    def _of_hits(self, pairs: np.ndarray, latent: np.ndarray, local: np.ndarray) -> np.ndarray:
        """The nodes' weights for the positive entries alone: ``[nodes, pairs]``."""
        fit, block = self.fit, self.fit.block
        count = fit.n_hits.ravel()[pairs]
        entries = block.hit[ragged(fit.first_hit[pairs], count)]
        owner = np.repeat(np.arange(len(pairs)), count)
        if self.bins is not None:
            return self.bins.take(local).weights(block.x[entries], owner)
        weight = np.zeros((len(self.t), len(pairs)))
        weight[entries - block.indptr[latent][owner], owner] = 1.0
        return weight
