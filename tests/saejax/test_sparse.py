"""The sparse path against the dense formulas: values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saejax.sparse import SparseLatents, sparse_decode, top_k_encode


def random_problem(seed, batch=7, d=5, f=11):
    keys = jax.random.split(jax.random.key(seed), 4)
    return (
        jax.random.normal(keys[0], (batch, d)),
        jax.random.normal(keys[1], (f, d)),
        jax.random.normal(keys[2], (f,)),
        jax.random.normal(keys[3], (d,)),
    )


def dense_encode(x, W_enc_T, b_enc, b_dec, k):
    pre_acts = (x - b_dec[None]) @ W_enc_T.T + b_enc[None]
    kth = jnp.sort(pre_acts, axis=1)[:, -k][:, None]
    return jnp.where(pre_acts >= kth, jax.nn.relu(pre_acts), 0.0)


def test_encode_by_hand():
    x = jnp.array([[3.0, 1.0, 2.0]])
    latents = top_k_encode(x, jnp.eye(3), jnp.array([0.0, 0.5, 0.0]), jnp.array([1.0, 0, 0]), 2)
    assert latents.indices.tolist() == [[0, 2]]
    assert latents.values.tolist() == [[2.0, 2.0]]
    assert latents.dense(3).tolist() == [[2.0, 0.0, 2.0]]


def test_negative_winners_are_rectified():
    latents = top_k_encode(-jnp.ones((1, 2)), jnp.eye(2), jnp.zeros(2), jnp.zeros(2), 2)
    assert latents.values.tolist() == [[0.0, 0.0]]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.sampled_from([1, 4, 11]))
def test_values_and_gradients_equal_dense(seed, k):
    x, W_enc_T, b_enc, b_dec = random_problem(seed)
    W_dec = jax.random.normal(jax.random.key(seed + 1), W_enc_T.shape)

    def sparse(x, W_enc_T, b_enc, b_dec, W_dec):
        latents = top_k_encode(x, W_enc_T, b_enc, b_dec, k)
        x_hat = sparse_decode(latents.values, latents.indices, W_dec) + b_dec[None]
        return ((x_hat - x) ** 2).sum() + (latents.values**3).sum()

    def dense(x, W_enc_T, b_enc, b_dec, W_dec):
        z = dense_encode(x, W_enc_T, b_enc, b_dec, k)
        return ((z @ W_dec + b_dec[None] - x) ** 2).sum() + (z**3).sum()

    arguments = (x, W_enc_T, b_enc, b_dec, W_dec)
    ours, our_grads = jax.value_and_grad(sparse, argnums=range(5))(*arguments)
    theirs, their_grads = jax.value_and_grad(dense, argnums=range(5))(*arguments)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    for a, b in zip(our_grads, their_grads):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * float(jnp.abs(b).max() + 1))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.sampled_from([1, 4, 11]))
def test_at_most_k_fire_and_indices_are_distinct(seed, k):
    latents = top_k_encode(*random_problem(seed), k)
    assert latents.values.shape == (7, k)
    assert (np.asarray(latents.values) >= 0).all()
    assert all(len(set(row)) == k for row in np.asarray(latents.indices).tolist())
    assert ((np.asarray(latents.dense(11)) > 0).sum(axis=1) <= k).all()


def test_repeated_index_adds_up():
    """The scatter of gradients must accumulate when several residues share a latent."""
    values, indices = jnp.ones((3, 1)), jnp.zeros((3, 1), jnp.int32)
    W = jnp.zeros((2, 4))
    grad = jax.grad(lambda W: sparse_decode(values, indices, W).sum())(W)
    assert grad.tolist() == [[3.0] * 4, [0.0] * 4]


def test_shapes_are_checked_under_pytest():
    with pytest.raises(Exception, match="(?i)type"):
        sparse_decode(jnp.ones((3, 2)), jnp.zeros((4, 2), jnp.int32), jnp.ones((5, 4)))


def test_dense_of_sparse_latents():
    latents = SparseLatents(jnp.array([[2.0, 1.0]]), jnp.array([[3, 0]]))
    assert latents.dense(4).tolist() == [[1.0, 0.0, 0.0, 2.0]]
