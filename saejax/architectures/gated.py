"""Gated: Rajamanoharan et al. 2024, arXiv 2404.16014."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from saejax.architectures.dense import DenseSAE, parts_of, squared_error
from saejax.model import Constants, LossParts, Now, ThresholdSAE
from saejax.sae_config import SAEConfig


class GatedSAE(DenseSAE):
    """One path decides which latents fire, another how much; they share directions (section 3.2)::

        u = (x − b_dec) W_enc;   π = u + b_enc;   m = ReLU(e^r ⊙ u + b_mag)
        z = 1[π > 0] ⊙ m;        x̂ = z W_dec + b_dec
        L = ‖x − x̂‖² + λ‖ReLU(π)‖₁ + ‖x − x̂_frozen(ReLU(π))‖²

    W_dec and b_dec of the last term are detached: it trains the gate alone.
    """

    def __init__(self, config: SAEConfig, constants: Constants, *, rngs: nnx.Rngs) -> None:
        """Both paths start the same: r = 0, b_mag = 0."""
        super().__init__(config, constants, rngs=rngs)
        self.r_mag = nnx.Param(jnp.zeros(config.d_sae))
        self.b_mag = nnx.Param(jnp.zeros(config.d_sae))

    def loss(
        self,
        x_BD: Float[Array, "batch d_model"],
        y_BD: Float[Array, "batch d_out"],
        auxk_coefficient: float,
        now: Now,
    ) -> tuple[Float[Array, ""], LossParts]:
        """See the class; there is no AuxK."""
        del auxk_coefficient
        gate_BF = self._pre_activations(x_BD, now.axes)
        u_BF = gate_BF - self.b_enc[...][None]
        m_BF = jax.nn.relu(jnp.exp(self.r_mag[...])[None] * u_BF + self.b_mag[...][None])
        z_BF = jnp.where(gate_BF > 0, m_BF, 0.0)
        x_hat_BD = self._decode(z_BF, now.axes)
        open_BF = jax.nn.relu(gate_BF)
        penalty = now.axes.sum_latent(open_BF.sum(axis=1)).mean()
        frozen = [jax.lax.stop_gradient(a[...]) for a in (self.W_dec, self.b_dec)]
        by_gate_BD = now.axes.sum_latent(open_BF @ frozen[0]) + frozen[1][None]
        total = squared_error(y_BD, x_hat_BD) + now.sparsity * penalty
        total = total + squared_error(y_BD, by_gate_BD)
        return total, parts_of(y_BD, x_hat_BD, z_BF, now.axes)

    def for_inference(self, threshold: float | None = None) -> ThresholdSAE:
        """π > 0 is m > b_mag − e^r b_enc: with h = e^r u + b_mag, a threshold per latent."""
        del threshold
        gain_F = jnp.exp(self.r_mag[...])
        theta_F = self.b_mag[...] - gain_F * self.b_enc[...]
        return ThresholdSAE(self, self.W_enc_T[...] * gain_F[:, None], self.b_mag[...], theta_F)
