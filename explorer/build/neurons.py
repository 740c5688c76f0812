"""Examples of the parent's own dimensions, to be rated blindly beside latents.

A dimension has a value on every residue. So that its examples look like a latent's, it counts as
active above a threshold of its own that as few residues exceed as a median latent is active on;
what is kept is how far it is above.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm

from explorer.build.arrays import half
from extract.store import ActivationStore
from probes.data.rows import ProteinRows

N_EXAMPLES = 16
SAMPLED_ROWS = 20_000
"""Residues, evenly spaced, from which thresholds are read."""
BLOCK_ROWS = 16_384
BOUNDS = (0.001, 0.5)
"""Of the share of residues on which a dimension counts as active."""


class _Block(NamedTuple):
    first: int
    """Number in the stores of the first protein."""
    starts: Int[np.ndarray, " proteins"]
    """Where each protein's rows start."""
    row: int
    """First row of the block, over all stores."""
    x_RD: Float[np.ndarray, "rows d_model"]


def neuron_examples(
    stores: Sequence[ActivationStore],
    rows: ProteinRows,
    rank: Int[np.ndarray, " proteins"],
    frequency: float,
) -> Mapping[str, np.ndarray]:
    """The proteins with the highest value of each dimension.

    Args:
        stores: activations, laid end to end.
        rows: their residues.
        rank: number in the bundle of each of the stores' proteins.
        frequency: share of residues on which a dimension is to be active.

    Returns:
        ``counts`` of each dimension; ``protein`` (number in the bundle) and ``entries`` of each
        example, the highest first; ``position`` and ``value`` (above the threshold) of each entry.
    """
    top, of, threshold = _strongest(stores, rows, float(np.clip(frequency, *BOUNDS)))
    n = min(N_EXAMPLES, rows.n_proteins)
    tracks = _tracks(stores, rows, of, threshold)
    counts = np.full(top.shape[1], n)
    dimension, place = np.repeat(np.arange(len(counts)), n), np.tile(np.arange(n), len(counts))
    protein = of[place, dimension]
    found = [tracks[key] for key in zip(protein.tolist(), dimension.tolist(), strict=True)]
    return {
        "counts": counts,
        "protein": rank[protein].astype(np.uint32),
        "entries": np.array([len(position) for position, _ in found], np.int64),
        "position": np.concatenate([position for position, _ in found]).astype(np.uint16),
        "value": half(np.concatenate([value for _, value in found])),
    }


def _strongest(
    stores: Sequence[ActivationStore], rows: ProteinRows, frequency: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(highest maxima [examples, d_model], their proteins, threshold of each dimension).

    Of equal maxima the first protein of the stores is taken.
    """
    d = stores[0].d_model
    n = min(N_EXAMPLES, rows.n_proteins)
    top, of = np.full((n, d), -np.inf, np.float32), np.zeros((n, d), np.int64)
    step = max(1, rows.n_rows // SAMPLED_ROWS)
    sample = []
    for block in _blocks(stores, rows, "neurons"):
        maxima = np.maximum.reduceat(block.x_RD, block.starts)
        proteins = block.first + np.arange(len(maxima))
        top = np.concatenate([top, maxima])
        of = np.concatenate([of, np.repeat(proteins[:, None], d, axis=1)])
        order = np.argsort(-top, axis=0, kind="stable")[:n]
        top, of = np.take_along_axis(top, order, axis=0), np.take_along_axis(of, order, axis=0)
        sample.append(block.x_RD[-block.row % step :: step])
    return top, of, np.quantile(np.concatenate(sample), 1 - frequency, axis=0)


def _tracks(
    stores: Sequence[ActivationStore], rows: ProteinRows, of: np.ndarray, threshold: np.ndarray
) -> dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]:
    """(positions, values above the threshold) by protein and dimension, of those asked for."""
    wanted: dict[int, list[int]] = {}
    for place, dimension in np.ndindex(*of.shape):
        wanted.setdefault(int(of[place, dimension]), []).append(dimension)
    found = {}
    for protein in tqdm(sorted(wanted), desc="neurons' examples", unit="prot", disable=None):
        x_LD = _read(stores, rows, protein, protein + 1)
        for dimension in wanted[protein]:
            above = x_LD[:, dimension] - np.float32(threshold[dimension])
            at = np.flatnonzero(above > 0)
            found[protein, dimension] = at, above[at]
    return found


def _blocks(stores: Sequence[ActivationStore], rows: ProteinRows, what: str) -> Iterator[_Block]:
    """Whole proteins, some ``BLOCK_ROWS`` residues at a time, with a progress bar."""
    with tqdm(total=rows.n_rows, desc=what, unit="res", unit_scale=True, disable=None) as bar:
        start = 0
        for store in stores:
            stop = start + len(store.proteins)
            while start < stop:
                most = rows.offsets[start] + BLOCK_ROWS
                end = int(np.searchsorted(rows.offsets, most, side="right")) - 1
                end = min(max(end, start + 1), stop)
                x_RD = _read(stores, rows, start, end)
                first = rows.offsets[start]
                yield _Block(start, rows.offsets[start:end] - first, int(first), x_RD)
                bar.update(len(x_RD))
                start = end


def _read(
    stores: Sequence[ActivationStore], rows: ProteinRows, first: int, stop: int
) -> Float[np.ndarray, "rows d_model"]:
    """Activations of neighbouring proteins of one store."""
    row = 0
    for store in stores:
        low, high = int(rows.offsets[first]) - row, int(rows.offsets[stop]) - row
        if low < store.n_rows:
            return store.read(low, high)
        row += store.n_rows
    raise AssertionError("a protein of no store")
