"""Reconstruction loss, AuxK and FVU.

Inputs are normalised so that their mean is 0 and E‖x‖² = d_model: the variance per element, by
which Gao et al. 2024 divide the squared error, is 1.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from saejax.model import TopKSAE

AUXK_BUCKETS = (512, 2048, 8192)
"""Sizes of the static buffers that dead latents are gathered into; the last is always d_sae."""


def mean_over_devices(value: Array, axis_name: str | None) -> Array:
    """Mean of a per-device value over the mapped axis, or the value itself outside one."""
    return value if axis_name is None else jax.lax.pmean(value, axis_name)


def reconstruction_loss(x_BD: Float[Array, "batch d"], x_hat_BD: Float[Array, "batch d"]) -> Array:
    """Mean squared error per element, over a variance of 1."""
    return jnp.mean((x_BD - x_hat_BD) ** 2)


def fvu(sum_squared_error: float, sum_squared_deviation: float) -> float:
    """Fraction of variance unexplained: Σ‖x − x̂‖² / Σ‖x − mean(x)‖², sums over everything."""
    return sum_squared_error / sum_squared_deviation if sum_squared_deviation > 0 else float("nan")


def auxk_loss(
    sae: TopKSAE,
    x_BD: Float[Array, "batch d"],
    x_hat_BD: Float[Array, "batch d"],
    dead_F: Bool[Array, " d_sae"],
    *,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    """AuxK: dead latents reconstruct what the living ones leave (Gao et al. 2024, section A.2)::

        e = stop_gradient(x − x̂);   ê = ReLU(TopK_kaux(pre-activations of dead latents)) W_dec
        AuxK = MSE(ê, e) / Var(e),   0 when nothing is dead or the quotient is not finite

    Var(e) is taken over all devices. The gradient reaches encoder and decoder of dead latents.
    The dead columns are first gathered into the smallest buffer that holds them all, so the cost
    follows the number dead and the result is exact.
    """
    e_BD = jax.lax.stop_gradient(x_BD - x_hat_BD)
    mean_D = mean_over_devices(e_BD.mean(axis=0), axis_name)
    variance = mean_over_devices(jnp.mean((e_BD - mean_D[None]) ** 2), axis_name)
    d_sae = dead_F.shape[0]
    buckets = [n for n in AUXK_BUCKETS if n < d_sae] + [d_sae]
    n_dead = dead_F.sum()

    def reconstruct(bucket: int):
        return lambda: _dead_reconstruction_error(sae, x_BD, e_BD, dead_F, bucket)

    branches = [lambda: jnp.zeros((), x_BD.dtype), *(reconstruct(n) for n in buckets)]
    branch = jnp.where(n_dead == 0, 0, 1 + jnp.searchsorted(jnp.array(buckets), n_dead))
    loss = jax.lax.switch(branch, branches) / variance
    return jnp.where(jnp.isfinite(loss), loss, 0.0)


def _dead_reconstruction_error(
    sae: TopKSAE, x_BD: Array, e_BD: Array, dead_F: Bool[Array, " d_sae"], bucket: int
) -> Array:
    """MSE(ê, e) with the dead latents gathered into a buffer of ``bucket`` columns."""
    columns_N: Int[Array, " bucket"] = jnp.nonzero(dead_F, size=bucket, fill_value=0)[0]
    real_N = jnp.arange(bucket) < dead_F.sum()
    encoder_ND = sae.W_enc_T[...][columns_N]
    pre_acts_BN = (x_BD - sae.b_dec[...][None]) @ encoder_ND.T
    pre_acts_BN = pre_acts_BN + sae.b_enc[...][columns_N][None]
    pre_acts_BN = jnp.where(real_N[None], pre_acts_BN, -jnp.inf)
    values_BK, slots_BK = jax.lax.top_k(pre_acts_BN, min(sae.config.k_aux, bucket))
    values_BK = jnp.where(jnp.isfinite(values_BK), jax.nn.relu(values_BK), 0.0)
    dead_rows_ND = sae.W_dec[...][columns_N]
    z_BN = jnp.zeros_like(pre_acts_BN).at[jnp.arange(len(x_BD))[:, None], slots_BK].set(values_BK)
    e_hat_BD = z_BN @ dead_rows_ND
    return jnp.mean((e_hat_BD - e_BD) ** 2)
