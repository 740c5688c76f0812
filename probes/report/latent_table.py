"""One row for each latent: what kind it is, and the annotation that is most true of it.

A latent's annotation is the concept, other than the amino acids themselves, by which the precision
of its firing most exceeds what a residue and its two neighbours predict
(``probes/protocols/composition.py``), on the proteins that choose. The test proteins then give
precision, expectation and enrichment, with intervals from drawing whole homology clusters. Not F1:
most latents are rare and precise, and F1 asks for the whole concept.

One test for each annotated latent, on test: is its precision above what residue and neighbours
predict there, in clusters that weigh alike (``probes.fit.cluster_tests.excess_test``)? The false
discovery rate is taken over all annotated latents. Those below ``MAX_Q`` in at least
``MIN_CLUSTERS`` clusters, whose precision over residues is above the expectation, too, are
*confirmed*: right more often than their residues explain, which need not be often.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from probes.data.concepts import IDENTITY
from probes.data.rows import ProteinRows
from probes.fit.cluster_tests import excess_test
from probes.fit.scores import hits_of, restrict
from probes.fit.significance import Counts, bootstrap, effective_number, false_discovery_rate
from probes.inputs import Inputs, groups
from probes.kinds.statistics import latent_kinds
from probes.protocols.composition import (
    NeighbourRates,
    expected_precision,
    mean_rate,
    neighbour_rates,
    neighbourhoods,
)
from probes.protocols.found import MAX_Q
from probes.protocols.label_chunks import chunks_of, label_columns
from saejax.latents import LatentColumns

LATENTS_AT_ONCE = 256
"""In the bootstrap."""
COLUMNS = (
    "concept", "precision", "precision_low", "precision_high", "expected_identity",
    "expected_neighbours", "enrichment_identity", "enrichment_neighbours", "recall", "base_rate",
    "n_fires_test", "n_clusters_test", "n_effective_test", "precision_select", "excess_select",
    "p_excess",
)  # fmt: skip
"""Of an annotation; empty where a latent has none."""
MIN_CLUSTERS = 10
"""Homology clusters of the test part in which a confirmed latent fires."""


class _Of(NamedTuple):
    """A part of the proteins for concepts with the same definition; arrays [latents, concepts]."""

    columns: LatentColumns
    n_fires: Int[np.ndarray, " latents"]
    hits: np.ndarray
    expected_identity: np.ndarray
    expected_neighbours: np.ndarray
    n_positive: np.ndarray
    base_rate: np.ndarray
    rates: NeighbourRates


def latent_tables(inputs: Inputs, associations: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(kinds and annotations of all latents, their logos).

    Args:
        inputs: of the run.
        associations: our protocol's pairs, for ``q_all_pairs`` of the one named.

    Returns:
        First the columns of ``latent_kinds``, then ``concept`` (none where no concept beats the
        neighbours on enough residues), ``precision``, ``precision_low``, ``precision_high``,
        ``expected_identity``, ``expected_neighbours``, ``enrichment_identity``,
        ``enrichment_neighbours``, ``recall``, ``base_rate``, ``n_fires_test``, ``n_clusters_test``,
        ``n_effective_test`` on test; ``precision_select`` and ``excess_select`` of the choice;
        ``p_excess``, ``q_excess`` and ``confirmed``; ``q_all_pairs``. Second
        :meth:`probes.kinds.logos.Logos.table`.
    """
    kinds = latent_kinds(inputs.latents.columns(), inputs.rows, inputs.structures)
    table = kinds.table.set_index("latent").join(_annotations(inputs))
    named = table["p_excess"].notna()
    p = table.loc[named, "p_excess"].to_numpy(dtype=float)
    table.loc[named, "q_excess"] = false_discovery_rate(p)
    table["confirmed"] = (
        (table["q_excess"] < MAX_Q)
        & (table["n_clusters_test"] >= MIN_CLUSTERS)
        & (table["precision"] > table["expected_neighbours"])
    )
    if len(associations):
        pairs = associations[["feature", "concept", "q_all_pairs"]]
        q = pd.DataFrame(pairs).astype({"concept": str})
        q = q.rename(columns={"feature": "latent"})
        table = table.reset_index().merge(q, on=["latent", "concept"], how="left")
        return table, kinds.logos.table()
    return table.reset_index(), kinds.logos.table()


def _annotations(inputs: Inputs) -> pd.DataFrame:
    """One row for each latent that has an annotation, by latent."""
    rows = inputs.rows
    around = neighbourhoods(rows.residue_class, rows.protein_idx)
    columns = inputs.latents.columns()
    best_excess = np.full(inputs.latents.d_sae, -np.inf)
    found: dict[int, dict] = {}
    for members in groups([c for c in inputs.concepts if c.kind not in IDENTITY]):
        parts = inputs.parts(members)
        keeps = parts.train | parts.validation, parts.test
        inside = [restrict(columns, keep) for keep in keeps]
        for some in chunks_of(members, rows.n_rows, inputs.config.label_bytes):
            labels = label_columns(members[some], *keeps)
            select, test = (
                _of(rows, *of, around) for of in zip(inside, labels, keeps, strict=True)
            )
            chosen, excess = _most_in_excess(select, inputs.config.min_fires)
            better = np.flatnonzero((excess > 0) & (excess > best_excess) & (test.n_fires > 0))
            best_excess[better] = excess[better]
            tested = _over_clusters(inputs, test, labels[1], chosen, better, parts.test)
            for j, of_clusters in zip(better.tolist(), tested, strict=True):
                c = int(chosen[j])
                name = {"concept": members[some][c].name}
                found[j] = name | _row(select, test, j, c) | of_clusters
    table = pd.DataFrame.from_dict(found, orient="index", columns=None if found else list(COLUMNS))
    return pd.DataFrame(table.rename_axis("latent")[list(COLUMNS)])


def _most_in_excess(select: _Of, min_fires: int) -> tuple[np.ndarray, np.ndarray]:
    """(concept of largest precision − expectation, that excess) of each latent."""
    n = np.maximum(select.n_fires, 1)[:, None]
    excess = np.nan_to_num(select.hits / n - select.expected_neighbours, nan=-np.inf)
    excess[select.n_fires < min_fires] = -np.inf
    return excess.argmax(axis=1), excess.max(axis=1)


def _of(
    rows: ProteinRows,
    inside: LatentColumns,
    labels: Bool[np.ndarray, "part_rows concepts"],
    keep: Bool[np.ndarray, " rows"],
    around: np.ndarray,
) -> _Of:
    residue, protein = rows.residue_class[keep], rows.protein_idx[keep]
    rates = neighbour_rates(labels, around[keep], protein)
    return _Of(
        inside, np.diff(inside.indptr), hits_of(inside, labels),
        expected_precision(inside, labels, residue, protein),
        mean_rate(inside, rates.row, rates.table),
        labels.sum(axis=0), labels.mean(axis=0), rates,
    )  # fmt: skip


def _row(select: _Of, test: _Of, j: int, c: int) -> dict[str, float]:
    precision = test.hits[j, c] / test.n_fires[j]
    row = {
        "precision_select": select.hits[j, c] / select.n_fires[j],
        "precision": precision,
        "recall": test.hits[j, c] / max(int(test.n_positive[c]), 1),
        "base_rate": test.base_rate[c],
        "n_fires_test": int(test.n_fires[j]),
    }
    row["excess_select"] = row["precision_select"] - select.expected_neighbours[j, c]
    for name in ("identity", "neighbours"):
        expected = getattr(test, f"expected_{name}")[j, c]
        row[f"expected_{name}"] = expected
        row[f"enrichment_{name}"] = precision / expected if expected > 0 else float("nan")
    return row


def _over_clusters(
    inputs: Inputs,
    test: _Of,
    labels: np.ndarray,
    chosen: np.ndarray,
    latents: np.ndarray,
    keep: np.ndarray,
) -> list[dict[str, float]]:
    """Interval and p-value of each latent's precision for its concept, over homology clusters."""
    clusters, cluster = np.unique(inputs.cluster[keep], return_inverse=True)
    found: list[dict[str, float]] = []
    for start in range(0, len(latents), LATENTS_AT_ONCE):
        some = latents[start : start + LATENTS_AT_ONCE]
        fires, hits, expected = np.zeros((3, len(clusters), len(some)))
        for at, j in enumerate(some.tolist()):
            rows, _ = test.columns.column(j)
            of, c = cluster[rows], chosen[j]
            rate = test.rates.table[test.rates.row[rows], c]
            fires[:, at] = np.bincount(of, minlength=len(clusters))
            hits[:, at] = np.bincount(of, labels[rows, c], minlength=len(clusters))
            expected[:, at] = np.bincount(of, rate, minlength=len(clusters))
        drawn = bootstrap(
            Counts(hits, fires, hits, fires),
            n_draws=inputs.config.bootstrap, seed=inputs.config.seed,
        )["precision"]  # fmt: skip
        n_clusters = (fires > 0).sum(axis=0)
        p = excess_test(hits, fires, expected)
        effective = effective_number(fires)
        found += [
            {"precision_low": low, "precision_high": high, "n_clusters_test": int(n),
             "n_effective_test": float(m), "p_excess": float(value)}
            for low, high, n, m, value in zip(*drawn, n_clusters, effective, p, strict=True)
        ]  # fmt: skip
    return found
