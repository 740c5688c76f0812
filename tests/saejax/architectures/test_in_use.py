"""What holds for every architecture: bfloat16, the form for use, encoding and evaluation."""

import jax.numpy as jnp
import numpy as np
import pytest

from saejax.evaluate import evaluate
from saejax.latents import encode_array
from tests.saejax.architectures import equations
from tests.saejax.architectures.problems import (
    B,
    D,
    F,
    K,
    build,
    ours,
    random_dead,
    random_params,
    random_rows,
    sae_config,
)

ALL = ["topk", "batchtopk", "matryoshka", "jumprelu", "gated", "relu"]
WITH_THRESHOLD = ALL[1:]
pytestmark = pytest.mark.usefixtures("quick_compilation")

X = random_rows()
THRESHOLD = 0.4
MEAN, SCALE = np.linspace(-1, 1, D), 0.7


def in_use(architecture):
    config = sae_config(architecture)
    p = random_params(config)
    return p, build(config, p).for_inference(THRESHOLD)


def latents(architecture, p, raw):
    """z as it is trained, of raw activations."""
    x = SCALE * (raw - MEAN)
    if architecture in ("jumprelu", "gated", "relu"):
        settings = {} if architecture == "jumprelu" else {"sparsity": 0.0}
        return getattr(equations, architecture)(p, x, **settings).z
    h = equations.pre_activations(p, x)
    keep = equations.largest(h, K) & (h > 0) if architecture == "topk" else h > THRESHOLD
    return np.where(keep, h, 0)


@pytest.mark.parametrize("architecture", ALL)
def test_bfloat16_encoder(architecture):
    single = sae_config(architecture)
    p, dead = random_params(single), random_dead(9)
    # a margin between chosen and other latents, so that rounding does not change the choice
    p["b_enc"] = np.random.default_rng(4).permutation(np.linspace(-1.5, 1.5, F))
    p["W_enc_T"] = p["W_enc_T"] / 8
    half = sae_config(architecture, encode_dtype="bfloat16")
    loss, grads, parts = ours(single, p, X, dead=dead, sparsity=0.7)
    half_loss, half_grads, half_parts = ours(half, p, X, dead=dead, sparsity=0.7)
    assert half_loss == pytest.approx(loss, rel=0.01)
    assert half_loss != loss
    assert half_parts.l0 == pytest.approx(parts.l0, rel=0.1)
    for name, expected in grads.items():
        assert half_grads[name].dtype == np.float32
        error = np.linalg.norm(half_grads[name] - expected) / np.linalg.norm(expected)
        assert error < 0.05, name


@pytest.mark.parametrize("architecture", ALL)
def test_form_for_use(architecture):
    """Latents are z ‖w‖ of training, rows have unit norm, and the reconstruction is the same."""
    p, sae = in_use(architecture)
    raw = random_rows(30)
    z, single = latents(architecture, p, raw), raw.astype(np.float32)
    unit = architecture != "topk"  # which is trained with unit rows
    norms = np.linalg.norm(p["W_dec"], axis=1) if unit else np.ones(F)
    np.testing.assert_allclose(sae.encode_dense(single), z * norms, rtol=1e-4, atol=1e-5)
    expected = (z @ p["W_dec"] + p["b_dec"]) / SCALE + MEAN
    np.testing.assert_allclose(sae(single), expected, rtol=1e-4, atol=1e-5)
    if unit:
        np.testing.assert_allclose(np.linalg.norm(sae.W_dec[...], axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("architecture", WITH_THRESHOLD)
def test_slots(architecture):
    _, sae = in_use(architecture)
    raw = X.astype(np.float32)
    z = np.asarray(sae.encode_dense(raw))
    busiest = int((z > 0).sum(axis=1).max())
    found = sae.encode(raw)
    assert found.values.shape == (B, busiest)  # as many as are needed
    np.testing.assert_array_equal(found.dense(F), z)
    assert (np.diff(found.values, axis=1) <= 0).all()
    for width in (1, 2, F, F + 1, 4 * F):
        narrow = sae.encode(raw, width)
        assert narrow.values.shape == (B, min(width, F))
        np.testing.assert_allclose(np.sort(z, axis=1)[:, ::-1][:, :width], narrow.values)
    silent = sae.encode(raw[:0])
    assert silent.values.shape[0] == 0


@pytest.mark.parametrize("architecture", ALL)
def test_encode_array(architecture):
    _, sae = in_use(architecture)
    raw = random_rows(50).astype(np.float32)
    found = encode_array(sae, raw)
    z = np.asarray(sae.encode_dense(raw))
    np.testing.assert_allclose(found.dense(F), z, rtol=1e-5, atol=1e-6)
    if architecture != "topk":
        busiest = int((z > 0).sum(axis=1).max())
        assert found.values.shape[1] == min(F, 1 << (busiest - 1).bit_length())


def test_slots_follow_the_rows_and_not_what_pads_a_block():
    """Activations far from 0: the rows of zeros that fill a block up are extreme ones."""
    _, sae = in_use("relu")
    sae.mean[...] = jnp.full(D, 1000.0)
    few = jnp.full(F, -100.0).at[:2].set(1.0)  # two latents fire on ordinary rows
    sae.b_enc[...] = few
    raw = (1000 + 0.01 * random_rows(20)).astype(np.float32)
    assert (np.asarray(sae.encode_dense(0 * raw)) > 0).sum(axis=1).max() > 2
    assert encode_array(sae, raw).values.shape == (20, 2)


@pytest.mark.parametrize("architecture", ALL)
def test_evaluation(architecture):
    p, sae = in_use(architecture)
    raw = random_rows(90, seed=3)
    single = raw.astype(np.float32)
    found = evaluate(sae, [single[:1], single[1:40], single[40:]])
    z = np.asarray(sae.encode_dense(single), np.float64)
    x_hat = z @ np.asarray(sae.W_dec[...], np.float64) + p["b_dec"]
    error = ((SCALE * (raw - MEAN) - x_hat) ** 2).sum()
    deviation = (SCALE**2 * (raw - raw.mean(0)) ** 2).sum()
    assert found.fvu == pytest.approx(error / deviation, rel=1e-4)
    assert found.normalized_mse == pytest.approx(error / raw.size, rel=1e-4)
    assert found.l0 == pytest.approx((z > 0).sum() / 90)
    assert found.n_tokens == 90
    np.testing.assert_allclose(found.frequency, (z > 0).mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.maximum, z.max(0), rtol=1e-4, atol=1e-6)
    assert found.frac_dead == (~(z > 0).any(0)).mean()
    assert found.frac_dense == ((z > 0).mean(0) > 0.1).mean()
    rows = p["W_dec"] / np.linalg.norm(p["W_dec"], axis=1, keepdims=True)
    cosines = (rows @ rows.T - 2 * np.eye(F)).max(1)
    assert found.decoder_cosine_max == pytest.approx(cosines.max(), rel=1e-4)
    assert found.decoder_cosine_mean_max == pytest.approx(cosines.mean(), rel=1e-4)
