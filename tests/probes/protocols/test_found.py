"""Which concepts are found: one corrected test for each, and what few clusters allow."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from probes.data.features import SparseFeatures
from probes.data.frames import records
from probes.protocols.found import MAX_Q, corrected, count_found
from probes.protocols.frozen import Parts, frozen
from tests.probes.helpers import columns_of, make_concept

LENGTH = 20


def world(n_test: int, n_latents: int, n_concepts: int = 1):
    """Latent i is concept i; the rest is noise. Each protein is its own cluster."""
    rng = np.random.default_rng(0)
    n_proteins = 40 + n_test
    n = n_proteins * LENGTH
    starts = rng.integers(0, LENGTH - 3, size=(n_concepts, n_proteins))
    concepts = [
        make_concept(f"c{i}", [(LENGTH * p + a, LENGTH * p + a + 3) for p, a in enumerate(of)],
                     n_proteins)
        for i, of in enumerate(starts)
    ]  # fmt: skip
    z = rng.exponential(size=(n, n_latents)) * (rng.random((n, n_latents)) < 0.1)
    for i, concept in enumerate(concepts):
        z[:, i] = concept.labels(n)
    cluster = np.repeat(np.arange(n_proteins), LENGTH).astype(np.int32)
    parts = Parts(cluster < 25, (cluster >= 25) & (cluster < 40), cluster >= 40, cluster)
    return SparseFeatures("latents", columns_of(z.astype(np.float32))), concepts, parts


@pytest.mark.parametrize("n_latents", [2, 400])
def test_a_perfect_latent_is_found_however_many_others_there_are(n_latents):
    """Nine test clusters; the choice was made elsewhere and costs nothing here."""
    best = corrected(frozen(*world(9, n_latents), n_draws=20).best)
    [row] = records(best)
    assert row["f1_test"] == 1.0
    assert row["q"] == row["p"] < MAX_Q
    assert row["found"]


def test_the_test_has_the_direction_that_train_chose():
    """A latent that fires off the concept on test is no finding, however certain that is."""
    features, [concept], parts = world(30, 1)
    z = concept.labels(len(parts.test)) ^ parts.test
    turned = SparseFeatures("latents", columns_of(z[:, None].astype(np.float32)))
    [row] = records(frozen(turned, [concept], parts, n_draws=20).best)
    assert row["p"] > 0.99
    [row] = records(frozen(features, [concept], parts, n_draws=20).best)
    assert row["p"] < 1e-4


def test_too_few_clusters_are_out_of_reach():
    """Four clusters: even a perfect latent is not found, and the count says why; no interval of
    two."""
    four = corrected(frozen(*world(4, 2), n_draws=20).best)
    [row] = records(four)
    assert (row["f1_test"], row["p"], row["found"]) == (1.0, 1 / 16, False)
    assert count_found("frozen", "latents", four)["out_of_reach"] == 1
    five = corrected(frozen(*world(5, 2), n_draws=20).best)
    assert five["found"].tolist() == [True]
    assert count_found("frozen", "latents", five)["out_of_reach"] == 0
    [row] = records(frozen(*world(2, 2), n_draws=20).best)
    assert np.isnan(row["f1_test_low"])


def one_large_cluster(works: slice):
    """Nine test clusters, the first of 30 proteins; the latent is right in some of them.

    Train and validation, where it is right, are those of :func:`world`.
    """
    features, [concept], parts = world(38, 1)
    cluster = np.where(parts.test, np.maximum(parts.cluster, 40 + 29), parts.cluster)
    z = concept.labels(len(cluster))
    right = np.isin(cluster, [*range(40), *range(69, 78)[works]])
    features = SparseFeatures("latents", columns_of((z & right)[:, None].astype(np.float32)))
    [row] = records(
        corrected(frozen(features, [concept], parts._replace(cluster=cluster), n_draws=20).best)
    )
    return row


def test_a_perfect_latent_is_found_beside_a_dominant_cluster():
    """30 of 38 test proteins are one cluster: it counts once, and the table says on how little the
    scores rest."""
    row = one_large_cluster(slice(None))
    assert row["f1_test"] == 1.0
    assert row["p"] == row["p_least"] == 2.0**-9
    assert row["found"]
    assert row["n_clusters_test"] == 9
    assert row["n_effective_test"] == pytest.approx(38**2 / (30**2 + 8))


def test_a_latent_that_works_in_the_dominant_cluster_alone_is_not_found():
    """Four in five of its calls are right; of nine clusters it knows one."""
    row = one_large_cluster(slice(0, 1))
    assert row["f1_test"] > 0.85
    assert row["p"] == 0.5
    assert not row["found"]
    assert row["recall_clusters"] == pytest.approx(1 / 9)
    assert one_large_cluster(slice(0, 4))["found"] is False
    assert one_large_cluster(slice(0, 6))["found"] is True


def test_a_family_of_easy_concepts_carries_no_other():
    """p = 0.04 beside 29 certain letters: q over all would be 0.04, over the three labels 0.12."""
    best = pd.DataFrame({
        "kind": ["amino acid"] * 29 + ["own"] * 3 + ["dssp"], "feature": np.arange(33),
        "p": [1e-9] * 29 + [0.04, 0.5, 0.9, 0.04], "p_least": [1e-30] * 33,
        "f1_validation": 0.9, "f1_test": 0.9,
    })  # fmt: skip
    table = corrected(best)
    np.testing.assert_allclose(table["q"].tail(4), [0.12, 0.75, 0.9, 0.04])
    counts = count_found("frozen", "latents", table)
    assert (counts["letters_found"], counts["own_found"], counts["annotations_found"]) == (29, 0, 1)
    assert counts["concepts_found_beyond_letters"] == 1


def test_both_parts_must_pass_the_bar():
    """F1 above a half on validation alone, or on test alone, is not enough."""
    best = pd.DataFrame({"kind": "own", "feature": 1, "p": 1e-9, "p_least": 1e-9,
                         "f1_validation": [0.9, 0.4, 0.9], "f1_test": [0.4, 0.9, 0.9]})  # fmt: skip
    assert corrected(best)["found"].tolist() == [False, False, True]
