"""The latents of a whole store as (index, value) pairs, and the same latent by latent.

``python -m saejax.latents --run runs/x --activations acts/`` writes them to the disk
(:class:`saejax.latent_store.LatentStore`); here they are kept in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int
from tqdm import tqdm

from extract.command_line import Optional, parse
from extract.errors import UserError, run_cli
from extract.store import ActivationStore
from saejax.calibrate import BLOCK_ROWS, padded
from saejax.evaluate import row_blocks
from saejax.model import SAE, TopKInference
from saejax.sparse import SparseLatents

log = logging.getLogger(__name__)


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


@partial(nnx.jit, static_argnames="width")
def _encode(sae: SAE, block: ArrayLike, width: int | None) -> SparseLatents:
    return sae.encode(jnp.asarray(block), width)


@nnx.jit
def _most_active(sae: SAE, block: ArrayLike, n_valid: ArrayLike) -> Array:
    active_B = (sae.encode_dense(jnp.asarray(block)) > 0).sum(axis=1)
    return jnp.where(jnp.arange(len(active_B)) < n_valid, active_B, 0).max()


def encode_array(sae: SAE, activations: Float[np.ndarray, "rows d_model"]) -> SparseLatents:
    """Latents of raw activations, as NumPy arrays; blocks are padded to one compiled size.

    Without a fixed k there are as many slots as the busiest residue needs, up to the next power
    of two.
    """
    values, indices = [], []
    for start in range(0, len(activations), BLOCK_ROWS):
        block = activations[start : start + BLOCK_ROWS]
        rows, width = padded(block), None
        if not isinstance(sae, TopKInference):
            most = max(1, int(_most_active(sae, rows, len(block))))
            width = min(sae.config.d_sae, 1 << (most - 1).bit_length())
        latents = jax.device_get(_encode(sae, rows, width))
        values.append(latents.values[: len(block)])
        indices.append(latents.indices[: len(block)])
    return join_slots(values, indices)


def join_slots(values: list[np.ndarray], indices: list[np.ndarray]) -> SparseLatents:
    """Blocks below each other, with empty slots where one has fewer than another."""
    width = max((v.shape[1] for v in values), default=1)
    padded_to = [((0, 0), (0, width - v.shape[1])) for v in values]
    wide = [np.pad(v, p) for v, p in zip(values, padded_to, strict=True)]
    which = [np.pad(i, p) for i, p in zip(indices, padded_to, strict=True)]
    return SparseLatents(np.concatenate(wide), np.concatenate(which))  # type: ignore[arg-type]


def encode_store(sae: SAE, store: ActivationStore) -> StoreLatents:
    """Encode every residue of a store, in row order, with a progress bar.

    The caller has checked that the store fits the SAE (``LoadedSAE.require_store``).
    """
    blocks = []
    with tqdm(total=store.n_rows, desc="encode", unit="res", unit_scale=True, disable=None) as bar:
        for block in row_blocks(store):
            blocks.append(encode_array(sae, block))
            bar.update(len(block))
    joined = join_slots([np.asarray(b.values) for b in blocks],
                        [np.asarray(b.indices) for b in blocks])  # fmt: skip
    return StoreLatents(np.asarray(joined.values), np.asarray(joined.indices), sae.config.d_sae)


@dataclass(frozen=True)
class LatentsConfig:
    """Encode activation stores once, for every later analysis to read.

    Writes which latents fire on which residue and how strongly, by residue and by latent. The same
    command goes on with an interrupted run.
    """

    run: Path
    """Folder of a finished ``python -m saejax.train``."""
    activations: tuple[Path, ...]
    """One or more activation stores of the run's parent and site, laid end to end."""
    out: Optional[Path] = None
    """Folder of the latents; by default ``latents`` inside the run."""
    memory_gb: float = 1.0
    """How much the sorting by latent may hold, in 10⁹ bytes. The pairs, 8 bytes each, are read
    once for every part that fits."""
    check: bool = True
    """First reconstruct a few thousand residues, and stop if FVU is far from the run's own."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not self.activations:
            raise UserError("no --activations given; give at least one activation store")
        if not self.memory_gb > 0:
            raise UserError(f"memory_gb ({self.memory_gb}) must be above 0")

    @property
    def folder(self) -> Path:
        """Where the latents go."""
        return self.run / "latents" if self.out is None else self.out


def require_distinct(stores: Sequence[ActivationStore]) -> None:
    """Refuse a protein in two stores: its residues would count twice.

    Raises:
        UserError: naming the protein and both stores.
    """
    home: dict[str, ActivationStore] = {}
    for store in stores:
        for protein in store.proteins:
            if (other := home.setdefault(protein.id, store)) is not store:
                raise UserError(
                    f"protein {protein.id[:60]!r} is in {other.folder} and in {store.folder}; "
                    "every residue counts once, give each store (and protein) once"
                )


def main() -> None:
    """Parse the flags and write the store."""
    from saejax.checkpoint import load_sae
    from saejax.gate import check_stores
    from saejax.latent_store import LatentStore  # which needs this module

    config = parse(LatentsConfig, prog="python -m saejax.latents")
    loaded = load_sae(config.run)
    stores = [ActivationStore.open(path) for path in config.activations]
    require_distinct(stores)
    if config.check:
        check_stores(loaded, stores)
    latents = LatentStore.build(loaded, stores, config.folder, memory_gb=config.memory_gb)
    size = sum(latents.manifest["bytes"].values())
    log.info(
        "%s: %s latents of %s residues, %.1f for each; %s of %s latents fire; %.2f GB",
        config.folder, f"{latents.n_entries:,}", f"{latents.n_rows:,}",
        latents.n_entries / max(1, latents.n_rows), f"{(latents.n_fires > 0).sum():,}",
        f"{latents.d_sae:,}", size / 1e9,
    )  # fmt: skip


if __name__ == "__main__":
    run_cli(main)
