"""Which occurrences of which concepts a residue lies in, for counting domains and not residues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from probes.data.concepts import Concept
from saejax.latents import LatentColumns


class Occurrences(NamedTuple):
    """Spans of several concepts over the rows of a part; parts hold whole proteins."""

    indptr: Int[np.ndarray, " rows_and_end"]
    """Where each row's memberships start."""
    span: Int[np.ndarray, " memberships"]
    """Which span."""
    concept_of: Int[np.ndarray, " spans"]
    """Which concept each span is of."""
    n_concepts: int
    """Concepts."""

    @classmethod
    def of(cls, concepts: Sequence[Concept], keep: Bool[np.ndarray, " rows"]) -> Occurrences:
        """Those that lie in the rows marked in ``keep``, rows renumbered from 0."""
        new_row = np.cumsum(keep) - 1
        spans = [concept.spans[keep[concept.spans[:, 0]]] for concept in concepts]
        concept_of = np.repeat(np.arange(len(concepts)), [len(s) for s in spans])
        bounds = np.concatenate([np.zeros((0, 2), np.int64), *spans])
        lengths = bounds[:, 1] - bounds[:, 0]
        span = np.repeat(np.arange(len(bounds)), lengths)
        within = np.arange(len(span)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        rows = np.repeat(new_row[bounds[:, 0]], lengths) + within if len(bounds) else span
        order = np.argsort(rows, kind="stable")
        counts = np.bincount(rows, minlength=int(keep.sum()))
        indptr = np.append(0, np.cumsum(counts))
        return cls(indptr, span[order].astype(np.int32), concept_of, len(concepts))

    @property
    def per_concept(self) -> Int[np.ndarray, " concepts"]:
        """Spans of each concept."""
        return np.bincount(self.concept_of, minlength=self.n_concepts)

    def hit(
        self, columns: LatentColumns, level: Int[np.ndarray, " entries"], n_levels: int
    ) -> Int[np.ndarray, "columns concepts levels"]:
        """Spans in which a column has an entry of at least each level.

        Args:
            columns: entries over this part's rows.
            level: of each entry, 0 … n_levels; 0 is none.
            n_levels: how many there are above none.

        Returns:
            For levels 1 to n_levels.
        """
        n_columns = len(columns.indptr) - 1
        column = np.repeat(np.arange(n_columns), np.diff(columns.indptr))
        keep = level > 0
        column, rows, level = column[keep], columns.rows[keep], level[keep]
        counts = self.indptr[rows + 1] - self.indptr[rows]
        first = np.repeat(self.indptr[rows] - np.cumsum(counts) + counts, counts)
        span = self.span[first + np.arange(counts.sum())]
        n_spans = max(len(self.concept_of), 1)
        key = np.repeat(column, counts) * n_spans + span
        key, inverse = np.unique(key, return_inverse=True)
        best = np.zeros(len(key), level.dtype)
        np.maximum.at(best, inverse, np.repeat(level, counts))
        shape = (n_columns, self.n_concepts, n_levels + 1)
        concept = self.concept_of[key % n_spans] if len(self.concept_of) else key
        flat = np.ravel_multi_index((key // n_spans, concept, best), shape)
        return at_least(np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape))


def at_least(counts: Int[np.ndarray, "*shape levels"]) -> Int[np.ndarray, "*shape levels_less_one"]:
    """Counts of exactly each level → of at least each level above 0."""
    return np.cumsum(counts[..., ::-1], axis=-1)[..., ::-1][..., 1:]


def levels_of(
    values: Float[np.ndarray, " entries"],
    top: Float[np.ndarray, " entries"],
    fractions: Sequence[float],
) -> Int[np.ndarray, " entries"]:
    """How many of the ascending cuts ``fraction · top`` each value lies above."""
    level = np.zeros(len(values), np.int8)
    for fraction in fractions:
        level += values > fraction * top
    return level
