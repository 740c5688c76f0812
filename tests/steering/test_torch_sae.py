from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.errors import UserError
from extract.esm import ESM2, ESM2Shape
from saejax import Constants, LoadedSAE, SAEConfig, TopKSAE, load_sae
from saejax.architectures import ARCHITECTURES
from steering.torch_sae import TorchLatents, TorchSAE

MANIFEST = {"parent": {}, "site": "block1", "d_model": 0}


def flax_sae(d_model: int, d_sae: int, k: int, rng: np.random.Generator) -> LoadedSAE:
    config = SAEConfig(d_model=d_model, d_sae=d_sae, k=k, k_aux=1)
    sae = TopKSAE(config, Constants(rng.normal(size=d_model), 1.7), rngs=nnx.Rngs(0))
    for name in ("W_enc_T", "b_enc", "b_dec"):
        parameter = getattr(sae, name)
        parameter[...] = rng.normal(size=parameter[...].shape).astype(np.float32) * 0.3
    run = {"store": MANIFEST | {"d_model": d_model}}
    return LoadedSAE(Path("run"), sae, config, run)


SHAPES = [(1, 1, 1, 1), (9, 12, 30, 5), (4, 3, 8, 8), (2, 20, 64, 32)]


@settings(max_examples=20, deadline=None)
@given(shape=st.sampled_from(SHAPES), seed=st.integers(0, 2**16))
def test_equals_the_flax_sae(shape: tuple[int, int, int, int], seed: int) -> None:
    rows, d_model, d_sae, k = shape  # few shapes: JAX compiles each
    rng = np.random.default_rng(seed)
    loaded = flax_sae(d_model, d_sae, k, rng)
    sae = TorchSAE.from_run(loaded)
    x = rng.normal(size=(rows, d_model)).astype(np.float32)
    x_jax = jnp.asarray(x)
    theirs, ours = loaded.sae.encode(x_jax), sae.encode(torch.from_numpy(x))
    np.testing.assert_allclose(ours.values, theirs.values, atol=1e-5)
    np.testing.assert_allclose(sae.dense(ours), theirs.dense(d_sae), atol=1e-5)
    np.testing.assert_allclose(sae(torch.from_numpy(x)), loaded.sae(jnp.asarray(x)), atol=1e-5)
    ordered = np.sort(np.asarray(loaded.sae.pre_activations(x_jax)), axis=1)[:, ::-1]
    for row in range(rows):
        if k == d_sae or ordered[row, k - 1] - ordered[row, k] > 1e-5:
            assert set(ours.indices[row].tolist()) == set(np.asarray(theirs.indices[row]).tolist())


@pytest.mark.parametrize("kind", ["batchtopk", "matryoshka", "jumprelu", "gated", "relu"])
def test_latents_above_thresholds_equal_the_flax_sae(kind: Any) -> None:
    rng = np.random.default_rng(3)
    prefixes = (16, 64) if kind == "matryoshka" else ()
    config = SAEConfig(12, 64, 4, 1, architecture=kind, prefixes=prefixes)
    constants = Constants(rng.normal(size=12).astype(np.float32), 1.7)
    sae = ARCHITECTURES[kind](config, constants, rngs=nnx.Rngs(0))
    for _, parameter in nnx.to_flat_state(nnx.state(sae, nnx.Param)):
        noise = rng.normal(size=parameter.shape).astype(np.float32)
        parameter[...] = parameter[...] + 0.3 * noise
    run = {"store": MANIFEST | {"d_model": 12}}
    loaded = LoadedSAE(Path("run"), sae.for_inference(0.25), config, run)
    x = rng.normal(size=(40, 12)).astype(np.float32)
    ours = TorchSAE.from_run(loaded)
    theirs = np.asarray(loaded.sae.encode_dense(jnp.asarray(x)))
    assert 0 < (theirs > 0).mean() < 1
    np.testing.assert_allclose(ours.encode_dense(torch.from_numpy(x)), theirs, atol=1e-5)
    np.testing.assert_allclose(ours(torch.from_numpy(x)), loaded.sae(jnp.asarray(x)), atol=1e-5)


def test_transcoder_is_refused() -> None:
    config = SAEConfig(4, 8, 2, 1, d_out=4)
    constants = Constants(np.zeros(4, np.float32), 1.0, np.zeros(4, np.float32), 1.0)
    sae = TopKSAE(config, constants, rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match="is a transcoder"):
        TorchSAE.from_run(LoadedSAE(Path("run"), sae, config, {"store": MANIFEST}))


def test_trained_run_equals_flax(workspace) -> None:
    loaded = load_sae(workspace.run)
    sae = TorchSAE.from_run(workspace.run)
    x = np.random.default_rng(0).normal(size=(50, 320)).astype(np.float32)
    np.testing.assert_allclose(sae(torch.from_numpy(x)), loaded.sae(jnp.asarray(x)), atol=1e-5)
    assert (sae.site, sae.k, sae.d_sae) == ("block3", 4, 48)


def test_by_hand() -> None:
    # Identity dictionary, k = 1: x = 2·((3, 1) − 1) = (4, 0); z = (4, 0); back to (3, 1).
    eye, zero = np.eye(2), np.zeros(2)
    arrays = {"W_enc": eye, "b_enc": zero, "W_dec": eye, "b_dec": zero, "mean": np.ones(2),
              "scale": np.float64(2)}  # fmt: skip
    sae = TorchSAE(arrays, 1, MANIFEST, name="hand")
    latents = sae.encode(torch.tensor([[3.0, 1.0]]))
    assert latents.values.tolist() == [[4.0]]
    assert latents.indices.tolist() == [[0]]
    assert sae.decode(latents).tolist() == [[3.0, 1.0]]


def test_dense_and_sparse_decoding_agree_in_any_shape(tiny: ESM2, make_sae) -> None:
    sae = make_sae(tiny, "block1")
    x = torch.randn(3, 5, 16)
    latents = sae.encode(x)
    assert latents.values.shape == (3, 5, 4)
    assert sae.encode_dense(x).count_nonzero() == (latents.values > 0).sum()
    torch.testing.assert_close(sae.decode(latents), sae.decode_dense(sae.encode_dense(x)))
    one = TorchLatents(latents.values[1], latents.indices[1])
    torch.testing.assert_close(sae.decode(one), sae.decode(latents)[1])


def test_columns_of_given_latents(tiny: ESM2, make_sae) -> None:
    sae = make_sae(tiny, "block1")
    latents = sae.encode(torch.from_numpy(np.random.default_rng(0).normal(size=(2, 7, 16))))
    chosen = [5, 0, 23, 11]
    found = latents.of(chosen)
    assert torch.equal(found, sae.dense(latents)[..., chosen])
    assert (found > 0).any()
    assert (found == 0).any()
    assert latents.of([]).shape == (2, 7, 0)


def test_has_no_gradients(tiny: ESM2, make_sae) -> None:
    sae = make_sae(tiny, "block1")
    assert not list(sae.parameters())
    assert not sae(torch.randn(2, 16, requires_grad=True)).requires_grad


def test_moves_between_devices(tiny: ESM2, make_sae) -> None:
    sae = make_sae(tiny, "block1").to("meta")
    assert sae(torch.empty(2, 16, device="meta")).device.type == "meta"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "other"}, "model is 'tiny' in the first and 'other' in the second"),
        ({"token_dropout": False}, "token dropout is True in the first and False in the second"),
        ({"weights": "abc"}, "weights sha256 is '' in the first and 'abc' in the second"),
    ],
)
def test_refuses_another_parent(tiny: ESM2, make_sae, change: dict, words: str) -> None:
    sae = make_sae(tiny, "block1")
    other = ESM2("tiny", ESM2Shape(3, 16, 2))
    sae.require_parent(other)
    if "weights" in change:
        change = {"weights": other.weights.__class__("", change["weights"], "none", "")}
    for name, value in change.items():
        setattr(other, name, value)
    with pytest.raises(UserError, match=words):
        sae.require_parent(other)


@pytest.mark.parametrize("latent", [-1, 24])
def test_unknown_latent(tiny: ESM2, make_sae, latent: int) -> None:
    with pytest.raises(UserError, match="has latents 0 to 23"):
        make_sae(tiny, "block1").check_latent(latent)


def test_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a training run"):
        TorchSAE.from_run(tmp_path)
