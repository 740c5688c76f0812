"""Ranks and thresholds of all pairs, against scikit-learn and by brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

import probes.fit.blocks as blocks
from probes.data.part_columns import dense_column
from probes.fit.scores import (
    f1_all_positive,
    rank_scores,
    restrict,
    score_at,
    scores,
)
from tests.probes.helpers import columns_of


def sorted_columns(dense):
    dense = np.asarray(dense, dtype=np.float32)
    return restrict(columns_of(dense), np.ones(len(dense), bool))


def brute_force_f1(column, labels, sign):
    """Best F1 over every cut that does not call all rows positive, and the fewest called by it."""
    best, fewest = 0.0, len(column)
    for t in np.unique(column[column > 0]):
        called = column >= t if sign > 0 else column < t
        f1 = 2 * (called & labels).sum() / (called.sum() + labels.sum())
        if not called.all() and (f1 > best or (f1 == best and called.sum() < fewest)):
            best, fewest = f1, called.sum()
    return best, fewest


def random_case(rng, levels):
    """Sparse columns with ties, an empty, a constant and an always-on one; four concepts."""
    n, d = 40, 6
    dense = np.maximum(rng.integers(-levels, levels + 1, size=(n, d)), 0) / 7
    dense[:, 3] = 0
    dense[:, 4] = 2.5
    dense[:, 5] = 1 + rng.integers(0, levels, n) / 7
    labels = rng.random((n, 4)) < [0.05, 0.3, 0.5, 0.9]
    labels[0], labels[1] = True, False
    return dense.astype(np.float32), labels, rng.choice([-1, 1], size=(d, 4))


cases = st.tuples(st.integers(0, 2**31).map(np.random.default_rng), st.sampled_from([1, 2, 5, 900]))


@given(cases, st.sampled_from([30, 1 << 20]))
@settings(deadline=None, max_examples=15)
def test_all_pairs_equal_sklearn(case, block_items):
    dense, labels, sign = random_case(*case)
    columns = sorted_columns(dense)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_ITEMS", block_items)
        found = rank_scores(columns, labels, sign)
        at = score_at(columns, labels, sign, found.threshold)
    for j, c in np.ndindex(sign.shape):
        y, score = labels[:, c], sign[j, c] * dense[:, j]
        assert found.auroc[j, c] == pytest.approx(roc_auc_score(y, score), abs=1e-12)
        expected = average_precision_score(y, score)
        assert found.average_precision[j, c] == pytest.approx(expected, abs=1e-12)
        f1, n_called = brute_force_f1(dense[:, j], y, sign[j, c])
        assert found.f1[j, c] == pytest.approx(f1, abs=1e-12)
        assert np.isfinite(found.threshold[j, c]) == (f1 > 0)
        # the frozen threshold reproduces the F1 it was chosen for, with the fewest calls
        assert at.f1[j, c] == pytest.approx(f1, abs=1e-12)
        if f1 > 0:
            assert at.n_predicted[j, c] == n_called
            precision, recall, _ = precision_recall_curve(y, score)
            # its first point calls everything positive, which is no cut of ours
            curve = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
            assert found.f1[j, c] <= curve.max() + 1e-12
            assert at.precision[j, c] * at.n_predicted[j, c] == pytest.approx(
                at.recall[j, c] * y.sum()
            )


def test_one_axis_of_labels_gives_one_axis_of_scores():
    dense, labels, sign = random_case(np.random.default_rng(1), 3)
    columns = sorted_columns(dense)
    table = rank_scores(columns, labels, sign)
    for c in range(4):
        one = rank_scores(columns, labels[:, c], sign[:, c])
        for a, b in zip(one, table, strict=True):
            np.testing.assert_array_equal(a, b[:, c])


def test_by_hand():
    dense = np.array([[3, 0], [2, 1], [2, 1], [1, 0], [0, 2]])
    labels = np.array([True, True, False, True, False])
    found = rank_scores(sorted_columns(dense), labels, np.array([1, 0]))
    assert found.threshold.tolist() == [1, np.inf]  # z >= 1: three of four right, all three found
    assert found.f1 == pytest.approx([6 / 7, 0])
    # six pairs: four in order, one tied; no direction ranks nothing
    assert found.auroc == pytest.approx([4.5 / 6, 0.5])
    assert found.average_precision == pytest.approx([(1 + 2 / 3 + 3 / 4) / 3, 0.6])


def test_calling_everything_positive_is_no_cut():
    labels = np.array([True, False, True])
    found = rank_scores(sorted_columns([[1], [2], [3]]), labels)
    assert found.threshold.tolist() == [3]
    assert f1_all_positive(labels) == pytest.approx(0.8)


def test_silence_is_a_cut():
    labels = np.array([True, True, False, False])
    found = rank_scores(sorted_columns([[0], [0], [1], [2]]), labels, np.array([-1]))
    assert (found.f1[0], found.threshold[0], found.auroc[0]) == (1, 1, 1)


def test_of_equal_cuts_the_strictest():
    # by rank T T F F F F T T F F: two of two, and four of eight, have F1 2/3
    labels = np.isin(np.arange(10), [0, 1, 6, 7])
    z = np.arange(1, 11)[:, None]
    falling = rank_scores(sorted_columns(z), labels, np.array([-1]))
    rising = rank_scores(sorted_columns(11 - z), labels, np.array([1]))
    assert (falling.f1[0], rising.f1[0]) == (2 / 3, 2 / 3)
    assert (falling.threshold[0], rising.threshold[0]) == (3, 9)


def test_one_class_has_no_scores():
    labels = np.zeros((3, 2), bool)
    labels[1, 1] = True
    found = rank_scores(sorted_columns([[1], [2], [3]]), labels)
    for each in found:
        assert np.isnan(each[:, 0]).all()
        assert np.isfinite(each[:, 1]).all()
    at = score_at(sorted_columns([[1], [2], [3]]), labels, np.ones((1, 2)), found.threshold)
    assert at.n_predicted.tolist() == [[0, 2]]


def test_a_threshold_between_two_floats_counts_what_exceeds_it():
    columns = sorted_columns([[1.0], [np.float32(1.1)], [2.0]])
    labels = np.array([False, True, True])
    for threshold, n in ((np.float64(np.float32(1.1)), 2), (1.1000001, 1), (1e-9, 3), (5.0, 0)):
        at = score_at(columns, labels, np.array([1]), np.array([threshold]))
        assert at.n_predicted.tolist() == [n], threshold


def test_unsorted_columns_are_refused():
    with pytest.raises(ValueError, match="must be sorted by value"):
        rank_scores(columns_of(np.array([[1], [2]])), np.array([True, False]))
    with pytest.raises(ValueError, match="labels have 3 rows and the latents 2"):
        rank_scores(sorted_columns([[1], [2]]), np.array([True, False, True]))


def test_restrict_renumbers_and_sorts():
    dense = np.array([[1, 0], [5, 2], [3, 0], [4, 9]])
    part = restrict(columns_of(dense), np.array([True, True, False, True]))
    assert part.n_rows == 3
    assert part.values.tolist() == [5, 4, 1, 9, 2]
    assert part.rows.tolist() == [1, 2, 0, 2, 1]
    assert part.indptr.tolist() == [0, 3, 5]
    assert dense_column(part, 0).tolist() == [1, 5, 4]


def test_scores_by_hand():
    """Nothing predicted has no precision, and F1 of 0."""
    scored = scores(np.array([3, 0]), np.array([4, 0]), 6)
    assert scored.precision[0] == 0.75
    assert np.isnan(scored.precision[1])
    assert scored.recall.tolist() == [0.5, 0]
    assert scored.f1 == pytest.approx([0.6, 0])
