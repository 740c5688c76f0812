"""Latents that are right when they fire, beside what amino-acid composition alone predicts.

A latent that fires on leucines looks like a helix latent, because leucines like helices. So its
precision is compared with::

    expected = Σ_a P(a | latent fires) · P(concept | a)

where a runs over amino acids and P(concept | a) is that of the same part: on test, what an observer
who knew only the residues, and how often each is in the concept *there*, would get right. Beside it
stands the same for an observer who also sees the two neighbours (``probes/composition.py``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from probes.composition import concept_given_residue, neighbour_rates
from probes.rows import OTHER_RESIDUE
from probes.scores import column_sums
from saejax.latents import LatentColumns

MAX_FRACTIONS = (0.0, 0.25, 0.5, 0.75)
"""Firing means z > fraction · (the latent's maximum on the select part)."""


class Part(NamedTuple):
    """One part of the proteins, on the rows where a concept is defined."""

    columns: LatentColumns
    """Sorted (``probes.scores.restrict``)."""
    residue_class: Int[np.ndarray, " rows"]
    """``ProteinRows.residue_class``."""
    protein_idx: Int[np.ndarray, " rows"]
    """Protein of each row."""
    neighbourhood: Int[np.ndarray, " rows"]
    """``probes.composition.neighbourhoods``, made before rows were left out."""


class Firing(NamedTuple):
    """Where latents fire above given thresholds."""

    columns: LatentColumns
    """The entries above the threshold."""
    n_fires: Int[np.ndarray, " d_sae"]
    """Residues."""
    n_proteins: Int[np.ndarray, " d_sae"]
    """Different proteins."""
    composition: Float[np.ndarray, "d_sae classes"]
    """P(a | latent fires); zeros where it never fires."""


def firing(part: Part, threshold: Float[np.ndarray, " d_sae"]) -> Firing:
    """Counts of every latent over the rows where ``z > threshold``."""
    columns, d_sae = part.columns, len(threshold)
    latent = np.repeat(np.arange(d_sae), np.diff(columns.indptr))
    fires = columns.values > threshold[latent]
    latent, rows = latent[fires], columns.rows[fires]
    n_fires = np.bincount(latent, minlength=d_sae)
    n_classes = OTHER_RESIDUE + 1
    pairs = np.bincount(
        latent * n_classes + part.residue_class[rows], minlength=d_sae * n_classes
    ).reshape(d_sae, n_classes)
    n_proteins = int(part.protein_idx.max(initial=-1)) + 1
    seen = np.zeros((d_sae, n_proteins), dtype=bool)
    seen[latent, part.protein_idx[rows]] = True
    above = LatentColumns(
        np.append(0, np.cumsum(n_fires)), rows, columns.values[fires], columns.n_rows
    )
    return Firing(above, n_fires, seen.sum(axis=1), pairs / np.maximum(n_fires, 1)[:, None])


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
        p_concept = concept_given_residue(labels_select, self.select.residue_class)
        chosen = [_precision(f, labels_select, p_concept) for f in self._on_select]
        excess = np.array([precision - expected for precision, expected in chosen])
        excess[~self._supported] = -np.inf
        p_test = concept_given_residue(labels_test, self.test.residue_class)
        on_test = [_precision(f, labels_test, p_test) for f in self._on_test]
        near_select = _rate_with_neighbours(self.select, labels_select)
        near_test = _rate_with_neighbours(self.test, labels_test)
        table = []
        for firing_kind, levels in (("any", excess[:1]), ("strong", excess)):
            level, best = levels.argmax(axis=0), levels.max(axis=0)
            order = np.argsort(-best, kind="stable")[:n]
            for rank, j in enumerate(order[np.isfinite(best[order])].tolist(), start=1):
                i = int(level[j])
                row = {
                    "firing": firing_kind,
                    "rank": rank,
                    "latent": j,
                    "threshold": float(self.thresholds[i, j]),
                    "threshold_fraction": MAX_FRACTIONS[i],
                }
                row |= _row("select", self._on_select[i], chosen[i], labels_select, j)
                row |= _neighbour_row("select", self._on_select[i], chosen[i], near_select, j)
                row |= _row("test", self._on_test[i], on_test[i], labels_test, j)
                row |= _neighbour_row("test", self._on_test[i], on_test[i], near_test, j)
                table.append(row)
        return table


def _precision(
    fires: Firing, labels: np.ndarray, p_concept: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(precision, expected from composition) of every latent; NaN where it never fires."""
    hits = column_sums(labels[fires.columns.rows], fires.columns.indptr)
    n = np.where(fires.n_fires > 0, fires.n_fires, np.nan)
    return hits / n, np.where(fires.n_fires > 0, fires.composition @ p_concept, np.nan)


def _rate_with_neighbours(part: Part, labels: np.ndarray) -> np.ndarray:
    """P(concept | residue and neighbours) of each row, from other proteins."""
    rates = neighbour_rates(labels[:, None], part.neighbourhood, part.protein_idx)
    return rates.table[rates.row, 0]


def _neighbour_row(
    part: str, fires: Firing, values: tuple[np.ndarray, np.ndarray], rate: np.ndarray, j: int
) -> dict[str, float]:
    rows, _ = fires.columns.column(j)
    precision = float(values[0][j])
    expected = float(rate[rows].mean(dtype=np.float64)) if len(rows) else float("nan")
    return {
        f"{part}_expected_neighbours": expected,
        f"{part}_excess_neighbours": precision - expected,
        f"{part}_enrichment_neighbours": precision / expected if expected > 0 else float("nan"),
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
