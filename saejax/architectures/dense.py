"""What the architectures share whose latents are not counted but penalised."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from saejax.axes import Axes, zeros_beside
from saejax.model import FIRED_ABOVE, SAE, LossParts
from saejax.sparse import pre_activations


class DenseSAE(SAE):
    """An SAE that is trained with dense products, by ‖x − x̂‖² and a penalty."""

    def _pre_activations(self, x_BD: Array, axes: Axes) -> Float[Array, "batch d_sae"]:
        """(x − b_dec) W_enc + b_enc of this device's latents."""
        x_BD, bias_D = axes.on_every_latent_device((x_BD, self.input_bias))
        return pre_activations(
            x_BD, self.W_enc_T[...], self.b_enc[...], bias_D, self.config.encode_dtype
        )

    def _decode(self, z_BF: Array, axes: Axes) -> Float[Array, "batch d_model"]:
        return axes.sum_latent(z_BF @ self.W_dec[...]) + self.b_dec[...][None]

    def _decoder_norms(self) -> Float[Array, " d_sae"]:
        """‖w_i‖, with a gradient of 0 at 0."""
        squares_F = (self.W_dec[...] ** 2).sum(axis=1)
        safe_F = jnp.where(squares_F > 0, squares_F, 1.0)
        return jnp.where(squares_F > 0, jnp.sqrt(safe_F), 0.0)


def squared_error(x_BD: Float[Array, "batch d"], x_hat_BD: Float[Array, "batch d"]) -> Array:
    """‖x − x̂‖², mean over the rows."""
    return ((x_BD - x_hat_BD) ** 2).sum(axis=1).mean()


def parts_of(x_BD: Array, x_hat_BD: Array, z_BF: Array, axes: Axes) -> LossParts:
    """What a loss tells beside its value, from dense latents."""
    return LossParts(
        ((x_BD - x_hat_BD) ** 2).sum(),
        (x_BD**2).sum(),
        zeros_beside((), x_BD),
        axes.sum_latent((z_BF > 0).sum(axis=1)).mean(),
        (z_BF > FIRED_ABOVE).sum(axis=0).astype(jnp.int32),
    )
