"""The threshold of a BatchTopK SAE, found after training so that L0 is k on held-out data."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array

from saejax.model import SAE

BLOCK_ROWS = 4096
"""Rows that are encoded at a time; one compiled size."""

Blocks = Callable[[], Iterable[np.ndarray]]
"""Raw activations, at most ``BLOCK_ROWS`` rows each; may be gone through more than once."""


def calibrate_threshold(sae: SAE, blocks: Blocks, k: int) -> float:
    """θ so that exactly k·n pre-activations of n residues are above it.

    Non-negative floats are ordered as their bits are: the first pass counts them by their upper
    half, the second the lower half of those that decide. Nothing is stored but the counts.

    Args:
        sae: in training.
        blocks: of held-out activations.
        k: the L0 to have.

    Returns:
        0 when no more are above 0; otherwise halfway between the smallest of them and the next,
        as another program's rounding moves each a little. Of equal ones all stay silent.
    """
    upper, n = np.zeros(2**15, np.int64), 0
    for block in blocks():
        upper += np.asarray(_count_upper(sae, padded(block), len(block)))
        n += len(block)
    above = upper[::-1].cumsum()[::-1]  # how many are in this bin or a higher one
    active, silent = k * n, k * n + 1  # ranks of the last and the first of their kind
    if not n or above[0] < silent:
        return 0.0
    highs = {rank: int(np.flatnonzero(above >= rank)[-1]) for rank in (active, silent)}
    lower = {high: np.zeros(2**16, np.int64) for high in highs.values()}
    for block in blocks():
        rows = padded(block)
        for high, counts in lower.items():
            counts += np.asarray(_count_lower(sae, rows, len(block), high))

    def value(rank: int) -> np.float32:
        high = highs[rank]
        above_high = int(above[high + 1]) if high + 1 < len(above) else 0
        low = int(np.flatnonzero(lower[high][::-1].cumsum()[::-1] >= rank - above_high)[-1])
        return np.uint32(high << 16 | low).view(np.float32)

    halfway = np.float32((float(value(active)) + float(value(silent))) / 2)
    return float(halfway if halfway < value(active) else value(silent))


def padded(block: np.ndarray) -> np.ndarray:
    """A block with rows of zeros up to ``BLOCK_ROWS``."""
    whole = np.zeros((BLOCK_ROWS, block.shape[1]), np.float32)
    whole[: len(block)] = block
    return whole


def _positive_bits(sae: SAE, block: ArrayLike, n_valid: ArrayLike) -> tuple[Array, Array]:
    """Bits of the pre-activations, and which are of real rows and above 0."""
    rows = jnp.asarray(block)[:, : sae.config.d_model]
    h_BF = jax.nn.relu(sae.pre_activations(rows))
    real_B = jnp.arange(h_BF.shape[0]) < n_valid
    return jax.lax.bitcast_convert_type(h_BF, jnp.int32), real_B[:, None] & (h_BF > 0)


@nnx.jit
def _count_upper(sae: SAE, block: ArrayLike, n_valid: ArrayLike) -> Array:
    bits, counted = _positive_bits(sae, block, n_valid)
    at = (bits >> 16).ravel()
    return jnp.zeros(2**15, jnp.int32).at[at].add(counted.ravel().astype(jnp.int32))


@nnx.jit
def _count_lower(sae: SAE, block: ArrayLike, n_valid: ArrayLike, high: ArrayLike) -> Array:
    bits, counted = _positive_bits(sae, block, n_valid)
    decides = counted & ((bits >> 16) == high)
    at = (bits & 0xFFFF).ravel()
    return jnp.zeros(2**16, jnp.int32).at[at].add(decides.ravel().astype(jnp.int32))
