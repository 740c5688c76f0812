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
from probes.data.part_columns import PartColumns
from probes.data.rows import OTHER_RESIDUE
from probes.protocols.composition import concept_given_residue, neighbour_rates
from saejax.latents import LatentColumns

MAX_FRACTIONS = (0.0, 0.25, 0.5, 0.75)
"""Firing means z > fraction · (the latent's maximum on the select part)."""


class Part(NamedTuple):
    """One part of the proteins, on the rows where a concept is defined."""

    columns: PartColumns
    """The latents."""
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


def firing(columns: LatentColumns, part: Part, threshold: Float[np.ndarray, " d_sae"]) -> Firing:
    """Counts of some latents of a part over the rows where ``z > threshold``.

    Args:
        columns: the latents, sorted (``probes.fit.scores.restrict``).
        part: whose rows they are.
        threshold: of each.
    """
    d_sae, n_classes = len(threshold), OTHER_RESIDUE + 1
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


class _Listed(NamedTuple):
    """Latents of largest excess so far, the largest first; of equals the first latent."""

    excess: Float[np.ndarray, " listed"]
    latent: Int[np.ndarray, " listed"]
    threshold: Float[np.ndarray, " listed"]
    fraction: Float[np.ndarray, " listed"]

    def joined(self, other: _Listed, n: int) -> _Listed:
        """The first ``n`` of both; ``other`` has later latents."""
        both = _Listed(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))
        order = np.argsort(-both.excess, kind="stable")[:n]
        return _Listed(*(a[order[np.isfinite(both.excess[order])]] for a in both))


class PreciseLatents:
    """Ranks latents for concepts that share their rows, from blocks of latents as they come.

    Two rankings: ``firing`` "any" counts every z > 0, "strong" takes for each latent the fraction
    of its maximum that is best on select.
    """

    def __init__(
        self,
        part: Part,
        labels: Bool[np.ndarray, "rows concepts"],
        *,
        min_fires: int,
        min_proteins: int,
        n: int,
    ) -> None:
        """Nothing is ranked yet.

        Args:
            part: chooses latents and thresholds.
            labels: concepts there.
            min_fires: residues of the part a latent must fire on.
            min_proteins: proteins of the part it must fire in.
            n: how many latents are listed, of each concept in each ranking.
        """
        self._part, self._labels, self._n = part, labels, n
        self._min_fires, self._min_proteins = min_fires, min_proteins
        self._rates = [concept_given_residue(y, part.residue_class) for y in labels.T]
        nothing = _Listed(*(np.zeros(0) for _ in range(4)))
        self._listed = [{"any": nothing, "strong": nothing} for _ in labels.T]

    def see(self, first: int, columns: LatentColumns) -> None:
        """Take the latents from ``first`` on; blocks come in order."""
        filled = np.diff(columns.indptr) > 0
        top = np.zeros(len(filled))
        top[filled] = columns.values[columns.indptr[:-1][filled]]
        thresholds = np.array([fraction * top for fraction in MAX_FRACTIONS])
        levels = [firing(columns, self._part, t) for t in thresholds]
        weak = np.array([
            (f.n_fires < self._min_fires) | (f.n_proteins < self._min_proteins) for f in levels
        ])  # fmt: skip
        each, number = np.arange(len(filled)), first + np.arange(len(filled))
        for listed, y, rates in zip(self._listed, self._labels.T, self._rates, strict=True):
            excess = _excess(columns, levels, y, rates)
            excess[weak] = -np.inf
            for kind, among in (("any", excess[:1]), ("strong", excess)):
                level = among.argmax(axis=0)
                fraction = np.array(MAX_FRACTIONS)[level]
                here = _Listed(among[level, each], number, thresholds[level, each], fraction)
                listed[kind] = listed[kind].joined(here, self._n)

    def scored(
        self, test: Part, labels: Bool[np.ndarray, "rows concepts"]
    ) -> list[list[dict[str, Any]]]:
        """Rows of each concept's latents, with their scores on the part that chose and on test."""
        tables = []
        for i, of_concept in enumerate(self._listed):
            on = [_Scorer("select", self._part, self._labels[:, i]),
                  _Scorer("test", test, labels[:, i])]  # fmt: skip
            rows = []
            for kind, listed in of_concept.items():
                for rank, (_, j, threshold, fraction) in enumerate(
                    zip(*listed, strict=True), start=1
                ):
                    row = {
                        "firing": kind, "rank": rank, "latent": int(j),
                        "threshold": float(threshold), "threshold_fraction": float(fraction),
                    }  # fmt: skip
                    for scorer in on:
                        row |= scorer.row(int(j), float(threshold))
                    rows.append(row)
            tables.append(rows)
        return tables


def _excess(
    columns: LatentColumns,
    levels: list[Firing],
    labels: Bool[np.ndarray, " rows"],
    rates: Float[np.ndarray, " classes"],
) -> Float[np.ndarray, "levels latents"]:
    """Precision − what composition predicts, at each level; NaN where a latent is silent."""
    starts = columns.indptr[:-1]
    hits = np.append(0, np.cumsum(labels[columns.rows], dtype=np.int64))
    excess = np.empty((len(levels), len(starts)))
    for at, fires in enumerate(levels):
        n = np.where(fires.n_fires > 0, fires.n_fires, np.nan)
        precision = (hits[starts + fires.n_fires] - hits[starts]) / n
        excess[at] = precision - (fires.composition * rates).sum(axis=1)
    return excess


class _Scorer:
    """Scores of single latents for a concept on a part."""

    def __init__(self, name: str, part: Part, labels: Bool[np.ndarray, " rows"]) -> None:
        self._name, self._part, self._labels = name, part, labels
        self._rates = concept_given_residue(labels, part.residue_class)
        around = neighbour_rates(labels[:, None], part.neighbourhood, part.protein_idx)
        self._around = around.table[:, 0], around.row
        self._n_positive, self._base_rate = int(labels.sum()), float(labels.mean())

    def row(self, latent: int, threshold: float) -> dict[str, Any]:
        """Its columns; NaN for what is silent."""
        rows, values = self._part.columns.column(latent)
        rows = rows[: int((values > threshold).sum())]
        n, nothing = len(rows), float("nan")
        precision = expected = neighbours = nothing
        if n:
            counts = np.bincount(self._part.residue_class[rows], minlength=OTHER_RESIDUE + 1)
            precision = int(self._labels[rows].sum()) / n
            expected = float((counts / n * self._rates).sum())
            table, which = self._around
            neighbours = float(table[which[rows]].mean(dtype=np.float64))
        found = {
            "precision": precision,
            "expected_precision": expected,
            "excess": precision - expected,
            "enrichment": precision / expected if expected > 0 else nothing,
            "base_rate": self._base_rate,
            "recall": precision * n / max(self._n_positive, 1) if n else 0.0,
            "n_fires": n,
            "n_proteins": len(np.unique(self._part.protein_idx[rows])),
            "expected_neighbours": neighbours,
            "excess_neighbours": precision - neighbours,
            "enrichment_neighbours": precision / neighbours if neighbours > 0 else nothing,
        }
        return {f"{self._name}_{key}": value for key, value in found.items()}
