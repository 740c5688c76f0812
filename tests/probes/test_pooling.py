"""Pooled latents equal the dense array's, protein by protein."""

import numpy as np
import pytest

import probes.blocks as blocks
from probes.logistic import fit_logistic_1d
from probes.pooling import pool
from probes.scores import dense_column, restrict
from tests.probes.helpers import columns_of


@pytest.mark.parametrize("how", ["max", "mean"])
@pytest.mark.parametrize("by_value", [False, True])
def test_pooling_equals_the_dense_array(how, by_value, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_ITEMS", 50)
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 9, 30)
    offsets = np.append(0, np.cumsum(lengths))
    dense = np.maximum(rng.normal(-1, 1, (offsets[-1], 7)), 0).astype(np.float32)
    dense[:, 3] = 0
    columns = columns_of(dense)
    if by_value:
        columns = restrict(columns, np.ones(len(dense), bool))
    pooled = pool(columns, offsets, how)
    expected = [getattr(p, how)(axis=0) for p in np.split(dense, offsets[1:-1])]
    found = np.stack([dense_column(pooled, j) for j in range(7)], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    for j in range(7):
        assert (np.diff(pooled.column(j)[0]) > 0).all()
    assert pooled.n_rows == 30


def test_protein_level_fits():
    dense = np.array([[0], [5], [0], [0], [1], [4], [0]])
    pooled = pool(columns_of(dense), np.array([0, 2, 4, 6, 7]))
    labels = np.array([True, False, True, False])
    fit = fit_logistic_1d(pooled, labels)
    by_hand = fit_logistic_1d(columns_of(np.array([[5], [0], [4], [0]])), labels)
    assert fit.coef[0] == pytest.approx(by_hand.coef[0])


@pytest.mark.parametrize("offsets", [[0, 3], [1, 4], [0, 2, 2, 4]])
def test_offsets_that_do_not_fit(offsets):
    with pytest.raises(ValueError, match="offsets must rise from 0 to the number of rows"):
        pool(columns_of(np.ones((4, 2))), np.array(offsets))
