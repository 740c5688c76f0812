"""Matryoshka BatchTopK: Bussmann, Nabeshima, Karvonen and Nanda 2025, arXiv 2503.17547."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array

from saejax.architectures.batch_topk import BatchTopKSAE


class MatryoshkaSAE(BatchTopKSAE):
    """BatchTopK whose first m₁ < m₂ < … < m_G = d_sae latents must reconstruct by themselves::

        x̂_g = b_dec + Σ_{i ≤ m_g} z_i w_i;   L = Σ_g ω_g MSE(x, x̂_g) / Σ_g ω_g + α·AuxK

    AuxK is of the last residual. Differs: a weighted mean over g where the paper sums, so that
    learning rate and α do not depend on G.
    """

    @property
    def _prefixes(self) -> tuple[int, ...]:
        return self.config.prefixes

    def _reconstruction_loss(self, y_BD: Array, prefixes_GBD: Array) -> Array:
        weights_G = jnp.array(self.config.prefix_weights or (1.0,) * len(self._prefixes))
        losses_G = ((y_BD[None] - prefixes_GBD) ** 2).mean(axis=(1, 2))
        return (weights_G * losses_G).sum() / weights_G.sum()
