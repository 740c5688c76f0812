"""Latents beside each other: by the direction of their decoder rows, and by firing together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csc_matrix, csr_matrix
from tqdm import tqdm

from explorer.build.arrays import within
from explorer.build.entries import entries_of
from explorer.build.hashing import protein_keys
from probes.data.firing import FIRING_FRACTION
from probes.data.rows import ProteinRows
from saejax.latent_store import LatentStore

N_NEIGHBOURS = 16
BLOCK_LATENTS = 1024
GROUP_COLUMNS = 64
"""Cosines of which only the largest is compared first."""
PAIR_BUDGET = 300_000_000
"""Pairs of latents that fire on one residue that are counted; more residues are sampled."""
MIN_TOGETHER = 10
"""Residues on which two latents must fire together …"""
MIN_PROTEINS = 3
"""… and proteins in which: one repetitive protein makes any pair look alike."""
BLOCK_PROTEINS = 64


class Neighbours(NamedTuple):
    """Up to ``N_NEIGHBOURS`` of each latent, the nearest first; then −1 and NaN."""

    other: Int[np.ndarray, "latents neighbours"]
    value: Float[np.ndarray, "latents neighbours"]


def cosine_neighbours(
    rows_FD: Float[np.ndarray, "latents d_model"], alive: Bool[np.ndarray, " latents"]
) -> Neighbours:
    """The living latents whose decoder rows have the largest cosine with each living one's own."""
    living = np.flatnonzero(alive)
    norms = np.linalg.norm(rows_FD[living], axis=1, keepdims=True)
    unit = np.divide(rows_FD[living], norms, out=np.zeros_like(rows_FD[living]), where=norms > 0)
    found = _empty(len(rows_FD))
    n = min(N_NEIGHBOURS, len(living) - 1)
    for start in tqdm(range(0, len(living), BLOCK_LATENTS), desc="cosines", disable=None):
        block = np.arange(start, min(start + BLOCK_LATENTS, len(living)))
        cosine = unit[block] @ unit.T
        cosine[np.arange(len(block)), block] = -np.inf
        if n > 0:
            some, value = _largest(cosine, n)
            found.other[living[block], :n] = living[some]
            found.value[living[block], :n] = np.clip(value, -1, 1)
    return found


def _largest(values: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(columns, values) of the ``n`` largest of each row, the largest first.

    They lie in the ``n`` groups of columns with the largest maxima, and only those are sorted.
    """
    n_rows, width = values.shape
    n_groups = width // GROUP_COLUMNS
    if n_groups <= 2 * n:
        return _largest_of_few(values, n)
    whole = n_groups * GROUP_COLUMNS
    tops = values[:, :whole].reshape(n_rows, n_groups, GROUP_COLUMNS).max(axis=2)
    groups = np.sort(np.argpartition(-tops, n - 1, axis=1)[:, :n], axis=1)
    inside = groups[:, :, None] * GROUP_COLUMNS + np.arange(GROUP_COLUMNS)
    left = np.broadcast_to(np.arange(whole, width), (n_rows, width - whole))
    some = np.concatenate([inside.reshape(n_rows, -1), left], axis=1)
    at, value = _largest_of_few(np.take_along_axis(values, some, axis=1), n)
    return np.take_along_axis(some, at, axis=1), value


def _largest_of_few(values: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    some = np.sort(np.argpartition(-values, n - 1, axis=1)[:, :n], axis=1)
    value = np.take_along_axis(values, some, axis=1)
    order = np.argsort(-value, axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1), np.take_along_axis(value, order, axis=1)


def _empty(n: int) -> Neighbours:
    shape = (n, N_NEIGHBOURS)
    return Neighbours(np.full(shape, -1, np.int64), np.full(shape, np.nan, np.float32))


def coactivation_neighbours(latents: LatentStore, rows: ProteinRows) -> Neighbours:
    """The latents that fire on a latent's residues most often beyond chance::

        lift(i, j) = n_ij · N / (n_i · n_j)

    with N residues, n_i those on which latent i fires (above a quarter of its maximum, as in
    ``docs/probe_tables.md``) and n_ij those on which both do. Pairs with fewer than
    ``MIN_TOGETHER`` such residues or ``MIN_PROTEINS`` such proteins are left out, and so is lift
    of 1 or less. Of large stores whole proteins are counted until there are ``PAIR_BUDGET`` pairs.
    """
    fires, protein = _firing(latents, rows)
    n_rows = len(protein)
    by_latent = csc_matrix(fires)
    n_fires = np.diff(by_latent.indptr)
    found = _empty(latents.d_sae)
    for i in tqdm(range(latents.d_sae), desc="co-activation", unit="latent", disable=None):
        mine = by_latent.indices[by_latent.indptr[i] : by_latent.indptr[i + 1]]
        if len(mine) < MIN_TOGETHER:
            continue
        others, lift = beyond_chance(_shared(fires, np.sort(mine), protein), i, n_fires, n_rows)
        best = np.lexsort((others, -lift))[:N_NEIGHBOURS]
        found.other[i, : len(best)], found.value[i, : len(best)] = others[best], lift[best]
    return found


class Shared(NamedTuple):
    """Latents that fire on some residues."""

    latent: Int[np.ndarray, " others"]
    together: Int[np.ndarray, " others"]
    """Of these residues, those on which each fires."""
    proteins: Int[np.ndarray, " others"]
    """In how many proteins."""


def beyond_chance(
    shared: Shared, i: int, n_fires: Int[np.ndarray, " latents"], n_rows: int
) -> tuple[Int[np.ndarray, " some"], Float[np.ndarray, " some"]]:
    """(latents, lift) of those that count as latent i's neighbours."""
    lift = shared.together * float(n_rows) / (float(n_fires[i]) * n_fires[shared.latent])
    enough = (shared.together >= MIN_TOGETHER) & (shared.proteins >= MIN_PROTEINS)
    kept = enough & (lift > 1) & (shared.latent != i)
    return shared.latent[kept], lift[kept]


def _shared(fires: csr_matrix, mine: np.ndarray, protein: np.ndarray) -> Shared:
    """Latents that fire on the residues ``mine``, ascending."""
    first, stop = fires.indptr[mine], fires.indptr[mine + 1]
    counts = stop - first
    entry = np.repeat(first, counts) + within(counts)
    latent, of = fires.indices[entry], np.repeat(protein[mine], counts)
    order = np.argsort(latent, kind="stable")  # proteins stay ascending within a latent
    latent, of = latent[order], of[order]
    new_latent = np.append(True, latent[1:] != latent[:-1])
    new_protein = new_latent | np.append(True, of[1:] != of[:-1])
    starts = np.flatnonzero(new_latent)
    together = np.diff(np.append(starts, len(latent)))
    proteins = np.add.reduceat(new_protein.astype(np.int64), starts)
    return Shared(latent[starts], together, proteins)


def _firing(latents: LatentStore, rows: ProteinRows) -> tuple[csr_matrix, np.ndarray]:
    """(residues × latents that fire, protein of each residue) of all proteins or a sample."""
    least = FIRING_FRACTION * latents.max_value
    keys = protein_keys(p.id for p in rows.proteins)
    shuffled = np.argsort(keys, kind="stable")
    some = _fired(latents, rows, np.sort(shuffled[:BLOCK_PROTEINS]), least)
    per_row = np.bincount(some[0]) if len(some[0]) else np.zeros(1)
    each = max(1.0, float((per_row.astype(float) ** 2).sum()) / max(len(per_row), 1))
    lengths = np.diff(rows.offsets)
    n = int(np.searchsorted(np.cumsum(lengths[shuffled]), PAIR_BUDGET / each, side="right"))
    taken = np.sort(shuffled[: max(n, 1)])
    row_of, latent_of, start = [], [], 0
    for at in range(0, len(taken), BLOCK_PROTEINS):
        block = taken[at : at + BLOCK_PROTEINS]
        row, latent = _fired(latents, rows, block, least)
        row_of.append(row + start)
        latent_of.append(latent)
        start += int(lengths[block].sum())
    row, latent = np.concatenate(row_of), np.concatenate(latent_of)
    indptr = np.append(0, np.cumsum(np.bincount(row, minlength=start)))
    matrix = csr_matrix((np.ones(len(row), np.int8), latent, indptr), (start, latents.d_sae))
    return matrix, np.repeat(np.arange(len(taken)), lengths[taken])


def _fired(
    latents: LatentStore, rows: ProteinRows, proteins: np.ndarray, least: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(row, counted over these proteins; latent) of every firing, rows ascending."""
    found = entries_of(latents, rows.offsets, proteins)
    start = np.append(0, np.cumsum(np.diff(rows.offsets)[proteins]))
    keep = found.value > least[found.latent]
    return (start[found.protein] + found.position)[keep], found.latent[keep]
