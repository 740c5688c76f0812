"""k-sparse encoding and decoding that touch only the latents that fire.

The two matrices are kept as ``[d_sae, d_model]``, a row per latent. Forward and backward passes
then gather and scatter a row per active latent; the only dense product is the encoder's.
The custom gradients equal those of the dense formulas (tested, values and gradients).

Latents that fire are kept in one of two ways: k slots per residue (:class:`SparseLatents`), or one
list of entries over the whole batch (:class:`Entries`), when residues share a budget.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from saejax.axes import NOWHERE, Axes, zeros_beside
from saejax.kernels import add_rows, encoder_matmul, row_products, top_k, weighted_row_sum


class SparseLatents(NamedTuple):
    """The latents that fire on each residue, and nothing else."""

    values: Float[Array, "batch k"]
    """Activations, ≥ 0 and descending; an entry may be 0 when fewer than k latents are positive."""
    indices: Int[Array, "batch k"]
    """Which latents, distinct within a row where values are above 0."""

    def dense(self, d_sae: int) -> Float[Array, "batch d_sae"]:
        """The same as a dense array."""
        rows = jnp.arange(self.values.shape[0])[:, None]
        empty = jnp.zeros((self.values.shape[0], d_sae), self.values.dtype)
        return empty.at[rows, self.indices].add(self.values)


def pre_activations(
    x_BD: Float[Array, "batch d_model"],
    W_enc_T_FD: Float[Array, "d_sae d_model"],
    b_enc_F: Float[Array, " d_sae"],
    b_in_D: Float[Array, " d_model"],
    dtype: str = "float32",
) -> Float[Array, "batch d_sae"]:
    """(x − b) W_enc + b_enc, its product of ``dtype`` inputs summed in float32."""
    return encoder_matmul(x_BD - b_in_D[None], W_enc_T_FD, dtype) + b_enc_F[None]


# ---------------------------------------------------------------- k slots per residue


@jax.custom_vjp
def sparse_decode(
    values_BK: Float[Array, "batch k"],
    indices_BK: Int[Array, "batch k"],
    W_FD: Float[Array, "d_sae d_model"],
) -> Float[Array, "batch d_model"]:
    """Σ_k values[b, k] · W[indices[b, k]]: the dense ``z @ W`` for a k-sparse z."""
    return weighted_row_sum(values_BK, indices_BK, W_FD)


def _decode_forward(values_BK, indices_BK, W_FD):
    return sparse_decode(values_BK, indices_BK, W_FD), (values_BK, indices_BK, W_FD)


def _decode_backward(residuals, grad_BD):
    values_BK, indices_BK, W_FD = residuals
    grad_values_BK = row_products(indices_BK, W_FD, grad_BD)
    return grad_values_BK, None, add_rows(values_BK, indices_BK, grad_BD, W_FD.shape[0])


sparse_decode.defvjp(_decode_forward, _decode_backward)


@jax.custom_vjp
def _chosen(values_BK, indices_BK, x_BD, W_enc_T_FD, b_enc_F, b_in_D):
    """The pre-activations at ``indices``, which were computed already, with their gradients."""
    del indices_BK, x_BD, W_enc_T_FD, b_enc_F, b_in_D
    return values_BK


def _chosen_forward(values_BK, indices_BK, x_BD, W_enc_T_FD, b_enc_F, b_in_D):
    return values_BK, (indices_BK, x_BD, W_enc_T_FD, b_in_D)


def _chosen_backward(residuals, grad_BK):
    indices_BK, x_BD, W_enc_T_FD, b_in_D = residuals
    d_sae = W_enc_T_FD.shape[0]
    grad_b_enc_F = zeros_beside((d_sae,), grad_BK).at[indices_BK].add(grad_BK)
    grad_W_FD = add_rows(grad_BK, indices_BK, x_BD - b_in_D[None], d_sae)
    grad_b_in_D = -(grad_b_enc_F @ W_enc_T_FD)  # a [F]·[F, D] product instead of a GEMM over B
    grad_x_BD = weighted_row_sum(grad_BK, indices_BK, W_enc_T_FD)
    return None, None, grad_x_BD, grad_W_FD, grad_b_enc_F, grad_b_in_D


_chosen.defvjp(_chosen_forward, _chosen_backward)


def top_k_encode(
    x_BD: Float[Array, "batch d_model"],
    W_enc_T_FD: Float[Array, "d_sae d_model"],
    b_enc_F: Float[Array, " d_sae"],
    b_in_D: Float[Array, " d_model"],
    k: int,
    *,
    k_now: Int[Array, ""] | None = None,
    dtype: str = "float32",
    axes: Axes = NOWHERE,
) -> SparseLatents:
    """ReLU(TopK_k((x − b) W_enc + b_enc)), Gao et al. 2024 equation 2.

    Args:
        x_BD: normalised activations.
        W_enc_T_FD: encoder, a row per latent; this device's latents when ``axes.latent`` is given.
        b_enc_F: its bias.
        b_in_D: subtracted from x.
        k: slots.
        k_now: how many of them are used, at most k; None for all.
        dtype: of the product's inputs.
        axes: with ``latent``, the k largest are those of the whole dictionary, and the slots of
            this device that are not among them are 0.
    """
    pre_acts_BF = jax.lax.stop_gradient(pre_activations(x_BD, W_enc_T_FD, b_enc_F, b_in_D, dtype))
    values_BK, indices_BK = top_k(pre_acts_BF, min(k, pre_acts_BF.shape[1]))
    values_BK = _chosen(values_BK, indices_BK, x_BD, W_enc_T_FD, b_enc_F, b_in_D)
    keep_BK = largest_of_all(jax.lax.stop_gradient(values_BK), k, k_now, axes)
    values_BK = jax.nn.relu(values_BK)
    if keep_BK is not None:
        values_BK = jnp.where(keep_BK, values_BK, 0.0)
    return SparseLatents(values_BK, indices_BK)


def largest_of_all(
    values_BK: Float[Array, "batch k"], k: int, k_now: Int[Array, ""] | None, axes: Axes
) -> Array | None:
    """Which of this device's k largest values are among the ``k_now`` largest of all devices.

    Equal values go to the lower latent, as in ``lax.top_k``. None when all are.
    """
    rank = jnp.arange(k)[None]
    if axes.latent is None:
        return None if k_now is None else rank < k_now
    n, width = axes.n_latent(), values_BK.shape[1]
    gathered = jax.lax.all_gather(values_BK, axes.latent, axis=1).reshape(len(values_BK), -1)
    order_BK = jax.lax.top_k(gathered, min(k, n * width))[1]
    wanted = jnp.broadcast_to(rank[:, : order_BK.shape[1]] < (k if k_now is None else k_now),
                              order_BK.shape)  # fmt: skip
    rows = jnp.arange(len(values_BK))[:, None]
    kept = jnp.zeros_like(gathered, bool).at[rows, order_BK].set(wanted)
    start = jax.lax.axis_index(axes.latent) * width
    return jax.lax.dynamic_slice_in_dim(kept, start, width, axis=1)


# ---------------------------------------------------------------- one list over the batch


class Entries(NamedTuple):
    """Latents that fire anywhere in the batch, as one list; unused places have value 0."""

    values: Float[Array, " entries"]
    """Activations, ≥ 0."""
    rows: Int[Array, " entries"]
    """On which row of the batch."""
    latents: Int[Array, " entries"]
    """Which latents."""


def chosen_entries(
    entries: Entries, x_BD: Array, W_enc_T_FD: Array, b_enc_F: Array, b_in_D: Array
) -> Entries:
    """Entries whose values are pre-activations that were computed already, with gradients."""
    values_N = _chosen_entry_values(*entries, x_BD, W_enc_T_FD, b_enc_F, b_in_D)
    return entries._replace(values=values_N)


@jax.custom_vjp
def _chosen_entry_values(values_N, rows_N, latents_N, x_BD, W_enc_T_FD, b_enc_F, b_in_D):
    del rows_N, latents_N, x_BD, W_enc_T_FD, b_enc_F, b_in_D
    return values_N


def _entries_forward(values_N, rows_N, latents_N, x_BD, W_enc_T_FD, b_enc_F, b_in_D):
    return values_N, (rows_N, latents_N, x_BD, W_enc_T_FD, b_in_D)


def _entries_backward(residuals, grad_N):
    rows_N, latents_N, x_BD, W_enc_T_FD, b_in_D = residuals
    d_sae, n_rows = W_enc_T_FD.shape[0], len(x_BD)
    grad_b_enc_F = zeros_beside((d_sae,), grad_N).at[latents_N].add(grad_N)
    grad_W_FD = _move_rows(grad_N, rows_N, latents_N, x_BD - b_in_D[None], d_sae, n_rows)
    grad_b_in_D = -(grad_b_enc_F @ W_enc_T_FD)
    grad_x_BD = _move_rows(grad_N, latents_N, rows_N, W_enc_T_FD, n_rows, n_rows)
    return None, None, None, grad_x_BD, grad_W_FD, grad_b_enc_F, grad_b_in_D


_chosen_entry_values.defvjp(_entries_forward, _entries_backward)


def decode_entries(
    values_N: Float[Array, " entries"],
    places_N: Int[Array, " entries"],
    latents_N: Int[Array, " entries"],
    W_FD: Float[Array, "d_sae d_model"],
    n_places: int,
    chunk: int,
) -> Float[Array, "places d_model"]:
    """Σ over entries of values · W[latents], added into row ``places`` of the result.

    Args:
        values_N: activations.
        places_N: a row of the batch, or of several copies of it laid end to end.
        latents_N: which rows of W.
        W_FD: decoder.
        n_places: rows of the result.
        chunk: entries that are gathered at a time.
    """
    return _decode_entries(values_N, places_N, latents_N, W_FD, (n_places, chunk))


def _decode_entries_plain(values_N, places_N, latents_N, W_FD, sizes):
    return _move_rows(values_N, latents_N, places_N, W_FD, *sizes)


_decode_entries = jax.custom_vjp(_decode_entries_plain, nondiff_argnums=(4,))


def _decode_entries_forward(values_N, places_N, latents_N, W_FD, sizes):
    out = _decode_entries_plain(values_N, places_N, latents_N, W_FD, sizes)
    return out, (values_N, places_N, latents_N, W_FD)


def _decode_entries_backward(sizes, residuals, grad_PD):
    values_N, places_N, latents_N, W_FD = residuals

    def products(entry):
        place_C, latent_C = entry
        return (grad_PD[place_C] * W_FD[latent_C]).sum(-1)

    chunks = tuple(_chunks(a, sizes[1]) for a in (places_N, latents_N))
    grad_values_N = jax.lax.map(products, chunks).reshape(-1)[: len(values_N)]
    grad_W_FD = _move_rows(values_N, places_N, latents_N, grad_PD, W_FD.shape[0], sizes[1])
    return grad_values_N, None, None, grad_W_FD


_decode_entries.defvjp(_decode_entries_forward, _decode_entries_backward)


def _move_rows(weights_N, from_N, to_N, source, n_to: int, chunk: int):
    """Σ over entries of weights · source[from], added into row ``to`` of the result."""

    def add(total, entry):
        weight_C, from_C, to_C = entry
        return total.at[to_C].add(weight_C[:, None] * source[from_C]), None

    start = zeros_beside((n_to, source.shape[1]), source, weights_N)
    chunks = tuple(_chunks(a, chunk) for a in (weights_N, from_N, to_N))
    return jax.lax.scan(add, start, chunks)[0]


def _chunks(values_N: Array, chunk: int) -> Array:
    """``[n, chunk]``, zeros at the end: entries of value 0 on row 0, which add nothing."""
    return jnp.pad(values_N, (0, -len(values_N) % chunk)).reshape(-1, chunk)
