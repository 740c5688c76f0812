"""Family-specific latents (Adams et al. 2025): does a latent single out one protein family?

A latent's family is that of the protein on which it is strongest. Proteins are called by their
largest value of the latent; F1 against membership of the family tells how specific it is. Family
and cut are chosen on the training part (the cut of highest F1), frozen, and scored once on test.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from probes.data.concepts import Concept
from probes.data.features import Features
from probes.data.rows import ProteinRows
from saejax.latents import LatentColumns

SPECIFIC_ABOVE = 0.7
"""F1 on test from which a latent is called family-specific."""
MIN_MEMBERS = 3
"""Proteins of a family in the training part, and in the test part at least one."""


def family_specific(
    features: Features,
    families: Sequence[Concept],
    rows: ProteinRows,
    is_test: Bool[np.ndarray, " proteins"],
) -> pd.DataFrame:
    """One row for each feature whose strongest training protein is in a family.

    Columns: ``feature``, ``family`` (name), ``threshold``, ``f1_train``, ``precision_test``,
    ``recall_test``, ``f1_test``, ``n_members_train``, ``n_members_test``, ``specific``.
    """
    member = {c.name: _members(c, rows) for c in families}
    known = np.zeros(rows.n_proteins, bool)
    for concept in families:
        known |= concept.defined
    found = []
    for first in range(0, features.n_features, features.at_once):
        last = min(first + features.at_once, features.n_features)
        pooled = maximum_by_protein(features.columns(first, last), rows.protein_idx, known)
        for j in range(last - first):
            proteins, values = pooled.column(j)
            found += _of_feature(first + j, proteins, values, member, known, is_test)
    columns = ["feature", "family", "threshold", "f1_train", "precision_test", "recall_test",
               "f1_test", "n_members_train", "n_members_test", "specific"]  # fmt: skip
    return pd.DataFrame(found, columns=columns)


def maximum_by_protein(
    columns: LatentColumns,
    protein_idx: Int[np.ndarray, " rows"],
    keep: Bool[np.ndarray, " proteins"],
) -> LatentColumns:
    """Largest value of each column in each protein of ``keep``, as columns over proteins."""
    n_columns, n_proteins = len(columns.indptr) - 1, len(keep)
    column = np.repeat(np.arange(n_columns), np.diff(columns.indptr))
    protein = protein_idx[columns.rows].astype(np.int64)
    inside = keep[protein]
    key = column[inside] * n_proteins + protein[inside]
    # rows ascend within a column, so the keys do
    first = np.flatnonzero(np.diff(key, prepend=-1))
    values = columns.values[inside]
    top = np.maximum.reduceat(values, first) if len(first) else values
    counts = np.bincount(key[first] // n_proteins, minlength=n_columns)
    indptr = np.append(0, np.cumsum(counts))
    return LatentColumns(indptr, (key[first] % n_proteins).astype(np.int32), top, n_proteins)


def _members(concept: Concept, rows: ProteinRows) -> np.ndarray:
    members = np.zeros(rows.n_proteins, bool)
    members[rows.protein_idx[concept.spans[:, 0]]] = True
    return members


def _of_feature(feature, proteins, values, member, known, is_test) -> list[dict]:
    """For the families of the strongest training protein, the one that fits training best."""
    train = ~is_test[proteins]
    if not train.any():
        return []
    top = proteins[train][values[train].argmax()]
    best: dict | None = None
    for name, members in member.items():
        n_train = int((members & known & ~is_test).sum())
        n_test = int((members & known & is_test).sum())
        if not members[top] or n_train < MIN_MEMBERS or not n_test:
            continue
        threshold, f1 = _best_cut(values[train], members[proteins[train]], n_train)
        if best is not None and f1 <= best["f1_train"]:
            continue
        called = ~train & (values >= threshold)
        hits = int(members[proteins[called]].sum())
        f1_test = 2.0 * hits / (int(called.sum()) + n_test)
        best = {
            "feature": feature, "family": name, "threshold": threshold, "f1_train": f1,
            "precision_test": hits / called.sum() if called.any() else float("nan"),
            "recall_test": hits / n_test, "f1_test": f1_test, "n_members_train": n_train,
            "n_members_test": n_test, "specific": f1_test > SPECIFIC_ABOVE,
        }  # fmt: skip
    return [] if best is None else [best]


def _best_cut(values: np.ndarray, labels: np.ndarray, n_members: int) -> tuple[float, float]:
    """The value to call from, and the F1 it gives; equal values go together."""
    order = np.argsort(-values, kind="stable")
    hits = np.cumsum(labels[order])
    f1 = 2.0 * hits / (np.arange(1, len(order) + 1) + n_members)
    f1[np.append(values[order][1:] == values[order][:-1], False)] = -1.0
    at = int(f1.argmax())
    return float(values[order][at]), float(f1[at])
