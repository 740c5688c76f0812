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

from extract.store import ActivationStore
from saejax.losses import fvu
from saejax.model import TopKSAE

BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Evaluation:
    """Figures over one set of activations."""

    fvu: float
    """Σ‖x − x̂‖² / Σ‖x − mean(x)‖², with the mean of these activations."""
    l0: float
    """Latents above zero per residue."""
    frac_dead: float
    """Share of latents that never fired here."""
    n_tokens: int
    """Residues."""
    frequency: Float[np.ndarray, " d_sae"]
    """Share of residues on which each latent fired."""
    maximum: Float[np.ndarray, " d_sae"]
    """Largest value of each latent."""

    def summary(self) -> dict[str, float]:
        """The scalars."""
        return {
            "fvu": self.fvu,
            "l0": self.l0,
            "frac_dead": self.frac_dead,
            "n_tokens": self.n_tokens,
        }


def row_blocks(
    store: ActivationStore, rows: np.ndarray | None = None
) -> Iterator[Float[np.ndarray, "rows d_model"]]:
    """The activations of a store in order, in blocks; of the rows marked in ``rows`` if given."""
    for start in range(0, store.n_rows, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, store.n_rows)
        if rows is None:
            yield store.read(start, stop)
        elif rows[start:stop].any():
            yield store.read(start, stop)[rows[start:stop]]


@nnx.jit
def _block_sums(sae: TopKSAE, block: ArrayLike, n_valid: ArrayLike) -> dict[str, Array]:
    block = jnp.asarray(block)
    valid_B = jnp.arange(block.shape[0]) < n_valid
    x_BD = jnp.where(valid_B[:, None], sae.normalize(block), 0.0)
    latents = sae.encode_normalized(x_BD)
    error_BD = jnp.where(valid_B[:, None], x_BD - sae.decode_normalized(latents), 0.0)
    values_BK = jnp.where(valid_B[:, None], latents.values, 0.0)
    zeros = jnp.zeros(sae.config.d_sae)
    return {
        "error": (error_BD**2).sum(),
        "x": x_BD.sum(axis=0),
        "x2": (x_BD**2).sum(),
        "count": zeros.at[latents.indices].add(values_BK > 0),
        "maximum": zeros.at[latents.indices].max(values_BK),
    }


def evaluate(sae: TopKSAE, blocks: Iterable[np.ndarray]) -> Evaluation:
    """Stream raw activations through an SAE; sums are kept in float64 on the host.

    Args:
        sae: the autoencoder.
        blocks: raw activations, at most ``BLOCK_ROWS`` rows each.
    """
    config = sae.config
    total = {
        "error": 0.0,
        "x": np.zeros(config.d_model),
        "x2": 0.0,
        "count": np.zeros(config.d_sae),
    }
    maximum, n = np.zeros(config.d_sae), 0
    for block in blocks:
        padded = np.zeros((BLOCK_ROWS, config.d_model), np.float32)
        padded[: len(block)] = block
        sums = jax.device_get(_block_sums(sae, padded, len(block)))
        maximum = np.maximum(maximum, sums.pop("maximum"))
        total = {key: total[key] + sums[key].astype(np.float64) for key in total}
        n += len(block)
    deviation = float(total["x2"] - (total["x"] ** 2).sum() / max(n, 1))
    return Evaluation(
        fvu=fvu(float(total["error"]), deviation),
        l0=float(total["count"].sum() / max(n, 1)),
        frac_dead=float((total["count"] == 0).mean()),
        n_tokens=n,
        frequency=(total["count"] / max(n, 1)).astype(np.float32),
        maximum=maximum.astype(np.float32),
    )
