"""What all sparse autoencoders share, as Flax NNX modules, and the form they are used in."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from saejax.axes import Axes
from saejax.rows import token_statistics, unit_rows
from saejax.sae_config import SAEConfig
from saejax.sparse import SparseLatents, pre_activations, sparse_decode, top_k_encode

Activations = Float[Array, "batch d_model"] | Float[np.ndarray, "batch d_model"]
"""Raw activations, as extraction stored them."""


class Preprocessing(nnx.Variable):
    """Constants fixed before training: the mean and scale of the activations."""


class Constants(NamedTuple):
    """Normalisation of what goes in, and for a transcoder of what comes out."""

    mean: Float[np.ndarray, " d_model"]
    """Per-dimension mean of the activations."""
    scale: float
    """s with E‖s(activation − mean)‖² = d_model."""
    mean_out: Float[np.ndarray, " d_out"] | None = None
    """Of the activations that a transcoder predicts; None for an autoencoder."""
    scale_out: float | None = None
    """The same."""


class Now(NamedTuple):
    """What a loss is told about this moment of the run."""

    dead: Bool[Array, " d_sae"]
    """Latents silent for too long."""
    k: Int[Array, ""] | None
    """Active latents at this step; None when it never changes."""
    sparsity: Float[Array, ""]
    """λ at this step."""
    axes: Axes
    """Mapped axes."""


class LossParts(NamedTuple):
    """What a loss tells beside its value, of this device's rows."""

    squared_error: Float[Array, ""]
    """Σ‖y − ŷ‖²."""
    squared_deviation: Float[Array, ""]
    """Σ‖y‖², the mean of y being 0."""
    auxk: Float[Array, ""]
    """AuxK before its coefficient; 0 where there is none."""
    l0: Float[Array, ""]
    """Latents above zero per row."""
    fired: Int[Array, " d_sae"]
    """Rows on which each latent was above ``FIRED_ABOVE``."""


FIRED_ABOVE = 1e-3
"""A latent fired when its value exceeds this (Gao et al. 2024's code)."""


DENSE_ABOVE = 0.1
"""A latent that fires on more than this share of residues is dense."""


class SAE(nnx.Module):
    """A sparse autoencoder: x = scale · (activation − mean), z = latents of x, x̂ = z W_dec + b_dec.

    ``pre_activations``, ``encode``, ``decode`` and the call take and give *raw* activations, as
    extraction stored them. The ``_normalized`` methods work on x, for training.

    With ``config.token_zscore`` (imported SAEs alone) every residue is standardised over its own
    dimensions before mean and scale, and what is decoded gets its μ and σ back.

    A subclass is one architecture: it says how latents come from pre-activations, and what the loss
    is. With ``config.d_out`` it is a transcoder: x̂ is of other activations than x, and b_dec isn't
    subtracted from x.
    """

    def __init__(self, config: SAEConfig, constants: Constants, *, rngs: nnx.Rngs) -> None:
        """Random unit decoder rows, the encoder their transpose, zero biases (Gao et al., A.1).

        A transcoder's encoder is drawn apart.

        Args:
            config: sizes.
            constants: normalisation.
            rngs: the ``params`` stream draws the decoder.
        """
        rows = unit_rows(jax.random.normal(rngs.params(), (config.d_sae, config.output_size)))
        encoder = rows
        if config.d_out is not None:
            shape = (config.d_sae, config.d_model)
            encoder = unit_rows(jax.random.normal(rngs.params(), shape))
        self.config = config
        self.W_dec = nnx.Param(rows)
        self.W_enc_T = nnx.Param(jnp.array(encoder))
        self.b_enc = nnx.Param(jnp.zeros(config.d_sae))
        self.b_dec = nnx.Param(jnp.zeros(config.output_size))
        self.mean = Preprocessing(jnp.asarray(constants.mean, jnp.float32))
        self.scale = Preprocessing(jnp.asarray(constants.scale, jnp.float32))
        if config.d_out is not None:
            self.mean_out = Preprocessing(jnp.asarray(constants.mean_out, jnp.float32))
            self.scale_out = Preprocessing(jnp.asarray(constants.scale_out, jnp.float32))

    # ------------------------------------------------------------ for an architecture to say

    def loss(
        self,
        x_BD: Float[Array, "batch d_model"],
        y_BD: Float[Array, "batch d_out"],
        auxk_coefficient: float,
        now: Now,
    ) -> tuple[Float[Array, ""], LossParts]:
        """The loss on normalised activations; y is x but for a transcoder."""
        raise NotImplementedError

    def start_from(self, x_BD: Float[Array, "batch d_model"]) -> None:
        """Set what an architecture initialises from a sample of normalised activations."""

    def for_inference(self, threshold: float | None = None) -> SAE:
        """The form it is used in: top-k, or a threshold per latent, with unit decoder rows.

        Args:
            threshold: that :func:`saejax.calibrate.calibrate_threshold` found, where one is
                needed.
        """
        raise NotImplementedError

    # ------------------------------------------------------------ shared

    @property
    def W_enc(self) -> Float[Array, "d_model d_sae"]:
        """Encoder matrix as the literature writes it (kept as ``W_enc_T``, a row per latent)."""
        return self.W_enc_T[...].T

    @property
    def input_bias(self) -> Float[Array, " d_model"]:
        """What is subtracted from x: b_dec, or nothing in a transcoder."""
        if self.config.d_out is None:
            return self.b_dec[...]
        return jnp.zeros(self.config.d_model)

    def normalize(self, activations: Activations) -> Array:
        """x = scale · (activation − mean); of the z-scored activation with ``token_zscore``."""
        activations = jnp.asarray(activations)
        if self.config.token_zscore is not None:
            mean_B1, std_B1 = token_statistics(activations)
            activations = (activations - mean_B1) / (std_B1 + self.config.token_zscore[0])
        return (activations - self.mean[...][None]) * self.scale[...]

    def normalize_output(self, activations: Activations) -> Array:
        """The same of the activations that are reconstructed."""
        if self.config.d_out is None:
            return self.normalize(activations)
        return (jnp.asarray(activations) - self.mean_out[...][None]) * self.scale_out[...]

    def denormalize(
        self, x_hat_BD: Float[Array, "batch d_out"], activations: Activations | None = None
    ) -> Array:
        """activation = x̂ / scale + mean, of what is reconstructed.

        Args:
            x_hat_BD: normalised.
            activations: what was encoded, raw; with ``token_zscore`` its μ and σ are needed.
        """
        if self.config.d_out is not None:
            return x_hat_BD / self.scale_out[...] + self.mean_out[...][None]
        x_hat_BD = x_hat_BD / self.scale[...] + self.mean[...][None]
        if self.config.token_zscore is None:
            return x_hat_BD
        if activations is None:
            raise ValueError("an SAE with token_zscore decodes only beside the raw activations")
        mean_B1, std_B1 = token_statistics(jnp.asarray(activations))
        return x_hat_BD * (std_B1 + self.config.token_zscore[1]) + mean_B1

    def pre_activations(self, activations: Activations) -> Float[Array, "batch d_sae"]:
        """(x − b_dec) W_enc + b_enc, before selection."""
        return self.pre_activations_normalized(self.normalize(activations))

    def pre_activations_normalized(
        self, x_BD: Float[Array, "batch d_model"], dtype: str = "float32"
    ) -> Float[Array, "batch d_sae"]:
        """The same of normalised activations, its product of ``dtype`` inputs."""
        return pre_activations(x_BD, self.W_enc_T[...], self.b_enc[...], self.input_bias, dtype)

    def encode(self, activations: Activations, width: int | None = None) -> SparseLatents:
        """The latents that fire on each raw activation; see :meth:`encode_normalized`."""
        return self.encode_normalized(self.normalize(activations), width)

    def encode_dense(self, activations: Activations) -> Float[Array, "batch d_sae"]:
        """The same as a dense array, 0 for every latent that does not fire."""
        return self.encode_dense_normalized(self.normalize(activations))

    def encode_normalized(
        self, x_BD: Float[Array, "batch d_model"], width: int | None = None
    ) -> SparseLatents:
        """The latents that fire on each normalised activation.

        Args:
            x_BD: normalised.
            width: slots per row; by default as many as are needed (k of a top-k SAE). With fewer
                the smallest values are left out.
        """
        raise NotImplementedError

    def encode_dense_normalized(
        self, x_BD: Float[Array, "batch d_model"]
    ) -> Float[Array, "batch d_sae"]:
        """z as a dense array."""
        raise NotImplementedError

    def decode(
        self, latents: SparseLatents, activations: Activations | None = None
    ) -> Float[Array, "batch d_out"]:
        """Raw activations reconstructed from latents; see :meth:`denormalize`."""
        return self.denormalize(self.decode_normalized(latents), activations)

    def decode_normalized(self, latents: SparseLatents) -> Float[Array, "batch d_out"]:
        """x̂ = z W_dec + b_dec."""
        x_hat_BD = sparse_decode(latents.values, latents.indices, self.W_dec[...])
        return x_hat_BD + self.b_dec[...][None]

    def __call__(self, activations: Activations) -> Float[Array, "batch d_out"]:
        """Reconstruction of raw activations."""
        return self.decode(self.encode(activations), activations)


class TopKInference(SAE):
    """z = ReLU(TopK_k((x − b_dec) W_enc + b_enc)): the k largest, as in Gao et al. 2024."""

    def encode_normalized(
        self, x_BD: Float[Array, "batch d_model"], width: int | None = None
    ) -> SparseLatents:
        """The k latents that fire on each normalised activation."""
        k = self.config.k if width is None else min(width, self.config.k)
        return top_k_encode(x_BD, self.W_enc_T[...], self.b_enc[...], self.input_bias, k)

    def encode_dense_normalized(
        self, x_BD: Float[Array, "batch d_model"]
    ) -> Float[Array, "batch d_sae"]:
        """z as a dense array."""
        return self.encode_normalized(x_BD).dense(self.config.d_sae)


class ThresholdSAE(SAE):
    """z = h · 1[h > θ], h = (x − b_dec) W_enc + b_enc: what all but TopK become after training.

    θ ≥ 0 is one number per latent. Decoder rows have unit norm.
    """

    def __init__(
        self,
        trained: SAE,
        W_enc_T: Float[Array, "d_sae d_model"],
        b_enc: Float[Array, " d_sae"],
        threshold: Float[Array, " d_sae"],
    ) -> None:
        """Take the rest from ``trained``, and divide its decoder rows' norms out.

        Args:
            trained: an SAE with its decoder and constants.
            W_enc_T: encoder, a row per latent.
            b_enc: its bias.
            threshold: θ.
        """
        norms_F = jnp.linalg.norm(trained.W_dec[...], axis=1)
        self.config = trained.config
        self.W_dec = nnx.Param(unit_rows(trained.W_dec[...]))
        self.W_enc_T = nnx.Param(W_enc_T * norms_F[:, None])
        self.b_enc = nnx.Param(b_enc * norms_F)
        self.b_dec = nnx.Param(jnp.array(trained.b_dec[...]))
        self.threshold = nnx.Param(jnp.maximum(threshold, 0.0) * norms_F)
        self.mean, self.scale = trained.mean, trained.scale

    def encode_normalized(
        self, x_BD: Float[Array, "batch d_model"], width: int | None = None
    ) -> SparseLatents:
        """The latents above their thresholds; under ``jit`` the number of slots must be given."""
        z_BF = self.encode_dense_normalized(x_BD)
        if width is None:
            width = max(1, int((z_BF > 0).sum(axis=1).max(initial=1)))
        return SparseLatents(*jax.lax.top_k(z_BF, min(width, z_BF.shape[1])))

    def encode_dense_normalized(
        self, x_BD: Float[Array, "batch d_model"]
    ) -> Float[Array, "batch d_sae"]:
        """z as a dense array."""
        h_BF = self.pre_activations_normalized(x_BD)
        return jnp.where(h_BF > self.threshold[...][None], h_BF, 0.0)
