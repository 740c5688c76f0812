"""How good an SAE is on activations it was not trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from saejax.calibrate import BLOCK_ROWS, padded
from saejax.data import RowStore
from saejax.losses import fvu
from saejax.model import DENSE_ABOVE, SAE, TopKInference, unit_rows

COSINE_SAMPLE = 2048
"""Latents whose decoder rows are compared with all others, evenly spread over the dictionary."""


@dataclass(frozen=True)
class Evaluation:
    """Figures over one set of activations."""

    fvu: float
    """Σ‖x − x̂‖² / Σ‖x − mean(x)‖², with the mean of these activations."""
    normalized_mse: float
    """Squared error per element, over the variance measured before training."""
    l0: float
    """Latents above zero per residue."""
    frac_dead: float
    """Share of latents that never fired here."""
    frac_dense: float
    """Share of latents that fire on more than a tenth of the residues."""
    decoder_cosine_max: float
    """Largest cosine of two latents' decoder rows."""
    decoder_cosine_mean_max: float
    """Mean over latents of the largest cosine with another's decoder row."""
    n_tokens: int
    """Residues."""
    frequency: Float[np.ndarray, " d_sae"]
    """Share of residues on which each latent fired."""
    maximum: Float[np.ndarray, " d_sae"]
    """Largest value of each latent."""

    def summary(self) -> dict[str, float]:
        """The scalars."""
        return {k: v for k, v in vars(self).items() if k not in ("frequency", "maximum")}


def row_blocks(
    store: RowStore, rows: np.ndarray | None = None
) -> Iterator[Float[np.ndarray, "rows d_model"]]:
    """The activations of a store in order, in blocks; of the rows marked in ``rows`` if given."""
    for start in range(0, store.n_rows, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, store.n_rows)
        if rows is None:
            yield store.read(start, stop)
        elif rows[start:stop].any():
            yield store.read(start, stop)[rows[start:stop]]


@nnx.jit
def _block_sums(sae: SAE, block: ArrayLike, n_valid: ArrayLike) -> dict[str, Array]:
    block, d_model, d_sae = jnp.asarray(block), sae.config.d_model, sae.config.d_sae
    valid_B = jnp.arange(block.shape[0]) < n_valid
    x_BD = jnp.where(valid_B[:, None], sae.normalize(block[:, :d_model]), 0.0)
    y_BD = x_BD
    if sae.config.d_out is not None:
        y_BD = jnp.where(valid_B[:, None], sae.normalize_output(block[:, d_model:]), 0.0)
    if isinstance(sae, TopKInference):
        latents = sae.encode_normalized(x_BD)
        y_hat_BD = sae.decode_normalized(latents)
        values_BK = jnp.where(valid_B[:, None], latents.values, 0.0)
        count_F = jnp.zeros(d_sae).at[latents.indices].add(values_BK > 0)
        maximum_F = jnp.zeros(d_sae).at[latents.indices].max(values_BK)
    else:
        z_BF = jnp.where(valid_B[:, None], sae.encode_dense_normalized(x_BD), 0.0)
        y_hat_BD = z_BF @ sae.W_dec[...] + sae.b_dec[...][None]
        count_F, maximum_F = (z_BF > 0).sum(axis=0), z_BF.max(axis=0)
    error_BD = jnp.where(valid_B[:, None], y_BD - y_hat_BD, 0.0)
    return {
        "error": (error_BD**2).sum(),
        "y": y_BD.sum(axis=0),
        "y2": (y_BD**2).sum(),
        "count": count_F,
        "maximum": maximum_F,
    }


@nnx.jit
def _largest_cosines(sae: SAE, latents: ArrayLike) -> Array:
    latents = jnp.asarray(latents)
    rows_FD = unit_rows(sae.W_dec[...])  # an average of weights has shorter ones
    cosines = rows_FD[latents] @ rows_FD.T
    itself = jnp.arange(rows_FD.shape[0])[None] == latents[:, None]
    return jnp.where(itself, -1.0, cosines).max(axis=1)


def decoder_cosines(sae: SAE) -> Float[np.ndarray, " latents"]:
    """The largest cosine of each latent's decoder row with another's, for a sample of latents."""
    step = max(1, -(-sae.config.d_sae // COSINE_SAMPLE))
    chosen = np.arange(0, sae.config.d_sae, step)
    parts = [np.asarray(_largest_cosines(sae, chosen[i : i + 256]))
             for i in range(0, len(chosen), 256)]  # fmt: skip
    return np.concatenate(parts)


def evaluate(sae: SAE, blocks: Iterable[np.ndarray]) -> Evaluation:
    """Stream raw activations through an SAE; sums are kept in float64 on the host.

    Args:
        sae: as it is used, not as it is trained (``for_inference``).
        blocks: raw activations, at most ``BLOCK_ROWS`` rows each; a transcoder's targets lie beside
            its inputs.
    """
    config = sae.config
    error, y2, n = 0.0, 0.0, 0
    y, count = np.zeros(config.output_size), np.zeros(config.d_sae)
    maximum = np.zeros(config.d_sae)
    for block in blocks:
        sums = jax.device_get(_block_sums(sae, padded(block), len(block)))
        error, y2 = error + float(sums["error"]), y2 + float(sums["y2"])
        y, count = y + sums["y"], count + sums["count"]
        maximum = np.maximum(maximum, sums["maximum"])
        n += len(block)
    cosines = decoder_cosines(sae)
    return Evaluation(
        fvu=fvu(error, float(y2 - (y**2).sum() / max(n, 1))),
        normalized_mse=error / max(n * config.output_size, 1),
        l0=float(count.sum() / max(n, 1)),
        frac_dead=float((count == 0).mean()),
        frac_dense=float((count > DENSE_ABOVE * n).mean()),
        decoder_cosine_max=float(cosines.max()),
        decoder_cosine_mean_max=float(cosines.mean()),
        n_tokens=n,
        frequency=(count / max(n, 1)).astype(np.float32),
        maximum=maximum.astype(np.float32),
    )
