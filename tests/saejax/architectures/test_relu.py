"""ReLU with the L1 penalty of April 2024 against the written equations."""

import numpy as np
import pytest

from saejax.model import Constants
from saejax.recipes import unit_norm_decoder
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
CONFIG = sae_config("relu")


@pytest.mark.parametrize("sparsity", [0.0, 0.7, 20.0])
def test_loss_and_gradients(sparsity):
    p = random_params(CONFIG)
    written = equations.relu(p, X, sparsity=sparsity)
    assert_as_written(ours(CONFIG, p, X, sparsity=sparsity), written)


def test_by_hand():
    """z = (3, 0), rows of norm 2: x̂ = (6, 0), penalty λ·3·2."""
    config = sae_config("relu", d_model=2, d_sae=2, k=1, k_aux=1)
    p = {"W_dec": 2 * np.eye(2), "W_enc_T": np.eye(2), "b_enc": np.zeros(2), "b_dec": np.zeros(2)}
    loss, grads, parts = ours(config, p, np.array([[3.0, -1.0]]), sparsity=0.5)
    assert loss == pytest.approx(9 + 1 + 3)
    assert (parts.squared_error, parts.squared_deviation, parts.auxk) == (10, 10, 0)
    np.testing.assert_allclose(grads["b_enc"], [2 * 3 * 2 + 0.5 * 2, 0], rtol=1e-6)
    np.testing.assert_allclose(grads["W_dec"], [[2 * 3 * 3 + 0.5 * 3, 6], [0, 0]], rtol=1e-6)


def test_penalty_does_not_change_with_the_decoders_scale():
    """z ‖w‖ is the same when rows double and the encoder halves; that is why norms are free."""
    p = random_params(CONFIG)
    half = p | {"W_dec": 2 * p["W_dec"], "W_enc_T": p["W_enc_T"] / 2, "b_enc": p["b_enc"] / 2}
    loss, other = ours(CONFIG, p, X, sparsity=3.0)[0], ours(CONFIG, half, X, sparsity=3.0)[0]
    assert loss == pytest.approx(other, rel=1e-6)
    assert not unit_norm_decoder(CONFIG)


def test_nothing_active_and_rows_of_zeros():
    p = random_params(CONFIG) | {"b_enc": np.full(F, -100.0)}
    loss, grads, parts = ours(CONFIG, p, 0 * X, sparsity=1.0)
    assert loss == pytest.approx((p["b_dec"] ** 2).sum(), rel=1e-6)
    assert parts.l0 == 0
    for name in ("W_dec", "W_enc_T", "b_enc"):
        assert not grads[name].any(), name
    np.testing.assert_allclose(grads["b_dec"], 2 * p["b_dec"], rtol=1e-5)


def test_a_decoder_row_of_zeros_has_finite_gradients():
    p = random_params(CONFIG)
    p["W_dec"][3] = 0
    _, grads, _ = ours(CONFIG, p, X, sparsity=1.0)
    assert all(np.isfinite(g).all() for g in grads.values())


def test_start():
    sae = build(CONFIG, {}, Constants(np.zeros(D, np.float32), 1.0))
    np.testing.assert_allclose(np.linalg.norm(sae.W_dec[...], axis=1), 0.1, rtol=1e-5)
    np.testing.assert_array_equal(sae.W_enc_T[...], sae.W_dec[...])


def test_used_with_a_threshold_of_zero():
    p = random_params(CONFIG)
    used = thresholded(CONFIG, p)
    z = equations.relu(p, 0.7 * (X - np.linspace(-1, 1, D)), sparsity=0).z
    norms, raw = np.linalg.norm(p["W_dec"], axis=1), X.astype(np.float32)
    np.testing.assert_allclose(used.encode_dense(raw), z * norms, rtol=1e-4, atol=1e-5)
    assert not np.any(used.threshold[...])
