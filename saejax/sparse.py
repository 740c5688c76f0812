"""k-sparse encoding and decoding that touch only the latents that fire.

The two matrices are kept as ``[d_sae, d_model]``, a row per latent. Forward and backward passes
then gather and scatter B·k rows; the only dense product is the encoder's ``x W_enc``. The custom
gradients equal those of the dense formulas (tested, values and gradients).
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class SparseLatents(NamedTuple):
    """The latents that fire on each residue, and nothing else."""

    values: Float[Array, "batch k"]
    """Activations, ≥ 0 and descending; an entry may be 0 when fewer than k latents are positive."""
    indices: Int[Array, "batch k"]
    """Which latents, distinct within a row."""

    def dense(self, d_sae: int) -> Float[Array, "batch d_sae"]:
        """The same as a dense array."""
        rows = jnp.arange(self.values.shape[0])[:, None]
        empty = jnp.zeros((self.values.shape[0], d_sae), self.values.dtype)
        return empty.at[rows, self.indices].set(self.values)


@jax.custom_vjp
def sparse_decode(
    values_BK: Float[Array, "batch k"],
    indices_BK: Int[Array, "batch k"],
    W_FD: Float[Array, "d_sae d_model"],
) -> Float[Array, "batch d_model"]:
    """Σ_k values[b, k] · W[indices[b, k]]: the dense ``z @ W`` for a k-sparse z."""

    def add(x_BD: Array, entry: tuple[Array, Array]) -> tuple[Array, None]:
        value_B, index_B = entry
        return x_BD + value_B[:, None] * W_FD[index_B], None

    start = jnp.zeros((values_BK.shape[0], W_FD.shape[1]), W_FD.dtype)
    return jax.lax.scan(add, start, (values_BK.T, indices_BK.T))[0]


def _decode_forward(values_BK, indices_BK, W_FD):
    return sparse_decode(values_BK, indices_BK, W_FD), (values_BK, indices_BK, W_FD)


def _decode_backward(residuals, grad_BD):
    values_BK, indices_BK, W_FD = residuals
    grad_values_BK = jax.lax.map(lambda i_B: (grad_BD * W_FD[i_B]).sum(-1), indices_BK.T).T
    return grad_values_BK, None, _scatter_rows(values_BK, indices_BK, grad_BD, W_FD.shape[0])


sparse_decode.defvjp(_decode_forward, _decode_backward)


def _scatter_rows(weights_BK: Array, indices_BK: Array, rows_BD: Array, n_rows: int) -> Array:
    """Σ over b, k of weights[b, k] · rows[b], added into row indices[b, k]: ``[n_rows, d]``."""

    def add(total_FD: Array, entry: tuple[Array, Array]) -> tuple[Array, None]:
        weight_B, index_B = entry
        return total_FD.at[index_B].add(weight_B[:, None] * rows_BD), None

    start = jnp.zeros((n_rows, rows_BD.shape[1]), rows_BD.dtype)
    return jax.lax.scan(add, start, (weights_BK.T, indices_BK.T))[0]


def top_k_encode(
    x_BD: Float[Array, "batch d_model"],
    W_enc_T_FD: Float[Array, "d_sae d_model"],
    b_enc_F: Float[Array, " d_sae"],
    b_dec_D: Float[Array, " d_model"],
    k: int,
) -> SparseLatents:
    """ReLU(TopK_k((x − b_dec) W_enc + b_enc)), Gao et al. 2024 equation 2."""
    return _top_k_encode(x_BD, W_enc_T_FD, b_enc_F, b_dec_D, k)  # type: ignore[return-value]


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _top_k_encode(x_BD, W_enc_T_FD, b_enc_F, b_dec_D, k: int) -> SparseLatents:
    pre_acts_BF = (x_BD - b_dec_D[None]) @ W_enc_T_FD.T + b_enc_F[None]
    values_BK, indices_BK = jax.lax.top_k(pre_acts_BF, k)
    return SparseLatents(jax.nn.relu(values_BK), indices_BK)


def _encode_forward(x_BD, W_enc_T_FD, b_enc_F, b_dec_D, k):
    latents = _top_k_encode(x_BD, W_enc_T_FD, b_enc_F, b_dec_D, k)
    return latents, (x_BD, W_enc_T_FD, b_dec_D, latents)


def _encode_backward(k, residuals, grad):
    del k
    x_BD, W_enc_T_FD, b_dec_D, latents = residuals
    grad_BK = jnp.where(latents.values > 0, grad.values, 0.0)
    d_sae = W_enc_T_FD.shape[0]
    grad_b_enc_F = jnp.zeros(d_sae, grad_BK.dtype).at[latents.indices].add(grad_BK)
    grad_W_FD = _scatter_rows(grad_BK, latents.indices, x_BD - b_dec_D[None], d_sae)
    grad_b_dec_D = -(grad_b_enc_F @ W_enc_T_FD)  # a [F]·[F, D] product instead of a GEMM over B
    grad_x_BD = sparse_decode(grad_BK, latents.indices, W_enc_T_FD)
    return grad_x_BD, grad_W_FD, grad_b_enc_F, grad_b_dec_D


_top_k_encode.defvjp(_encode_forward, _encode_backward)
