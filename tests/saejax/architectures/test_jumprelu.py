"""JumpReLU, both forms, against the written equations and straight-through estimates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saejax.architectures.jumprelu import JumpReLUSAE, is_active, jump
from saejax.model import Constants
from tests.saejax.architectures import equations
from tests.saejax.architectures.problems import (
    D,
    F,
    assert_as_written,
    build,
    ours,
    random_params,
    random_rows,
    sae_config,
    thresholded,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = random_rows()
CONFIG, L0_CONFIG = sae_config("jumprelu"), sae_config("jumprelu", target_l0=2.0)


@pytest.mark.parametrize("sparsity", [0.0, 0.7, 20.0])
def test_loss_and_gradients(sparsity):
    p = random_params(CONFIG)
    written = equations.jumprelu(p, X, sparsity=sparsity)
    assert 0 < (written.z > 0).mean() < 1
    assert_as_written(ours(CONFIG, p, X, sparsity=sparsity), written)


@pytest.mark.parametrize("log_threshold", [-5.0, 0.3])
def test_l0_form_loss_and_gradients(log_threshold):
    p = random_params(L0_CONFIG)
    p["log_threshold"] = p["log_threshold"] + log_threshold
    assert_as_written(ours(L0_CONFIG, p, X), equations.jumprelu(p, X, target_l0=2.0))


def test_pre_activation_penalty_reaches_silent_latents():
    """Far below every threshold, only 3e-6 ReLU(e^t − h) ‖w‖ is left to pull."""
    p = random_params(CONFIG)
    p["b_enc"] = p["b_enc"] - 50
    written = equations.jumprelu(p, X, sparsity=1.0)
    assert not written.z.any()
    found = ours(CONFIG, p, X, sparsity=1.0)
    assert_as_written(found, written)
    norms = np.linalg.norm(p["W_dec"], axis=1)
    np.testing.assert_allclose(found[1]["b_enc"], -3e-6 * norms, rtol=1e-4)


@pytest.mark.parametrize(
    ("h", "value", "to_h", "to_t"),
    [
        (1.6, 1.6, 1.0, -0.5),  # above the threshold of 1, within 1 of it
        (0.4, 0.0, 0.0, -0.5),  # below
        (2.5, 2.5, 1.0, 0.0),  # too far above
        (-0.5, 0.0, 0.0, 0.0),  # too far below
        (1.0, 0.0, 0.0, -0.5),  # at it
    ],
)
def test_straight_through_estimates_by_hand(h, value, to_h, to_t):
    h, t = jnp.float32(h), jnp.float32(0.0)
    assert jump(h, t) == jnp.float32(value)
    assert jax.grad(jump, (0, 1))(h, t) == (to_h, to_t)
    assert is_active(h, t) == (value > 0)
    assert jax.grad(is_active, (0, 1))(h, t) == (0, to_t)


@pytest.mark.parametrize("log_threshold", [-1.0, 1.0])
def test_straight_through_estimates_scale_with_the_threshold(log_threshold):
    t = jnp.float32(log_threshold)
    for function in (jump, is_active):
        grad = jax.grad(function, 1)(jnp.exp(t) + 0.5, t)
        np.testing.assert_allclose(grad, -np.exp(log_threshold) / 2, rtol=1e-6)


def test_thresholds_rise_when_too_many_are_active():
    """At the target there is nothing to do; above it, every threshold near a value rises."""
    p = random_params(L0_CONFIG) | {"W_dec": np.zeros((F, D)), "log_threshold": np.full(F, -1.0)}
    l0 = float(ours(L0_CONFIG, p, X)[2].l0)
    assert l0 > 2
    assert (ours(L0_CONFIG, p, X)[1]["log_threshold"] < 0).all()
    fewer = p | {"b_enc": p["b_enc"] - 1.6}
    assert 0 < ours(L0_CONFIG, fewer, X)[2].l0 < 2
    assert (ours(L0_CONFIG, fewer, X)[1]["log_threshold"] >= 0).all()


def test_a_decoder_row_of_zeros_has_finite_gradients():
    p = random_params(CONFIG)
    p["W_dec"][3] = 0
    _, grads, _ = ours(CONFIG, p, X, sparsity=1.0)
    assert all(np.isfinite(g).all() for g in grads.values())


def test_nothing_active():
    p = random_params(L0_CONFIG)
    p["b_enc"] = p["b_enc"] - 100
    loss, grads, parts = ours(L0_CONFIG, p, X)
    assert loss == pytest.approx(((X - p["b_dec"]) ** 2).sum(1).mean() + 2 / 2 * (0 - 2) ** 2)
    assert parts.l0 == 0
    for name in ("W_dec", "W_enc_T", "b_enc", "log_threshold"):
        assert not grads[name].any(), name


def test_start_is_the_january_updates():
    sae = build(CONFIG, {}, Constants(np.zeros(D, np.float32), 1.0))
    assert isinstance(sae, JumpReLUSAE)
    W_dec = np.asarray(sae.W_dec[...])
    assert np.abs(W_dec).max() <= D**-0.5
    assert W_dec.std() == pytest.approx(D**-0.5 / 3**0.5, rel=0.2)  # uniform
    np.testing.assert_allclose(sae.W_enc_T[...], D / F * W_dec, rtol=1e-6)
    np.testing.assert_allclose(sae.log_threshold[...], 0.1)
    rows = jnp.asarray(random_rows(800), jnp.float32)
    sae.start_from(rows)
    active = np.asarray(sae.pre_activations(rows) > np.exp(0.1)).mean(axis=0)
    np.testing.assert_allclose(active, 1 / 8, atol=2 / 800)  # the same share of every latent


def test_used_with_its_own_thresholds():
    p = random_params(CONFIG)
    used = thresholded(CONFIG, p)
    x = 0.7 * (X - np.linspace(-1, 1, D))
    z = equations.jumprelu(p, x).z
    assert z.any()
    norms, raw = np.linalg.norm(p["W_dec"], axis=1), X.astype(np.float32)
    np.testing.assert_allclose(used.encode_dense(raw), z * norms, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(used.threshold[...], np.exp(p["log_threshold"]) * norms, rtol=1e-5)
