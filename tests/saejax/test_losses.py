import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import saejax.losses as losses
from saejax.architectures import TopKSAE
from saejax.config import SAEConfig
from saejax.losses import auxk_loss, fvu, reconstruction_loss
from saejax.model import Constants


def sae_and_batch(d=6, f=24, k_aux=4, batch=16):
    constants = Constants(np.zeros(d, np.float32), 1.0)
    sae = TopKSAE(SAEConfig(d, f, 3, k_aux), constants, rngs=nnx.Rngs(0))
    sae.W_enc_T[...] = jax.random.normal(jax.random.key(5), (f, d))
    x = jax.random.normal(jax.random.key(1), (batch, d))
    x_hat = 0.5 * x + 0.1 * jax.random.normal(jax.random.key(2), (batch, d))
    return sae, x, x_hat


def dense_auxk(sae, x, x_hat, dead, k_aux):
    """The formula without gathering: pre-activations of living latents masked out."""
    e = np.asarray(x - x_hat)
    h = np.asarray((x - sae.b_dec[...][None]) @ sae.W_enc + sae.b_enc[...][None])
    h = np.where(dead[None], h, -np.inf)
    k = min(k_aux, int(dead.sum()))
    z = np.where(h >= np.sort(h, axis=1)[:, [-k]], np.maximum(h, 0), 0)
    variance = ((e - e.mean(axis=0)) ** 2).mean()
    return ((z @ np.asarray(sae.W_dec[...]) - e) ** 2).mean() / variance


@pytest.mark.parametrize("n_dead", [1, 3, 4, 5, 9, 24])
@pytest.mark.parametrize("buckets", [(4, 8), (512,)])
def test_compacted_auxk_equals_the_formula(monkeypatch, n_dead, buckets):
    monkeypatch.setattr(losses, "AUXK_BUCKETS", buckets)
    sae, x, x_hat = sae_and_batch()
    dead = np.zeros(24, bool)
    dead[np.random.default_rng(n_dead).permutation(24)[:n_dead]] = True
    found = auxk_loss(sae, x, x - x_hat, jnp.array(dead))
    np.testing.assert_allclose(found, dense_auxk(sae, x, x_hat, dead, 4), rtol=1e-5)


def test_nothing_dead_costs_nothing():
    sae, x, x_hat = sae_and_batch()
    assert auxk_loss(sae, x, x - x_hat, jnp.zeros(24, bool)) == 0


def test_perfect_reconstruction_gives_zero_not_nan():
    sae, x, _ = sae_and_batch()
    assert auxk_loss(sae, x, x - x, jnp.ones(24, bool)) == 0


def grads_of_auxk(dead):
    sae, x, x_hat = sae_and_batch()
    graphdef, params, rest = nnx.split(sae, nnx.Param, ...)

    def loss(params):
        return auxk_loss(nnx.merge(graphdef, params, rest), x, x - x_hat, dead)

    return jax.grad(loss)(nnx.to_pure_dict(params))


def test_auxk_gradient_reaches_encoder_and_decoder_of_dead_latents_only():
    dead = jnp.arange(24) % 3 == 0
    grads = grads_of_auxk(dead)
    for name in ("W_enc_T", "W_dec"):
        norms = np.linalg.norm(np.asarray(grads[name]), axis=1)
        assert norms[np.asarray(dead)].max() > 1e-3, name
        assert not norms[~np.asarray(dead)].any(), name


def test_residual_is_detached():
    """AuxK must not push the main reconstruction: no gradient flows through x_hat."""
    sae, x, x_hat = sae_and_batch()
    dead = jnp.ones(24, bool)
    grad = jax.grad(lambda x_hat: auxk_loss(sae, x, x - x_hat, dead))(x_hat)
    assert not np.any(grad)


def test_reconstruction_loss_and_fvu_by_hand():
    x, x_hat = jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([[1.0, 2.0], [3.0, 2.0]])
    assert reconstruction_loss(x, x_hat) == 1.0
    assert fvu(1.0, 4.0) == 0.25
    assert np.isnan(fvu(1.0, 0.0))
