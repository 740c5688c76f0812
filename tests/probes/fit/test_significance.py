"""Tests and intervals whose sample is the homology cluster."""

from __future__ import annotations

import numpy as np
import pytest

from probes.fit.significance import (
    Counts,
    bootstrap,
    f1_of,
    false_discovery_rate,
    score_test,
)
from tests.probes.helpers import columns_of


def test_score_test_is_the_dense_formula():
    """Zeros in closed form; a cluster may lie anywhere among the rows."""
    rng = np.random.default_rng(0)
    z = rng.exponential(size=(300, 5)) * (rng.random((300, 5)) < 0.2)
    labels = rng.random((300, 3)) < (0.2 + 0.5 * (z[:, :3] > 0))
    cluster = rng.integers(0, 20, 300)
    u = np.zeros((20, 5, 3))
    for i in range(300):
        u[cluster[i]] += np.outer(z[i] - z.mean(axis=0), labels[i] - labels.mean(axis=0))
    expected = u.sum(axis=0) / np.sqrt((u**2).sum(axis=0))
    np.testing.assert_allclose(score_test(columns_of(z), labels, cluster).z, expected, rtol=1e-5)


def test_chance_is_not_significant_even_when_residues_of_a_cluster_agree():
    """Both are constant in a cluster and independent: p is uniform, where residues' p is not."""
    rng = np.random.default_rng(1)
    n_clusters, size, n_columns = 200, 50, 300
    cluster = np.repeat(np.arange(n_clusters), size)
    z = (rng.random((n_clusters, n_columns)) < 0.3)[cluster].astype(float)
    labels = (rng.random((n_clusters, 1)) < 0.3)[cluster]
    p = score_test(columns_of(z), labels, cluster).p[:, 0]
    assert 0.02 < (p < 0.05).mean() < 0.09
    by_residue = score_test(columns_of(z), labels, np.arange(len(z))).p[:, 0]
    assert (by_residue < 0.05).mean() > 0.5


def test_an_association_is_significant_and_has_a_sign():
    """A column that fires in the concept, and one that fires outside it."""
    rng = np.random.default_rng(2)
    labels = rng.random((2000, 1)) < 0.3
    z = np.concatenate([labels & (rng.random((2000, 1)) < 0.5),
                        ~labels & (rng.random((2000, 1)) < 0.5)], axis=1)  # fmt: skip
    found = score_test(columns_of(z.astype(float)), labels, np.arange(2000) // 20)
    assert (found.p < 1e-6).all()
    assert found.z[0] > 0 > found.z[1]


def test_what_does_not_vary_has_p_one():
    """An empty column, a concept of all rows, a concept of none."""
    labels = np.stack([np.ones(30, bool), np.zeros(30, bool), np.arange(30) % 2 == 0], axis=1)
    z = np.zeros((30, 2))
    z[::3, 1] = 1.0
    p = score_test(columns_of(z), labels, np.arange(30) // 3).p
    assert (p[0] == 1).all()
    assert (p[1, :2] == 1).all()


def test_false_discovery_rate_of_a_small_example():
    """Benjamini and Hochberg: q_(i) = min over j ≥ i of p_(j) n / j."""
    q = false_discovery_rate(np.array([[0.01, 0.04], [0.03, 0.5]]))
    np.testing.assert_allclose(q, [[0.04, 0.16 / 3], [0.16 / 3, 0.5]])


def test_bootstrap_draws_clusters():
    """Equal clusters leave no doubt; clusters that differ do; F1 of the whole lies inside."""
    same = Counts(*(np.full(20, n) for n in (3.0, 4.0, 3.0, 5.0)))
    for low, high in bootstrap(same, n_draws=200).values():
        assert low == pytest.approx(high)
    rng = np.random.default_rng(3)
    hits = rng.integers(0, 4, 40).astype(float)
    unequal = Counts(hits, hits + 1, hits, hits + 2)
    low, high = bootstrap(unequal, n_draws=500)["f1"]
    assert low < f1_of(unequal) < high
    again = bootstrap(unequal, n_draws=500)["f1"]
    assert (low, high) == tuple(again)


def test_bootstrap_without_predictions():
    """No precision, F1 of 0, and no warning."""
    nothing = Counts(np.zeros(5), np.zeros(5), np.zeros(5), np.ones(5))
    found = bootstrap(nothing, n_draws=50)
    assert np.isnan(found["precision"]).all()
    assert (found["f1"] == 0).all()


@pytest.mark.parametrize("n_clusters", [1, 2])
def test_one_or_two_clusters_have_no_interval(n_clusters):
    """Every draw of one cluster is the same: 2 of 11 residues are not 0.18 for certain."""
    few = np.zeros(20)
    few[:n_clusters] = 11.0
    many = np.full(20, 5.0)
    precision_unknown = bootstrap(Counts(few / 5, few, few / 5, many), n_draws=50)
    assert np.isnan(precision_unknown["precision"]).all()
    assert not np.isnan(precision_unknown["f1"]).any()
    recall_unknown = bootstrap(Counts(few / 5, many, few / 5, few), n_draws=50)
    assert np.isnan(recall_unknown["recall"]).all()
    assert np.isnan(recall_unknown["f1"]).all()
