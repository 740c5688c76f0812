"""InterProt's 1-D probe (Adams et al. 2025, bioRxiv 2025.02.06.636901), as they ran it and frozen.

For each concept: only proteins that have it, one of each homology cluster; on their residues a
class-balanced logistic regression for every latent, which calls a residue at p ≥ 0.5; F1 on the
test proteins. Reading off the best latent there chooses on test (``best_on_test``);
``chosen_on_training`` takes the latent of highest F1 on the training residues instead.

Differs: residues of proteins without the concept never count as negatives in either, so these
numbers say "where in a protein", not "in which protein"; compare with
``probes/protocols/frozen.py``. Theirs samples up to 1,000 clusters for each concept without a seed;
here all are used and the split is the run's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from probes.data.concepts import Concept
from probes.data.features import Features
from probes.data.rows import ProteinRows
from probes.fit.scores import column_sums, restrict
from probes.logistic import fit_logistic_1d
from saejax.latents import LatentColumns


def interprot(
    features: Features,
    concept: Concept,
    rows: ProteinRows,
    clusters: Sequence[str],
    is_test: Bool[np.ndarray, " proteins"],
) -> dict[str, Any] | None:
    """Best F1 of one concept, chosen on test as they do and chosen on the training part.

    Args:
        features: latents, or a baseline.
        concept: at the level of residues.
        rows: the proteins.
        clusters: homology cluster of each protein.
        is_test: part of each protein; clusters are whole.

    Returns:
        None when a part has no residue in the concept, or none outside it.
    """
    proteins = representatives(concept, rows, clusters)
    labels = concept.labels(rows.n_rows)
    parts = []
    for part in (~is_test, is_test):
        keep = np.repeat(proteins & part, np.diff(rows.offsets))
        y = labels[keep]
        if y.all() or not y.any():
            return None
        parts.append((keep, y))
    f1_train = np.zeros(features.n_features)
    f1_test = np.zeros(features.n_features)
    for first in range(0, features.n_features, features.at_once):
        last = min(first + features.at_once, features.n_features)
        columns = features.columns(first, last)
        train, test = (restrict(columns, keep) for keep, _ in parts)
        fit = fit_logistic_1d(train, parts[0][1][:, None], balanced=True)
        coef, intercept = fit.coef[:, 0], fit.intercept[:, 0]
        f1_train[first:last] = f1_at_half(train, parts[0][1], coef, intercept)
        f1_test[first:last] = f1_at_half(test, parts[1][1], coef, intercept)
    best, chosen = int(f1_test.argmax()), int(f1_train.argmax())
    return {
        "best_on_test": best,
        "f1_best_on_test": float(f1_test[best]),
        "chosen_on_training": chosen,
        "f1_chosen_on_training": float(f1_test[chosen]),
        "n_proteins_train": int((proteins & ~is_test).sum()),
        "n_proteins_test": int((proteins & is_test).sum()),
    }


def representatives(
    concept: Concept, rows: ProteinRows, clusters: Sequence[str]
) -> Bool[np.ndarray, " proteins"]:
    """The first protein of every cluster among those that have the concept."""
    having = np.unique(rows.protein_idx[concept.spans[:, 0]])
    _, first = np.unique(np.asarray(clusters)[having], return_index=True)
    found = np.zeros(rows.n_proteins, bool)
    found[having[first]] = True
    return found


def f1_at_half(
    columns: LatentColumns,
    labels: Bool[np.ndarray, " rows"],
    coef: Float[np.ndarray, " columns"],
    intercept: Float[np.ndarray, " columns"],
) -> Float[np.ndarray, " columns"]:
    """F1 of calling a row where σ(coef · z + intercept) ≥ ½, zeros included."""
    zeros_called = intercept >= 0
    with np.errstate(divide="ignore", invalid="ignore"):
        cut = np.where(coef != 0, -intercept / coef, np.inf)
    # a rising probe calls z ≥ cut; a falling one z ≤ cut: every zero, and entries up to the cut
    counts = np.diff(columns.indptr)
    at, rising = np.repeat(cut, counts), np.repeat(coef > 0, counts)
    flat = np.repeat(coef == 0, counts)
    called = np.where(rising, columns.values >= at, columns.values <= at)
    called = np.where(flat, np.repeat(zeros_called, counts), called)
    entry_hits = called & labels[columns.rows]
    hits = column_sums(entry_hits, columns.indptr) + zeros_called * (
        labels.sum() - column_sums(labels[columns.rows], columns.indptr)
    )
    predicted = column_sums(called, columns.indptr) + zeros_called * (columns.n_rows - counts)
    return 2.0 * hits / np.maximum(predicted + labels.sum(), 1)
