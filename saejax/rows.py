"""Rows of matrices: their norms, and what they are orthogonal to."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def token_statistics(
    activations: Float[Array, "batch d_model"],
) -> tuple[Float[Array, "batch 1"], Float[Array, "batch 1"]]:
    """Mean and unbiased standard deviation of every row over its own dimensions."""
    mean_B1 = activations.mean(axis=1, keepdims=True)
    return mean_B1, activations.std(axis=1, keepdims=True, ddof=1)


def unit_rows(W_FD: Float[Array, "rows d"]) -> Float[Array, "rows d"]:
    """Every row scaled to unit norm; a zero row stays zero."""
    norms = jnp.linalg.norm(W_FD, axis=1, keepdims=True)
    return W_FD / jnp.maximum(norms, jnp.finfo(W_FD.dtype).tiny)


def orthogonal_to_rows(
    grad_FD: Float[Array, "rows d"], W_FD: Float[Array, "rows d"]
) -> Float[Array, "rows d"]:
    """Remove from each gradient row its part along the unit-norm decoder row."""
    return grad_FD - (grad_FD * W_FD).sum(axis=1, keepdims=True) * W_FD
