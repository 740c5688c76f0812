"""TopK with AuxK, and optionally Multi-TopK: Gao et al. 2024, arXiv 2406.04093. Transcoders too."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from saejax.axes import Axes
from saejax.losses import auxk_loss, reconstruction_loss
from saejax.model import FIRED_ABOVE, LossParts, Now, TopKInference
from saejax.sparse import SparseLatents, largest_of_all, sparse_decode, top_k_encode

MULTI_TOPK_FACTOR, MULTI_TOPK_WEIGHT = 4, 1 / 8
"""Gao et al., section 4.2: L(k) + L(4k) / 8."""


class TopKSAE(TopKInference):
    """ReLU of the k largest pre-activations::

        h = (x − b_dec) W_enc + b_enc;   z = ReLU(TopK_k(h));   ŷ = z W_dec + b_dec
        L = MSE(y, ŷ) + α·AuxK            [+ MSE(y, ŷ of 4k latents) / 8: Multi-TopK]

    y is x; a transcoder's y is another site's activation, and its h = x W_enc + b_enc.
    """

    def loss(
        self,
        x_BD: Float[Array, "batch d_model"],
        y_BD: Float[Array, "batch d_out"],
        auxk_coefficient: float,
        now: Now,
    ) -> tuple[Float[Array, ""], LossParts]:
        """See the class."""
        config, axes = self.config, now.axes
        multi = MULTI_TOPK_FACTOR if config.multi_topk else 1
        slots = min(multi * config.width, config.d_sae)
        used = None if now.k is None else jnp.minimum(multi * now.k, slots)
        x_in_BD, bias_D = axes.on_every_latent_device((x_BD, self.input_bias))
        latents = top_k_encode(
            x_in_BD, self.W_enc_T[...], self.b_enc[...], bias_D, slots,
            k_now=used, dtype=config.encode_dtype, axes=axes,
        )  # fmt: skip
        extra = jnp.zeros(())
        if config.multi_topk:
            y_wide_BD = self._decode(latents, axes)
            extra = MULTI_TOPK_WEIGHT * reconstruction_loss(y_BD, y_wide_BD)
            k = jnp.asarray(config.k) if now.k is None else now.k
            keep_BK = largest_of_all(latents.values, slots, k, axes)
            assert keep_BK is not None, "k is given"
            latents = latents._replace(values=jnp.where(keep_BK, latents.values, 0.0))
        y_hat_BD = self._decode(latents, axes)
        residual_BD = y_BD - y_hat_BD
        auxk = auxk_loss(self, x_BD, residual_BD, now.dead, axes=axes)
        total = reconstruction_loss(y_BD, y_hat_BD) + extra + auxk_coefficient * auxk
        l0 = axes.sum_latent((latents.values > 0).sum(axis=1)).mean()
        fired_F = fired_counts(latents, self.b_enc.shape[0])
        return total, LossParts((residual_BD**2).sum(), (y_BD**2).sum(), auxk, l0, fired_F)

    def _decode(self, latents: SparseLatents, axes: Axes) -> Array:
        z_W_dec = sparse_decode(latents.values, latents.indices, self.W_dec[...])
        return axes.sum_latent(z_W_dec) + self.b_dec[...][None]

    def for_inference(self, threshold: float | None = None) -> TopKInference:
        """Itself."""
        del threshold
        return self


def fired_counts(latents: SparseLatents, d_sae: int) -> Int[Array, " d_sae"]:
    """Rows on which each latent fired."""
    fired_BK = (latents.values > FIRED_ABOVE).astype(jnp.int32)
    return jnp.zeros(d_sae, jnp.int32).at[latents.indices].add(fired_BK)
