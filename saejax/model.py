"""The sparse autoencoders, as Flax NNX modules."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from saejax.config import SAEConfig
from saejax.sparse import SparseLatents, sparse_decode, top_k_encode

Activations = Float[Array, "batch d_model"] | Float[np.ndarray, "batch d_model"]
"""Raw activations, as extraction stored them."""


class Preprocessing(nnx.Variable):
    """Constants fixed before training: the mean and scale of the activations."""


class TopKSAE(nnx.Module):
    """TopK sparse autoencoder (Gao et al. 2024, arXiv 2406.04093)::

        x  = scale · (activation − mean)          E‖x‖² = d_model, fixed before training
        z  = ReLU(TopK_k((x − b_dec) W_enc + b_enc))
        x̂  = z W_dec + b_dec                       rows of W_dec have unit norm
        reconstruction = x̂ / scale + mean

    ``encode``, ``decode`` and ``__call__`` take and give *raw* activations, as extraction stored
    them. The ``_normalized`` methods work on x, for training.
    """

    def __init__(
        self, config: SAEConfig, mean: np.ndarray, scale: float, *, rngs: nnx.Rngs
    ) -> None:
        """Random unit decoder rows, the encoder their transpose, zero biases.

        Args:
            config: sizes.
            mean: per-dimension mean of the activations, ``[d_model]``.
            scale: s with E‖s(activation − mean)‖² = d_model.
            rngs: the ``params`` stream draws the decoder.
        """
        rows = jax.random.normal(rngs.params(), (config.d_sae, config.d_model))
        rows = unit_rows(rows)
        self.config = config
        self.W_dec = nnx.Param(rows)
        self.W_enc_T = nnx.Param(jnp.array(rows))
        self.b_enc = nnx.Param(jnp.zeros(config.d_sae))
        self.b_dec = nnx.Param(jnp.zeros(config.d_model))
        self.mean = Preprocessing(jnp.asarray(mean, jnp.float32))
        self.scale = Preprocessing(jnp.asarray(scale, jnp.float32))

    @property
    def W_enc(self) -> Float[Array, "d_model d_sae"]:
        """Encoder matrix as the literature writes it (kept as ``W_enc_T``, a row per latent)."""
        return self.W_enc_T[...].T

    def normalize(self, activations: Activations) -> Array:
        """x = scale · (activation − mean)."""
        return (jnp.asarray(activations) - self.mean[...][None]) * self.scale[...]

    def denormalize(self, x_BD: Float[Array, "batch d_model"]) -> Array:
        """activation = x / scale + mean."""
        return x_BD / self.scale[...] + self.mean[...][None]

    def pre_activations(self, activations: Activations) -> Array:
        """(x − b_dec) W_enc + b_enc, before selection: ``[batch, d_sae]``."""
        x_BD = self.normalize(activations)
        return (x_BD - self.b_dec[...][None]) @ self.W_enc + self.b_enc[...][None]

    def encode(self, activations: Activations) -> SparseLatents:
        """The k latents that fire on each raw activation."""
        return self.encode_normalized(self.normalize(activations))

    def decode(self, latents: SparseLatents) -> Float[Array, "batch d_model"]:
        """Raw activations reconstructed from latents."""
        return self.denormalize(self.decode_normalized(latents))

    def encode_normalized(self, x_BD: Float[Array, "batch d_model"]) -> SparseLatents:
        """The k latents that fire on each normalised activation."""
        return top_k_encode(
            x_BD, self.W_enc_T[...], self.b_enc[...], self.b_dec[...], self.config.k
        )

    def decode_normalized(self, latents: SparseLatents) -> Float[Array, "batch d_model"]:
        """x̂ = z W_dec + b_dec."""
        x_hat_BD = sparse_decode(latents.values, latents.indices, self.W_dec[...])
        return x_hat_BD + self.b_dec[...][None]

    def __call__(self, activations: Activations) -> Array:
        """Reconstruction of raw activations."""
        return self.decode(self.encode(activations))


def unit_rows(W_FD: Float[Array, "rows d"]) -> Float[Array, "rows d"]:
    """Every row scaled to unit norm; a zero row stays zero."""
    norms = jnp.linalg.norm(W_FD, axis=1, keepdims=True)
    return W_FD / jnp.maximum(norms, jnp.finfo(W_FD.dtype).tiny)


def orthogonal_to_rows(
    grad_FD: Float[Array, "rows d"], W_FD: Float[Array, "rows d"]
) -> Float[Array, "rows d"]:
    """Remove from each gradient row its part along the unit-norm decoder row."""
    return grad_FD - (grad_FD * W_FD).sum(axis=1, keepdims=True) * W_FD
