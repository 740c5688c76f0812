"""The arithmetic of k-sparse codes, over matrices that keep a row per latent.

Pure functions without gradients of their own: a product with a k-sparse code gathers or scatters
B·k rows where the dense formula multiplies by mostly zeros. Milliseconds in the comments are those
of one busy 2-core machine at batch 2048, d_model 1280, d_sae 4096, k 64 unless they say otherwise.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Bool, Float, Int

from saejax.axes import zeros_beside

TWO_STAGE_TOP_K_FROM = 8192
"""Entries per row from which looking at blocks first pays: 70 against 90 ms at 16384, but 50
against 45 at 4096."""


WORD = 32
"""Entries of a mask that are looked at as one integer."""


def encoder_matmul(
    x_BD: Float[Array, "batch d_model"], W_FD: Float[Array, "d_sae d_model"], dtype: str = "float32"
) -> Float[Array, "batch d_sae"]:
    """x Wᵀ in float32, of inputs rounded to ``dtype`` ("float32" or "bfloat16") first."""
    if jnp.dtype(dtype) == jnp.float32:
        return x_BD @ W_FD.T
    # XLA's CPU has no bfloat16 product for a transposed matrix: 222 ms, 111 once it is laid out.
    W_DF = with_layout_constraint(W_FD.astype(dtype).T, Layout((0, 1)))
    return jnp.dot(x_BD.astype(dtype), W_DF, preferred_element_type=jnp.float32)


def top_k(
    pre_acts_BF: Float[Array, "batch d_sae"], k: int
) -> tuple[Float[Array, "batch k"], Int[Array, "batch k"]]:
    """The k largest of each row, descending, the lowest index first among equals.

    The result of ``jax.lax.top_k``. Wide rows are first narrowed to the k blocks with the largest
    maxima, which hold the k largest entries. NaN is not supported there.
    """
    n_rows, n_entries = pre_acts_BF.shape
    block = 2 ** int((n_entries / k) ** 0.5).bit_length() // 2  # balances the two stages
    if n_entries < TWO_STAGE_TOP_K_FROM or n_entries % block or n_entries // block <= k:
        values_BK, indices_BK = jax.lax.top_k(pre_acts_BF, k)
        return values_BK, indices_BK
    blocks_BNC = pre_acts_BF.reshape(n_rows, -1, block)
    chosen_BK = jnp.sort(jax.lax.top_k(blocks_BNC.max(axis=2), k)[1], axis=1)  # in order, for ties
    candidates_BKC = jnp.take_along_axis(blocks_BNC, chosen_BK[:, :, None], axis=1)
    values_BK, slots_BK = jax.lax.top_k(candidates_BKC.reshape(n_rows, -1), k)
    first_BK = jnp.take_along_axis(chosen_BK, slots_BK // block, axis=1) * block
    return values_BK, first_BK + slots_BK % block


def cut_to_top_k(positive_BF: Float[Array, "batch n"], k: int) -> Float[Array, "batch n"]:
    """Entries ≥ 0 as they are, all but the k largest of each row set to zero.

    For a k that is no small part of n: the k-th largest is found by bisection over its bits, 36 ms
    at n = 1024 and k = 640, ``lax.top_k`` 134. The lowest index comes first among equals.
    """
    bits_BF = jax.lax.bitcast_convert_type(positive_BF, jnp.int32)  # ordered as the floats ≥ 0 are

    def add_bit(n: Array, kth_B: Array) -> Array:
        higher_B = kth_B | (1 << (30 - n))
        return jnp.where((bits_BF >= higher_B[:, None]).sum(axis=1) >= k, higher_B, kth_B)

    start_B = jnp.zeros_like(bits_BF[:, 0])
    kth_BF = jax.lax.fori_loop(0, 31, add_bit, start_B)[:, None]
    above_BF, equal_BF = bits_BF > kth_BF, bits_BF == kth_BF
    room_BF = k - above_BF.sum(axis=1, keepdims=True)
    keep_BF = above_BF | (equal_BF & (jnp.cumsum(equal_BF, axis=1) <= room_BF))
    return jnp.where(keep_BF, positive_BF, 0.0)


def first_true(mask_BF: Bool[Array, "batch n"], size: int) -> tuple[Array, Array]:
    """Rows and columns of the first ``size`` true entries, by row; 0, 0 where there are fewer.

    ``jnp.nonzero`` of a matrix that is mostly false: 32 entries are one word, words are found by
    their cumulative counts, and an entry in its word by halving.
    """
    n_columns = mask_BF.shape[1]
    padded = jnp.pad(mask_BF, ((0, 0), (0, -n_columns % WORD)))
    bits_WC = padded.reshape(-1, WORD).astype(jnp.uint32)
    bits_WC = bits_WC << jnp.arange(WORD, dtype=jnp.uint32)[None]
    words_W = bits_WC.sum(axis=1, dtype=jnp.uint32)
    counts_W = jax.lax.population_count(words_W).astype(jnp.int32)
    ends_W = jnp.cumsum(counts_W)
    order_N = jnp.arange(size)
    word_N = jnp.minimum(jnp.searchsorted(ends_W, order_N, side="right"), len(words_W) - 1)
    rest_N, bits_N = order_N - (ends_W - counts_W)[word_N], words_W[word_N]
    place_N = jnp.zeros_like(order_N)
    for half in (16, 8, 4, 2, 1):
        low_N = jax.lax.population_count(bits_N & jnp.uint32((1 << half) - 1)).astype(jnp.int32)
        higher_N = rest_N >= low_N
        rest_N = jnp.where(higher_N, rest_N - low_N, rest_N)
        bits_N = jnp.where(higher_N, bits_N >> half, bits_N)
        place_N = jnp.where(higher_N, place_N + half, place_N)
    per_row = padded.shape[1] // WORD
    there_N = order_N < ends_W[-1]
    rows_N = jnp.where(there_N, word_N // per_row, 0)
    return rows_N, jnp.where(there_N, word_N % per_row * WORD + place_N, 0)


def weighted_row_sum(
    weights_BK: Float[Array, "batch k"],
    indices_BK: Int[Array, "batch k"],
    W_FD: Float[Array, "d_sae d_model"],
) -> Float[Array, "batch d_model"]:
    """Σ_k weights[b, k] · W[indices[b, k]]: the dense ``z W`` of a k-sparse z."""

    def add(sum_BD: Array, entry: tuple[Array, Array]) -> tuple[Array, None]:
        weight_B, index_B = entry
        return sum_BD + weight_B[:, None] * W_FD[index_B], None

    start_BD = zeros_beside((weights_BK.shape[0], W_FD.shape[1]), W_FD, weights_BK, indices_BK)
    # Eight entries in one pass over the sum: 22 to 30 ms, 90 one at a time, 390 dense.
    return jax.lax.scan(add, start_BD, (weights_BK.T, indices_BK.T), unroll=8)[0]


def row_products(
    indices_BK: Int[Array, "batch k"],
    W_FD: Float[Array, "d_sae d_model"],
    g_BD: Float[Array, "batch d_model"],
) -> Float[Array, "batch k"]:
    """W[indices[b, k]] · g[b]: the k entries of ``g Wᵀ`` that a k-sparse code needs."""
    # One entry of every row at a time. As matrix-vector products of gathered rows it is twice as
    # fast alone, but inside a training step XLA copies the matrix for each: 1900 against 500 ms.
    return jax.lax.map(lambda index_B: (g_BD * W_FD[index_B]).sum(axis=1), indices_BK.T).T


def add_rows(
    weights_BK: Float[Array, "batch k"],
    indices_BK: Int[Array, "batch k"],
    rows_BD: Float[Array, "batch d_model"],
    n_rows: int,
) -> Float[Array, "{n_rows} d_model"]:
    """Σ_b,k weights[b, k] · rows[b], added into row indices[b, k]: the dense ``zᵀ rows``.

    Indices are distinct within a row of the batch, or their weights are zero.
    """

    def by_example(weights_BK, indices_BK, rows_BD, start_FD):
        def add(sum_FD: Array, example: tuple[Array, Array, Array]) -> tuple[Array, None]:
            weight_K, index_K, row_D = example
            return sum_FD.at[index_K].add(weight_K[:, None] * row_D[None]), None

        return jax.lax.scan(add, start_FD, (weights_BK, indices_BK, rows_BD))[0]

    def by_entry(weights_BK, indices_BK, rows_BD, start_FD):
        def add(sum_FD: Array, entry: tuple[Array, Array]) -> tuple[Array, None]:
            weight_B, index_B = entry
            return sum_FD.at[index_B].add(weight_B[:, None] * rows_BD), None

        return jax.lax.scan(add, start_FD, (weights_BK.T, indices_BK.T))[0]

    start_FD = zeros_beside((n_rows, rows_BD.shape[1]), rows_BD, weights_BK, indices_BK)
    # An example's k rows at a time: 45 ms; the batch's j-th entries at a time: 100 (but few
    # kernels, for an accelerator); sorted by latent first: 80 to 130; dense: 240.
    return jax.lax.platform_dependent(
        weights_BK, indices_BK, rows_BD, start_FD, cpu=by_example, default=by_entry
    )
