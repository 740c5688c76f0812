"""A finished run in memory: its SAE and everything it knows about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Float

from extract.errors import UserError
from extract.store import ActivationStore, require_same_parent
from saejax.model import SAE
from saejax.sae_config import SAEConfig


@dataclass(frozen=True)
class LoadedSAE:
    """A trained SAE and everything it knows about itself."""

    folder: Path
    """The run folder."""
    sae: SAE
    """Takes and gives raw activations; in the form it is used in: top-k, or a threshold."""
    config: SAEConfig
    """Its sizes."""
    run: Mapping[str, Any]
    """The whole ``run.json``: config, sae, store (manifest), results, versions."""

    @property
    def store_manifest(self) -> Mapping[str, Any]:
        """Manifest of the store it was trained on: parent, weights, site, normalisation."""
        return self.run["store"]

    @property
    def site(self) -> str:
        """Where in the parent its input lies."""
        return self.store_manifest["site"]

    def arrays(self) -> dict[str, np.ndarray]:
        """All float32 arrays, in the literature's orientation.

        ``W_enc [d_model, d_sae]``, ``b_enc [d_sae]``, ``W_dec [d_sae, d_model]``,
        ``b_dec [d_model]``, ``mean [d_model]``, ``scale []``; ``threshold [d_sae]`` where latents
        fire above a threshold; ``mean_out`` and ``scale_out`` of a transcoder.
        """
        sae = self.sae
        extra = [name for name in ("threshold", "mean_out", "scale_out") if hasattr(sae, name)]
        return {name: np.asarray(getattr(sae, name)[...]) for name in extra} | {
            "W_enc": np.asarray(sae.W_enc),
            "b_enc": np.asarray(sae.b_enc[...]),
            "W_dec": np.asarray(sae.W_dec[...]),
            "b_dec": np.asarray(sae.b_dec[...]),
            "mean": np.asarray(sae.mean[...]),
            "scale": np.asarray(sae.scale[...]),
        }

    @cached_property
    def latent_frequency(self) -> Float[np.ndarray, " d_sae"]:
        """Share of held-out residues on which each latent fires."""
        return self._stats["frequency"]

    @cached_property
    def latent_max(self) -> Float[np.ndarray, " d_sae"]:
        """Largest value of each latent on the held-out residues (0 if it never fired there)."""
        return self._stats["maximum"]

    @cached_property
    def _stats(self) -> dict[str, np.ndarray]:
        table = pq.read_table(self.folder / "latent_stats.parquet")
        return {name: table[name].to_numpy() for name in ("frequency", "maximum")}

    def require_store(self, store: ActivationStore) -> None:
        """Refuse activations of another parent, weights or site with a :class:`UserError`."""
        what = f"run {self.folder} and store {store.folder}"
        require_same_parent(self.store_manifest, store.manifest, what=what)

    def check_latent(self, latent: int) -> int:
        """Return ``latent`` if the dictionary has it, else raise a :class:`UserError`."""
        if not 0 <= latent < self.config.d_sae:
            raise UserError(
                f"latent {latent} is out of range: {self.folder} has latents 0 to "
                f"{self.config.d_sae - 1}"
            )
        return latent
