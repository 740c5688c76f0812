"""Temporary: replaced by the tuned ones."""

import jax
import jax.numpy as jnp

from saejax.axes import zeros_beside


def top_k(pre_acts_BF, k):
    return jax.lax.top_k(pre_acts_BF, k)


def encoder_matmul(x_BD, W_FD, dtype="float32"):
    return jax.lax.dot_general(
        x_BD.astype(dtype),
        W_FD.astype(dtype),
        (((1,), (1,)), ((), ())),
        preferred_element_type=jnp.float32,
    )


def weighted_row_sum(weights_BK, indices_BK, W_FD):
    def add(x_BD, entry):
        value_B, index_B = entry
        return x_BD + value_B[:, None] * W_FD[index_B], None

    start = zeros_beside((weights_BK.shape[0], W_FD.shape[1]), W_FD, weights_BK)
    return jax.lax.scan(add, start, (weights_BK.T, indices_BK.T))[0]


def row_products(indices_BK, W_FD, g_BD):
    return jax.lax.map(lambda i_B: (g_BD * W_FD[i_B]).sum(-1), indices_BK.T).T


def add_rows(weights_BK, indices_BK, rows_BD, n_rows):
    def add(total_FD, entry):
        weight_B, index_B = entry
        return total_FD.at[index_B].add(weight_B[:, None] * rows_BD), None

    start = zeros_beside((n_rows, rows_BD.shape[1]), rows_BD, weights_BK)
    return jax.lax.scan(add, start, (weights_BK.T, indices_BK.T))[0]
