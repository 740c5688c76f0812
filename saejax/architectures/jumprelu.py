"""JumpReLU: Conerly et al., Circuits Updates January 2025, "Dictionary learning optimization
techniques"; with an L0 target: Rajamanoharan et al. 2024, arXiv 2407.14435.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from saejax.architectures.dense import DenseSAE, parts_of, squared_error
from saejax.model import Constants, LossParts, Now, ThresholdSAE
from saejax.sae_config import SAEConfig

BANDWIDTH = 2.0
"""ε of the straight-through estimator (January 2025), for inputs of E‖x‖² = d_model."""
TANH_SCALE = 4.0
"""c (January 2025)."""
PRE_ACT_WEIGHT = 3e-6
"""λ_P (January 2025)."""
INITIAL_LOG_THRESHOLD = 0.1
"""t (January 2025)."""
INITIAL_ACTIVE = 10_000
"""Latents active per row at the start (January 2025)."""
INITIAL_ACTIVE_SHARE = 1 / 8
"""Differs: at most this share of the dictionary, since ours can be smaller than 10,000."""


class JumpReLUSAE(DenseSAE):
    """Every latent learns the threshold below which it stays silent::

        h = (x − b_dec) W_enc + b_enc;   z = h·1[h > e^t];   x̂ = z W_dec + b_dec
        L = ‖x − x̂‖² + λ Σ_i tanh(4 z_i ‖w_i‖) + 3·10⁻⁶ Σ_i ReLU(e^{t_i} − h_i) ‖w_i‖
        L = ‖x − x̂‖² + (2 / L0*) (L0 − L0*)²,   L0 = mean of Σ_i 1[h_i > e^{t_i}]    (target_l0)

    The jump has no gradient in t; a rectangle of width 2 stands for it, from pre-activations
    before the jump: ∂z/∂t = −(e^t / 2)·1[|h − e^t| < 1], as the January update has it. Differs:
    with target_l0 z keeps that gradient, where arXiv 2407.14435 has another factor e^t.
    """

    def __init__(self, config: SAEConfig, constants: Constants, *, rngs: nnx.Rngs) -> None:
        """W_dec ~ U(−1/√d, 1/√d), W_enc = (d / d_sae) W_decᵀ, t = 0.1."""
        super().__init__(config, constants, rngs=rngs)
        bound = config.d_model**-0.5
        rows = jax.random.uniform(
            rngs.params(), (config.d_sae, config.d_model), minval=-bound, maxval=bound
        )
        self.W_dec[...] = rows
        self.W_enc_T[...] = (config.d_model / config.d_sae) * rows
        self.log_threshold = nnx.Param(jnp.full(config.d_sae, INITIAL_LOG_THRESHOLD))

    def start_from(self, x_BD: Float[Array, "batch d_model"]) -> None:
        """b_enc so that every latent is active on the same share of the sample."""
        share = min(INITIAL_ACTIVE / self.config.d_sae, INITIAL_ACTIVE_SHARE)
        h_BF = self.pre_activations_normalized(x_BD) - self.b_enc[...][None]
        quantile_F = jnp.quantile(h_BF, 1 - share, axis=0)
        self.b_enc[...] = jnp.exp(self.log_threshold[...]) - quantile_F

    def loss(
        self,
        x_BD: Float[Array, "batch d_model"],
        y_BD: Float[Array, "batch d_out"],
        auxk_coefficient: float,
        now: Now,
    ) -> tuple[Float[Array, ""], LossParts]:
        """See the class; there is no AuxK."""
        del auxk_coefficient
        axes = now.axes
        h_BF = self._pre_activations(x_BD, axes)
        t_BF = jnp.broadcast_to(self.log_threshold[...][None], h_BF.shape)
        z_BF = jump(h_BF, t_BF)
        x_hat_BD = self._decode(z_BF, axes)
        total = squared_error(y_BD, x_hat_BD)
        if self.config.target_l0 is None:
            norms_F = self._decoder_norms()[None]
            active = jnp.tanh(TANH_SCALE * z_BF * norms_F).sum(axis=1)
            silent = (jax.nn.relu(jnp.exp(t_BF) - h_BF) * norms_F).sum(axis=1)
            total = total + now.sparsity * axes.sum_latent(active).mean()
            total = total + PRE_ACT_WEIGHT * axes.sum_latent(silent).mean()
        else:
            target = self.config.target_l0
            l0 = axes.mean_data(axes.sum_latent(is_active(h_BF, t_BF).sum(axis=1)).mean())
            total = total + 2 / target * (l0 - target) ** 2
        return total, parts_of(y_BD, x_hat_BD, z_BF, axes)

    def for_inference(self, threshold: float | None = None) -> ThresholdSAE:
        """θ = e^t."""
        del threshold
        theta_F = jnp.exp(self.log_threshold[...])
        return ThresholdSAE(self, self.W_enc_T[...], self.b_enc[...], theta_F)


def _near(h: Array, t: Array) -> Array:
    """The rectangle around the threshold."""
    return jnp.abs(h - jnp.exp(t)) < BANDWIDTH / 2


@jax.custom_vjp
def jump(h: Float[Array, ...], t: Float[Array, ...]) -> Float[Array, ...]:
    """h where h > e^t, else 0."""
    return jnp.where(h > jnp.exp(t), h, 0.0)


def _jump_backward(residuals, grad):
    h, t = residuals
    grad_h = jnp.where(h > jnp.exp(t), grad, 0.0)
    return grad_h, jnp.where(_near(h, t), -jnp.exp(t) / BANDWIDTH * grad, 0.0)


jump.defvjp(lambda h, t: (jump(h, t), (h, t)), _jump_backward)


@jax.custom_vjp
def is_active(h: Float[Array, ...], t: Float[Array, ...]) -> Float[Array, ...]:
    """1 where h > e^t, else 0; ∂/∂t = −(e^t / ε) on the rectangle, ∂/∂h = 0 (arXiv 2407.14435)."""
    return (h > jnp.exp(t)).astype(h.dtype)


def _active_backward(residuals, grad):
    h, t = residuals
    return jnp.zeros_like(h), jnp.where(_near(h, t), -jnp.exp(t) / BANDWIDTH * grad, 0.0)


is_active.defvjp(lambda h, t: (is_active(h, t), (h, t)), _active_backward)
