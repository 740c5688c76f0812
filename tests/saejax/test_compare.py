"""Matching latents of two dictionaries against plain computations."""

import numpy as np
import pytest

from saejax.compare import compare_activations, compare_decoders, mutual
from saejax.latents import LatentColumns


def columns_of(dense):
    rows, latents = np.nonzero(dense)
    order = np.lexsort((rows, latents))
    counts = np.bincount(latents, minlength=dense.shape[1])
    indptr = np.append(0, np.cumsum(counts))
    values = dense[rows, latents][order]
    return LatentColumns(indptr, rows[order].astype(np.int32), values, len(dense))


def sparse_table(rng, n_rows, n_latents):
    table = rng.gamma(2.0, size=(n_rows, n_latents)).astype(np.float32)
    return np.where(rng.random((n_rows, n_latents)) < 0.2, table, 0).astype(np.float32)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr("saejax.compare.BLOCK_LATENTS", 3)


@pytest.mark.usefixtures("small_blocks")
def test_cosines():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(7, 5)).astype(np.float32), rng.normal(size=(4, 5)).astype(np.float32)
    b[2] = -3 * a[6]
    b[1] = 2 * a[5]
    found = compare_decoders(a, b)
    cosine = (a / np.linalg.norm(a, axis=1)[:, None]) @ (b / np.linalg.norm(b, axis=1)[:, None]).T
    np.testing.assert_array_equal(found.forth.other, cosine.argmax(axis=1))
    np.testing.assert_allclose(found.forth.value, cosine.max(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(found.back.other, cosine.argmax(axis=0))
    assert found.back.value[1] == pytest.approx(1)
    assert found.back.value[2] < 0.999  # an opposite direction is another latent
    assert 5 in mutual(found.forth, found.back)
    assert found.n_residues is None


@pytest.mark.usefixtures("small_blocks")
def test_correlations():
    rng = np.random.default_rng(1)
    a, b = sparse_table(rng, 200, 7), sparse_table(rng, 200, 5)
    b[:, 3] = 2 * a[:, 4]
    a[:, 0] = 0
    found = compare_activations(columns_of(a), columns_of(b))
    plain = np.corrcoef(a[:, 1:].T, b.T)[:6, 6:]
    np.testing.assert_array_equal(found.forth.other[1:], plain.argmax(axis=1))
    np.testing.assert_allclose(found.forth.value[1:], plain.max(axis=1), rtol=1e-4)
    np.testing.assert_array_equal(found.back.other, plain.argmax(axis=0) + 1)
    np.testing.assert_allclose(found.back.value, plain.max(axis=0), rtol=1e-4)
    assert (found.forth.other[0], np.isnan(found.forth.value[0])) == (-1, True)
    assert found.forth.value[4] == pytest.approx(1, abs=1e-5)
    assert found.n_residues == 200


def test_too_many_pairs_are_sampled():
    rng = np.random.default_rng(2)
    a = sparse_table(rng, 500, 6)
    found = compare_activations(columns_of(a), columns_of(a), pair_budget=300)
    assert found.n_residues is not None
    assert found.n_residues < 250
    np.testing.assert_array_equal(found.forth.other, np.arange(6))


def test_other_residues_are_refused():
    a = columns_of(np.eye(4, dtype=np.float32))
    with pytest.raises(ValueError, match="4 and 3 residues"):
        compare_activations(a, a._replace(n_rows=3))
