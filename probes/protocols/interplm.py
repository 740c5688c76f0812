"""InterPLM's protocol (Simon & Zou 2024, bioRxiv 2024.11.14.623630), as they ran it and frozen.

Every latent is divided by its own maximum and cut at five values. Precision counts residues,
recall counts occurrences ("domains") of which at least one residue is found::

    precision = residues above the cut in the concept / residues above the cut
    recall    = occurrences hit / occurrences;      F1 is their harmonic mean

For each pair the cut of highest F1 is taken on validation. Their report then takes the best cut
*again on test*, which flatters; ``f1_test_repicked`` is that number, ``f1_test`` the one at the
frozen cut. A concept counts as found when some latent has F1 above a half on both parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from probes.data.concepts import Concept
from probes.data.features import Features
from probes.data.frames import where
from probes.data.occurrences import Occurrences, at_least, levels_of
from probes.fit.scores import restrict
from probes.protocols.label_chunks import LABEL_BYTES, chunks_of, label_columns
from saejax.latents import LatentColumns

FRACTIONS = (0.0, 0.15, 0.5, 0.6, 0.8)
"""Cuts on the normalised activation; a residue is called when it lies above."""
MIN_OCCURRENCES, MIN_RESIDUES = 10, 1500
"""Concepts are kept with more than so many occurrences, or residues, in validation."""
OCCURRENCE_BYTES = 64
"""What telling the occurrences of a positive residue takes, at most."""
FOUND_ABOVE = 0.5
"""F1 on validation and on test."""


@dataclass(frozen=True)
class InterPLM:
    """What the protocol finds."""

    pairs: pd.DataFrame
    """Pairs above 0 on validation: ``feature``, ``concept`` (index), ``fraction``, ``precision``,
    ``recall``, ``f1`` on either part, and ``f1_test_repicked``."""
    kept: Bool[np.ndarray, " concepts"]
    """Concepts that are frequent enough in validation."""

    def found(self, column: str = "f1_test") -> pd.DataFrame:
        """Pairs above :data:`FOUND_ABOVE` on validation and in ``column``."""
        high = (self.pairs["f1_validation"] > FOUND_ABOVE) & (self.pairs[column] > FOUND_ABOVE)
        return where(self.pairs, high)

    def summary(self) -> dict[str, int]:
        """Numbers of concepts and latents found, frozen and as they count."""
        frozen, theirs = self.found(), self.found("f1_test_repicked")
        return {
            "concepts_tested": int(self.kept.sum()),
            "concepts_found": len(set(frozen["concept"])),
            "features_found": len(set(frozen["feature"])),
            "concepts_found_repicked": len(set(theirs["concept"])),
            "features_found_repicked": len(set(theirs["feature"])),
        }


def interplm(
    features: Features,
    concepts: Sequence[Concept],
    validation: Bool[np.ndarray, " rows"],
    test: Bool[np.ndarray, " rows"],
    *,
    maximum: Float[np.ndarray, " features"] | None = None,
    min_occurrences: int = MIN_OCCURRENCES,
    min_residues: int = MIN_RESIDUES,
    max_label_bytes: int = LABEL_BYTES,
) -> InterPLM:
    """Score every pair by InterPLM's protocol.

    Args:
        features: latents, or a baseline.
        concepts: defined on the same proteins.
        validation: rows of defined proteins that choose.
        test: rows of defined proteins that score.
        maximum: of each feature; by default its largest value over all rows.
        min_occurrences: see :data:`MIN_OCCURRENCES`.
        min_residues: see :data:`MIN_RESIDUES`.
        max_label_bytes: concepts are worked on in chunks of so many bytes of labels and
            occurrences; the result does not depend on it.
    """
    tables, kept = [], np.zeros(len(concepts), dtype=bool)
    for some in chunks_of(
        concepts, len(validation), max_label_bytes, bytes_per_positive=OCCURRENCE_BYTES
    ):
        labels = label_columns(concepts[some], validation, test)
        spans = [Occurrences.of(concepts[some], part) for part in (validation, test)]
        often = (spans[0].per_concept > min_occurrences) | (labels[0].sum(axis=0) > min_residues)
        kept[some] = often
        table = _score_all(features, labels, spans, (validation, test), often, maximum)
        tables.append(table.assign(concept=table["concept"] + some.start))
    pairs = pd.concat(tables).sort_values(["feature", "concept"], ignore_index=True)
    return InterPLM(pairs, kept)


def _score_all(
    features: Features,
    labels: Sequence[np.ndarray],
    spans: Sequence[Occurrences],
    parts: Sequence[np.ndarray],
    kept: np.ndarray,
    maximum: np.ndarray | None,
) -> pd.DataFrame:
    """Every feature against some concepts."""
    tables = []
    for first in range(0, features.n_features, features.at_once):
        last = min(first + features.at_once, features.n_features)
        columns = features.columns(first, last)
        top = column_maximum(columns) if maximum is None else maximum[first:last]
        scored = [
            _score(restrict(columns, part), top, y, s)
            for part, y, s in zip(parts, labels, spans, strict=True)
        ]
        tables.append(_table(scored[0], scored[1], kept, first))
    return pd.concat(tables, ignore_index=True)


def column_maximum(columns: LatentColumns) -> Float[np.ndarray, " columns"]:
    """Largest value of each column, 0 for an empty one."""
    filled = np.diff(columns.indptr) > 0
    top = np.zeros(len(filled))
    if filled.any():
        top[filled] = np.maximum.reduceat(columns.values, columns.indptr[:-1][filled])
    return top


class _Scores(dict[str, np.ndarray]):
    """``precision``, ``recall``, ``f1``: [columns, concepts, cuts]."""


def _score(
    columns: LatentColumns,
    top: np.ndarray,
    labels: Bool[np.ndarray, "rows concepts"],
    spans: Occurrences,
) -> _Scores:
    n_columns, n_levels = len(columns.indptr) - 1, len(FRACTIONS)
    counts = np.diff(columns.indptr)
    level = levels_of(columns.values, np.repeat(top, counts), FRACTIONS)
    column = np.repeat(np.arange(n_columns), counts)
    flat = column * (n_levels + 1) + level
    shape = (n_columns, n_levels + 1)
    predicted = at_least(np.bincount(flat, minlength=n_columns * (n_levels + 1)).reshape(shape))
    hits: Int[np.ndarray, "columns concepts levels"] = np.stack([
        at_least(np.bincount(
            flat[labels[columns.rows, c]], minlength=n_columns * (n_levels + 1)
        ).reshape(shape))
        for c in range(labels.shape[1])
    ], axis=1)  # fmt: skip
    found = spans.hit(columns, level, n_levels)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.nan_to_num(hits / predicted[:, None])
        recall = np.nan_to_num(found / spans.per_concept[None, :, None])
        f1 = np.nan_to_num(2 * precision * recall / (precision + recall))
    return _Scores(precision=precision, recall=recall, f1=f1)


def _table(validation: _Scores, test: _Scores, kept: np.ndarray, first: int) -> pd.DataFrame:
    cut = validation["f1"].argmax(axis=2)
    best = np.take_along_axis(validation["f1"], cut[..., None], 2)[..., 0]
    feature, concept = np.nonzero((best > 0) & kept[None])
    at = cut[feature, concept]
    table = {
        "feature": feature + first,
        "concept": concept,
        "fraction": np.array(FRACTIONS)[at],
    }
    for part, scores in (("validation", validation), ("test", test)):
        for name, values in scores.items():
            table[f"{name}_{part}"] = values[feature, concept, at]
    table["f1_test_repicked"] = test["f1"][feature, concept].max(axis=-1)
    return pd.DataFrame(table)
