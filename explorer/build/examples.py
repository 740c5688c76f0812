"""Which proteins are shown of a latent: the strongest, some of each tenth by maximum, any.

With n active proteins, ranked by maximum from 0 (lowest), the protein of rank r is in the tenth
⌈10 (r + 1) / n⌉: tenths differ in size by one at most, and with few proteins some are empty.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt64

from explorer.build.arrays import pointers, within
from explorer.build.hashing import mixed
from explorer.layout import GROUPS, N_QUANTILE, N_RANDOM, N_TOP

TENTHS = 10
_TOP, _RANDOM = GROUPS.index("top"), GROUPS.index("random")
_ANY = 1 << 32
"""Added to a latent's number for the random group's hash: not the tenths' order again."""


class Chosen(NamedTuple):
    """Examples of some latents, latent by latent, groups in the order of ``GROUPS``."""

    counts: Int[np.ndarray, "latents groups"]
    """Examples of each."""
    pair: Int[np.ndarray, " examples"]
    """Which pair of a latent and a protein."""


def tenths(counts: Int[np.ndarray, " latents"]) -> Int[np.ndarray, " pairs"]:
    """Tenth, from 0 (lowest), of each latent's proteins, given the highest first."""
    n = np.repeat(counts, counts)
    ascending = n - 1 - within(counts)
    return (TENTHS * (ascending + 1) - 1) // np.maximum(n, 1)


def group_sizes(counts: Int[np.ndarray, " latents"]) -> Int[np.ndarray, "latents groups"]:
    """Proteins that belong to each group: uint32."""
    edges = np.arange(TENTHS + 1) * counts[:, None] // TENTHS
    everything = counts[:, None]
    sizes = np.concatenate([everything, np.diff(edges, axis=1), everything], axis=1)
    return sizes.astype(np.uint32)


def group_ends(
    ptr: Int[np.ndarray, " latents_and_end"], maxima: Float[np.ndarray, " pairs"]
) -> Float[np.ndarray, "latents ends"]:
    """The lowest maximum of each tenth, and the highest of all; zeros of a dead latent: float32.

    Args:
        ptr: where each latent's pairs start.
        maxima: of pairs, the highest first.
    """
    n = np.diff(ptr)[:, None]
    lowest = np.minimum(np.arange(TENTHS + 1) * n // TENTHS, n - 1)
    at = np.clip(ptr[:-1, None] + n - 1 - lowest, 0, max(len(maxima) - 1, 0))
    if not len(maxima):
        return np.zeros(at.shape, np.float32)
    return np.where(n > 0, maxima[at], 0).astype(np.float32)


def chosen_examples(
    counts: Int[np.ndarray, " latents"], keys: UInt64[np.ndarray, " pairs"], first: int
) -> Chosen:
    """The strongest proteins, and of the others those whose hash with the latent is smallest.

    The strongest and those of a tenth come the highest first; any active ones in a random order.

    Args:
        counts: proteins of each latent.
        keys: hash of each pair's protein, the highest maximum first within a latent.
        first: number of the first latent.
    """
    latent = np.repeat(np.arange(len(counts)), counts)
    rank = within(counts)
    top = np.flatnonzero(rank < N_TOP)
    tenth = tenths(counts)
    some = _smallest(latent * TENTHS + tenth, mixed(keys, first + latent), N_QUANTILE)
    some = some[np.lexsort((rank[some], tenth[some], latent[some]))]
    anyone = _smallest(latent, mixed(keys, first + latent + _ANY), N_RANDOM)
    pair = np.concatenate([top, some, anyone])
    group = np.repeat([_TOP, 0, _RANDOM], [len(top), len(some), len(anyone)])
    group[len(top) : len(top) + len(some)] = 1 + tenth[some]
    cell = latent[pair] * len(GROUPS) + group
    order = np.argsort(cell, kind="stable")
    n = np.bincount(cell, minlength=len(counts) * len(GROUPS))
    return Chosen(n.reshape(len(counts), len(GROUPS)), pair[order])


def _smallest(group: np.ndarray, key: np.ndarray, n: int) -> np.ndarray:
    """Places of the ``n`` smallest keys of each group, by group and key."""
    order = np.lexsort((key, group))
    sizes = np.bincount(group)
    return order[within(sizes) < n] if len(group) else order


def example_pointers(counts: Int[np.ndarray, "latents groups"]) -> Int[np.ndarray, " lists"]:
    """``examples/indptr``."""
    return pointers(counts.ravel())
