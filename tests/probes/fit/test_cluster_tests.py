"""Tests in which homology clusters weigh alike: few, unequal and dominant ones, and chance."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from probes.fit.cluster_tests import EXACT_CLUSTERS, call_test, excess_test, sign_flip
from probes.fit.significance import Counts, bootstrap, effective_number, false_discovery_rate


def test_signs_are_counted_one_by_one():
    """Every one of 2^n, ties included; zeros and the order of clusters do not matter."""
    rng = np.random.default_rng(0)
    d = np.round(rng.normal(0.4, 1, size=(9, 20)), 1)
    signs = np.array(list(product((1, -1), repeat=9)))
    expected = (signs @ d >= d.sum(axis=0) - 1e-9).mean(axis=0)
    np.testing.assert_allclose(sign_flip(d), expected)
    padded = np.concatenate([np.zeros((4, 20)), d[::-1]])
    np.testing.assert_allclose(sign_flip(padded), expected)


def test_many_clusters_are_normal_in_the_rest():
    """Sixteen, all signs, against the twelve largest and a normal; a draw's noise apart."""
    rng = np.random.default_rng(1)
    d = rng.normal(0.3, 1, size=(EXACT_CLUSTERS + 4, 30))
    signs = 1.0 - 2.0 * (np.arange(1 << 16)[:, None] >> np.arange(16) & 1)
    expected = (signs @ d >= d.sum(axis=0) - 1e-9).mean(axis=0)
    np.testing.assert_allclose(sign_flip(d), expected, rtol=0.03, atol=1e-4)


def world(n_positive: int, n_negative: int, dominant: float = 1.0):
    """(positives, size) of clusters of 100 residues; the first has ``dominant`` times as many."""
    size = np.full(n_positive + n_negative, 100.0)
    size[0] *= dominant
    positives = np.where(np.arange(len(size)) < n_positive, size / 10, 0.0)
    return positives, size


@pytest.mark.parametrize("dominant", [1.0, 30.0, 1000.0])
def test_a_perfect_latent_is_certain_whatever_one_cluster_weighs(dominant):
    """Nine clusters, 2^−9; by sums over residues the largest one alone would give z = 1."""
    positives, size = world(9, 20, dominant)
    found = call_test(positives, positives, positives, size)
    assert found.p == found.p_least == 2.0**-9
    assert (found.recall, found.false_alarms) == (1.0, 0.0)


def test_what_works_in_one_cluster_alone_is_not_certain():
    """The dominant one has 97 % of the positives, all called: that is one observation."""
    positives, size = world(9, 20, 300.0)
    hits = np.where(np.arange(29) == 0, positives, 0.0)
    assert hits.sum() / positives.sum() > 0.97
    assert call_test(hits, hits, positives, size).p == 0.5
    hits[1:3] = positives[1:3]
    assert call_test(hits, hits, positives, size).p == 1 / 8


def test_silence_in_a_few_small_clusters_costs_little():
    """Right in 8 of 11 clusters and wrong nowhere."""
    positives, size = world(11, 40)
    hits = np.where(np.arange(51) < 8, positives, 0.0)
    assert call_test(hits, hits, positives, size).p == pytest.approx(2.0**-8)


def test_a_side_with_few_clusters_sets_the_least_p():
    """Concepts of proteins may have fewer clusters without them than with."""
    positives = np.array([10.0] * 40 + [0.0] * 3)
    found = call_test(positives, positives, positives, np.full(43, 10.0))
    assert found.p == found.p_least == 1 / 8
    zero = np.zeros(5)
    nothing = call_test(zero, zero, zero, np.full(5, 10.0))
    assert (nothing.p, nothing.p_least) == (1.0, 1.0)
    everywhere = call_test(*(np.full(5, 10.0) for _ in range(4)))
    assert everywhere.p == 1.0


def test_calling_everything_finds_nothing():
    """Recall is 1 in every cluster, and so is the share of negatives called."""
    positives, size = world(30, 100)
    assert call_test(positives, size, positives, size).p == 1.0


@pytest.mark.parametrize(("n_positive", "n_negative"), [(5, 100), (30, 300), (30, 30), (100, 8)])
@pytest.mark.parametrize("rate", [0.05, 0.3, 0.6, 0.9])
def test_calls_by_chance_keep_the_rate(n_positive, n_negative, rate):
    """Calls and labels constant within clusters, and independent; one cluster is 20 times as large.
    By signs alone half of them pass where calls are common and clusters few."""
    rng = np.random.default_rng(2)
    n, p = n_positive + n_negative, []
    for _ in range(300):
        size = rng.integers(20, 200, n).astype(float)
        size[0] *= 20
        called = size * (rng.random(n) < rate)
        positives = np.where(np.arange(n) < n_positive, size, 0.0)
        p.append(call_test(called * (positives > 0), called, positives, size).p)
    # a twentieth, and three standard errors of 300 draws
    assert (np.array(p) < 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
    assert (np.array(p) < 0.001).sum() <= 2


def test_labels_that_cluster_within_proteins_keep_the_rate():
    """Runs of positives in clusters whose call rates differ; half of the runs wholly called or
    wholly not."""
    rng = np.random.default_rng(3)
    p = []
    for _ in range(400):
        size = rng.integers(50, 300, 60)
        positives = np.where(np.arange(60) < 12, rng.integers(1, 20, 60), 0)
        positives[0] = 45
        rate = rng.beta(0.8, 1.2, 60)
        as_one = np.where(rng.random(60) < 0.5, rng.random(60) < rate, rate)
        hits = rng.binomial(positives, as_one).astype(float)
        called = hits + rng.binomial(size - positives, rate)
        p.append(call_test(hits, called, positives.astype(float), size.astype(float)).p)
    assert (np.array(p) < 0.05).mean() < 0.08


@pytest.mark.parametrize(("alike", "at_least"), [(1e-6, 0.03), (1.5, 0.004)])
def test_no_more_latents_are_confirmed_by_chance_than_the_rate_allows(alike, at_least):
    """1,700 latents that know nothing of labels that agree within clusters, wholly or in part, one
    cluster 30 times as large: p is uniform at most, and none is left after correction. An interval
    above the expectation lets 20 of them pass."""
    rng = np.random.default_rng(4)
    n_clusters, n_latents = 120, 1700
    rate = rng.beta(alike / 3, alike * 2 / 3, size=(n_clusters, n_latents))
    fires = rng.poisson(6, size=(n_clusters, n_latents)) * (
        rng.random((n_clusters, n_latents)) < 0.4
    )
    fires[0] *= 30
    hits = rng.binomial(fires, rate).astype(float)
    p = excess_test(hits, fires.astype(float), fires / 3)
    assert at_least < (p < 0.05).mean() < 0.05
    assert (false_discovery_rate(p) < 0.05).sum() == 0
    drawn = bootstrap(Counts(hits, fires.astype(float), hits, hits), n_draws=300)
    assert (drawn["precision"][0] > 1 / 3).sum() > 20


@pytest.mark.parametrize("n_clusters", [10, 40])
def test_where_most_is_expected_being_right_is_no_merit(n_clusters):
    """Nine clusters of ten are in the concept: all ten are, a third of the time. By signs alone
    that has p = 2^−10."""
    rng = np.random.default_rng(5)
    fires = np.full((n_clusters, 2000), 5.0)
    hits = fires * (rng.random(fires.shape) < 0.9)
    assert (excess_test(hits, fires, 0.9 * fires) < 0.05).mean() <= 0.05


def test_excess_is_found_where_there_is_one():
    """Right in every cluster beyond what is expected; nothing expected is nothing found; a latent
    that does so only in the cluster where it fires most is not."""
    fires = np.full((40, 4), 10.0)
    hits = np.array([[6.0, 3.0, 6.0, 3.0]]).repeat(40, axis=0)
    hits[::2, :2] += 1
    fires[0, 3], hits[0, 3] = 5000.0, 5000.0
    expected = np.array([[0.3, 0.35, np.nan, 0.3]]) * fires
    p = excess_test(hits, fires, expected)
    assert p[0] < 1e-4
    np.testing.assert_allclose(p[1:], [0.5, 1.0, 0.5])


def test_effective_number():
    """Equal clusters count in full, a dominant one counts alone, and none is none."""
    counts = np.array([[10.0, 1000.0, 0.0]] + [[10.0, 1.0, 0.0]] * 8)
    np.testing.assert_allclose(effective_number(counts), [9, 1.016, 0], atol=1e-3)
