"""The pass over proteins: which latents each has, and their tracks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from tqdm import tqdm

from explorer.build.arrays import half
from explorer.build.entries import entries_of
from explorer.build.order import ProteinOrder
from explorer.build.workshop import Workshop
from probes.data.rows import ProteinRows
from saejax.latent_store import LatentStore

PART_ENTRIES = 2_000_000
"""Entries of the latent store in one part; some 100 bytes of memory for each."""


def part_bounds(order: ProteinOrder, most: int | None = None) -> Iterator[tuple[int, int]]:
    """(first, stop) of the bundle's proteins in each part; a part has tracked ones or others."""
    most = PART_ENTRIES if most is None else most
    before = np.append(0, np.cumsum(order.n_entries[order.stored]))
    for low, high in ((0, order.n_tracked), (order.n_tracked, len(order.stored))):
        first = low
        while first < high:
            stop = int(np.searchsorted(before, before[first] + most, side="right")) - 1
            stop = min(max(stop, first + 1), high)
            yield first, stop
            first = stop


def part_name(first: int) -> str:
    """Name of the part that begins with a protein."""
    return f"proteins/{first:09d}.npz"


def write_proteins(
    shop: Workshop, latents: LatentStore, rows: ProteinRows, order: ProteinOrder
) -> list[str]:
    """Every part that is not there yet, with a progress bar; the names of all, in order."""
    names = []
    with tqdm(total=rows.n_proteins, desc="by protein", unit="prot", disable=None) as bar:
        for first, stop in part_bounds(order):
            names.append(part_name(first))
            if not shop.has(names[-1]):
                proteins = order.stored[first:stop]
                part = protein_part(latents, rows.offsets, proteins, stop <= order.n_tracked)
                shop.save(names[-1], part)
            bar.update(stop - first)
    return names


def protein_part(
    latents: LatentStore, offsets: np.ndarray, proteins: np.ndarray, tracked: bool
) -> Mapping[str, np.ndarray]:
    """Pairs of some proteins and the latents above zero in them.

    Args:
        latents: the store.
        offsets: of its proteins.
        proteins: numbers in the store, ascending.
        tracked: whether every residue's value is kept.

    Returns:
        ``pairs`` of each protein; ``latent`` (ascending in a protein), ``max`` and ``argmax`` (its
        first residue) of each pair; and, tracked or not, ``entries`` of each pair, ``position``
        (ascending in a pair) and ``value``.
    """
    found = entries_of(latents, offsets, proteins)
    key = found.protein * np.int64(latents.d_sae) + found.latent
    order = np.argsort(key, kind="stable")
    key, position, value = key[order], found.position[order], found.value[order]
    starts = np.flatnonzero(np.append(True, key[1:] != key[:-1])[: len(key)])
    pair = key[starts]
    maxima, argmax = maximum_of_runs(starts, position, value)
    entries = np.diff(np.append(starts, len(key))) if tracked else np.zeros(0, np.int64)
    return {
        "pairs": np.bincount(pair // latents.d_sae, minlength=len(proteins)),
        "latent": (pair % latents.d_sae).astype(np.uint32),
        "max": maxima,
        "argmax": argmax,
        "entries": entries,
        "position": position[: len(key) * tracked].astype(np.uint16),
        "value": half(value[: len(key) * tracked]),
    }


def maximum_of_runs(
    starts: np.ndarray, position: np.ndarray, value: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(largest value as float32, its first position as uint16) of runs that begin at ``starts``."""
    if not len(starts):
        return np.zeros(0, np.float32), np.zeros(0, np.uint16)
    maxima = np.maximum.reduceat(value, starts).astype(np.float32)
    lengths = np.diff(np.append(starts, len(value)))
    at = np.where(value == np.repeat(maxima, lengths), position, np.iinfo(np.int64).max)
    return maxima, np.minimum.reduceat(at, starts).astype(np.uint16)
