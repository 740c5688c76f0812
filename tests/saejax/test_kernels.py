"""Kernels against the dense formulas they stand for."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from saejax import kernels

SHAPES = [(6, 5, 3, 16), (7, 3, 1, 11), (4, 8, 9, 9), (1, 1, 1, 1), (33, 40, 10, 50)]
"""Batch, d_model, k, d_sae."""


def sparse_case(batch: int, d_model: int, k: int, d_sae: int):
    rng = np.random.default_rng(batch + d_sae)
    weights = rng.standard_normal((batch, k)).astype(np.float32)
    indices = np.stack([rng.permutation(d_sae)[:k] for _ in range(batch)]).astype(np.int32)
    W = rng.standard_normal((d_sae, d_model)).astype(np.float32)
    rows = rng.standard_normal((batch, d_model)).astype(np.float32)
    z = np.zeros((batch, d_sae), np.float32)
    np.put_along_axis(z, indices, weights, axis=1)
    return *map(jnp.asarray, (weights, indices, W, rows)), z


@pytest.mark.parametrize("shape", SHAPES)
def test_sparse_products_equal_dense_ones(shape):
    weights, indices, W, rows, z = sparse_case(*shape)
    np.testing.assert_allclose(
        jax.jit(kernels.weighted_row_sum)(weights, indices, W), z @ W, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(
        jax.jit(kernels.row_products)(indices, W, rows),
        np.take_along_axis(np.asarray(rows @ W.T), np.asarray(indices), axis=1),
        rtol=1e-5,
        atol=1e-5,
    )
    np.testing.assert_allclose(
        jax.jit(partial(kernels.add_rows, n_rows=shape[3]))(weights, indices, rows),
        z.T @ rows,
        rtol=1e-5,
        atol=1e-5,
    )


def test_latents_that_fire_for_many_examples_add_up():
    indices = jnp.tile(jnp.array([3, 0]), (5, 1))
    total = kernels.add_rows(jnp.ones((5, 2)), indices, jnp.ones((5, 4)), 6)
    np.testing.assert_array_equal(total[:, 0], [5, 0, 0, 5, 0, 0])


@pytest.fixture
def two_stages_from_32(monkeypatch):
    monkeypatch.setattr(kernels, "TWO_STAGE_TOP_K_FROM", 32)


@pytest.mark.parametrize(
    ("n", "k"), [(64, 1), (64, 3), (4096, 64), (96, 5), (97, 5), (64, 64), (33, 33), (40, 20)]
)
@pytest.mark.parametrize("kind", ["normal", "ties", "negative", "constant"])
@pytest.mark.usefixtures("two_stages_from_32")
def test_top_k_is_that_of_lax(n, k, kind):
    rng = np.random.default_rng(n + k)
    values = rng.standard_normal((9, n)).astype(np.float32)
    if kind == "ties":
        values = np.round(values)
    if kind == "negative":
        values = -abs(values) - 1
        values[:, ::3] = -np.inf
    if kind == "constant":
        values[:] = 2
    ours, theirs = jax.jit(kernels.top_k, static_argnums=1)(values, k), jax.lax.top_k(values, k)
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_array_equal(ours[1], theirs[1])


@pytest.mark.parametrize("k", [1, 7, 20, 39, 40])
@pytest.mark.parametrize("shift", [-3.0, 0.0, 3.0])
def test_cut_to_top_k_equals_top_k(k, shift):
    rng = np.random.default_rng(k)
    values = np.round(rng.standard_normal((12, 40)) * 4).astype(np.float32) / 4 + shift
    top, indices = jax.lax.top_k(values, k)
    expected = np.zeros_like(values)
    np.put_along_axis(expected, np.asarray(indices), np.maximum(np.asarray(top), 0), axis=1)
    np.testing.assert_array_equal(
        kernels.cut_to_top_k(jax.nn.relu(jnp.asarray(values)), k), expected
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 2e-2)])
def test_encoder_matmul(dtype, tolerance):
    _, _, W, x, _ = sparse_case(33, 40, 10, 50)
    product = jax.jit(partial(kernels.encoder_matmul, dtype=dtype))(x, W)
    assert product.dtype == jnp.float32
    np.testing.assert_allclose(product, x @ W.T, atol=tolerance * abs(x @ W.T).max())


def everything(weights, indices, W, rows):
    """All kernels after one another."""
    pre_acts = kernels.encoder_matmul(rows, W, "bfloat16")
    top, found = kernels.top_k(pre_acts, indices.shape[1])
    return (
        kernels.weighted_row_sum(weights, indices, W),
        kernels.row_products(indices, W, rows),
        kernels.add_rows(weights, indices, rows, W.shape[0]),
        kernels.weighted_row_sum(top, found, W),
        kernels.cut_to_top_k(jax.nn.relu(rows @ W.T), 4),
    )


@pytest.mark.usefixtures("two_stages_from_32")
def test_under_vmap_and_shard_map():
    weights, indices, W, rows, _ = sparse_case(16, 24, 3, 64)
    split = [x.reshape(8, 2, -1) for x in (weights, indices, rows)]
    one_by_one = [everything(w, i, W, r) for w, i, r in zip(*(list(x) for x in split), strict=True)]
    expected = [np.stack([np.asarray(parts[n]) for parts in one_by_one]) for n in range(5)]
    mapped = jax.vmap(everything, in_axes=(0, 0, None, 0))(split[0], split[1], W, split[2])
    for ours, theirs in zip(mapped, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)

    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    data, whole = PartitionSpec("data"), PartitionSpec()
    sharded = jax.jit(
        jax.shard_map(everything, mesh=mesh, in_specs=(data, data, whole, data), out_specs=data)
    )(weights, indices, W, rows)
    for ours, theirs in zip(sharded, expected, strict=True):
        np.testing.assert_allclose(ours, theirs.reshape(ours.shape), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (4, 32), (5, 33), (9, 100)])
@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 1.0])
def test_first_true(shape, share):
    mask = np.random.default_rng(shape[1]).random(shape) < share
    expected = np.nonzero(mask)
    n = len(expected[0])
    for size in sorted({1, max(1, n // 2), max(1, n), n + 7}):
        found = jax.jit(kernels.first_true, static_argnums=1)(jnp.asarray(mask), size)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours[:n], theirs[:size])
            assert not np.asarray(ours[n:]).any()
