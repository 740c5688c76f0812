"""ReLU with an L1 penalty: Conerly et al., Circuits Updates April 2024, on how SAEs are trained."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from saejax.architectures.dense import DenseSAE, parts_of, squared_error
from saejax.model import Constants, LossParts, Now, ThresholdSAE
from saejax.sae_config import SAEConfig

INITIAL_DECODER_NORM = 0.1
"""The April 2024 update: 0.1 in its own runs."""


class ReLUSAE(DenseSAE):
    """Latents are shrunk by a penalty on their size, weighted by the decoder::

        z = ReLU((x − b_dec) W_enc + b_enc);   x̂ = z W_dec + b_dec
        L = ‖x − x̂‖² + λ Σ_i z_i ‖w_i‖

    Decoder rows are free; b_dec is subtracted as in all architectures here (Differs: the update
    does not; it is a change of b_enc).
    """

    def __init__(self, config: SAEConfig, constants: Constants, *, rngs: nnx.Rngs) -> None:
        """Decoder rows of norm 0.1, the encoder their transpose."""
        super().__init__(config, constants, rngs=rngs)
        self.W_dec[...] = INITIAL_DECODER_NORM * self.W_dec[...]
        self.W_enc_T[...] = INITIAL_DECODER_NORM * self.W_enc_T[...]

    def loss(
        self,
        x_BD: Float[Array, "batch d_model"],
        y_BD: Float[Array, "batch d_out"],
        auxk_coefficient: float,
        now: Now,
    ) -> tuple[Float[Array, ""], LossParts]:
        """See the class; there is no AuxK."""
        del auxk_coefficient
        z_BF = jax.nn.relu(self._pre_activations(x_BD, now.axes))
        x_hat_BD = self._decode(z_BF, now.axes)
        penalty = now.axes.sum_latent((z_BF * self._decoder_norms()[None]).sum(axis=1)).mean()
        total = squared_error(y_BD, x_hat_BD) + now.sparsity * penalty
        return total, parts_of(y_BD, x_hat_BD, z_BF, now.axes)

    def for_inference(self, threshold: float | None = None) -> ThresholdSAE:
        """ReLU is a threshold of 0."""
        del threshold
        theta_F = jnp.zeros(self.config.d_sae)
        return ThresholdSAE(self, self.W_enc_T[...], self.b_enc[...], theta_F)
