"""Coefficients against scikit-learn, in every shape a column can have."""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

import probes.fit.block_fit as block_fit
import probes.fit.blocks as blocks
import probes.logistic as logistic
from probes.fit.bisection import fit_by_bisection
from probes.fit.nodes import REACH, Bins
from probes.logistic import LogisticFit, fit_logistic_1d, fit_logistic_dense
from tests.probes.helpers import columns_of


def by_sklearn(column, labels, l2=1.0, balanced=False):
    model = LogisticRegression(
        C=1 / l2, solver="newton-cholesky", tol=1e-10, max_iter=1000,
        class_weight="balanced" if balanced else None,
    )  # fmt: skip
    with warnings.catch_warnings():  # it falls back on lbfgs where its line search fails
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(np.asarray(column, dtype=np.float64)[:, None], labels)
    return np.asarray(model.coef_)[0, 0], np.asarray(model.intercept_)[0]


def odd_columns(n=400, seed=0):
    """Latents of every kind, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 0.3
    sparse = np.maximum(rng.normal(-0.5, 2, size=(n, 6)), 0)
    sparse[:, 1] += 2 * labels * (rng.random(n) < 0.5)
    sparse[:, 2] *= ~labels
    columns = [
        *sparse.T,
        labels * 3.0,  # separable by firing
        np.where(labels, 0.0, 3.0),  # separable by silence
        np.where(labels, 4.0, 1.0) + rng.random(n),  # separable and never zero
        np.full(n, 2.5),  # constant
        np.zeros(n),  # empty
        np.eye(n)[5] * 7,  # one entry
        rng.random(n) * 1e-4,  # tiny
        rng.lognormal(0, 2, n),  # heavy tail
        (rng.random(n) < 0.02) * rng.lognormal(3, 2, n),  # rare and large
    ]
    return np.stack(columns, axis=1).astype(np.float32), labels


@pytest.mark.parametrize("l2", [1.0, 0.1, 30.0])
def test_sparse_columns_equal_sklearn(l2):
    dense, labels = odd_columns()
    fit = fit_logistic_1d(columns_of(dense), labels, l2=l2)
    for j in range(dense.shape[1]):
        coef, intercept = by_sklearn(dense[:, j], labels, l2)
        assert fit.coef[j] == pytest.approx(coef, abs=1e-4, rel=1e-4), j
        assert fit.intercept[j] == pytest.approx(intercept, abs=1e-4, rel=1e-4), j


def test_dense_columns_equal_sklearn():
    rng = np.random.default_rng(1)
    labels = rng.random(300) < 0.4
    x = rng.normal(size=(300, 7)) + np.array([0, 5, -50, 0, 0, 0, 3])
    x[:, 3] += 3 * labels
    x[:, 4] = 1.5
    x[:, 5] = np.where(labels, 1, -1) * rng.uniform(1, 2, 300)
    fit = fit_logistic_dense(x, labels)
    for j in range(7):
        coef, intercept = by_sklearn(x[:, j], labels)
        assert fit.coef[j] == pytest.approx(coef, abs=1e-4), j
        assert fit.intercept[j] == pytest.approx(intercept, abs=1e-4 * (1 + abs(intercept))), j


def test_empty_and_constant_columns_by_hand():
    labels = np.array([True, False, False, False])
    dense = np.stack([np.zeros(4), np.full(4, 3.0)], axis=1)
    fit = fit_logistic_1d(columns_of(dense), labels)
    assert fit.coef == pytest.approx([0, 0], abs=1e-7)
    assert fit.intercept == pytest.approx([-np.log(3)] * 2)


@pytest.mark.parametrize("l2", [1.0, 0.1])
def test_a_separable_column_of_large_values_solves_its_equations(l2):
    # scikit-learn stops short here. With margin m = 1000 w + b at the positives and r = n₁ σ(−m):
    # n₀ σ(b) = r and l2 w = 1000 r
    labels = np.arange(400) < 120
    fit = fit_logistic_1d(columns_of(labels[:, None] * 1000.0), labels, l2=l2)
    w, b = fit.coef[0], fit.intercept[0]
    r = 120 / (1 + np.exp(1000 * w + b))
    assert 280 / (1 + np.exp(-b)) == pytest.approx(r, rel=1e-8)
    assert l2 * w == pytest.approx(1000 * r, rel=1e-8)


def test_the_gradient_vanishes_at_the_fit():
    dense, labels = odd_columns(seed=3)
    fit = fit_logistic_1d(columns_of(dense), labels)
    z = dense.astype(np.float64)
    residual = 1 / (1 + np.exp(-np.clip(z * fit.coef + fit.intercept, -700, 700)))
    residual -= labels[:, None]
    scale = np.abs(z).sum(axis=0) + 1
    assert np.abs((residual * z).sum(axis=0) + fit.coef).max() < 1e-4 * scale.max()
    assert (np.abs((residual * z).sum(axis=0) + fit.coef) / scale).max() < 1e-7
    assert np.abs(residual.sum(axis=0)).max() < 1e-6


def many_labels(labels, seed=0):
    """Labels, their opposite, unrelated ones, rare ones."""
    rng = np.random.default_rng(seed)
    n = len(labels)
    return np.stack([labels, ~labels, rng.random(n) < 0.5, np.arange(n) == 5], axis=1)


def require_equal(fit, dense, labels, l2=1.0, balanced=False):
    """Every pair to 1e-4 of scikit-learn."""
    for j, c in np.ndindex(fit.coef.shape):
        coef, intercept = by_sklearn(dense[:, j], labels[:, c], l2, balanced)
        assert fit.coef[j, c] == pytest.approx(coef, abs=1e-4, rel=1e-4), (j, c)
        assert fit.intercept[j, c] == pytest.approx(intercept, abs=1e-4, rel=1e-4), (j, c)


@pytest.mark.parametrize(("l2", "balanced"), [(1.0, False), (1.0, True), (0.1, True)])
def test_all_pairs_equal_sklearn(l2, balanced):
    dense, labels = odd_columns(n=150)
    labels = many_labels(labels)
    fit = fit_logistic_1d(columns_of(dense), labels, l2=l2, balanced=balanced)
    require_equal(fit, dense, labels, l2, balanced)


@pytest.mark.parametrize("balanced", [False, True])
def test_long_latents_equal_sklearn(balanced):
    """More entries than nodes: easy ones, steep ones that need more bins, and steeper still."""
    rng = np.random.default_rng(1)
    n = 6000
    x = np.exp(rng.normal(0, 1, n))
    steep = rng.random(n) < 1 / (1 + np.exp(-6 * (x - 2)))
    edge = x > 0.31  # as a step at the foot of a long tail
    dense = np.stack([x, np.where(rng.random(n) < 0.4, x, 0), np.minimum(x, 3)], axis=1)
    dense = dense.astype(np.float32)
    labels = np.stack([steep, edge, rng.random(n) < 0.3], axis=1)
    fit = fit_logistic_1d(columns_of(dense), labels, balanced=balanced)
    bins = np.abs(fit.coef[0]) * np.ptp(dense[:, 0]) / (2 * REACH)
    assert bins[2] < block_fit.FIRST_BINS < bins[0] < bins[1]  # several levels were needed
    assert bins[1] > block_fit.FIRST_BINS * block_fit.MORE_BINS
    require_equal(fit, dense, labels, balanced=balanced)


def test_latents_of_one_value_equal_sklearn():
    """Nodes of a bin without width must not spread."""
    labels = np.arange(300) % 3 == 0
    fires = np.arange(300) < 200
    dense = np.stack([fires * 0.015, fires * 30.0, np.full(300, 0.02)], axis=1).astype(np.float32)
    labels = np.stack([labels & fires, labels, ~fires], axis=1)
    for balanced in (False, True):
        fit = fit_logistic_1d(columns_of(dense), labels, l2=0.001, balanced=balanced)
        require_equal(fit, dense, labels, 0.001, balanced)


@pytest.mark.parametrize("balanced", [False, True])
def test_separable_latents_over_orders_of_magnitude(balanced, monkeypatch):
    """Newton's method alone: most values say nothing of where the smallest are cut off."""
    monkeypatch.setattr(block_fit, "fit_by_bisection", None)
    rng = np.random.default_rng(4)
    labels = rng.random(2000) < 0.3
    x = np.exp(rng.normal(0, 2.5, 2000))
    dense = np.stack([x * labels, x * ~labels, x * labels + 1e-3 * x], axis=1).astype(np.float32)
    fit = fit_logistic_1d(columns_of(dense), labels[:, None], l2=0.1, balanced=balanced)
    c = 2000 / (2 * np.where(labels, labels.sum(), (~labels).sum())) if balanced else np.ones(2000)
    for j in range(3):
        expected = fit_by_bisection(dense[:, j].astype(np.float64), labels, c, 0.1)
        assert (fit.coef[j, 0], fit.intercept[j, 0]) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("balanced", [False, True])
def test_what_newton_leaves_is_bisected(balanced, monkeypatch):
    dense, labels = odd_columns(n=120)
    labels = many_labels(labels)
    expected = fit_logistic_1d(columns_of(dense), labels, balanced=balanced)
    monkeypatch.setattr(block_fit, "MAX_STEPS", 1)
    monkeypatch.setattr(block_fit, "STEPS", 1)
    found = fit_logistic_1d(columns_of(dense), labels, balanced=balanced)
    np.testing.assert_allclose(found.coef, expected.coef, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.intercept, expected.intercept, rtol=1e-6, atol=1e-8)


def test_absurd_values_still_end():
    rng = np.random.default_rng(0)
    labels = rng.random(500) < 0.3
    x, scales = np.exp(rng.normal(0, 3, 500)), 10.0 ** np.arange(-6, 8)[:, None]
    kinds = [x * labels, x + 100 * labels, x**0.05 + 100 * labels]
    dense = np.concatenate([kind * scales for kind in kinds]).T
    few = 5.9e5 * np.array([[1], [1], [1], [1], [0]])  # one silent row, and all others the same
    few_labels = np.array([True, True, False, False, True])
    for matrix, y, l2 in ((dense, labels, 1e-5), (few, few_labels, 1e-3)):
        fit = fit_logistic_1d(columns_of(matrix), y, l2=l2)
        for j, column in enumerate(matrix.astype(np.float32).astype(np.float64).T):
            w, b = fit_by_bisection(column, y, np.ones(len(y)), l2)
            assert (fit.coef[j], fit.intercept[j]) == pytest.approx((w, b), rel=1e-4), j


def test_nodes_stand_for_entries():
    rng = np.random.default_rng(2)
    x = np.exp(rng.normal(0, 0.6, 5000))
    owner = np.sort(rng.integers(0, 3, 5000))
    low, high = (np.array([f(x[owner == o]) for o in range(3)]) for f in (np.min, np.max))
    bins = Bins.over(low, high, 4)
    t, weight = bins.nodes(), bins.weights(x, owner)
    for o in range(3):
        w = 2 * 4 * REACH / (high[o] - low[o])  # as steep as they bear
        for b in (0.0, -w * np.median(x), -9.0, -w * high[o]):

            def variance(z, w=w, b=b):
                p = 1 / (1 + np.exp(-w * z - b))
                return z * z * p * (1 - p)

            expected = variance(x[owner == o]).sum()
            assert weight[:, o] @ variance(t[:, o]) == pytest.approx(expected, rel=1e-8)


def test_nodes_change_nothing(monkeypatch):
    rng = np.random.default_rng(3)
    dense = (np.exp(rng.normal(0, 0.5, (3000, 2))) * (rng.random((3000, 2)) < 0.6)).astype("f4")
    labels = rng.random((3000, 3)) < 1 / (1 + np.exp(1 - 0.7 * dense[:, :1]))
    fit = fit_logistic_1d(columns_of(dense), labels)
    monkeypatch.setattr(block_fit, "FIRST_BINS", 4096)  # so the entries themselves are used
    exact = fit_logistic_1d(columns_of(dense), labels)
    np.testing.assert_allclose(fit.coef, exact.coef, rtol=1e-9)
    np.testing.assert_allclose(fit.intercept, exact.intercept, rtol=1e-9)


@pytest.mark.parametrize("balanced", [False, True])
def test_blocks_do_not_matter(balanced, monkeypatch):
    dense, labels = odd_columns()
    labels = many_labels(labels)
    whole = fit_logistic_1d(columns_of(dense), labels, balanced=balanced)
    whole_dense = fit_logistic_dense(dense, labels, balanced=balanced)
    monkeypatch.setattr(blocks, "BLOCK_ITEMS", 500)
    monkeypatch.setattr(logistic, "DENSE_ENTRIES", 500)
    parts = fit_logistic_1d(columns_of(dense), labels, balanced=balanced)
    np.testing.assert_allclose(parts.coef, whole.coef, rtol=1e-9, atol=1e-9)
    parts = fit_logistic_dense(dense, labels, balanced=balanced)
    np.testing.assert_allclose(parts.coef, whole_dense.coef, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(parts.coef, whole.coef, rtol=1e-6, atol=1e-9)


def test_one_axis_of_labels_gives_one_axis_of_fits():
    dense, labels = odd_columns(n=100)
    table = fit_logistic_1d(columns_of(dense), many_labels(labels))
    one = fit_logistic_1d(columns_of(dense), labels)
    np.testing.assert_allclose(one.coef, table.coef[:, 0], rtol=1e-9, atol=1e-12)
    # labels and their opposite mirror each other
    np.testing.assert_allclose(table.coef[:, 1], -table.coef[:, 0], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("labels", [np.zeros(5, bool), np.ones(5, bool)])
def test_one_class_is_refused(labels):
    with pytest.raises(ValueError, match="both classes"):
        fit_logistic_1d(columns_of(np.ones((5, 2))), labels)
    with pytest.raises(ValueError, match="both classes"):
        fit_logistic_dense(np.ones((5, 2)), labels)


@pytest.mark.parametrize("balanced", [False, True])
def test_among_several_concepts_one_class_has_no_fit(balanced):
    dense, labels = odd_columns(n=80)
    table = np.stack([np.zeros(80, bool), labels, np.ones(80, bool)], axis=1)
    fit = fit_logistic_1d(columns_of(dense), table, balanced=balanced)
    assert np.isnan(fit.coef).sum(axis=0).tolist() == [len(fit.coef), 0, len(fit.coef)]
    assert np.isnan(fit.intercept[0]).tolist() == [True, False, True]
    require_equal(LogisticFit(fit.coef[:, 1:2], fit.intercept[:, 1:2]), dense, table[:, 1:2],
                  balanced=balanced)  # fmt: skip
    alone = fit_logistic_1d(columns_of(dense), table[:, :1])
    assert np.isnan(alone.coef).all()


def test_a_step_is_damped_by_what_it_does_to_the_zeros_too():
    columns = columns_of(np.array([[0], [10], [11], [0]]))
    [block] = blocks.pair_blocks(columns, np.array([[True], [True], [False], [False]]))
    fit = block_fit.BlockFit(block, 1.0, False)
    pairs = np.array([0])
    problems = block_fit._Nodes(fit, pairs, 4, 32).problems(pairs)
    found = [float(a[0]) for a in (problems.low, problems.high, problems.t_zero)]
    assert found == [0, 11, 0]
    assert (problems.zero_pos[0], problems.zero_neg[0]) == (1, 1)


def test_arguments():
    with pytest.raises(ValueError, match=r"l2 \(0.0\) must be positive"):
        fit_logistic_1d(columns_of(np.ones((3, 1))), np.array([True, False, True]), l2=0.0)
    with pytest.raises(ValueError, match="labels have 2 rows and the latents 3"):
        fit_logistic_1d(columns_of(np.ones((3, 1))), np.array([True, False]))


def test_the_rest_of_the_process_stays_in_float32():
    fit = fit_logistic_1d(columns_of(np.eye(4)), np.array([True, False, True, False]))
    assert fit.coef.dtype == np.float64
    assert jnp.ones(1).dtype == jnp.float32
