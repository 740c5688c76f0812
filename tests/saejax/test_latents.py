import numpy as np
import pytest
from flax import nnx

from saejax.architectures import TopKSAE
from saejax.config import SAEConfig
from saejax.evaluate import evaluate, row_blocks
from saejax.latents import StoreLatents, encode_store
from saejax.model import Constants


@pytest.fixture
def sae(tiny_store):
    config = SAEConfig(16, 48, 5, 8)
    return TopKSAE(config, Constants(tiny_store.mean, tiny_store.scale), rngs=nnx.Rngs(1))


def test_store_latents_equal_encode(sae, tiny_store):
    latents = encode_store(sae, tiny_store)
    direct = sae.encode(tiny_store.read(0, tiny_store.n_rows))
    np.testing.assert_array_equal(latents.indices, direct.indices)
    np.testing.assert_allclose(latents.values, direct.values, rtol=1e-5, atol=1e-6)


def test_columns_are_the_transpose(sae, tiny_store):
    latents = encode_store(sae, tiny_store)
    dense = np.zeros((tiny_store.n_rows, 48), np.float32)
    np.put_along_axis(dense, latents.indices.astype(np.int64), latents.values, axis=1)
    columns = latents.by_latent()
    assert columns.n_rows == tiny_store.n_rows
    for j in range(48):
        rows, values = columns.column(j)
        np.testing.assert_array_equal(rows, np.flatnonzero(dense[:, j] > 0))
        np.testing.assert_array_equal(values, dense[rows, j])


def test_columns_by_hand():
    values = np.array([[2.0, 0.0], [1.0, 3.0]], np.float32)
    indices = np.array([[1, 0], [1, 2]], np.int32)
    columns = StoreLatents(values, indices, 4).by_latent()
    assert columns.indptr.tolist() == [0, 0, 2, 3, 3]
    assert columns.rows.tolist() == [0, 1, 1]
    assert columns.values.tolist() == [2.0, 1.0, 3.0]


def test_evaluation_does_not_depend_on_the_blocks(sae, tiny_store):
    x = tiny_store.read(0, tiny_store.n_rows)
    whole = evaluate(sae, row_blocks(tiny_store))
    pieces = evaluate(sae, [x[:7], x[7:1000], x[1000:]])
    assert whole.n_tokens == pieces.n_tokens == tiny_store.n_rows
    assert whole.fvu == pytest.approx(pieces.fvu, rel=1e-5)
    np.testing.assert_array_equal(whole.frequency, pieces.frequency)


def test_perfect_and_mean_reconstruction(sae, tiny_store):
    """FVU is 0 for a perfect dictionary and 1 for one that only knows the mean."""
    identity = TopKSAE(
        SAEConfig(16, 32, 32, 1), Constants(tiny_store.mean, tiny_store.scale), rngs=nnx.Rngs(0)
    )
    both_signs = np.concatenate([np.eye(16), -np.eye(16)]).astype(np.float32)
    identity.W_dec[...] = identity.W_enc_T[...] = both_signs
    assert evaluate(identity, row_blocks(tiny_store)).fvu == pytest.approx(0, abs=1e-6)
    identity.b_enc[...] = np.full(32, -1e6, np.float32)
    result = evaluate(identity, row_blocks(tiny_store))
    assert result.fvu == pytest.approx(1, abs=1e-5)
    assert result.frac_dead == 1
