"""Reconstruction loss, AuxK and FVU.

Inputs are normalised so that their mean is 0 and E‖x‖² = d_model: the variance per element, by
which Gao et al. 2024 divide the squared error, is 1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from saejax.axes import NOWHERE, Axes, zeros_beside
from saejax.kernels import cut_to_top_k, top_k
from saejax.model import SAE
from saejax.sparse import largest_of_all

AUXK_BUCKETS = tuple(512 * 2**i for i in range(10))
"""Sizes of the static buffers that dead latents are gathered into, besides k_aux and d_sae."""


def reconstruction_loss(x_BD: Float[Array, "batch d"], x_hat_BD: Float[Array, "batch d"]) -> Array:
    """Mean squared error per element, over a variance of 1."""
    return jnp.mean((x_BD - x_hat_BD) ** 2)


def fvu(sum_squared_error: float, sum_squared_deviation: float) -> float:
    """Fraction of variance unexplained: Σ‖x − x̂‖² / Σ‖x − mean(x)‖², sums over everything."""
    return sum_squared_error / sum_squared_deviation if sum_squared_deviation > 0 else float("nan")


def auxk_loss(
    sae: SAE,
    x_BD: Float[Array, "batch d_model"],
    residual_BD: Float[Array, "batch d_out"],
    dead_F: Bool[Array, " d_sae"],
    *,
    axes: Axes = NOWHERE,
) -> Float[Array, ""]:
    """AuxK: dead latents reconstruct what the living ones leave (Gao et al. 2024, section A.2)::

        e = stop_gradient(y − ŷ);   ê = ReLU(TopK_kaux(pre-activations of dead latents)) W_dec
        AuxK = MSE(ê, e) / Var(e),   0 when nothing is dead or the quotient is not finite

    Var(e) is taken over all devices. The gradient reaches encoder and decoder of dead latents.
    The dead columns are first gathered into the smallest buffer that holds them all, so the cost
    follows the number dead and the result is exact.

    Args:
        sae: with its encoder and decoder.
        x_BD: what is encoded.
        residual_BD: y − ŷ.
        dead_F: silent latents.
        axes: mapped axes.
    """
    e_BD = jax.lax.stop_gradient(residual_BD)
    mean_D = axes.mean_data(e_BD.mean(axis=0))
    variance = axes.mean_data(jnp.mean((e_BD - mean_D[None]) ** 2))
    weights = _Weights(sae.W_enc_T[...], sae.b_enc[...], sae.input_bias, sae.W_dec[...])
    plan = (sae.config.k_aux, axes)
    error = cast(Array, _dead_error(weights, x_BD, e_BD, dead_F, plan))
    # divided by 1 where there is no variance: a quotient of 0/0 has NaN for a gradient even when
    # its value is not used
    varies = variance > 0
    loss = error / jnp.where(varies, variance, 1.0)
    return jnp.where(varies & jnp.isfinite(loss), loss, 0.0)


class _Weights(NamedTuple):
    """What AuxK has a gradient for."""

    W_enc_T: Float[Array, "d_sae d_model"]
    b_enc: Float[Array, " d_sae"]
    input_bias: Float[Array, " d_model"]
    W_dec: Float[Array, "d_sae d_out"]


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _dead_error(
    weights: _Weights, x_BD: Array, e_BD: Array, dead_F: Array, plan: tuple[int, Axes]
) -> Array:
    """MSE(ê, e), 0 when nothing is dead.

    Its gradient is made along with it: differentiated branch by branch, every branch would have to
    hand on the buffers of all others, as zeros.
    """
    branches = _branches(weights, x_BD, e_BD, dead_F, plan)
    return jax.lax.switch(_branch(dead_F, plan), [lambda b=b: b()[0] for b in branches])


def _dead_error_forward(weights, x_BD, e_BD, dead_F, plan):
    branches = _branches(weights, x_BD, e_BD, dead_F, plan)
    return jax.lax.switch(_branch(dead_F, plan), branches)


def _dead_error_backward(plan, grads, grad):
    del plan
    return jax.tree.map(lambda g: grad * g, grads), None, None, None


_dead_error.defvjp(_dead_error_forward, _dead_error_backward)


def _buckets(d_sae: int, k_aux: int) -> list[int]:
    """Sizes of the buffers that dead latents are gathered into, ascending."""
    return sorted({n for n in (k_aux, *AUXK_BUCKETS) if n < d_sae} | {d_sae})


def _branch(dead_F: Array, plan: tuple[int, Axes]) -> Array:
    """0 when nothing is dead, else 1 and the place of the smallest buffer that holds them.

    The same on all devices and for all runs side by side: the branches talk to each other.
    """
    k_aux, axes = plan
    n_dead = axes.max_sweep(axes.max_latent(dead_F.sum()))
    at = jnp.searchsorted(jnp.array(_buckets(len(dead_F), k_aux)), n_dead)
    return jnp.where(n_dead == 0, 0, 1 + at)


def _branches(
    weights: _Weights, x_BD: Array, e_BD: Array, dead_F: Array, plan: tuple[int, Axes]
) -> list[Callable[[], tuple[Array, _Weights]]]:
    """For no buffer and for each: MSE(ê, e), and its gradient."""

    def nothing() -> tuple[Array, _Weights]:
        zeros = jax.tree.map(lambda w: zeros_beside(w.shape, w, x_BD), weights)
        return zeros_beside((), e_BD), zeros

    def gathered(bucket: int) -> tuple[Array, _Weights]:
        columns_N: Int[Array, " bucket"] = jnp.nonzero(dead_F, size=bucket, fill_value=0)[0]
        real_N = jnp.arange(bucket) < dead_F.sum()
        dead = _Weights(
            weights.W_enc_T[columns_N], weights.b_enc[columns_N], weights.input_bias,
            weights.W_dec[columns_N],
        )  # fmt: skip
        of_dead = jax.value_and_grad(partial(_error_of_dead, plan=plan))
        error, grads = of_dead(dead, x_BD, e_BD, real_N)
        zeros = nothing()[1]
        return error, _Weights(
            zeros.W_enc_T.at[columns_N].add(grads.W_enc_T),
            zeros.b_enc.at[columns_N].add(grads.b_enc),
            grads.input_bias,
            zeros.W_dec.at[columns_N].add(grads.W_dec),
        )

    return [nothing, *(partial(gathered, n) for n in _buckets(len(dead_F), plan[0]))]


def _error_of_dead(
    dead: _Weights, x_BD: Array, e_BD: Array, real_N: Array, *, plan: tuple[int, Axes]
) -> Array:
    """MSE(ê, e), where ``dead`` has a row for each dead latent and some that are not real."""
    k_aux, axes = plan
    x_BD, bias_D = axes.on_every_latent_device((x_BD, dead.input_bias))
    # The bias beside the product, not within: its gradient is then a row, not a product over B.
    pre_acts_BN = x_BD @ dead.W_enc_T.T + (dead.b_enc - dead.W_enc_T @ bias_D)[None]
    z_BN = jnp.where(real_N[None], jax.nn.relu(pre_acts_BN), 0.0)
    keep_BN = _largest(jax.lax.stop_gradient(z_BN), k_aux, axes)
    e_hat_BD = axes.sum_latent(jnp.where(keep_BN, z_BN, 0.0) @ dead.W_dec)
    return jnp.mean((e_hat_BD - e_BD) ** 2)


def _largest(z_BN: Array, k: int, axes: Axes) -> Array:
    """Which of each row's values ≥ 0 are among its k largest; all, where at most k are above 0."""
    width = min(k, z_BN.shape[1])

    def all_of_them():
        return z_BN >= 0

    def largest():
        if axes.latent is None:
            return cut_to_top_k(z_BN, width) > 0
        values_BK, slots_BK = top_k(z_BN, width)
        keep_BK = largest_of_all(values_BK, k, None, axes)
        return (z_BN < 0).at[jnp.arange(len(z_BN))[:, None], slots_BK].set(keep_BK)

    if axes.latent is None and width == z_BN.shape[1]:
        return all_of_them()
    n_positive = axes.sum_latent((z_BN > 0).sum(axis=1)).max()
    return jax.lax.cond(axes.max_sweep(n_positive) <= k, all_of_them, largest)
