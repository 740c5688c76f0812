"""An SAE that others trained, of any architecture whose latents fire above a threshold."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx

from saejax.model import SAE, Constants, ThresholdSAE
from saejax.sae_config import SAEConfig


class PublishedThresholdSAE(ThresholdSAE):
    """z = h · 1[h > θ], h = (x − b_dec) W_enc + b_enc; x̂ = z W_dec + b_dec.

    Unlike what our own training ends with, decoder rows keep the norms that they were published
    with, so latents have their published values. It can't be trained.
    """

    def __init__(self, config: SAEConfig, constants: Constants, *, rngs: nnx.Rngs) -> None:
        """Thresholds of 0."""
        SAE.__init__(self, config, constants, rngs=rngs)
        self.threshold = nnx.Param(jnp.zeros(config.d_sae))

    def for_inference(self, threshold: float | None = None) -> ThresholdSAE:
        """Itself."""
        del threshold
        return self
