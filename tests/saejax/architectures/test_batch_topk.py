"""BatchTopK: the batch's budget, both ways through it, and the threshold found afterwards."""

import jax.numpy as jnp
import numpy as np
import pytest

from saejax.architectures import batch_topk
from saejax.architectures.batch_topk import kth_largest
from saejax.axes import NOWHERE
from saejax.calibrate import calibrate_threshold
from saejax.evaluate import evaluate
from saejax.model import Constants
from tests.saejax.architectures import equations
from tests.saejax.architectures.problems import (
    ALIVE,
    K_AUX,
    B,
    D,
    F,
    K,
    assert_as_written,
    build,
    ours,
    random_dead,
    random_params,
    random_rows,
    sae_config,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = random_rows()
CONFIG = sae_config("batchtopk")


def written(p, x, dead=ALIVE, k=K, **settings):
    return equations.batch_topk(p, x, budget=k * len(x), dead=dead, k_aux=K_AUX, **settings)


@pytest.mark.parametrize("n_dead", [0, 1, 9, F])
def test_loss_and_gradients(n_dead):
    p, dead = random_params(CONFIG), random_dead(n_dead)
    expected = written(p, X, dead)
    assert (expected.z > 0).sum() == K * B
    assert len(set((expected.z > 0).sum(1))) > 1  # rows share unevenly
    assert_as_written(ours(CONFIG, p, X, dead=dead), expected)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_k_of_this_step(k):
    config = sae_config("batchtopk", k_max=5)
    p = random_params(config)
    assert_as_written(ours(config, p, X, k=k), written(p, X, k=k))


@pytest.mark.parametrize("busy", [[0], [2, 7]])
def test_rows_that_take_all_the_budget(busy):
    """However many of a row's latents are among the largest."""
    p, rows = random_params(CONFIG), X.copy()
    rows[busy] *= 40
    p["W_enc_T"] = np.abs(p["W_enc_T"])
    rows[busy] = np.abs(rows[busy])
    expected = written(p, rows)
    assert (expected.z > 0).sum(1).max() > 4 * K
    assert_as_written(ours(CONFIG, p, rows), expected)


def test_both_branches_agree(monkeypatch):
    """The same batch through entries, and through dense arrays as if it overflowed."""
    p = random_params(CONFIG)
    loss, grads, parts = ours(CONFIG, p, X)
    monkeypatch.setattr(batch_topk.jax.lax, "cond", lambda fits, entries, dense: dense())
    again = sae_config("batchtopk", k_max=K)  # the same SAE, compiled anew
    dense_loss, dense_grads, dense_parts = ours(again, p, X)
    assert loss == pytest.approx(dense_loss, rel=1e-6)
    for name in grads:
        np.testing.assert_allclose(grads[name], dense_grads[name], rtol=1e-5, atol=1e-6)
    assert parts.l0 == dense_parts.l0
    np.testing.assert_array_equal(parts.fired, dense_parts.fired)


def test_one_row():
    p = random_params(CONFIG)
    assert_as_written(ours(CONFIG, p, X[:1]), written(p, X[:1]))


def test_whole_dictionary():
    config = sae_config("batchtopk", k=F)
    p = random_params(config)
    assert_as_written(ours(config, p, X), written(p, X, k=F))


def test_fewer_positive_than_the_budget():
    p = random_params(CONFIG)
    p["b_enc"] = p["b_enc"] - 3
    expected = written(p, X)
    assert 0 < (expected.z > 0).sum() < K * B
    assert_as_written(ours(CONFIG, p, X), expected)


def test_nothing_active():
    p = random_params(CONFIG) | {"b_enc": np.full(F, -100.0)}
    loss, grads, parts = ours(CONFIG, p, X)
    assert loss == pytest.approx(((X - p["b_dec"]) ** 2).mean(), rel=1e-6)
    assert parts.l0 == 0
    for name in ("W_dec", "W_enc_T", "b_enc"):
        assert not grads[name].any(), name


@pytest.mark.parametrize("level", [1.0, 0.0])
def test_equal_values_are_all_kept(level):
    """Every pre-activation is the same: more than the budget; none when they are 0."""
    p = random_params(CONFIG) | {"W_enc_T": np.zeros((F, D)), "b_enc": np.full(F, level)}
    expected = written(p, X)
    assert (expected.z > 0).sum() == (B * F if level else 0)
    assert_as_written(ours(CONFIG, p, X), expected)


def test_kth_largest():
    values = np.abs(np.random.default_rng(0).normal(size=(7, 9))).astype(np.float32)
    values[0, :3] = 0, 3e38, 1e-30
    ordered = np.sort(values, axis=None)[::-1]
    for k in (1, 2, 17, 62, 63):
        assert kth_largest(jnp.asarray(values), k, NOWHERE) == ordered[k - 1]
    assert kth_largest(jnp.asarray(values), 64, NOWHERE) == 0  # fewer than that
    assert kth_largest(jnp.zeros((3, 4)), 5, NOWHERE) == 0


# ---------------------------------------------------------------- the threshold


def blocks_of(x, sizes):
    def blocks():
        start = 0
        for size in sizes:
            yield x[start : start + size].astype(np.float32)
            start += size

    return blocks


@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka"])
@pytest.mark.parametrize("k", [1, 3, 8])
def test_calibrated_l0_is_k_exactly(architecture, k):
    sae = build(sae_config(architecture), random_params(CONFIG))
    blocks = blocks_of(random_rows(300, seed=9), [7, 250, 1, 42])
    threshold = calibrate_threshold(sae, blocks, k)
    found = evaluate(sae.for_inference(threshold), blocks())
    assert round(found.l0 * 300) == k * 300
    h = np.asarray(sae.pre_activations(random_rows(300, seed=9).astype(np.float32)))
    ordered = np.sort(h, axis=None)[::-1]
    np.testing.assert_allclose(threshold, ordered[k * 300 - 1 : k * 300 + 1].mean(), rtol=1e-5)


def test_calibration_of_raw_activations_at_any_scale():
    for scale in (1e-4, 1.0, 1e12):
        p = random_params(CONFIG) | {"b_enc": np.zeros(F), "b_dec": np.zeros(D)}
        sae = build(CONFIG, p, Constants(np.zeros(D, np.float32), scale))
        blocks = blocks_of(random_rows(100), [100])
        threshold = calibrate_threshold(sae, blocks, K)
        assert np.isfinite(threshold)
        assert threshold > 0
        assert round(evaluate(sae.for_inference(threshold), blocks()).l0 * 100) == K * 100


def test_calibration_where_few_are_positive():
    sae = build(CONFIG, random_params(CONFIG))
    sae.b_enc[...] = sae.b_enc[...] - 3.0
    blocks = blocks_of(random_rows(100), [100])
    assert calibrate_threshold(sae, blocks, K) == 0
    z = np.asarray(sae.for_inference(0.0).encode_dense(random_rows(100).astype(np.float32)))
    assert 0 < (z > 0).sum() < 100 * K


def test_calibration_of_nothing_is_finite():
    sae = build(CONFIG, {"b_enc": np.zeros(F), "b_dec": np.zeros(D)})
    at_the_mean = np.tile(np.asarray(sae.mean[...]), (50, 1))  # x = 0, every pre-activation is 0
    assert calibrate_threshold(sae, blocks_of(at_the_mean, [50]), K) == 0
    assert calibrate_threshold(sae, lambda: [], K) == 0


def test_calibration_with_equal_values_never_exceeds_k():
    p = random_params(CONFIG) | {"W_enc_T": np.zeros((F, D)), "b_enc": np.arange(F) // 4 + 1.0}
    sae = build(CONFIG, p)
    blocks = blocks_of(random_rows(10), [10])
    threshold = calibrate_threshold(sae, blocks, 6)  # 4 are 6.0, 4 are 5.0
    assert threshold == 5
    assert evaluate(sae.for_inference(threshold), blocks()).l0 == 4


def test_threshold_is_needed():
    with pytest.raises(AssertionError, match="calibrate"):
        build(CONFIG, {}).for_inference()


def test_used_with_a_threshold():
    p = random_params(CONFIG)
    used = build(CONFIG, p).for_inference(0.4)
    x = 0.7 * (X - np.linspace(-1, 1, D))
    h = equations.pre_activations(p, x)
    z = np.where(h > 0.4, h, 0)
    norms = np.linalg.norm(p["W_dec"], axis=1)
    raw = X.astype(np.float32)
    np.testing.assert_allclose(used.encode_dense(raw), z * norms, rtol=1e-4, atol=1e-5)
    x_hat = z @ p["W_dec"] + p["b_dec"]
    np.testing.assert_allclose(used(raw), x_hat / 0.7 + np.linspace(-1, 1, D), rtol=1e-4, atol=1e-4)
