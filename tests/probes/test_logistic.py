"""Coefficients against scikit-learn, in every shape a column can have."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import probes.logistic as logistic
from probes.logistic import fit_logistic_1d, fit_logistic_dense
from tests.probes.helpers import columns_of


def by_sklearn(column, labels, l2=1.0):
    model = LogisticRegression(C=1 / l2, solver="newton-cholesky", tol=1e-10, max_iter=1000)
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


def test_blocks_do_not_matter(monkeypatch):
    dense, labels = odd_columns()
    whole = fit_logistic_1d(columns_of(dense), labels)
    whole_dense = fit_logistic_dense(dense, labels)
    monkeypatch.setattr(logistic, "BLOCK_ENTRIES", 500)
    blocks = fit_logistic_1d(columns_of(dense), labels)
    np.testing.assert_allclose(blocks.coef, whole.coef, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        fit_logistic_dense(dense, labels).coef, whole_dense.coef, rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("labels", [np.zeros(5, bool), np.ones(5, bool)])
def test_one_class_is_refused(labels):
    with pytest.raises(ValueError, match="both classes"):
        fit_logistic_1d(columns_of(np.ones((5, 2))), labels)
    with pytest.raises(ValueError, match="both classes"):
        fit_logistic_dense(np.ones((5, 2)), labels)
