"""Family-specific latents."""

from __future__ import annotations

import numpy as np
import pytest

from probes.data.features import SparseFeatures
from probes.protocols.families import family_specific, maximum_by_protein
from tests.probes.helpers import columns_of, make_concept, make_rows


@pytest.fixture(name="world")
def fixture_world():
    """Twenty proteins of ten residues; the first ten are the kinases, every other one is test."""
    rows = make_rows(**{f"p{i}": "ACDEFGHIKL" for i in range(20)})
    families = [
        make_concept("kinase", [(10 * i, 10 * i + 10) for i in range(10)], 20, level="protein"),
        make_concept("other", [(10 * i, 10 * i + 10) for i in range(10, 16)], 20, level="protein"),
    ]
    return rows, families, np.arange(20) % 2 == 1


def test_a_planted_family_latent_is_found(world):
    """Latent 0 fires in kinases; latent 1 in everything; latent 2 never."""
    rows, families, is_test = world
    rng = np.random.default_rng(0)
    z = np.zeros((200, 3), np.float32)
    z[3:100:10, 0] = 2.0
    z[:, 1] = rng.random(200)
    table = family_specific(SparseFeatures("latents", columns_of(z)), families, rows, is_test)
    table = table.set_index("feature")
    assert table.loc[0, "family"] == "kinase"
    assert table.loc[0, ["f1_train", "f1_test", "specific"]].tolist() == [1.0, 1.0, True]
    assert not table.loc[1, "specific"]
    assert 2 not in table.index


def test_nothing_of_test_enters_the_choice(world):
    """The same families and cuts when the test proteins' values are others."""
    rows, families, is_test = world
    rng = np.random.default_rng(1)
    z = rng.exponential(size=(200, 4)).astype(np.float32) * (rng.random((200, 4)) < 0.3)
    other = z.copy()
    other[np.repeat(is_test, 10)] *= 3
    keep = ["feature", "family", "threshold", "f1_train"]
    tables = [
        family_specific(SparseFeatures("latents", columns_of(x)), families, rows, is_test)
        for x in (z, other)
    ]
    assert tables[0][keep].equals(tables[1][keep])
    assert not tables[0]["f1_test"].equals(tables[1]["f1_test"])


def test_maximum_by_protein_is_the_dense_one():
    """Proteins that are not kept have no entry."""
    rng = np.random.default_rng(2)
    z = rng.random((60, 5)).astype(np.float32) * (rng.random((60, 5)) < 0.2)
    keep = np.array([True, False, True, True, False, True])
    pooled = maximum_by_protein(columns_of(z), np.arange(60) // 10, keep)
    dense = np.zeros((6, 5), np.float32)
    for j in range(5):
        proteins, values = pooled.column(j)
        dense[proteins, j] = values
    expected = z.reshape(6, 10, 5).max(axis=1) * keep[:, None]
    np.testing.assert_array_equal(dense, expected)
