"""The k of a top-k SAE whose file does not say it, from activations that it reconstructs.

FVU falls with more latents far beyond the k of training (at k = 32 and 40 of this project's ESM2-8M
SAEs it is least at 96 and 128), so the least FVU does not tell. What does: the weights are where
their loss has no slope, also not along the size of all latents. For the reconstruction p = z W_dec
of x − b_dec with the k largest, the best factor is

    c(k) = Σ⟨p, x − b_dec⟩ / Σ‖p‖²

It is 1 at the k of training, above 1 with fewer latents and below 1 with more.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from extract.errors import UserError

SCAN_RESIDUES = 2048
"""On which k is looked for."""
GRID = (4, 8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 384, 512)
"""Numbers of latents that are tried."""
USUAL = (4, 8, 16, 20, 24, 32, 40, 48, 50, 64, 80, 96, 100, 128, 160, 192, 200, 256, 320, 384, 512)
"""Numbers that people train with."""


class Scan(NamedTuple):
    """What was found at each k."""

    k: list[int]
    """Tried."""
    fvu: list[float]
    """Of the reconstruction, in the SAE's own units."""
    factor: list[float]
    """c(k)."""

    @property
    def crossing(self) -> float | None:
        """Where c falls through 1, between the k tried; None if it does not."""
        for i in range(1, len(self.k)):
            before, after = self.factor[i - 1], self.factor[i]
            if before >= 1 > after:
                t = (before - 1) / (before - after)
                return self.k[i - 1] * (self.k[i] / self.k[i - 1]) ** t
        return None

    def found(self, name: str) -> int:
        """The k of training: the usual number next to the crossing.

        Raises:
            UserError: c does not cross 1, as on activations of another site.
        """
        crossing = self.crossing
        if crossing is None:
            raise UserError(
                f"{name}: k can't be found: on these activations no number of latents from "
                f"{self.k[0]} to {self.k[-1]} is the one that it was trained with, so they are "
                "likely of another site or normalisation; give --k, or other activations"
            )
        return min(USUAL, key=lambda k: abs(np.log(k / crossing)))


def scan_k(
    x_BD: Float[np.ndarray, "rows d_model"],
    W_enc: Float[np.ndarray, "d_model d_sae"],
    b_enc: Float[np.ndarray, " d_sae"],
    W_dec: Float[np.ndarray, "d_sae d_model"],
    b_dec: Float[np.ndarray, " d_model"],
) -> Scan:
    """FVU and c(k) over the grid.

    Args:
        x_BD: what the SAE sees (``SAE.normalize``).
        W_enc: encoder.
        b_enc: its bias.
        W_dec: decoder.
        b_dec: its bias.
    """
    widest = min(GRID[-1], W_enc.shape[1])
    tried = [k for k in GRID if k <= widest]
    y_BD = x_BD - b_dec
    deviation = float(((x_BD - x_BD.mean(axis=0, dtype=np.float64)) ** 2).sum())
    h_BF = y_BD @ W_enc + b_enc
    order_BK = np.argpartition(-h_BF, widest - 1, axis=1)[:, :widest]
    values_BK = np.maximum(np.take_along_axis(h_BF, order_BK, axis=1), 0.0)
    rank = np.argsort(-values_BK, axis=1)
    order_BK = np.take_along_axis(order_BK, rank, axis=1)
    values_BK = np.take_along_axis(values_BK, rank, axis=1)
    p_BD, done = np.zeros(y_BD.shape, np.float32), 0
    fvus, factors = [], []
    for k in tried:
        z_BF = np.zeros_like(h_BF)
        np.put_along_axis(z_BF, order_BK[:, done:k], values_BK[:, done:k], axis=1)
        p_BD, done = p_BD + z_BF @ W_dec, k
        square = float((p_BD.astype(np.float64) ** 2).sum())
        fvus.append(float(((p_BD - y_BD).astype(np.float64) ** 2).sum()) / max(deviation, 1e-30))
        factors.append(float((p_BD.astype(np.float64) * y_BD).sum()) / max(square, 1e-30))
    return Scan(tried, fvus, factors)
