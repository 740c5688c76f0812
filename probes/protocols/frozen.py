"""Our protocol: fitted on train, chosen on validation, frozen, scored once on test.

For every latent and concept a 1-D logistic regression is fitted on the training proteins; the sign
of its coefficient is the direction of the call and the cut of highest F1 there its threshold. The
latent of highest F1 on the validation proteins is the concept's. Test proteins, of which no
homologue lies in the other parts, score it once: precision over residues, recall over residues and
over occurrences, with intervals from drawing whole homology clusters and one test of its calls, in
which clusters weigh alike (``probes/fit/cluster_tests.py``). That test is the only one of its
concept, so its p-value is corrected over concepts alone (``probes/protocols/found.py``). Beside
every pair stands the false discovery rate over all pairs, for whoever looks through them (see
``probes/fit/significance.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from probes.data.concepts import Concept
from probes.data.features import Features
from probes.data.occurrences import Occurrences
from probes.fit.cluster_tests import call_test
from probes.fit.scores import (
    Cut,
    f1_all_positive,
    hits_of,
    rank_scores,
    restrict,
    score_at,
)
from probes.fit.significance import (
    Counts,
    bootstrap,
    effective_number,
    false_discovery_rate,
    score_test,
)
from probes.logistic import fit_logistic_1d
from probes.protocols.calibration import calibration
from probes.protocols.label_chunks import LABEL_BYTES, chunks_of, label_columns
from probes.splits import PARTS
from saejax.latents import LatentColumns


class Parts(NamedTuple):
    """Rows on which some concepts are defined, part by part, and the cluster of every row."""

    train: Bool[np.ndarray, " rows"]
    """Fits probes and thresholds."""
    validation: Bool[np.ndarray, " rows"]
    """Chooses latents."""
    test: Bool[np.ndarray, " rows"]
    """Scores, once."""
    cluster: Int[np.ndarray, " rows"]
    """Homology cluster."""


@dataclass(frozen=True)
class Frozen:
    """What the protocol finds for one set of features."""

    pairs: pd.DataFrame
    """Every feature × concept with a hit on train; see :func:`frozen`."""
    best: pd.DataFrame
    """One row per concept: the chosen feature and its test scores."""
    calibration: pd.DataFrame
    """Predicted and observed share of positives on test, in bins, of each chosen feature."""


class _Table(NamedTuple):
    """[features, concepts] of one block."""

    coef: np.ndarray
    intercept: np.ndarray
    threshold: np.ndarray
    f1_train: np.ndarray
    f1_validation: np.ndarray
    precision_test: np.ndarray
    recall_test: np.ndarray
    f1_test: np.ndarray
    auroc_test: np.ndarray
    average_precision_test: np.ndarray
    n_called_test: np.ndarray
    p: np.ndarray
    z: np.ndarray
    hits_train: np.ndarray


def frozen(
    features: Features,
    concepts: Sequence[Concept],
    parts: Parts,
    *,
    either_sign: bool = False,
    balanced: bool = False,
    n_draws: int = 1000,
    seed: int = 0,
    max_label_bytes: int = LABEL_BYTES,
) -> Frozen:
    """Run the protocol on concepts that are defined on the same proteins.

    Args:
        features: latents, or a baseline.
        concepts: each with positives and negatives in every part.
        parts: rows of proteins where they are defined.
        either_sign: also take features that tell by not firing (neurons may; a latent that is
            rare is silent nearly everywhere, and its silence calls everything positive).
        balanced: weigh the two classes alike in the fit.
        n_draws: of the bootstrap.
        seed: of the bootstrap.
        max_label_bytes: concepts are worked on in chunks of so many bytes of labels; the result
            does not depend on it.
    """
    n_rows = len(parts.train)
    chunks = [
        _score_all(features, concepts[some], parts, balanced)
        for some in chunks_of(concepts, n_rows, max_label_bytes)
    ]
    whole = _Table(*(np.concatenate(a, axis=1) for a in zip(*chunks, strict=True)))
    q = false_discovery_rate(whole.p)
    best, bins = [], []
    for i, concept in enumerate(concepts):
        yes = concept.labels(n_rows)
        row = _best(features, concept, i, whole, q, parts, yes, either_sign, n_draws, seed)
        best.append({"concept": concept.name, "kind": concept.kind} | row)
        bins.append(calibration(features, concept, row, yes[parts.test], parts.test))
    return Frozen(
        _pairs(whole, q, concepts), pd.DataFrame(best), pd.concat(bins, ignore_index=True)
    )


def _score_all(
    features: Features, concepts: Sequence[Concept], parts: Parts, balanced: bool
) -> _Table:
    """Every feature against some concepts."""
    columns_of_part = label_columns(concepts, parts.train, parts.validation, parts.test)
    labels: dict[str, np.ndarray] = dict(zip(PARTS, columns_of_part, strict=True))
    cuts = {name: Cut(getattr(parts, name)) for name in PARTS}
    blocks: list[_Table] = []
    for first in range(0, features.n_features, features.at_once):
        last = min(first + features.at_once, features.n_features)
        columns = features.columns(first, last)
        inside = {name: cut(columns) for name, cut in cuts.items()}
        blocks.append(_block(inside, labels, parts.cluster[parts.test], balanced))
    return _Table(*(np.concatenate(a) for a in zip(*blocks, strict=True)))


def _block(
    inside: dict[str, LatentColumns],
    labels: dict[str, np.ndarray],
    cluster: np.ndarray,
    balanced: bool,
) -> _Table:
    fit = fit_logistic_1d(inside["train"], labels["train"], balanced=balanced)
    sign = np.sign(np.nan_to_num(fit.coef)).astype(int)
    cut = rank_scores(inside["train"], labels["train"], sign)
    chosen = score_at(inside["validation"], labels["validation"], sign, cut.threshold)
    scored = score_at(inside["test"], labels["test"], sign, cut.threshold)
    ranks = rank_scores(inside["test"], labels["test"], sign)
    association = score_test(inside["test"], labels["test"], cluster)
    return _Table(
        fit.coef, fit.intercept, cut.threshold, cut.f1, chosen.f1, scored.precision, scored.recall,
        scored.f1, ranks.auroc, ranks.average_precision, scored.n_predicted, association.p,
        association.z, hits_of(inside["train"], labels["train"]),
    )  # fmt: skip


def _pairs(whole: _Table, q: np.ndarray, concepts: Sequence[Concept]) -> pd.DataFrame:
    feature, concept = np.nonzero(whole.hits_train > 0)
    table = {"feature": feature, "concept": pd.Categorical.from_codes(
        concept, [c.name for c in concepts])}  # fmt: skip
    table |= {name: getattr(whole, name)[feature, concept] for name in whole._fields}
    return pd.DataFrame(table | {"q_all_pairs": q[feature, concept]})


def _best(
    features: Features,
    concept: Concept,
    i: int,
    whole: _Table,
    q: np.ndarray,
    parts: Parts,
    yes: Bool[np.ndarray, " rows"],
    either_sign: bool,
    n_draws: int,
    seed: int,
) -> dict[str, Any]:
    """The chosen feature of one concept, scored on test with intervals."""
    sign = np.sign(np.nan_to_num(whole.coef[:, i])).astype(int)
    allowed = (sign != 0) if either_sign else (sign > 0)
    j = int(np.where(allowed, whole.f1_validation[:, i], -1.0).argmax())
    y = yes[parts.test]
    test = restrict(features.columns(j, j + 1), parts.test)
    called = calls(test, int(sign[j]), float(whole.threshold[j, i]))
    residues = by_cluster(called, y, parts.cluster[parts.test])
    spans = Occurrences.of([concept], parts.test)
    occurrences = residues._replace(
        found=_hit_by_cluster(spans, called, parts.cluster[parts.test]),
        positives=_hit_by_cluster(spans, np.ones(len(y), bool), parts.cluster[parts.test]),
    )
    row = {
        "feature": j, "sign": int(sign[j]),
        **{name: float(getattr(whole, name)[j, i]) for name in whole._fields},
        "q_all_pairs": float(q[j, i]),
        "base_rate": float(y.mean()),
        "f1_all_positive": f1_all_positive(y),
        "recall_occurrences": _ratio(occurrences.found, occurrences.positives),
        "n_occurrences_test": int(occurrences.positives.sum()),
        "n_positive_train": int(yes[parts.train].sum()),
        "n_positive_validation": int(yes[parts.validation].sum()),
        "n_positive_test": int(y.sum()),
    } | _confirmation(residues, parts.cluster[parts.test])  # fmt: skip
    for name, (low, high) in bootstrap(residues, n_draws=n_draws, seed=seed).items():
        row |= {f"{name}_test_low": float(low), f"{name}_test_high": float(high)}
    drawn = bootstrap(occurrences, n_draws=n_draws, seed=seed)
    return row | {
        "recall_occurrences_low": float(drawn["recall"][0]),
        "recall_occurrences_high": float(drawn["recall"][1]),
    }


def _confirmation(residues: Counts, cluster: Int[np.ndarray, " rows"]) -> dict[str, Any]:
    """The test of the chosen feature's calls, and on how many clusters its scores rest."""
    size = np.unique(cluster, return_counts=True)[1].astype(float)
    test = call_test(residues.hits, residues.predicted, residues.positives, size)
    return {
        "n_clusters_test": int((residues.positives > 0).sum()),
        "n_effective_test": float(effective_number(residues.positives)),
        "recall_clusters": test.recall, "false_alarms_clusters": test.false_alarms,
        "p": test.p, "p_least": test.p_least,
    }  # fmt: skip


def calls(columns: LatentColumns, sign: int, threshold: float) -> Bool[np.ndarray, " rows"]:
    """Rows that a single column calls: z ≥ threshold, or z < threshold for a negative sign."""
    z = np.zeros(columns.n_rows)
    z[columns.rows] = columns.values
    if not np.isfinite(threshold) or not sign:
        return np.zeros(len(z), bool)
    return z >= threshold if sign > 0 else z < threshold


def by_cluster(
    called: Bool[np.ndarray, " rows"],
    labels: Bool[np.ndarray, " rows"],
    cluster: Int[np.ndarray, " rows"],
) -> Counts:
    """Counts of residues in each cluster that has any row."""
    _, index = np.unique(cluster, return_inverse=True)

    def count(mask: np.ndarray) -> Float[np.ndarray, " clusters"]:
        return np.bincount(index, mask).astype(float)

    hits = count(called & labels)
    return Counts(hits, count(called), hits, count(labels))


def _hit_by_cluster(spans: Occurrences, called: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Occurrences with a called residue, in each cluster."""
    clusters, index = np.unique(cluster, return_inverse=True)
    rows = np.repeat(np.arange(len(called)), np.diff(spans.indptr))
    hit = called[rows]
    pairs = np.unique(np.stack([index[rows[hit]], spans.span[hit]], axis=1), axis=0)
    return np.bincount(pairs[:, 0], minlength=len(clusters)).astype(float)


def _ratio(found: np.ndarray, positives: np.ndarray) -> float:
    return float(found.sum() / positives.sum()) if positives.sum() else float("nan")
