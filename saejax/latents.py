"""The latents of a whole store as (index, value) pairs, and the same latent by latent."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Float, Int
from tqdm import tqdm

from extract.store import ActivationStore
from saejax.evaluate import BLOCK_ROWS, row_blocks
from saejax.model import TopKSAE
from saejax.sparse import SparseLatents


class StoreLatents(NamedTuple):
    """k (index, value) pairs for every residue of a store."""

    values: Float[np.ndarray, "rows k"]
    """Activations, ≥ 0."""
    indices: Int[np.ndarray, "rows k"]
    """Which latents."""
    d_sae: int
    """Size of the dictionary."""

    def by_latent(self) -> LatentColumns:
        """The nonzero values sorted by latent, rows ascending within each."""
        rows, slots = np.nonzero(self.values > 0)
        latents = self.indices[rows, slots]
        order = np.argsort(latents, kind="stable")
        counts = np.bincount(latents, minlength=self.d_sae)
        return LatentColumns(
            np.append(0, np.cumsum(counts)),
            rows[order].astype(np.int32),
            self.values[rows, slots][order],
            len(self.values),
        )


class LatentColumns(NamedTuple):
    """A sparse matrix [rows, d_sae] by column (CSC)."""

    indptr: Int[np.ndarray, " d_sae+1"]
    """Where each latent's entries start, and the number of entries at the end."""
    rows: Int[np.ndarray, " entries"]
    """Row of each entry, ascending within a latent."""
    values: Float[np.ndarray, " entries"]
    """Value of each entry, > 0."""
    n_rows: int
    """Rows of the matrix."""

    def column(self, latent: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows, values) where a latent fires."""
        entries = slice(int(self.indptr[latent]), int(self.indptr[latent + 1]))
        return self.rows[entries], self.values[entries]


@nnx.jit
def _encode(sae: TopKSAE, block: ArrayLike) -> SparseLatents:
    return sae.encode(jnp.asarray(block))


def encode_array(sae: TopKSAE, activations: Float[np.ndarray, "rows d_model"]) -> SparseLatents:
    """Latents of raw activations, as NumPy arrays; blocks are padded to one compiled size."""
    values, indices = [], []
    for start in range(0, len(activations), BLOCK_ROWS):
        block = activations[start : start + BLOCK_ROWS]
        padded = np.zeros((BLOCK_ROWS, activations.shape[1]), np.float32)
        padded[: len(block)] = block
        latents = jax.device_get(_encode(sae, padded))
        values.append(latents.values[: len(block)])
        indices.append(latents.indices[: len(block)])
    return SparseLatents(np.concatenate(values), np.concatenate(indices))  # type: ignore[arg-type]


def encode_store(sae: TopKSAE, store: ActivationStore) -> StoreLatents:
    """Encode every residue of a store, in row order, with a progress bar.

    The caller has checked that the store fits the SAE (``LoadedSAE.require_store``).
    """
    blocks = []
    with tqdm(total=store.n_rows, desc="encode", unit="res", unit_scale=True, disable=None) as bar:
        for block in row_blocks(store):
            blocks.append(encode_array(sae, block))
            bar.update(len(block))
    values = np.concatenate([np.asarray(b.values) for b in blocks])
    indices = np.concatenate([np.asarray(b.indices) for b in blocks])
    return StoreLatents(values, indices, sae.config.d_sae)
