import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from extract.errors import UserError
from saejax.architectures import TopKSAE
from saejax.config import SAEConfig, TrainConfig
from saejax.model import Constants
from saejax.rows import orthogonal_to_rows, unit_rows


def make_sae(d=6, f=20, k=3, scale=2.0):
    mean = np.arange(d, dtype=np.float32)
    return TopKSAE(SAEConfig(d, f, k, k_aux=d // 2), Constants(mean, scale), rngs=nnx.Rngs(0))


def test_identity_dictionary_reconstructs_by_hand():
    sae = make_sae(d=3, f=3, k=1, scale=2.0)
    sae.W_dec[...] = sae.W_enc_T[...] = jnp.eye(3)
    activation = jnp.array([[0.0, 1.0, 2.0 + 0.5]])  # the mean is (0, 1, 2): x = (0, 0, 1)
    latents = sae.encode(activation)
    assert (latents.indices.tolist(), latents.values.tolist()) == ([[2]], [[1.0]])
    np.testing.assert_allclose(sae(activation), activation)


def test_equations_with_every_bias():
    sae = make_sae()
    keys = jax.random.split(jax.random.key(1), 5)
    sae.b_enc[...] = jax.random.normal(keys[0], (20,))
    sae.b_dec[...] = jax.random.normal(keys[1], (6,))
    sae.W_enc_T[...] = jax.random.normal(keys[2], (20, 6))
    activations = np.asarray(jax.random.normal(keys[3], (9, 6)))
    x = 2.0 * (activations - np.arange(6))
    h = (x - np.asarray(sae.b_dec[...])) @ np.asarray(sae.W_enc) + np.asarray(sae.b_enc[...])
    np.testing.assert_allclose(sae.pre_activations(activations), h, rtol=1e-4, atol=1e-4)
    z = np.where(h >= np.sort(h, axis=1)[:, [-3]], np.maximum(h, 0), 0)
    np.testing.assert_allclose(sae.encode(activations).dense(20), z, rtol=1e-4, atol=1e-4)
    x_hat = (z @ np.asarray(sae.W_dec[...]) + np.asarray(sae.b_dec[...])) / 2.0 + np.arange(6)
    np.testing.assert_allclose(sae(activations), x_hat, rtol=1e-4, atol=1e-4)


def test_initialisation_is_gao_et_als():
    sae = make_sae()
    W_dec = np.asarray(sae.W_dec[...])
    np.testing.assert_allclose(np.linalg.norm(W_dec, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(sae.W_enc), W_dec.T)
    assert not np.any(sae.b_enc[...])
    assert not np.any(sae.b_dec[...])


def test_unit_rows_act_on_the_dictionary_axis():
    W = jax.random.normal(jax.random.key(0), (20, 6))
    np.testing.assert_allclose(jnp.linalg.norm(unit_rows(W), axis=1), 1, rtol=1e-6)
    assert not np.any(unit_rows(jnp.zeros((2, 3))))


def test_projected_gradient_is_orthogonal_to_its_row():
    W = unit_rows(jax.random.normal(jax.random.key(0), (20, 6)))
    projected = orthogonal_to_rows(jax.random.normal(jax.random.key(1), (20, 6)), W)
    np.testing.assert_allclose((projected * W).sum(axis=1), 0, atol=1e-6)
    tangent = projected + 0.0
    np.testing.assert_allclose(orthogonal_to_rows(tangent, W), tangent, atol=1e-6)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((4, 8, 9, 2), r"k \(9\) must be at most d_sae \(8\)"),
        ((4, 8, 2, 9), r"k_aux \(9\) must be at most d_sae \(8\)"),
        ((4, 8, 0, 2), r"k \(0\) must be at least 1"),
    ],
)
def test_sizes_are_checked(sizes, message):
    with pytest.raises(UserError, match=message):
        SAEConfig(*sizes)


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("holdout_fraction", 1.0), ("decay_fraction", -0.1), ("learning_rate", 3.0)],
)
def test_training_settings_are_checked(tmp_path, field, value):
    with pytest.raises(UserError, match=field):
        TrainConfig.of(tmp_path, tmp_path, **{field: value})


def test_recipe_constants(tmp_path):
    config = TrainConfig.of(tmp_path, tmp_path, d_sae=2**14)
    assert config.peak_learning_rate() == pytest.approx(2e-4)
    narrower = TrainConfig.of(tmp_path, tmp_path, d_sae=2**12)
    assert narrower.peak_learning_rate() == pytest.approx(4e-4)
    assert config.sae(320).k_aux == 160
    assert config.dead_threshold_tokens(10**6) == 10_000_000
    assert config.dead_threshold_tokens(800) == 100 * 2048
