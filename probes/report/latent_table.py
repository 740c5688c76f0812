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

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from probes.data.concepts import IDENTITY
from probes.data.firing import block_bounds
from probes.fit.cluster_tests import excess_test
from probes.fit.scores import Cut, hits_of
from probes.fit.significance import Counts, bootstrap, effective_number, false_discovery_rate
from probes.inputs import Inputs, groups
from probes.kinds.statistics import latent_kinds
from probes.protocols.composition import (
    NeighbourRates,
    concept_given_residue,
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


class _Part(NamedTuple):
    """A part of the proteins, for some concepts that are defined on the same ones."""

    cut: Cut
    labels: Bool[np.ndarray, "part_rows concepts"]
    residue: Int[np.ndarray, " part_rows"]
    identity: np.ndarray
    """P(concept | amino acid), [classes, concepts]."""
    rates: NeighbourRates
    cluster: Int[np.ndarray, " part_rows"]
    """Homology cluster, 0 … n−1."""
    n_clusters: int
    n_positive: Int[np.ndarray, " concepts"]
    base_rate: Float[np.ndarray, " concepts"]


class _Of(NamedTuple):
    """A block of latents on a part; arrays [latents, concepts]."""

    part: _Part
    columns: LatentColumns
    n_fires: Int[np.ndarray, " latents"]
    hits: np.ndarray
    expected_identity: np.ndarray
    expected_neighbours: np.ndarray


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
    kinds = latent_kinds(inputs.latents, inputs.rows, inputs.structures)
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
    """One row for each latent that has an annotation, by latent; latents are read in blocks."""
    rows, latents = inputs.rows, inputs.latents
    around = neighbourhoods(rows.residue_class, rows.protein_idx)
    best_excess = np.full(latents.d_sae, -np.inf)
    found: dict[int, dict] = {}
    for members in groups([c for c in inputs.concepts if c.kind not in IDENTITY]):
        of = inputs.parts(members)
        keeps = of.train | of.validation, of.test
        cuts = [Cut(keep) for keep in keeps]
        for some in chunks_of(members, rows.n_rows, inputs.config.label_bytes):
            labels = label_columns(members[some], *keeps)
            parts = [_part(inputs, *one, around) for one in zip(cuts, keeps, labels, strict=True)]
            for first, end in block_bounds(latents.indptr):
                block = latents.columns(first, end)
                for row in _of_block(inputs, parts, block, best_excess[first:end]):
                    name = members[some][row.pop("which")].name
                    found[first + row.pop("latent")] = {"concept": name} | row
    table = pd.DataFrame.from_dict(found, orient="index", columns=None if found else list(COLUMNS))
    return pd.DataFrame(table.rename_axis("latent")[list(COLUMNS)])


def _part(
    inputs: Inputs,
    cut: Cut,
    keep: Bool[np.ndarray, " rows"],
    labels: Bool[np.ndarray, "part_rows concepts"],
    around: np.ndarray,
) -> _Part:
    residue, protein = inputs.rows.residue_class[keep], inputs.rows.protein_idx[keep]
    identity = np.stack([concept_given_residue(y, residue) for y in labels.T], axis=1)
    clusters, cluster = np.unique(inputs.cluster[keep], return_inverse=True)
    rates = neighbour_rates(labels, around[keep], protein)
    return _Part(
        cut, labels, residue.astype(np.int64), identity, rates, cluster, len(clusters),
        labels.sum(axis=0), labels.mean(axis=0),
    )  # fmt: skip


def _of_block(
    inputs: Inputs, parts: list[_Part], block: LatentColumns, best_excess: np.ndarray
) -> list[dict[str, Any]]:
    """Annotations better than ``best_excess``, which they replace; ``latent`` within the block."""
    select, test = (_of(part, part.cut(block)) for part in parts)
    chosen, excess = _most_in_excess(select, inputs.config.min_fires)
    better = np.flatnonzero((excess > 0) & (excess > best_excess) & (test.n_fires > 0))
    best_excess[better] = excess[better]
    return [
        {"latent": j, "which": int(chosen[j])} | _row(select, test, j, int(chosen[j])) | tested
        for j, tested in zip(
            better.tolist(), _over_clusters(inputs, test, chosen, better), strict=True
        )
    ]


def _of(part: _Part, columns: LatentColumns) -> _Of:
    return _Of(
        part, columns, np.diff(columns.indptr), hits_of(columns, part.labels),
        mean_rate(columns, part.residue, part.identity),
        mean_rate(columns, part.rates.row, part.rates.table),
    )  # fmt: skip


def _most_in_excess(select: _Of, min_fires: int) -> tuple[np.ndarray, np.ndarray]:
    """(concept of largest precision − expectation, that excess) of each latent."""
    n = np.maximum(select.n_fires, 1)[:, None]
    excess = np.nan_to_num(select.hits / n - select.expected_neighbours, nan=-np.inf)
    excess[select.n_fires < min_fires] = -np.inf
    return excess.argmax(axis=1), excess.max(axis=1)


def _row(select: _Of, test: _Of, j: int, c: int) -> dict[str, float]:
    precision = test.hits[j, c] / test.n_fires[j]
    row = {
        "precision_select": select.hits[j, c] / select.n_fires[j],
        "precision": precision,
        "recall": test.hits[j, c] / max(int(test.part.n_positive[c]), 1),
        "base_rate": test.part.base_rate[c],
        "n_fires_test": int(test.n_fires[j]),
    }
    row["excess_select"] = row["precision_select"] - select.expected_neighbours[j, c]
    for name in ("identity", "neighbours"):
        expected = getattr(test, f"expected_{name}")[j, c]
        row[f"expected_{name}"] = expected
        row[f"enrichment_{name}"] = precision / expected if expected > 0 else float("nan")
    return row


def _over_clusters(
    inputs: Inputs, test: _Of, chosen: np.ndarray, latents: np.ndarray
) -> list[dict[str, float]]:
    """Interval and p-value of each latent's precision for its concept, over homology clusters."""
    part, n = test.part, test.part.n_clusters
    found: list[dict[str, float]] = []
    for start in range(0, len(latents), LATENTS_AT_ONCE):
        some = latents[start : start + LATENTS_AT_ONCE]
        fires, hits, expected = np.zeros((3, n, len(some)))
        for at, j in enumerate(some.tolist()):
            rows, _ = test.columns.column(j)
            of, c = part.cluster[rows], chosen[j]
            fires[:, at] = np.bincount(of, minlength=n)
            hits[:, at] = np.bincount(of, part.labels[rows, c], minlength=n)
            rate = part.rates.table[part.rates.row[rows], c]
            expected[:, at] = np.bincount(of, rate, minlength=n)
        drawn = bootstrap(
            Counts(hits, fires, hits, fires),
            n_draws=inputs.config.bootstrap, seed=inputs.config.seed,
        )["precision"]  # fmt: skip
        n_clusters = (fires > 0).sum(axis=0)
        p = excess_test(hits, fires, expected)
        effective = effective_number(fires)
        found += [
            {"precision_low": low, "precision_high": high, "n_clusters_test": int(n_all),
             "n_effective_test": float(n_effective), "p_excess": float(value)}
            for low, high, n_all, n_effective, value in zip(
                *drawn, n_clusters, effective, p, strict=True
            )
        ]  # fmt: skip
    return found
