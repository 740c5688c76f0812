"""The pass over latents: their proteins, the distribution of their values, their examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt64
from tqdm import tqdm

from explorer import layout
from explorer.build.arrays import half, pointers, within
from explorer.build.by_protein import maximum_of_runs
from explorer.build.examples import chosen_examples, group_ends, group_sizes
from explorer.build.order import ProteinOrder
from explorer.build.workshop import Workshop
from probes.data.firing import block_bounds
from probes.data.rows import ProteinRows
from saejax.latent_store import LatentStore
from saejax.latents import LatentColumns

PART_ENTRIES = 2_000_000
"""Entries of the latent store in one part, some 100 bytes of memory for each; a latent that has
more is a part by itself."""
PART_LATENTS = 2048
LEAST_OF_MAXIMUM = 1e-3
"""Of a latent's maximum, below which values share the histogram's first bin."""


class Pairs(NamedTuple):
    """Proteins of some latents, the highest maximum first; of equals the bundle's first."""

    counts: Int[np.ndarray, " latents"]
    """Proteins of each latent."""
    protein: Int[np.ndarray, " pairs"]
    """Number in the bundle."""
    max: Float[np.ndarray, " pairs"]
    argmax: Int[np.ndarray, " pairs"]
    start: Int[np.ndarray, " pairs"]
    """First of its entries."""
    entries: Int[np.ndarray, " pairs"]
    """How many."""


def part_bounds(latents: LatentStore) -> list[tuple[int, int]]:
    """(first, stop) of the latents in each part."""
    bounds = block_bounds(latents.indptr, max_entries=PART_ENTRIES, max_latents=PART_LATENTS)
    return list(bounds)


def write_latents(
    shop: Workshop,
    latents: LatentStore,
    rows: ProteinRows,
    order: ProteinOrder,
    keys: UInt64[np.ndarray, " proteins"],
) -> list[str]:
    """Every part that is not there yet, with a progress bar; the names of all, in order.

    Args:
        shop: where parts go.
        latents: of all residues.
        rows: the residues.
        order: of proteins in the bundle.
        keys: hashes of the bundle's proteins, for what is chosen at random.
    """
    names = []
    with tqdm(total=latents.d_sae, desc="by latent", unit="latent", disable=None) as bar:
        for first, stop in part_bounds(latents):
            names.append(f"latents/{first:09d}.npz")
            if not shop.has(names[-1]):
                columns = latents.columns(first, stop)
                shop.save(names[-1], latent_part(columns, first, rows.offsets, order.rank, keys))
            bar.update(stop - first)
    return names


def latent_part(
    columns: LatentColumns,
    first: int,
    offsets: Int[np.ndarray, " proteins_and_end"],
    rank: Int[np.ndarray, " proteins"],
    keys: UInt64[np.ndarray, " proteins"],
) -> Mapping[str, np.ndarray]:
    """Everything of some neighbouring latents that is read off their entries.

    Returns:
        ``pairs`` of each latent and ``protein``, ``max``, ``argmax`` of each pair; ``counts`` and
        ``edges`` of the histogram, ``quantiles`` of protein maxima, ``p99`` of values; ``examples``
        of each latent and group, ``total`` proteins of each group, and of each example
        ``example_protein``, ``example_entries``, ``example_position`` and ``example_value``.
    """
    stored = np.searchsorted(offsets, columns.rows, side="right") - 1
    position = columns.rows - offsets[stored]
    pairs = _pairs(columns, stored, position, rank)
    counts, edges, p99 = _values(columns)
    ptr = pointers(pairs.counts)
    chosen = chosen_examples(pairs.counts, keys[pairs.protein], first)
    take = pairs.start[chosen.pair]
    n_entries = pairs.entries[chosen.pair]
    entry = np.repeat(take, n_entries) + within(n_entries)
    return {
        "pairs": pairs.counts,
        "protein": pairs.protein.astype(np.uint32),
        "max": pairs.max,
        "argmax": pairs.argmax,
        "counts": counts,
        "edges": edges,
        "p99": p99,
        "quantiles": group_ends(ptr, pairs.max),
        "total": group_sizes(pairs.counts),
        "examples": chosen.counts,
        "example_protein": pairs.protein[chosen.pair].astype(np.uint32),
        "example_entries": n_entries,
        "example_position": position[entry].astype(np.uint16),
        "example_value": half(columns.values[entry]),
    }


def _pairs(columns: LatentColumns, stored: np.ndarray, position: np.ndarray, rank: np.ndarray):
    """Entries come with rows, so proteins of the stores, ascending within a latent."""
    n_latents = len(columns.indptr) - 1
    latent = np.repeat(np.arange(n_latents), np.diff(columns.indptr))
    new = np.append(True, (latent[1:] != latent[:-1]) | (stored[1:] != stored[:-1]))
    starts = np.flatnonzero(new[: len(latent)])
    maxima, argmax = maximum_of_runs(starts, position, columns.values)
    protein = rank[stored[starts]]
    order = np.lexsort((protein, -maxima, latent[starts]))
    n_entries = np.diff(np.append(starts, len(latent)))
    return Pairs(
        np.bincount(latent[starts], minlength=n_latents),
        protein[order], maxima[order], argmax[order], starts[order], n_entries[order],
    )  # fmt: skip


def _values(columns: LatentColumns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(histogram's counts, its edges, 99th percentile) of each latent's values."""
    n, bins = len(columns.indptr) - 1, layout.HISTOGRAM_BINS
    counts, edges = np.zeros((n, bins), np.uint32), np.zeros((n, bins + 1), np.float32)
    p99 = np.zeros(n, np.float32)
    for j in np.flatnonzero(np.diff(columns.indptr)).tolist():
        _, values = columns.column(j)
        edges[j] = histogram_edges(float(values.min()), float(values.max()))
        at = np.searchsorted(edges[j, 1:-1], values, side="right")
        counts[j] = np.bincount(at, minlength=bins)
        p99[j] = np.quantile(values, 0.99)
    return counts, edges, p99


def histogram_edges(low: float, high: float) -> Float[np.ndarray, " edges"]:
    """Bins of equal ratio up to ``high``, from ``low`` or what is still worth telling apart.

    A bin holds its lower edge; the last one also the maximum. The first holds all that is lower.
    """
    low = max(low, LEAST_OF_MAXIMUM * high)
    low = high / 2 if low == high else low
    edges = np.geomspace(low, high, layout.HISTOGRAM_BINS + 1).astype(np.float32)
    edges[-1] = high
    return edges
