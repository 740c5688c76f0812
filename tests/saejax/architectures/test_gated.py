"""Gated SAEs against the written equations."""

import numpy as np
import pytest

from tests.saejax.architectures import equations
from tests.saejax.architectures.problems import (
    B,
    D,
    F,
    assert_as_written,
    ours,
    random_params,
    random_rows,
    sae_config,
    thresholded,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = random_rows()
CONFIG = sae_config("gated")


@pytest.mark.parametrize("sparsity", [0.0, 0.7, 20.0])
def test_loss_and_gradients(sparsity):
    p = random_params(CONFIG)
    written = equations.gated(p, X, sparsity=sparsity)
    gate = equations.pre_activations(p, X)
    opened = (gate > 0) & (written.z == 0)  # the gate is open and the magnitude is 0
    assert opened.any()
    assert_as_written(ours(CONFIG, p, X, sparsity=sparsity), written)


def test_by_hand():
    """π = (1, −1), magnitudes e^r π + b_mag = (2·1 + 1, …): z = (3, 0), ReLU(π) = (1, 0)."""
    config = sae_config("gated", d_model=2, d_sae=2, k=1, k_aux=1)
    p = {"W_dec": np.eye(2), "W_enc_T": np.eye(2), "b_enc": np.zeros(2), "b_dec": np.zeros(2),
         "r_mag": np.full(2, np.log(2)), "b_mag": np.ones(2)}  # fmt: skip
    loss, grads, parts = ours(config, p, np.array([[1.0, -1.0]]), sparsity=0.25)
    # ‖(1, −1) − (3, 0)‖² + ¼·1 + ‖(1, −1) − (1, 0)‖²
    assert loss == pytest.approx(5 + 0.25 + 1)
    assert parts.squared_error == pytest.approx(5)
    assert parts.l0 == 1
    np.testing.assert_allclose(grads["b_mag"], [4, 0], rtol=1e-6)
    np.testing.assert_allclose(grads["r_mag"], [8, 0], rtol=1e-6)
    np.testing.assert_allclose(grads["b_enc"], [0.25, 0], rtol=1e-6)  # the gate's own error is 0
    np.testing.assert_allclose(grads["W_dec"], [[12, 6], [0, 0]], rtol=1e-6)


def test_nothing_active():
    p = random_params(CONFIG) | {"b_enc": np.full(F, -100.0)}
    loss, grads, parts = ours(CONFIG, p, X, sparsity=0.7)
    assert loss == pytest.approx(2 * ((X - p["b_dec"]) ** 2).sum(1).mean(), rel=1e-6)
    assert parts.l0 == 0
    for name in ("W_dec", "W_enc_T", "b_enc", "r_mag", "b_mag"):
        assert not grads[name].any(), name
    np.testing.assert_allclose(grads["b_dec"], 2 * (p["b_dec"] - X.mean(0)), rtol=1e-4, atol=1e-6)


def test_used_as_one_threshold_per_latent():
    """1[π > 0] ⊙ ReLU(e^r u + b_mag) by one encoder, whichever of the two decides."""
    p = random_params(CONFIG)
    p["b_mag"], p["b_enc"] = 2 * p["b_mag"], 2 * p["b_enc"]
    used = thresholded(CONFIG, p)
    rows = random_rows(200)
    z = equations.gated(p, 0.7 * (rows - np.linspace(-1, 1, D)), sparsity=0).z
    norms = np.linalg.norm(p["W_dec"], axis=1)
    found = np.asarray(used.encode_dense(rows.astype(np.float32)))
    np.testing.assert_allclose(found, z * norms, rtol=1e-4, atol=1e-5)
    theta = p["b_mag"] - np.exp(p["r_mag"]) * p["b_enc"]
    assert (theta < 0).any() and (theta > 0).any()  # noqa: PT018
    np.testing.assert_allclose(
        used.threshold[...], np.maximum(theta, 0) * norms, rtol=1e-4, atol=1e-6
    )
    assert found.shape == (200, F)
    assert 0 < (found > 0).mean() < 1
    assert len(X) == B
