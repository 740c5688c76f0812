"""k-sparse and dense probes find what is planted, and stop when nothing is left."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from probes.data.part_columns import PartColumns
from probes.fit.scores import auroc
from probes.protocols.multi import choose_latents, probe_scores
from tests.probes.helpers import columns_of


def sorted_columns(dense):
    dense = np.asarray(dense, dtype=np.float32)
    return PartColumns(columns_of(dense), np.ones(len(dense), bool))


def auroc_together(dense, labels, latents):
    x = dense[:, latents]
    return auroc(labels, probe_scores(x, labels, x))


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
    together = auroc_together(dense, labels, chosen)
    assert together > auroc_together(dense, labels, chosen[:1])
    assert together == pytest.approx(roc_auc_score(labels, margin), abs=0.01)


def test_sparse_probe_stops_when_nothing_is_left():
    dense = np.zeros((50, 4))
    dense[:20, 1] = 1
    assert choose_latents(sorted_columns(dense), np.arange(50) < 25, 3) == [1]


def test_dense_probe_ignores_scale_and_constants():
    rng = np.random.default_rng(5)
    labels = rng.random(500) < 0.5
    x = np.stack([rng.normal(size=500) + 2 * labels, np.full(500, 9.0)], axis=1)
    plain = auroc(labels, probe_scores(x, labels, x))
    assert plain == pytest.approx(roc_auc_score(labels, x[:, 0]))
    scaled = x * [1e-4, 1] + [50, 0]
    assert auroc(labels, probe_scores(scaled, labels, scaled)) == pytest.approx(plain)


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
