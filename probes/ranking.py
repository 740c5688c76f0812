"""Ranks of a block's positive entries: what AUROC, average precision and F1 are made of.

Arrays over pairs are flat, pair = concept · latents + latent, as in ``probes/blocks.py``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num

from probes.blocks import PairBlock


class _Ties(NamedTuple):
    """Runs of equal values among a pair's positive entries, descending."""

    pair: np.ndarray
    """Whose."""
    n_hits: np.ndarray
    """Positives in the run."""
    n_above: np.ndarray
    """Positives of larger value."""
    start: np.ndarray
    """Rows of larger value, positive or not."""
    end: np.ndarray
    """Rows of that value or a larger one."""
    value: np.ndarray
    """The value."""
    value_above: np.ndarray
    """The next larger value of the latent; meaningless if there is none."""


def _ties(block: PairBlock) -> _Ties:
    x, latent = block.x, block.latent
    same = latent[1:] == latent[:-1]
    if (same & (x[1:] > x[:-1])).any():
        raise ValueError("columns must be sorted by value (descending); see probes.scores.restrict")
    new_value = np.append(True, ~same | (x[1:] != x[:-1]))[: len(x)]
    starts = np.flatnonzero(new_value)
    ends = np.append(starts[1:], len(x))
    value = (np.cumsum(new_value, dtype=np.int32) - 1)[block.hit]
    pair = block.hit_pair
    last = np.append((pair[1:] != pair[:-1]) | (value[1:] != value[:-1]), True)[: len(pair)]
    last = np.flatnonzero(last)
    n_hits = np.diff(last, prepend=-1)
    pair, value = pair[last], value[last]
    first_hit = np.searchsorted(block.hit_pair, np.arange(block.n_pairs))
    above = last + 1 - n_hits - first_hit[pair]
    first = block.indptr[:-1][pair % max(block.n_latents, 1)]
    start = starts[value]
    return _Ties(
        pair, n_hits, above, start - first, ends[value] - first, x[start],
        x[np.maximum(start - 1, 0)],
    )  # fmt: skip


def rank_block(
    block: PairBlock, sign: Num[np.ndarray, "concepts latents"]
) -> Float[np.ndarray, "four concepts latents"]:
    """AUROC, average precision, best F1 and its threshold (see ``probes.scores.RankScores``).

    Raises:
        ValueError: values are not sorted within their latents.
    """
    runs, n_rows = _ties(block), block.n_rows
    n_pos = np.repeat(block.n_pos, block.n_latents).astype(np.float64)
    count = np.tile(np.diff(block.indptr), len(block.n_pos))
    n_zero = n_rows - count
    zero_pos = n_pos - _sum(block, runs.pair, runs.n_hits)
    flat_sign = sign.ravel()
    up, down = flat_sign > 0, flat_sign < 0
    mid_rank = n_rows + 0.5 - 0.5 * (runs.start + runs.end)  # from the bottom, mean over ties
    rank_sum = _sum(block, runs.pair, runs.n_hits * mid_rank) + zero_pos * (n_zero + 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        auroc = (rank_sum - n_pos * (n_pos + 1) / 2) / (n_pos * (n_rows - n_pos))
        base = n_pos / n_rows
        at_zero = np.where(n_zero > 0, zero_pos * zero_pos / n_zero, 0.0)
        falling = runs.n_hits * (n_pos[runs.pair] - runs.n_above) / (n_rows - runs.start)
        rising = runs.n_hits * (runs.n_above + runs.n_hits) / runs.end
        precision = np.where(down[runs.pair], falling, rising)
        total = _sum(block, runs.pair, precision) + np.where(down, at_zero, zero_pos * base)
        average = np.where(up | down, total / n_pos, base)
    auroc = np.where(up, auroc, np.where(down, 1 - auroc, 0.5))
    f1, threshold = _best_cut(block, runs, n_pos, down)
    _cut_at_zero(block, zero_pos, n_pos, n_zero, down, f1, threshold)
    f1[~(up | down)], threshold[~(up | down)] = 0.0, np.inf
    found = np.stack([auroc, average, f1, threshold])
    found[:, (n_pos == 0) | (n_pos == n_rows)] = np.nan
    return found.reshape(4, *block.shape)


def _sum(block: PairBlock, pair: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.bincount(pair, values, minlength=block.n_pairs)


def _best_cut(
    block: PairBlock, runs: _Ties, n_pos: np.ndarray, down: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(F1, threshold) of the best cut that is just below a run, or above it where z falls."""
    f1, threshold = np.zeros(block.n_pairs), np.full(block.n_pairs, np.inf)
    if not len(runs.pair):
        return f1, threshold
    of, falls = n_pos[runs.pair], down[runs.pair]
    rising = 2 * (runs.n_above + runs.n_hits) / (runs.end + of)
    falling = 2 * (of - runs.n_above) / (block.n_rows - runs.start + of)
    no_cut = np.where(falls, runs.start == 0, runs.end == block.n_rows)
    at_run = np.where(no_cut, 0.0, np.where(falls, falling, rising))
    firsts = np.flatnonzero(np.diff(runs.pair, prepend=-1))
    top = np.maximum.reduceat(at_run, firsts)
    best = np.flatnonzero(at_run == np.repeat(top, np.diff(np.append(firsts, len(runs.pair)))))
    pairs = runs.pair[best]
    first = best[np.flatnonzero(np.diff(pairs, prepend=-1))]
    last = best[np.flatnonzero(np.diff(pairs, append=-1))]
    strictest = np.where(falls[first], last, first)
    strictest = strictest[top > 0]
    pair = runs.pair[strictest]
    f1[pair] = top[top > 0]
    threshold[pair] = np.where(falls, runs.value_above, runs.value)[strictest]
    return f1, threshold


def _cut_at_zero(
    block: PairBlock,
    zero_pos: np.ndarray,
    n_pos: np.ndarray,
    n_zero: np.ndarray,
    down: np.ndarray,
    f1: np.ndarray,
    threshold: np.ndarray,
) -> None:
    """Where z falls, silence alone may be the best and is the strictest cut: put it in place."""
    here = np.flatnonzero(down & (n_zero > 0) & (n_zero < block.n_rows) & (zero_pos > 0))
    silent = 2 * zero_pos[here] / (n_zero[here] + n_pos[here])
    better = silent >= f1[here]
    here = here[better]
    f1[here] = silent[better]
    threshold[here] = block.x[block.indptr[1:][here % block.n_latents] - 1]


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
