"""Latents that are right when they fire, beside what amino-acid composition alone predicts.

A latent that fires on leucines looks like a helix latent, because leucines like helices. So its
precision is compared with::

    expected = Σ_a P(a | latent fires) · P(concept | a)

where a runs over amino acids and P(concept | a) is that of the same part: on test, what an observer
who knew only the residues, and how often each is in the concept *there*, would get right. Beside it
stands the same for an observer who also sees the two neighbours
(``probes/protocols/composition.py``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from probes.data.firing import BLOCK_LATENTS, block_bounds
from probes.data.rows import OTHER_RESIDUE
from probes.protocols.composition import concept_given_residue, neighbour_rates
from saejax.latents import LatentColumns

MAX_FRACTIONS = (0.0, 0.25, 0.5, 0.75)
"""Firing means z > fraction · (the latent's maximum on the select part)."""


class Part(NamedTuple):
    """One part of the proteins, on the rows where a concept is defined."""

    columns: LatentColumns
    """Sorted (``probes.fit.scores.restrict``)."""
    residue_class: Int[np.ndarray, " rows"]
    """``ProteinRows.residue_class``."""
    protein_idx: Int[np.ndarray, " rows"]
    """Protein of each row."""
    neighbourhood: Int[np.ndarray, " rows"]
    """``probes.protocols.composition.neighbourhoods``, made before rows were left out."""


SEEN_BYTES = 1 << 27
"""Table of which latent fires in which protein, of some latents at a time."""


class Firing(NamedTuple):
    """How often latents fire above given thresholds: at the first entries of each column."""

    n_fires: Int[np.ndarray, " d_sae"]
    """Residues."""
    n_proteins: Int[np.ndarray, " d_sae"]
    """Different proteins."""
    composition: Float[np.ndarray, "d_sae classes"]
    """P(a | latent fires); zeros where it never fires."""


def firing(part: Part, threshold: Float[np.ndarray, " d_sae"]) -> Firing:
    """Counts of every latent over the rows where ``z > threshold``, some latents at a time."""
    columns, d_sae, n_classes = part.columns, len(threshold), OTHER_RESIDUE + 1
    total_proteins = int(part.protein_idx.max(initial=-1)) + 1
    n_fires, n_proteins = np.zeros((2, d_sae), dtype=np.int64)
    composition = np.zeros((d_sae, n_classes))
    at_once = max(1, SEEN_BYTES // max(total_proteins, 1))
    for first, end in block_bounds(columns.indptr, max_latents=min(at_once, BLOCK_LATENTS)):
        indptr = columns.indptr[first : end + 1]
        entries, block = slice(int(indptr[0]), int(indptr[-1])), slice(first, end)
        latent = np.repeat(np.arange(end - first), np.diff(indptr))
        fires = columns.values[entries] > threshold[block][latent]
        latent, rows = latent[fires], columns.rows[entries][fires]
        n_fires[block] = np.bincount(latent, minlength=end - first)
        cell = latent * n_classes + part.residue_class[rows]
        pairs = np.bincount(cell, minlength=(end - first) * n_classes).reshape(-1, n_classes)
        composition[block] = pairs / np.maximum(n_fires[block], 1)[:, None]
        seen = np.zeros((end - first, total_proteins), dtype=bool)
        seen[latent, part.protein_idx[rows]] = True
        n_proteins[block] = seen.sum(axis=1)
    return Firing(n_fires, n_proteins, composition)


class PreciseLatents:
    """Ranks latents for concepts that share their rows; the firing counts are made once."""

    def __init__(self, select: Part, test: Part, *, min_fires: int, min_proteins: int) -> None:
        """Freeze each latent's thresholds on the select part.

        Args:
            select: chooses latents and thresholds.
            test: scores them.
            min_fires: residues of the select part a latent must fire on.
            min_proteins: proteins of the select part it must fire in.
        """
        columns = select.columns
        filled = np.diff(columns.indptr) > 0
        top = np.zeros(len(filled))
        top[filled] = columns.values[columns.indptr[:-1][filled]]
        self.select, self.test = select, test
        self.thresholds = np.array([fraction * top for fraction in MAX_FRACTIONS])
        self._on_select = [firing(select, t) for t in self.thresholds]
        self._on_test = [firing(test, t) for t in self.thresholds]
        self._supported = np.array(
            [(f.n_fires >= min_fires) & (f.n_proteins >= min_proteins) for f in self._on_select]
        )

    def rank(
        self,
        labels_select: Bool[np.ndarray, " select_rows"],
        labels_test: Bool[np.ndarray, " test_rows"],
        n: int,
    ) -> list[dict[str, Any]]:
        """The latents of largest precision − expected on select, with their test scores.

        Two rankings of ``n`` latents each: ``firing`` "any" counts every z > 0, "strong" takes for
        each latent the fraction of its maximum that is best on select.
        """
        chosen = _precisions(self.select, self._on_select, labels_select)
        excess = np.array([precision - expected for precision, expected in chosen])
        excess[~self._supported] = -np.inf
        on_test = _precisions(self.test, self._on_test, labels_test)
        near_select = _rate_with_neighbours(self.select, labels_select)
        near_test = _rate_with_neighbours(self.test, labels_test)
        table = []
        for firing_kind, levels in (("any", excess[:1]), ("strong", excess)):
            level, best = levels.argmax(axis=0), levels.max(axis=0)
            order = np.argsort(-best, kind="stable")[:n]
            for rank, j in enumerate(order[np.isfinite(best[order])].tolist(), start=1):
                i = int(level[j])
                n_select, n_test = (int(f[i].n_fires[j]) for f in (self._on_select, self._on_test))
                row = {
                    "firing": firing_kind,
                    "rank": rank,
                    "latent": j,
                    "threshold": float(self.thresholds[i, j]),
                    "threshold_fraction": MAX_FRACTIONS[i],
                }
                row |= _row("select", self._on_select[i], chosen[i], labels_select, j)
                row |= _neighbour_row(self.select, "select", n_select, chosen[i], near_select, j)
                row |= _row("test", self._on_test[i], on_test[i], labels_test, j)
                row |= _neighbour_row(self.test, "test", n_test, on_test[i], near_test, j)
                table.append(row)
        return table


def _precisions(
    part: Part, levels: list[Firing], labels: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(precision, expected from composition) of every latent, by level; NaN where it is silent."""
    p_concept = concept_given_residue(labels, part.residue_class)
    starts = part.columns.indptr[:-1]
    hits = np.append(0, np.cumsum(labels[part.columns.rows], dtype=np.int64))
    found = []
    for fires in levels:
        n = np.where(fires.n_fires > 0, fires.n_fires, np.nan)
        precision = (hits[starts + fires.n_fires] - hits[starts]) / n
        expected = np.where(fires.n_fires > 0, fires.composition @ p_concept, np.nan)
        found.append((precision, expected))
    return found


def _rate_with_neighbours(part: Part, labels: np.ndarray) -> np.ndarray:
    """P(concept | residue and neighbours) of each row, from other proteins."""
    rates = neighbour_rates(labels[:, None], part.neighbourhood, part.protein_idx)
    return rates.table[rates.row, 0]


def _neighbour_row(
    part: Part, name: str, n: int, values: tuple[np.ndarray, np.ndarray], rate: np.ndarray, j: int
) -> dict[str, float]:
    rows = part.columns.column(j)[0][:n]
    precision = float(values[0][j])
    expected = float(rate[rows].mean(dtype=np.float64)) if len(rows) else float("nan")
    return {
        f"{name}_expected_neighbours": expected,
        f"{name}_excess_neighbours": precision - expected,
        f"{name}_enrichment_neighbours": precision / expected if expected > 0 else float("nan"),
    }


def _row(
    part: str, fires: Firing, values: tuple[np.ndarray, np.ndarray], labels: np.ndarray, j: int
) -> dict[str, Any]:
    precision, expected = float(values[0][j]), float(values[1][j])
    return {
        f"{part}_precision": precision,
        f"{part}_expected_precision": expected,
        f"{part}_excess": precision - expected,
        f"{part}_enrichment": precision / expected if expected > 0 else float("nan"),
        f"{part}_base_rate": float(labels.mean()),
        f"{part}_recall": precision * float(fires.n_fires[j]) / max(int(labels.sum()), 1)
        if fires.n_fires[j]
        else 0.0,
        f"{part}_n_fires": int(fires.n_fires[j]),
        f"{part}_n_proteins": int(fires.n_proteins[j]),
    }
