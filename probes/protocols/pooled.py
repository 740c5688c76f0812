"""Concepts of whole proteins: the same analyses, with a row for each protein."""

from __future__ import annotations

import numpy as np

from probes.data.concepts import Concept
from probes.data.features import DenseFeatures, Features
from probes.data.rows import ProteinRows
from probes.protocols.frozen import Parts
from probes.protocols.pooling import Pooling, pool
from probes.splits import PARTS, Split
from saejax.latents import LatentColumns


class PooledFeatures:
    """Each feature's largest or mean value in each protein."""

    def __init__(self, features: Features, rows: ProteinRows, how: Pooling) -> None:
        """Of these features."""
        self.name, self._features, self._rows = features.name, features, rows
        self.how: Pooling = how

    @property
    def n_features(self) -> int:
        """As many."""
        return self._features.n_features

    @property
    def n_rows(self) -> int:
        """Proteins."""
        return self._rows.n_proteins

    @property
    def at_once(self) -> int:
        """As many."""
        return self._features.at_once

    def columns(self, first: int, last: int) -> LatentColumns:
        """See :class:`probes.data.features.Features`."""
        return pool(self._features.columns(first, last), self._rows.offsets, self.how)


def pooling_of(features: Features, how: Pooling) -> Pooling:
    """``how``; but a neuron, which has both signs, is always pooled by its mean."""
    return "mean" if isinstance(features, DenseFeatures) else how


def pooled_features(features: Features, rows: ProteinRows, how: Pooling) -> Features:
    """Each feature's largest or mean value in each protein (:func:`pooling_of`)."""
    if isinstance(features, DenseFeatures):
        sums = np.add.reduceat(features.x_T, rows.offsets[:-1], axis=1)
        return DenseFeatures(features.name, (sums / np.diff(rows.offsets)).T)
    return PooledFeatures(features, rows, how)


def pooled_concept(concept: Concept, rows: ProteinRows) -> Concept:
    """A concept of proteins, its spans in proteins and not in residues."""
    members = np.unique(np.searchsorted(rows.offsets, concept.spans[:, 0], side="right") - 1)
    spans = np.stack([members, members + 1], axis=1).astype(np.int64)
    return Concept(concept.name, concept.kind, spans, concept.defined, "protein")


def protein_parts(concept: Concept, split: Split) -> Parts:
    """Parts of the split among the proteins where a concept is defined."""
    _, cluster = np.unique(np.asarray(split.clusters), return_inverse=True)
    train, validation, test = (concept.defined & (split.part == i) for i in range(len(PARTS)))
    return Parts(train, validation, test, cluster.astype(np.int32))
