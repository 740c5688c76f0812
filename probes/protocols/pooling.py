"""From residues to proteins: one value per protein and latent, as the same sparse columns."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Int

from probes.fit.blocks import runs_of
from saejax.latents import LatentColumns

Pooling = Literal["max", "mean"]
"""What becomes of a protein's residues."""


def pool(
    columns: LatentColumns,
    offsets: Int[np.ndarray, " proteins_and_end"],
    how: Pooling = "max",
) -> LatentColumns:
    """Every latent's largest value in each protein, or its mean over all residues, zeros included.

    Rows become proteins, so that :func:`probes.logistic.fit_logistic_1d` and
    :func:`probes.fit.scores.rank_scores` (after :func:`probes.fit.scores.restrict`) take
    protein-level labels.

    Args:
        columns: of residues, in any order within a latent.
        offsets: first row of every protein, and the number of rows at the end
            (``ProteinRows.offsets``).
        how: what becomes of a protein's residues.

    Returns:
        Proteins ascending within each latent; float32.

    Raises:
        ValueError: ``offsets`` do not cut the rows into proteins of at least one residue.
    """
    lengths = np.diff(offsets)
    ends = int(offsets[0]), int(offsets[-1])
    if ends != (0, columns.n_rows) or (lengths < 1).any():
        raise ValueError(
            f"offsets must rise from 0 to the number of rows ({columns.n_rows}), found "
            f"{ends[0]} to {ends[1]} with a shortest protein of {lengths.min(initial=0)}"
        )
    protein_of = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    rows, values, counts = [], [], []
    for latents in runs_of(np.diff(columns.indptr)):
        indptr = columns.indptr[latents.start : latents.stop + 1]
        entries = slice(int(indptr[0]), int(indptr[-1]))
        latent = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        key = latent * len(lengths) + protein_of[columns.rows[entries]]
        x = columns.values[entries].astype(np.float64)
        if (key[1:] < key[:-1]).any():
            order = np.argsort(key, kind="stable")
            key, x = key[order], x[order]
        starts = np.flatnonzero(np.diff(key, prepend=-1))
        of_latent, protein = np.divmod(key[starts], len(lengths))
        if not len(starts):
            pooled = x
        elif how == "max":
            pooled = np.maximum.reduceat(x, starts)
        else:
            pooled = np.add.reduceat(x, starts) / lengths[protein]
        rows.append(protein.astype(np.int32))
        values.append(pooled.astype(np.float32))
        counts.append(np.bincount(of_latent, minlength=len(indptr) - 1))
    indptr = np.append(0, np.cumsum(np.concatenate([np.zeros(0, np.int64), *counts])))
    return LatentColumns(
        indptr,
        np.concatenate([np.zeros(0, np.int32), *rows]),
        np.concatenate([np.zeros(0, np.float32), *values]),
        len(lengths),
    )
