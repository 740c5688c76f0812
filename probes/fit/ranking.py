"""Ranks of a block's positive entries: what AUROC, average precision and F1 are made of.

Arrays over pairs are flat, pair = concept · latents + latent, as in ``probes/fit/blocks.py``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num

from probes.fit.blocks import PairBlock, runs_of

CHUNK_HITS = 1 << 16
"""Positive entries ranked together: temporaries stay in the processor's cache."""


class _Pairs(NamedTuple):
    """Some pairs of a block, in order, with their positive entries."""

    down: np.ndarray
    """The score falls with z: it is −z."""
    n_pos: np.ndarray
    """Positive rows."""
    zero_pos: np.ndarray
    """Positive rows with z = 0."""
    n_zero: np.ndarray
    """Rows with z = 0."""
    first_entry: np.ndarray
    """Where the latent's entries start in the block."""
    hit_pair: np.ndarray
    """Pair of each positive entry, ascending."""
    above: np.ndarray
    """For each, entries of its latent with a larger value."""
    upto: np.ndarray
    """For each, entries of its latent with that value or a larger one."""


class _Cuts(NamedTuple):
    """Cuts of the score next to positive entries: one for each value, from the largest z down."""

    pair: np.ndarray
    """Whose."""
    n_hits: np.ndarray
    """Positives of that value."""
    tp: np.ndarray
    """Positives that the cut calls positive: of that value or of a higher score."""
    n_called: np.ndarray
    """Rows that it calls positive."""
    mid_rank: np.ndarray
    """Rank by z from the bottom, mean over ties."""
    entry: np.ndarray
    """Entry whose value is the threshold."""


def _tie_bounds(block: PairBlock) -> tuple[np.ndarray, np.ndarray]:
    """For each entry how many of its latent are larger, and at least as large: int32."""
    x, latent = block.x, block.latent
    same = latent[1:] == latent[:-1]
    if (same & (x[1:] > x[:-1])).any():
        raise ValueError(
            "columns must be sorted by value (descending); see probes.fit.scores.restrict"
        )
    starts = np.flatnonzero(np.append(True, ~same | (x[1:] != x[:-1]))[: len(x)])
    lengths = np.diff(np.append(starts, len(x)))
    above = starts - block.indptr[:-1][latent[starts]]
    return (
        np.repeat(above.astype(np.int32), lengths),
        np.repeat((above + lengths).astype(np.int32), lengths),
    )


def rank_block(
    block: PairBlock, sign: Num[np.ndarray, "concepts latents"]
) -> Float[np.ndarray, "four concepts latents"]:
    """AUROC, average precision, best F1 and its threshold (see ``probes.fit.scores.RankScores``).

    Raises:
        ValueError: values are not sorted within their latents.
    """
    above, upto = _tie_bounds(block)
    n_pos = np.repeat(block.n_pos, block.n_latents).astype(np.float64)
    count = np.tile(np.diff(block.indptr), len(block.n_pos))
    first_entry = np.tile(block.indptr[:-1], len(block.n_pos))
    first_hit = np.searchsorted(block.hit_pair, np.arange(block.n_pairs + 1))
    n_hits = np.diff(first_hit)
    down = sign.ravel() < 0
    found = np.empty((4, block.n_pairs))
    for pairs in runs_of(n_hits + 1, CHUNK_HITS):
        hits = slice(first_hit[pairs.start], first_hit[pairs.stop])
        hit = block.hit[hits]
        found[:, pairs] = _rank_pairs(block, _Pairs(
            down[pairs], n_pos[pairs], n_pos[pairs] - n_hits[pairs],
            block.n_rows - count[pairs], first_entry[pairs],
            block.hit_pair[hits] - pairs.start, above[hit], upto[hit],
        ))  # fmt: skip
    flat = sign.ravel() == 0
    found[:, flat] = np.stack([np.full(len(n_pos), 0.5), n_pos / block.n_rows, 0 * n_pos,
                               np.full(len(n_pos), np.inf)])[:, flat]  # fmt: skip
    found[:, (n_pos == 0) | (n_pos == block.n_rows)] = np.nan
    return found.reshape(4, *block.shape)


def _rank_pairs(block: PairBlock, p: _Pairs) -> np.ndarray:
    """``[4, pairs]``; anything where a concept has one class."""
    n_rows = block.n_rows
    cuts = _cuts(p, n_rows)
    firsts = np.flatnonzero(np.diff(cuts.pair, prepend=-1))
    some = cuts.pair[firsts]
    rank_sum = p.zero_pos * (p.n_zero + 1) / 2
    at_zero = np.where(p.down, p.zero_pos / np.maximum(p.n_zero, 1), p.n_pos / n_rows)
    average = p.zero_pos * at_zero
    f1, threshold = np.zeros(len(p.down)), np.full(len(p.down), np.inf)
    if len(some):
        rank_sum[some] += np.add.reduceat(cuts.n_hits * cuts.mid_rank, firsts)
        average[some] += np.add.reduceat(cuts.n_hits * cuts.tp / cuts.n_called, firsts)
        _best_cuts(block, p, cuts, firsts, f1, threshold)
    _silence(block, p, f1, threshold)
    with np.errstate(invalid="ignore", divide="ignore"):  # one class
        auroc = (rank_sum - p.n_pos * (p.n_pos + 1) / 2) / (p.n_pos * (n_rows - p.n_pos))
        average /= p.n_pos
    return np.stack([np.where(p.down, 1 - auroc, auroc), average, f1, threshold])


def _cuts(p: _Pairs, n_rows: int) -> _Cuts:
    pair = p.hit_pair
    last = np.ones(len(pair), dtype=bool)
    np.logical_or(pair[1:] != pair[:-1], p.above[1:] != p.above[:-1], out=last[:-1])
    last = np.flatnonzero(last)
    n_hits = np.diff(last, prepend=-1)
    first_hit = np.searchsorted(pair, np.arange(len(p.down)))
    pair, above, upto = pair[last], p.above[last], p.upto[last]
    hits_upto = last + 1 - first_hit[pair]
    falls = p.down[pair]
    return _Cuts(
        pair,
        n_hits,
        np.where(falls, p.n_pos[pair] - hits_upto + n_hits, hits_upto),
        np.where(falls, n_rows - above, upto),
        n_rows + 0.5 - 0.5 * (above + upto),
        p.first_entry[pair] + above - falls,
    )


def _best_cuts(
    block: PairBlock,
    p: _Pairs,
    cuts: _Cuts,
    firsts: np.ndarray,
    f1: np.ndarray,
    threshold: np.ndarray,
) -> None:
    """Put the strictest of the best cuts of every pair in place, if one finds a positive."""
    at_cut = 2 * cuts.tp / (cuts.n_called + p.n_pos[cuts.pair])
    at_cut[cuts.n_called == block.n_rows] = 0.0
    top = np.maximum.reduceat(at_cut, firsts)
    best = np.flatnonzero(at_cut == np.repeat(top, np.diff(np.append(firsts, len(at_cut)))))
    pair = cuts.pair[best]
    first = best[np.diff(pair, prepend=-1) != 0]
    last = best[np.diff(pair, append=-1) != 0]
    chosen = np.where(p.down[cuts.pair[first]], last, first)[top > 0]
    pair = cuts.pair[chosen]
    f1[pair] = top[top > 0]
    threshold[pair] = block.x[cuts.entry[chosen]]


def _silence(block: PairBlock, p: _Pairs, f1: np.ndarray, threshold: np.ndarray) -> None:
    """Where the score falls, z = 0 alone may be the best cut and is the strictest."""
    count = block.n_rows - p.n_zero
    here = np.flatnonzero(p.down & (p.zero_pos > 0) & (count > 0))
    silent = 2 * p.zero_pos[here] / (p.n_zero[here] + p.n_pos[here])
    better = silent >= f1[here]
    here = here[better]
    f1[here] = silent[better]
    threshold[here] = block.x[p.first_entry[here] + count[here] - 1]


def count_at_least(
    block: PairBlock, threshold: Float[np.ndarray, "concepts latents"]
) -> Int[np.ndarray, "concepts latents"]:
    """How many of a latent's entries are ≥ a pair's threshold (> 0); float32 values, sorted."""
    low = np.float32(np.finfo(np.float32).smallest_subnormal)
    cut = np.maximum(threshold.astype(np.float32), low)
    cut = np.where(cut < threshold, np.nextafter(cut, np.float32(np.inf)), cut)  # rounded up

    def key(latent: np.ndarray, value: np.ndarray) -> np.ndarray:
        bits = ~value.astype(np.float32).view(np.uint32)
        return (latent.astype(np.uint64) << np.uint64(32)) | bits

    which = np.broadcast_to(np.arange(block.n_latents), cut.shape)
    found = np.searchsorted(key(block.latent, block.x), key(which, cut), side="right")
    return found - block.indptr[:-1]
