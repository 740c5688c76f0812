"""A run's SAE as the formats that are written need it: for raw activations, facts beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from extract.errors import UserError
from extract.files import write_atomically
from saejax.interop.published import Facts
from saejax.loaded_sae import LoadedSAE


@dataclass(frozen=True)
class Exported:
    """``h = (activation − b_dec) W_enc + b_enc`` and x̂ = z W_dec + b_dec, mean and scale folded.

    With x = s (a − m): W_enc ← s W_enc, W_dec ← W_dec / s, b_dec ← b_dec / s + m; b_enc, z and
    thresholds stay.
    """

    name: str
    """Of the run, in messages."""
    W_enc: np.ndarray
    """``[d_model, d_sae]``."""
    b_enc: np.ndarray
    """``[d_sae]``."""
    W_dec: np.ndarray
    """``[d_sae, d_model]``."""
    b_dec: np.ndarray
    """``[d_model]``."""
    k: int | None
    """None for latents above thresholds."""
    threshold: np.ndarray | None
    """``[d_sae]``."""
    token_zscore: tuple[float, float] | None
    """As in ``SAEConfig``."""
    facts: Facts
    """Where it belongs."""
    results: Mapping[str, Any]
    """Figures of the run."""
    arrays: Mapping[str, np.ndarray]
    """Unfolded, as ``LoadedSAE.arrays`` gives them."""

    @classmethod
    def of(cls, loaded: LoadedSAE) -> Exported:
        """Fold a run's mean and scale, in float64.

        Raises:
            UserError: a transcoder.
        """
        if loaded.config.d_out is not None:
            raise UserError(
                f"{loaded.folder}: is a transcoder, which predicts another site than it reads; the "
                "formats written here are of autoencoders, so it would lose what it predicts"
            )
        a, parent = loaded.arrays(), loaded.store_manifest["parent"]
        scale, mean = float(a["scale"]), a["mean"].astype(np.float64)
        threshold = a.get("threshold")
        facts = Facts(
            parent["name"], loaded.site, parent["token_dropout"], "were left out of training"
            if "imported" not in loaded.run else loaded.run["imported"]["special_tokens"],
            parent["weights"]["encoder_sha256"],
        )  # fmt: skip
        return cls(
            str(loaded.folder), (a["W_enc"] * scale).astype(np.float32), a["b_enc"],
            (a["W_dec"] / scale).astype(np.float32),
            (a["b_dec"].astype(np.float64) / scale + mean).astype(np.float32),
            loaded.config.k if threshold is None else None, threshold,
            loaded.config.token_zscore, facts, loaded.run.get("results", {}), a,
        )  # fmt: skip

    @property
    def block(self) -> int | None:
        """n of site ``block n``, from 1; None at other sites."""
        number = (self.facts.site or "").removeprefix("block")
        return int(number) or None if number.isdecimal() else None

    def refuse_zscore(self, format_name: str) -> None:
        """Raise a :class:`UserError` when every residue is z-scored, which a format can't say."""
        if self.token_zscore is not None:
            raise UserError(
                f"{self.name}: z-scores every residue over its own dimensions, and {format_name} "
                "has no place for that, so its SAE would be another one; export it to saelens or "
                "plain"
            )

    def save_safetensors(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        """Write arrays, whole or not at all."""
        dense = {n: np.ascontiguousarray(a, np.float32) for n, a in arrays.items()}
        dense |= {n: a.reshape(()) for n, a in dense.items() if np.ndim(arrays[n]) == 0}
        data = save(dense)
        write_atomically(path, lambda f: f.write(data))
