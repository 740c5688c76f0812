"""TopK, Multi-TopK and transcoders against the written equations."""

import jax.numpy as jnp
import numpy as np
import pytest

import saejax.losses as losses
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


@pytest.mark.parametrize("n_dead", [0, 1, K_AUX, 9, F])
def test_loss_and_gradients(n_dead):
    config = sae_config("topk")
    p, dead = random_params(config), random_dead(n_dead)
    written = equations.topk(p, X, k=K, dead=dead, k_aux=K_AUX)
    assert_as_written(ours(config, p, X, dead=dead), written)


@pytest.mark.parametrize("n_dead", [3, 6, 7, 9, 10])
def test_auxk_in_a_buffer_of_another_size(monkeypatch, n_dead):
    monkeypatch.setattr(losses, "AUXK_BUCKETS", (6, 9))
    config = sae_config("topk", k_max=K)  # the same SAE, compiled anew
    p, dead = random_params(config), random_dead(n_dead)
    written = equations.topk(p, X, k=K, dead=dead, k_aux=K_AUX, weight=1.0)
    assert_as_written(ours(config, p, X, dead=dead, weight=1.0), written)


@pytest.mark.parametrize("n_dead", [0, 9])
def test_multi_topk(n_dead):
    config = sae_config("topk", multi_topk=True)
    p, dead = random_params(config), random_dead(n_dead)
    written = equations.topk(p, X, k=K, dead=dead, k_aux=K_AUX, multi=True)
    assert_as_written(ours(config, p, X, dead=dead), written)


def test_multi_topk_is_an_eighth_of_the_loss_with_4k():
    p = random_params(sae_config("topk"))
    both, _, parts = ours(sae_config("topk", multi_topk=True), p, X)
    narrow, _, of_k = ours(sae_config("topk"), p, X)
    wide, _, _ = ours(sae_config("topk", k=4 * K), p, X)
    assert both == pytest.approx(narrow + wide / 8, rel=1e-6)
    assert parts.l0 == of_k.l0  # what is told is of k latents
    assert parts.squared_error == pytest.approx(of_k.squared_error, rel=1e-6)


@pytest.mark.parametrize("multi", [False, True])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_fewer_latents_than_slots(multi, k):
    config = sae_config("topk", k_max=5, multi_topk=multi)
    p, dead = random_params(config), random_dead(9)
    written = equations.topk(p, X, k=k, dead=dead, k_aux=K_AUX, multi=multi)
    assert_as_written(ours(config, p, X, dead=dead, k=k), written)


def test_whole_dictionary():
    config = sae_config("topk", k=F)
    p = random_params(config)
    written = equations.topk(p, X, k=F, dead=ALIVE, k_aux=K_AUX)
    assert_as_written(ours(config, p, X), written)


def test_nothing_active_leaves_the_bias_alone():
    config = sae_config("topk")
    p = random_params(config) | {"b_enc": np.full(F, -100.0)}
    loss, grads, parts = ours(config, p, X)
    assert loss == pytest.approx(((X - p["b_dec"]) ** 2).mean(), rel=1e-6)
    for name in ("W_dec", "W_enc_T", "b_enc"):
        assert not grads[name].any(), name
    np.testing.assert_allclose(grads["b_dec"], 2 * (p["b_dec"] - X.mean(0)) / D, rtol=1e-5)
    assert parts.l0 == 0
    assert not parts.fired.any()


def test_rows_of_zeros():
    config = sae_config("topk")
    p, rows = random_params(config), X.copy()
    rows[3:5] = 0
    written = equations.topk(p, rows, k=K, dead=ALIVE, k_aux=K_AUX)
    assert_as_written(ours(config, p, rows), written)
    zero = p | {"b_dec": np.zeros(D), "b_enc": np.zeros(F)}
    loss, grads, parts = ours(config, zero, 0 * X, dead=~ALIVE)
    assert (loss, parts.l0, parts.auxk) == (0, 0, 0)
    assert not any(g.any() for g in grads.values())  # and none is NaN


def test_equal_values_go_to_the_first_latents():
    config = sae_config("topk")
    p = random_params(config) | {"W_enc_T": np.zeros((F, D)), "b_enc": np.ones(F)}
    written = equations.topk(p, X, k=K, dead=ALIVE, k_aux=K_AUX)
    assert written.z[0].nonzero()[0].tolist() == [0, 1, 2]
    assert_as_written(ours(config, p, X), written)


def test_by_hand():
    """x = (3, −4): of h = (3, −4, 4.5), the largest is latent 2, whose row is (0, −1)."""
    config = sae_config("topk", d_model=2, d_sae=3, k=1, k_aux=1)
    rows = np.array([[1.0, 0], [0, 1.0], [0, -1.0]])
    p = {"W_dec": rows, "W_enc_T": rows, "b_enc": np.array([0, 0, 0.5]), "b_dec": np.zeros(2)}
    loss, grads, parts = ours(
        config, p, np.array([[3.0, -4.0]]), dead=np.array([True, False, False])
    )
    # x̂ = (0, −4.5): MSE (9 + .25) / 2. One row has no variance, so AuxK is 0, not infinite.
    assert loss == pytest.approx(4.625)
    assert parts.auxk == 0
    np.testing.assert_allclose(grads["b_dec"], [-3, 0], atol=1e-6)  # −3, −.5 + .5·1 of h
    np.testing.assert_allclose(grads["b_enc"], [0, 0, 0.5])
    np.testing.assert_allclose(grads["W_dec"], [[0, 0], [0, 0], [-13.5, -2.25]])
    np.testing.assert_allclose(grads["W_enc_T"], [[0, 0], [0, 0], [1.5, -2]])


# ---------------------------------------------------------------- transcoders


@pytest.mark.parametrize(("d_out", "multi"), [(3, False), (9, True)])
def test_transcoder_loss_and_gradients(d_out, multi):
    config = sae_config("topk", d_out=d_out, multi_topk=multi)
    p, dead, y = random_params(config), random_dead(9), random_rows(d=d_out, seed=7)
    written = equations.topk(p, X, y, k=K, dead=dead, k_aux=K_AUX, transcoder=True, multi=multi)
    assert_as_written(ours(config, p, X, y, dead=dead), written)


def test_transcoder_uses_each_sites_own_constants():
    config = sae_config("topk", d_out=3)
    p = random_params(config)
    mean_out = np.array([5.0, -3.0, 2.0], np.float32)
    mean, scale, scale_out = np.linspace(-1, 1, D).astype(np.float32), 0.7, 0.2
    sae = build(config, p, Constants(mean, scale, mean_out, scale_out)).for_inference()
    raw, raw_out = random_rows(40), 4 * random_rows(40, 3, seed=8) + mean_out
    h = equations.pre_activations(p, scale * (raw - mean), transcoder=True)
    z = np.where(equations.largest(h, K), np.maximum(h, 0), 0)
    y_hat = (z @ p["W_dec"] + p["b_dec"]) / scale_out + mean_out
    raw32 = raw.astype(np.float32)
    np.testing.assert_allclose(sae.encode_dense(raw32), z, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(sae(raw32), y_hat, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        sae.normalize_output(jnp.asarray(raw_out, jnp.float32)), scale_out * (raw_out - mean_out),
        rtol=1e-4, atol=1e-5,
    )  # fmt: skip
    found = evaluate(sae, [np.concatenate([raw, raw_out], axis=1).astype(np.float32)])
    error = ((raw_out - y_hat) ** 2).sum()
    assert found.fvu == pytest.approx(error / ((raw_out - raw_out.mean(0)) ** 2).sum(), rel=1e-4)
    assert found.normalized_mse == pytest.approx(scale_out**2 * error / (40 * 3), rel=1e-4)


def test_transcoder_starts_with_an_encoder_of_its_own():
    sae = build(sae_config("topk", d_out=3), {}, Constants(np.zeros(D), 1.0, np.zeros(3), 1.0))
    assert sae.W_enc_T[...].shape == (F, D)
    assert sae.W_dec[...].shape == (F, 3)
    for rows in (sae.W_enc_T[...], sae.W_dec[...]):
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)


# ---------------------------------------------------------------- in use


def test_used_as_it_is_trained():
    sae = build(sae_config("topk"), random_params(sae_config("topk")))
    assert sae.for_inference(3.0) is sae


@pytest.mark.parametrize(("width", "slots"), [(None, K), (1, 1), (2, 2), (9, K)])
def test_width_leaves_out_the_smallest(width, slots):
    sae = build(sae_config("topk"), random_params(sae_config("topk")))
    rows = X.astype(np.float32)
    latents, whole = sae.encode(rows, width), sae.encode(rows)
    assert latents.values.shape == (B, slots)
    np.testing.assert_array_equal(latents.values, whole.values[:, :slots])
    np.testing.assert_array_equal(latents.indices, whole.indices[:, :slots])
