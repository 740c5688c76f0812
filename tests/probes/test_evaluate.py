"""Thresholds, scores and choices, by hand and by brute force; nothing is chosen on test."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from probes.neurons import best_neurons
from probes.single import probe_latents, probe_neuron
from sklearn.metrics import f1_score, roc_auc_score

from probes.composition import concept_given_residue, neighbourhoods
from probes.config import ProbeConfig
from probes.evaluate import probe_run
from probes.multi import auroc_of_latents, auroc_of_probe, choose_latents
from probes.precise import Part, PreciseLatents, firing
from probes.scores import (
    auroc,
    best_f1_thresholds,
    dense_column,
    f1_all_positive,
    restrict,
    score_at,
    scores,
)
from tests.probes.helpers import columns_of


def sorted_columns(dense):
    dense = np.asarray(dense, dtype=np.float32)
    return restrict(columns_of(dense), np.ones(len(dense), bool))


def brute_force_f1(column, labels, sign):
    """Best F1 over every cut that does not call all rows positive."""
    best = 0.0
    for t in np.unique(column[column > 0]):
        called = column >= t if sign > 0 else column < t
        if not called.all():
            best = max(best, 2 * (called & labels).sum() / (called.sum() + labels.sum()))
    return best


small = st.integers(0, 2**31).map(np.random.default_rng)


@given(small, st.sampled_from([2, 5, 1000]))
@settings(deadline=None, max_examples=40)
def test_f1_threshold_equals_brute_force(rng, levels):
    n, d = 30, 5
    dense = np.maximum(rng.integers(-levels, levels + 1, size=(n, d)), 0) / 7
    dense[:, 4] = 0
    labels = rng.random(n) < 0.4
    labels[:2] = [True, False]
    sign = np.array([1, -1, 1, -1, 1])
    columns = sorted_columns(dense)
    cut = best_f1_thresholds(columns, labels, sign)
    expected = [brute_force_f1(dense.astype(np.float32)[:, j], labels, sign[j]) for j in range(d)]
    assert cut.f1 == pytest.approx(expected)
    # the frozen threshold reproduces the F1 it was chosen for
    assert score_at(columns, labels, sign, cut.threshold).f1 == pytest.approx(expected)


def test_f1_threshold_by_hand():
    dense = np.array([[3, 0], [2, 1], [2, 1], [1, 0], [0, 2]])
    labels = np.array([True, True, False, True, False])
    cut = best_f1_thresholds(sorted_columns(dense), labels, np.array([1, 0]))
    assert cut.threshold.tolist() == [1, np.inf]  # z >= 1: three of four right, all three found
    assert cut.f1 == pytest.approx([6 / 7, 0])


def test_calling_everything_positive_is_no_cut():
    dense = np.array([[1], [2], [3]])
    labels = np.array([True, False, True])
    cut = best_f1_thresholds(sorted_columns(dense), labels, np.array([1]))
    assert cut.threshold.tolist() == [3]
    assert f1_all_positive(labels) == pytest.approx(f1_score(labels, [True] * 3))


def test_scores_by_hand():
    scored = scores(np.array([3, 0]), np.array([4, 0]), 6)
    assert scored.precision[0] == 0.75
    assert np.isnan(scored.precision[1])
    assert scored.recall.tolist() == [0.5, 0]
    assert scored.f1 == pytest.approx([0.6, 0])


def test_restrict_renumbers_and_sorts():
    dense = np.array([[1, 0], [5, 2], [3, 0], [4, 9]])
    part = restrict(columns_of(dense), np.array([True, True, False, True]))
    assert part.n_rows == 3
    assert part.values.tolist() == [5, 4, 1, 9, 2]
    assert part.rows.tolist() == [1, 2, 0, 2, 1]
    assert part.indptr.tolist() == [0, 3, 5]
    assert dense_column(part, 0).tolist() == [1, 5, 4]


@given(small)
@settings(deadline=None, max_examples=20)
def test_auroc_equals_pair_counting(rng):
    labels = rng.random(20) < 0.5
    labels[:2] = [True, False]
    score = rng.integers(0, 4, 20).astype(float)
    pairs = [np.sign(a - b) / 2 + 0.5 for a in score[labels] for b in score[~labels]]
    assert auroc(labels, score) == pytest.approx(np.mean(pairs))


@given(small, st.sampled_from([3, 10**6]), st.sampled_from([20, 64, 150]))
@settings(deadline=None, max_examples=40)
def test_best_neurons_equal_brute_force(rng, levels, n):
    x = rng.integers(-levels, levels, size=(n, 4)).astype(np.float32)
    labels = rng.random((n, 3)) < [0.1, 0.5, 0.8]
    labels[0], labels[1] = True, False
    for c, neuron in enumerate(best_neurons(x, labels)):
        y = labels[:, c]
        expected = 0.0
        for d in range(4):
            for sign in (1, -1):
                called = sign * x[:, d] >= sign * x[:, d, None]  # a cut in every row
                called = called[~called.all(axis=1)]
                f1 = 2 * (called & y).sum(axis=1) / (called.sum(axis=1) + y.sum())
                expected = max(expected, f1.max(initial=0.0))
        assert neuron.f1 == pytest.approx(expected)
        scored = probe_neuron(neuron, x, y, x, y)
        assert scored["neuron_f1"] == pytest.approx(expected)
        expected_auroc = roc_auc_score(y, neuron.sign * x[:, neuron.dimension])
        assert scored["neuron_auroc"] == pytest.approx(expected_auroc)


def test_latent_and_threshold_come_from_select_alone():
    rng = np.random.default_rng(0)
    y, y_test = np.arange(60) < 20, np.arange(60) < 30
    noise = rng.random((60, 2)) * 0.1
    # latent 0 is the better one on select (cut at 2), latent 1 is perfect on test
    dense = np.stack([np.where(y, 2.0, 0.5), np.where(rng.permutation(y), 2.0, 0.5)], 1)
    dense_test = np.stack([np.where(rng.permutation(y_test), 2.1, 1.0), np.where(y_test, 3, 0)], 1)
    select, test = sorted_columns(dense + noise), sorted_columns(dense_test + noise)
    row, table = probe_latents(select, y, test, y_test)
    assert table["f1_test"].argmax() == 1
    assert row["latent"] == 0
    assert row["latent_f1_select"] == 1
    assert row["latent_f1"] == table["f1_test"].to_numpy()[0] < 1
    assert 2 <= row["latent_threshold"] < 2.2
    # whatever test holds, the choice stays
    other, _ = probe_latents(select, y, sorted_columns(dense_test[::-1]), ~y_test)
    for key in ("latent", "latent_coef", "latent_intercept", "latent_threshold"):
        assert other[key] == row[key]


def test_the_best_latent_tells_by_firing():
    y = np.arange(40) < 30
    dense = np.stack([np.where(y, 0.0, 5.0), np.where(np.arange(40) < 12, 1.0, 0.0)], 1)
    row, table = probe_latents(sorted_columns(dense), y, sorted_columns(dense), y)
    coef = table["coef"].to_numpy()
    assert coef[0] < 0 < coef[1]
    assert table["f1_select"].tolist() == pytest.approx([1.0, 24 / 42])  # its silence is perfect
    assert row["latent"] == 1
    assert row["latent_auroc"] == pytest.approx(roc_auc_score(y, dense[:, 1]))


def part_of(dense, classes, proteins):
    classes, proteins = np.array(classes, dtype=np.int8), np.array(proteins, dtype=np.int32)
    return Part(sorted_columns(dense), classes, proteins, neighbourhoods(classes, proteins))


def test_composition_expectation_by_hand():
    # select: class 0 is in the concept 3 of 4 times, class 1 once in 4
    classes = [0, 0, 0, 0, 1, 1, 1, 1]
    labels = np.array([1, 1, 1, 0, 1, 0, 0, 0], dtype=bool)
    p = concept_given_residue(labels, np.array(classes, dtype=np.int8))
    assert p[:2].tolist() == [0.75, 0.25]
    assert p[2] == labels.mean()
    # latent 0 fires on rows 0, 1 (class 0) and 4 (class 1): precision 1, expected 7/12
    dense = np.zeros((8, 2))
    dense[[0, 1, 4], 0] = [1, 2, 3]
    dense[[3, 7], 1] = 1
    select = part_of(dense, classes, [0, 0, 1, 1, 2, 2, 3, 3])
    fires = firing(select, np.zeros(2))
    assert fires.n_fires.tolist() == [3, 2]
    assert fires.n_proteins.tolist() == [2, 2]
    assert fires.composition[0, :2] == pytest.approx([2 / 3, 1 / 3])
    # test: it fires on two residues of class 1, one of them in the concept
    test_dense = np.zeros((8, 2))
    test_dense[[4, 5], 0] = 1
    test = part_of(test_dense, classes, [5, 5, 5, 5, 6, 6, 6, 6])
    ranked = PreciseLatents(select, test, min_fires=3, min_proteins=2).rank(labels, labels, 10)
    # latent 1 lacks support; so does latent 0 above any share of its maximum
    assert [(row["firing"], row["latent"]) for row in ranked] == [("any", 0), ("strong", 0)]
    assert ranked[0] == {**ranked[1], "firing": "any"}
    row = ranked[0]
    assert row["select_precision"] == 1
    assert row["select_expected_precision"] == pytest.approx(7 / 12)
    assert row["test_precision"] == 0.5
    assert row["test_expected_precision"] == pytest.approx(0.25)
    assert row["test_enrichment"] == pytest.approx(2.0)
    assert row["test_excess"] == pytest.approx(0.25)
    assert (row["test_n_fires"], row["test_n_proteins"]) == (2, 1)
    assert row["test_base_rate"] == 0.5
    assert row["test_recall"] == pytest.approx(0.25)


def test_an_identity_latent_is_not_precise_beyond_its_composition():
    rng = np.random.default_rng(2)
    classes = rng.integers(0, 4, 4000).astype(np.int8)
    labels = rng.random(4000) < np.array([0.9, 0.3, 0.2, 0.1])[classes]
    structure = labels & (rng.random(4000) < 0.3)
    dense = np.stack([classes == 0, structure], axis=1).astype(float)
    part = part_of(dense, classes, np.arange(4000) // 50)
    ranked = PreciseLatents(part, part, min_fires=50, min_proteins=5).rank(labels, labels, 2)
    assert [row["latent"] for row in ranked if row["firing"] == "any"] == [1, 0]
    assert ranked[1]["test_precision"] == pytest.approx(0.9, abs=0.03)
    assert ranked[1]["test_excess"] == pytest.approx(0, abs=1e-9)


def test_precise_threshold_is_frozen_on_select():
    # on select the upper half of the latent is pure; on test it is the lower half
    n = 400
    labels = np.tile([True, False], n // 2)
    dense = np.where(labels, 4.0, 1.0)[:, None]
    select = part_of(dense, [0] * n, np.arange(n) // 10)
    test = part_of(np.where(labels, 0.5, 3.0)[:, None], [0] * n, np.arange(n) // 10)
    ranked = PreciseLatents(select, test, min_fires=100, min_proteins=10).rank(labels, labels, 1)
    loose, row = ranked
    assert (loose["firing"], loose["threshold"]) == ("any", 0)
    assert (loose["select_precision"], loose["test_precision"]) == (0.5, 0.5)
    assert row["firing"] == "strong"
    assert row["threshold"] == row["threshold_fraction"] * 4.0 >= 1.0
    assert (row["select_precision"], row["test_precision"]) == (1, 0)


def test_sparse_probe_finds_the_planted_latents():
    rng = np.random.default_rng(4)
    dense = np.maximum(rng.normal(-1, 1, size=(3000, 30)), 0)
    copies = dense[:, :1] * rng.uniform(0.9, 1.1, size=(3000, 10))
    dense = np.concatenate([dense, copies], axis=1)  # ten near copies of latent 0 add nothing
    margin = 4 * dense[:, 0] + 3 * dense[:, 7] - 3 * dense[:, 9] - 1
    labels = rng.random(3000) < 1 / (1 + np.exp(-margin))
    columns = sorted_columns(dense)
    chosen = choose_latents(columns, labels, 3)
    assert set(chosen[1:]) == {7, 9} or set(chosen[:2]) == {7, 9}
    assert len({j for j in chosen if j == 0 or j >= 30}) == 1
    together = auroc_of_latents(columns, labels, columns, labels, chosen)
    assert together > auroc_of_latents(columns, labels, columns, labels, chosen[:1])
    assert together == pytest.approx(roc_auc_score(labels, margin), abs=0.01)


def test_sparse_probe_stops_when_nothing_is_left():
    dense = np.zeros((50, 4))
    dense[:20, 1] = 1
    assert choose_latents(sorted_columns(dense), np.arange(50) < 25, 3) == [1]


def test_dense_probe_ignores_scale_and_constants():
    rng = np.random.default_rng(5)
    labels = rng.random(500) < 0.5
    x = np.stack([rng.normal(size=500) + 2 * labels, np.full(500, 9.0)], axis=1)
    plain = auroc_of_probe(x, labels, x, labels)
    assert plain == pytest.approx(roc_auc_score(labels, x[:, 0]))
    scaled = x * [1e-4, 1] + [50, 0]
    assert auroc_of_probe(scaled, labels, scaled, labels) == pytest.approx(plain)


def test_whole_run(tiny_run, tiny_store, sources):
    config = ProbeConfig(
        tiny_run, (tiny_store.folder,), **sources, min_positives=20, min_fires=20,
        min_proteins=3, sparse_min_positives=50, sparse_k=4,
    )  # fmt: skip
    results = probe_run(config)
    structure = ["helix", "strand", "TRANSMEM"]
    assert list(results.probes["concept"]) == [*"ACDEFGHIKLMNPQRSTVWY", *structure]
    assert len(results.latent_concepts) == 23 * 64
    assert set(results.precise_latents["concept"]) <= {"helix", "strand", "TRANSMEM"}
    assert list(results.sparse_probes["concept"]) == ["helix", "strand", "TRANSMEM"]
    assert set(results.sparse_probes["k"]) == {4}
    # a random parent knows its amino acids, and cannot know random structure
    amino = results.probes[results.probes["kind"] == "amino acid"]
    assert np.mean(amino["latent_f1"]) > 2 * np.mean(amino["f1_all_positive"])
    assert np.all(np.abs(results.sparse_probes["dense_auroc"].to_numpy()[:2] - 0.5) < 0.1)
    # one row per concept agrees with the long table
    merged = results.probes.merge(results.latent_concepts, on=["concept", "latent"])
    assert len(merged) == 23
    assert list(merged["latent_f1"]) == list(merged["f1_test"])
    assert list(merged["latent_f1_select"]) == list(merged["f1_select"])
    parts = results.split["part"].value_counts()
    assert results.summary["split"]["n_proteins_test"] == parts["test"]
    assert results.summary["stores_the_sae_was_trained_on"] == ["acts"]
    assert results.summary["annotations"][1]["left_out"] == {"CHAIN": 20}
    assert set(parts.index) == set(results.summary["split"]["single_class"])


def test_first_latent_of_the_sparse_probe_has_the_largest_correlation():
    """Against an intercept, Rao's statistic is N · corr²: an always-on latent may win."""
    rng = np.random.default_rng(7)
    labels = rng.random(2000) < 0.4
    always_on = 10 + labels + rng.normal(0, 0.5, 2000)
    sometimes = labels * (rng.random(2000) < 0.3)
    dense = np.stack([always_on, sometimes], axis=1)
    correlation = [abs(np.corrcoef(column, labels)[0, 1]) for column in dense.T]
    assert correlation[0] > correlation[1] + 0.1
    assert choose_latents(sorted_columns(dense), labels, 1) == [0]
