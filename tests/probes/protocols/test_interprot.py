"""InterProt's 1-D probe against scikit-learn on dense columns."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from probes.data.features import DenseFeatures, SparseFeatures
from probes.protocols.interprot import interprot, representatives
from tests.probes.helpers import columns_of, make_concept, make_rows


@pytest.fixture(name="world")
def fixture_world():
    """Sixteen proteins of 20 residues, twelve with the concept, two of a cluster at a time."""
    rng = np.random.default_rng(0)
    rows = make_rows(**{f"p{i}": "ACDEFGHIKLMNPQRSTVWY" for i in range(16)})
    spans = [(20 * i + 4, 20 * i + 9) for i in range(12)]
    concept = make_concept("site", spans, 16)
    z = rng.exponential(size=(320, 4)) * (rng.random((320, 4)) < 0.3)
    z[concept.labels(320), 1] += 1.0
    clusters = [f"c{i // 2}" for i in range(16)]
    return rows, concept, z.astype(np.float32), clusters, np.arange(16) % 8 >= 4


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_f1_is_scikit_learns(world, kind):
    """Positive proteins only, one of a cluster, class_weight='balanced', a call at p ≥ ½."""
    rows, concept, z, clusters, is_test = world
    z = z if kind == "sparse" else z - 0.3
    features = SparseFeatures("l", columns_of(z)) if kind == "sparse" else DenseFeatures("n", z)
    found = interprot(features, concept, rows, clusters, is_test)
    assert found is not None
    y = concept.labels(320)
    proteins = np.arange(0, 12, 2)
    train = np.isin(rows.protein_idx, proteins[~is_test[proteins]])
    test = np.isin(rows.protein_idx, proteins[is_test[proteins]])
    scores = []
    for j in range(4):
        model = LogisticRegression(class_weight="balanced", tol=1e-8)
        model.fit(z[train, j : j + 1], y[train])
        scores.append(f1_score(y[test], model.predict(z[test, j : j + 1])))
    assert found["best_on_test"] == int(np.argmax(scores))
    assert found["f1_best_on_test"] == pytest.approx(max(scores))
    assert found["chosen_on_training"] == 1
    assert found["f1_chosen_on_training"] == pytest.approx(scores[1])


def test_one_protein_of_every_cluster_that_has_the_concept(world):
    """The first of each pair, and none without the concept."""
    rows, concept, _, clusters, _ = world
    assert np.flatnonzero(representatives(concept, rows, clusters)).tolist() == [0, 2, 4, 6, 8, 10]


def test_a_part_without_the_concept(world):
    """No score."""
    rows, concept, z, clusters, _ = world
    only_late = np.arange(16) >= 12
    assert interprot(SparseFeatures("l", columns_of(z)), concept, rows, clusters, only_late) is None
