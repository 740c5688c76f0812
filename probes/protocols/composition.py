"""What the amino acids predict by themselves: the control beside every precision.

A latent that fires on leucines looks like a helix latent, because leucines like helices. So its
precision is compared with what an observer would get who sees the residues it fires on, and knows
how often such residues are in the concept, but not the latent::

    identity     expected = mean over firing residues i of P(concept | a_i)
    neighbours   expected = mean over firing residues i of P(concept | a_{i−1}, a_i, a_{i+1})

The first equals Σ_a P(a | fires) · P(concept | a). The second has some 10,000 cells, many with few
residues, so it is

- *shrunk* toward the first: (hits + m · P(concept | a_i)) / (residues + m), as if m residues of the
  identity-only rate had been added to each cell. m is that of ``SHRINKAGE`` with the least squared
  error on held-out proteins, for each concept;
- *cross-fitted*: proteins are dealt into ``N_FOLDS`` folds and a residue's rate comes from the
  other folds, so that its own label (and those of its protein) is not in its estimate; only the
  choice of m sees all of them.

A protein's ends count as a neighbour of their own kind.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_matrix

from probes.data.firing import block_bounds
from probes.data.rows import OTHER_RESIDUE
from saejax.latents import LatentColumns

N_FOLDS = 5
"""Folds of proteins: an estimate loses a fifth of its residues."""

SHRINKAGE = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 1e9)
"""Residues of the identity-only rate added to each cell; the last is that rate itself."""

TERMINUS = OTHER_RESIDUE + 1
"""Class of what lies beyond the end of a protein."""

N_CLASSES = OTHER_RESIDUE + 1
N_NEIGHBOURS = OTHER_RESIDUE + 2
N_CELLS = N_NEIGHBOURS * N_CLASSES * N_NEIGHBOURS

Context = Literal["identity", "neighbours"]


class NeighbourRates(NamedTuple):
    """P(concept | a residue and its two neighbours), from proteins of the other folds."""

    table: Float[np.ndarray, "folds_and_cells concepts"]
    """Rate for the residues of a fold (row ``fold · N_CELLS + cell``)."""
    row: Int[np.ndarray, " rows"]
    """Row of the table for each residue."""
    shrinkage: Float[np.ndarray, " concepts"]
    """m chosen for each concept."""


def neighbourhoods(
    residue_class: Int[np.ndarray, " rows"], protein_idx: Int[np.ndarray, " rows"]
) -> Int[np.ndarray, " rows"]:
    """Cell of every residue and its two neighbours, from 0 to ``N_CELLS`` − 1.

    Args:
        residue_class: ``ProteinRows.residue_class``, every residue in order.
        protein_idx: protein of each.
    """
    same = protein_idx[1:] == protein_idx[:-1]
    before = np.full(len(residue_class), TERMINUS, dtype=np.int32)
    after = before.copy()
    before[1:] = np.where(same, residue_class[:-1], TERMINUS)
    after[:-1] = np.where(same, residue_class[1:], TERMINUS)
    return (before * N_CLASSES + residue_class) * N_NEIGHBOURS + after


def concept_given_residue(
    labels: Bool[np.ndarray, " rows"], residue_class: Int[np.ndarray, " rows"]
) -> Float[np.ndarray, " classes"]:
    """P(concept | amino acid), the base rate for an amino acid that does not occur."""
    n = np.bincount(residue_class, minlength=N_CLASSES)
    hits = np.bincount(residue_class[labels], minlength=N_CLASSES)
    return np.divide(hits, n, out=np.full(len(n), float(labels.mean())), where=n > 0)


def neighbour_rates(
    labels: Bool[np.ndarray, "rows concepts"],
    neighbourhood: Int[np.ndarray, " rows"],
    protein_idx: Int[np.ndarray, " rows"],
    *,
    n_folds: int = N_FOLDS,
) -> NeighbourRates:
    """Shrunk, cross-fitted rates of every concept; the base rate where nothing is known.

    Args:
        labels: True for the concept.
        neighbourhood: of :func:`neighbourhoods`, made before any row was left out.
        protein_idx: protein (or homology cluster) of each row; the k-th distinct one is of fold k
            mod ``n_folds``.
        n_folds: at least 2. With a single protein nothing else is known: all rates are NaN.
    """
    proteins, order = np.unique(protein_idx, return_inverse=True)
    cell, which = np.unique(neighbourhood, return_inverse=True)
    residue_of_cell = cell // N_NEIGHBOURS % N_CLASSES
    row = (order % n_folds) * len(cell) + which
    shape = (n_folds, len(cell))
    n = np.bincount(row, minlength=n_folds * len(cell)).reshape(shape).astype(np.float32)
    n_others = n.sum(axis=0) - n
    table = np.empty((n_folds * len(cell), labels.shape[1]), dtype=np.float32)
    chosen = np.empty(labels.shape[1])
    for c in range(labels.shape[1]):
        hits = np.bincount(row[labels[:, c]], minlength=n.size).reshape(shape).astype(np.float32)
        hits_others = hits.sum(axis=0) - hits
        prior = _identity_rate(hits_others, n_others, residue_of_cell)
        best = np.inf
        table[:, c], chosen[c] = np.nan, np.nan
        for m in SHRINKAGE if len(proteins) > 1 else ():
            rate = (hits_others + m * prior) / (n_others + m)
            error = float((n * rate**2 - 2 * hits * rate).sum(dtype=np.float64))
            if error < best:
                best, chosen[c] = error, m
                table[:, c] = rate.ravel()
    return NeighbourRates(table, row, chosen)


def _identity_rate(
    hits: Float[np.ndarray, "folds cells"],
    n: Float[np.ndarray, "folds cells"],
    residue: Int[np.ndarray, " cells"],
) -> Float[np.ndarray, "folds cells"]:
    """P(concept | amino acid) of the same proteins, for every cell."""
    member = (residue[:, None] == np.arange(N_CLASSES)).astype(np.float32)
    n_residue, total = n @ member, n.sum(axis=1, keepdims=True)
    base = hits.sum(axis=1, keepdims=True) / np.maximum(total, 1)
    base = np.broadcast_to(base, n_residue.shape)
    rate = np.divide(hits @ member, n_residue, out=base.copy(), where=n_residue > 0)
    return rate[:, residue]


def expected_precision(
    columns: LatentColumns,
    labels: Bool[np.ndarray, "rows concepts"],
    residue_class: Int[np.ndarray, " rows"],
    protein_idx: Int[np.ndarray, " rows"],
    *,
    context: Context = "identity",
    neighbourhood: Int[np.ndarray, " rows"] | None = None,
) -> Float[np.ndarray, "latents concepts"]:
    """The precision that residues alone give, of every latent for every concept.

    Args:
        columns: where latents fire (every entry counts; put a threshold on them before).
        labels: on the same rows.
        residue_class: of each row.
        protein_idx: protein of each row.
        context: the residue itself, or it and its two neighbours.
        neighbourhood: of :func:`neighbourhoods`; needed where rows within proteins were left out,
            by default made from the rows given.

    Returns:
        NaN for a latent that never fires.
    """
    if context == "identity":
        table = np.stack([concept_given_residue(y, residue_class) for y in labels.T], axis=1)
        row = residue_class.astype(np.int64)
    else:
        if neighbourhood is None:
            neighbourhood = neighbourhoods(residue_class, protein_idx)
        table, row, _ = neighbour_rates(labels, neighbourhood, protein_idx)
    return mean_rate(columns, row, table)


def mean_rate(
    columns: LatentColumns,
    row: Int[np.ndarray, " rows"],
    table: Float[np.ndarray, "cells concepts"],
) -> Float[np.ndarray, "latents concepts"]:
    """Mean over each latent's entries of ``table[row[entry]]``; NaN without entries."""
    indptr = columns.indptr
    out = np.empty((len(indptr) - 1, table.shape[1]))
    for first, end in block_bounds(indptr):
        rows = columns.rows[int(indptr[first]) : int(indptr[end])]
        counts = csr_matrix(
            (np.ones(len(rows)), row[rows], indptr[first : end + 1] - indptr[first]),
            (end - first, len(table)),
        )
        counts.sum_duplicates()
        out[first:end] = counts @ table
    n = np.diff(indptr)[:, None]
    return np.divide(out, n, out=np.full(out.shape, np.nan), where=n > 0)
