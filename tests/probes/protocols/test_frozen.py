"""Our protocol: fitted on train, chosen on validation, scored once on test."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from probes.data.features import DenseFeatures, SparseFeatures
from probes.data.frames import records
from probes.protocols.frozen import Parts, frozen
from tests.probes.helpers import columns_of, make_concept

N_PROTEINS, LENGTH = 60, 20


@pytest.fixture(name="world")
def fixture_world():
    """Latent 2 tells of the sites in every part; latent 4 in train alone; the rest is noise."""
    rng = np.random.default_rng(0)
    n = N_PROTEINS * LENGTH
    spans = [(LENGTH * p + a, LENGTH * p + a + 3) for p in range(N_PROTEINS) for a in (3, 12)]
    concept = make_concept("site", spans, N_PROTEINS)
    y = concept.labels(n)
    part = np.repeat(np.arange(N_PROTEINS) % 3, LENGTH)
    z = rng.exponential(size=(n, 6)) * (rng.random((n, 6)) < 0.2)
    z[:, 2] += y * (rng.random(n) < 0.7) * 2.0
    z[:, 4] += (y & (part == 0)) * 3.0
    cluster = np.repeat(np.arange(N_PROTEINS) // 3, LENGTH).astype(np.int32)
    return z.astype(np.float32), concept, Parts(part == 0, part == 1, part == 2, cluster)


def run(z, concept, parts, **settings):
    """The protocol on latents."""
    features = SparseFeatures("latents", columns_of(z))
    return frozen(features, [concept], parts, n_draws=100, **settings)


def test_scores_are_scikit_learns(world):
    """Coefficient and cut from train, the choice from validation, every score from test."""
    z, concept, parts = world
    found = run(z, concept, parts)
    y = concept.labels(len(z))
    [row] = records(found.best)
    assert (row["feature"], row["sign"]) == (2, 1)  # not 4, which is best on train
    assert np.argmax(found.pairs["f1_train"]) == 4
    for j in range(6):
        column, [pair] = z[:, j : j + 1], records(found.pairs.query("feature == @j"))
        model = LogisticRegression(tol=1e-10).fit(column[parts.train], y[parts.train])
        assert pair["coef"] == pytest.approx(model.coef_[0, 0], abs=1e-4)
        sign = np.sign(pair["coef"])
        score = sign * column[parts.test, 0]
        assert pair["auroc_test"] == pytest.approx(roc_auc_score(y[parts.test], score))
        assert pair["average_precision_test"] == pytest.approx(
            average_precision_score(y[parts.test], score)
        )
        for name in ("train", "validation", "test"):
            z_j = column[getattr(parts, name), 0]
            called = z_j >= pair["threshold"] if sign > 0 else z_j < pair["threshold"]
            expected = f1_score(y[getattr(parts, name)], called)
            assert pair[f"f1_{name}"] == pytest.approx(expected)


def test_nothing_of_test_enters_a_choice(world):
    """Other labels and values there: the same fits, cuts and choice."""
    z, concept, parts = world
    spans = concept.spans.copy()
    on_test = parts.test[spans[:, 0]]
    spans[on_test] += 4
    other_z = z.copy()
    other_z[parts.test] = other_z[parts.test][:, ::-1]
    first = run(z, concept, parts)
    second = run(other_z, make_concept("site", spans, N_PROTEINS), parts)
    same = ["feature", "coef", "intercept", "threshold", "f1_train", "f1_validation"]
    assert first.pairs[same].equals(second.pairs[same])
    assert first.best[same].equals(second.best[same])
    assert records(first.best)[0]["f1_test"] > 2 * records(second.best)[0]["f1_test"]


def test_intervals_occurrences_and_significance(world):
    """Recall of whole sites is higher than of residues; intervals hold the estimates."""
    z, concept, parts = world
    [row] = records(run(z, concept, parts).best)
    assert row["recall_test"] < row["recall_occurrences"] <= 1
    assert row["n_occurrences_test"] == 2 * N_PROTEINS // 3
    for name in ("f1_test", "precision_test", "recall_test"):
        assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]
    pairs = run(z, concept, parts).pairs
    q, p = pairs["q_all_pairs"].to_numpy(), pairs["p"].to_numpy()
    assert q[2] < 1e-3
    assert np.delete(q, [2, 4]).min() > 0.01
    assert np.all(p <= q)


def test_a_latent_must_tell_by_firing_but_a_neuron_need_not(world):
    """A feature that is silent in the concept is chosen only where either sign counts."""
    z, concept, parts = world
    y = concept.labels(len(z))
    falling = np.where(y, 0.1, 1.0) + z[:, 0]
    x = np.stack([z[:, 0], falling], axis=1).astype(np.float32)
    only_rising = frozen(DenseFeatures("neurons", x), [concept], parts, n_draws=20)
    either = frozen(DenseFeatures("neurons", x), [concept], parts, n_draws=20, either_sign=True)
    [rising], [best] = records(only_rising.best), records(either.best)
    assert (best["feature"], best["sign"], rising["sign"]) == (1, -1, 1)
    assert rising["f1_test"] < best["f1_test"]


def test_blocks_of_features_make_no_difference(world):
    """One feature at a time, the same tables."""
    z, concept, parts = world

    class OneByOne(SparseFeatures):
        @property
        def at_once(self):
            return 1

    whole = run(z, concept, parts)
    pieces = frozen(OneByOne("latents", columns_of(z)), [concept], parts, n_draws=100)
    np.testing.assert_allclose(
        whole.pairs.select_dtypes("number"), pieces.pairs.select_dtypes("number"), rtol=1e-6
    )
