"""In which order proteins come in a bundle, and which of them have every latent's track."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from explorer.build.entries import entries_of
from explorer.build.hashing import protein_keys
from probes.data.rows import ProteinRows
from saejax.latent_store import LatentStore

SAMPLED = 64
"""Proteins by which pairs per entry are estimated."""
POINTERS_AT_ONCE = 1 << 22


class ProteinOrder(NamedTuple):
    """Proteins with tracks first, each kind in the order of the activation stores."""

    stored: Int[np.ndarray, " proteins"]
    """Number in the stores of each of the bundle's proteins."""
    rank: Int[np.ndarray, " proteins"]
    """Number in the bundle of each of the stores' proteins."""
    n_tracked: int
    """How many have tracks."""
    n_entries: Int[np.ndarray, " proteins"]
    """Latents above zero over all residues of each, by number in the stores."""
    pairs_per_entry: float
    """Pairs of a protein and a latent over such entries, estimated."""


def protein_order(
    latents: LatentStore,
    rows: ProteinRows,
    structured: Bool[np.ndarray, " proteins"],
    annotated: Bool[np.ndarray, " proteins"],
    track_bytes: float,
) -> ProteinOrder:
    """As many proteins with tracks as fit: those with a structure, then annotated ones, then all.

    Args:
        latents: of all rows.
        rows: the proteins.
        structured: of the stores' proteins.
        annotated: the same.
        track_bytes: an entry takes 4, a pair of a protein and a latent 8.
    """
    n_entries = _entries_per_protein(latents, rows)
    wanted = np.lexsort((np.arange(rows.n_proteins), ~annotated, ~structured))
    ratio = _pairs_per_entry(latents, rows)
    each = n_entries * (4 + 8 * ratio)
    fits = np.cumsum(each[wanted]) <= track_bytes
    tracked = np.zeros(rows.n_proteins, bool)
    tracked[wanted[fits]] = True
    stored = np.concatenate([np.flatnonzero(tracked), np.flatnonzero(~tracked)])
    rank = np.empty(rows.n_proteins, np.int64)
    rank[stored] = np.arange(rows.n_proteins)
    return ProteinOrder(stored, rank, int(tracked.sum()), n_entries, ratio)


def _entries_per_protein(latents: LatentStore, rows: ProteinRows) -> Int[np.ndarray, " proteins"]:
    """From the pointers of rows, some at a time."""
    at = np.empty(len(rows.offsets), np.int64)
    for start in range(0, rows.n_rows + 1, POINTERS_AT_ONCE):
        stop = min(start + POINTERS_AT_ONCE, rows.n_rows + 1)
        mine = slice(*np.searchsorted(rows.offsets, [start, stop]))
        at[mine] = latents.row_pointers(start, stop)[rows.offsets[mine] - start]
    return np.diff(at)


def _pairs_per_entry(latents: LatentStore, rows: ProteinRows) -> float:
    """Pairs of a protein and a latent over entries, of a few proteins."""
    keys = protein_keys(p.id for p in rows.proteins)
    some = np.sort(np.argsort(keys, kind="stable")[:SAMPLED])
    entries = [entries_of(latents, rows.offsets, np.array([p])) for p in some.tolist()]
    n = sum(len(e.latent) for e in entries)
    return sum(len(np.unique(e.latent)) for e in entries) / max(n, 1)
