"""One training step: a pure per-device body, and ``pmap`` around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from saejax.config import SAEConfig, TrainConfig
from saejax.losses import auxk_loss, mean_over_devices, reconstruction_loss
from saejax.model import TopKSAE, orthogonal_to_rows, unit_rows
from saejax.sparse import SparseLatents

AXIS = "data"
FIRED_ABOVE = 1e-3
"""A latent fired when its value exceeds this (Gao et al. 2024's code)."""
_MAX_COUNT = 2**30

Params = dict[str, Array]


class TrainState(NamedTuple):
    """Everything a step changes."""

    params: Params
    """W_dec, W_enc_T, b_enc, b_dec."""
    opt_state: Any
    """Of the optax chain."""
    tokens_since_fired: Int[Array, " d_sae"]
    """Residues since each latent last fired, over all devices."""
    step: Int[Array, ""]
    """Steps done."""


class StepMetrics(NamedTuple):
    """Scalars of one step, over all devices."""

    loss: Array
    """Reconstruction + coefficient · AuxK."""
    fvu: Array
    """Squared error over squared deviation from the mean, of this batch."""
    auxk: Array
    """AuxK, before its coefficient."""
    l0: Array
    """Latents above zero per residue."""
    frac_dead: Array
    """Share of latents silent for longer than the threshold."""
    grad_norm: Array
    """Global norm of the gradient after projection, before clipping."""


class Training(NamedTuple):
    """The fixed half of training: what is compiled into the step."""

    graphdef: Any
    """NNX structure of the SAE."""
    constants: Any
    """Mean and scale."""
    optimizer: optax.GradientTransformation
    """Clip, then Adam with its schedule."""
    dead_after_tokens: int
    """Silence that makes a latent dead."""
    auxk_coefficient: float
    """Weight of AuxK."""

    def sae(self, params: Params) -> TopKSAE:
        """The module with these parameters."""
        return nnx.merge(self.graphdef, params, self.constants)


def learning_rate_schedule(config: TrainConfig, n_steps: int) -> optax.Schedule:
    """Linear warm-up, constant, linear decay to zero over the last ``decay_fraction``."""
    peak = config.peak_learning_rate()
    warmup = min(config.warmup_steps, max(1, n_steps // 10))
    decay = max(1, int(n_steps * config.decay_fraction))
    parts = [
        optax.linear_schedule(peak / max(1, warmup), peak, max(1, warmup - 1)),
        optax.linear_schedule(peak, 0.0, decay),
    ]
    return optax.join_schedules(parts, [max(warmup, n_steps - decay)])


def adam(config: TrainConfig, n_steps: int) -> optax.GradientTransformation:
    """Gao et al.'s optimiser: gradients clipped to norm 1, Adam(0.9, 0.999, 6.25e-10)."""
    schedule = learning_rate_schedule(config, n_steps)
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(schedule, b1=0.9, b2=0.999, eps=6.25e-10)
    )


def init_state(
    config: TrainConfig,
    sae_config: SAEConfig,
    mean: np.ndarray,
    scale: float,
    n_steps: int,
    *,
    optimizer: optax.GradientTransformation | None = None,
) -> tuple[Training, TrainState]:
    """Fresh SAE, optimiser and counters.

    Args:
        config: the run.
        sae_config: sizes.
        mean: per-dimension mean of the activations.
        scale: their scale.
        n_steps: length of the run, for schedules and the dead threshold.
        optimizer: instead of Adam (the device tests use SGD).
    """
    sae = TopKSAE(sae_config, mean, scale, rngs=nnx.Rngs(config.seed))
    graphdef, params, constants = nnx.split(sae, nnx.Param, ...)
    optimizer = optimizer or adam(config, n_steps)
    pure: Params = nnx.to_pure_dict(params)
    training = Training(
        graphdef,
        nnx.to_pure_dict(constants),
        optimizer,
        config.dead_threshold_tokens(n_steps),
        config.auxk_coefficient,
    )
    silent = jnp.zeros(sae_config.d_sae, jnp.int32)
    return training, TrainState(pure, optimizer.init(pure), silent, jnp.zeros((), jnp.int32))


class _LossParts(NamedTuple):
    squared_error: Array
    squared_deviation: Array
    auxk: Array
    latents: SparseLatents


def _loss(
    params: Params, training: Training, activations_BD: Array, dead_F: Array, axis_name: str | None
) -> tuple[Array, _LossParts]:
    sae = training.sae(params)
    x_BD = sae.normalize(activations_BD)
    latents = sae.encode_normalized(x_BD)
    x_hat_BD = sae.decode_normalized(latents)
    main = reconstruction_loss(x_BD, x_hat_BD)
    auxk = auxk_loss(sae, x_BD, x_hat_BD, dead_F, axis_name=axis_name)
    parts = _LossParts(((x_BD - x_hat_BD) ** 2).sum(), (x_BD**2).sum(), auxk, latents)
    return main + training.auxk_coefficient * auxk, parts


def device_step(
    training: Training,
    state: TrainState,
    activations_BD: Float[Array, "batch d_model"],
    *,
    axis_name: str | None = None,
) -> tuple[TrainState, StepMetrics]:
    """One step on this device's share of the batch; pure, and independent of the wrapper.

    Args:
        training: fixed.
        state: the same on every device, before and after.
        activations_BD: raw activations, an equal number on every device.
        axis_name: mapped axis to reduce over; None on a single device.
    """
    params = state.params
    dead_F = state.tokens_since_fired > training.dead_after_tokens
    grad_of_loss = jax.value_and_grad(_loss, has_aux=True)
    (loss, parts), grads = grad_of_loss(params, training, activations_BD, dead_F, axis_name)
    grads = jax.tree.map(lambda g: mean_over_devices(g, axis_name), grads)
    grads |= {"W_dec": orthogonal_to_rows(grads["W_dec"], params["W_dec"])}
    updates, opt_state = training.optimizer.update(grads, state.opt_state, params)
    params = cast(Params, optax.apply_updates(params, updates))
    params = params | {"W_dec": unit_rows(params["W_dec"])}
    silent_F = _count_silence(state.tokens_since_fired, parts.latents, axis_name)
    error, deviation, l0, loss, auxk = (
        mean_over_devices(v, axis_name)
        for v in (
            parts.squared_error,
            parts.squared_deviation,
            (parts.latents.values > 0).sum(axis=1).mean(),
            loss,
            parts.auxk,
        )
    )
    metrics = StepMetrics(loss, error / deviation, auxk, l0, dead_F.mean(), optax.tree.norm(grads))
    return TrainState(params, opt_state, silent_F, state.step + 1), metrics


def _count_silence(silent_F: Array, latents: SparseLatents, axis_name: str | None) -> Array:
    """Residues since each latent fired, counting this batch on all devices."""
    fired_F = jnp.zeros(silent_F.shape, jnp.int32)
    fired_F = fired_F.at[latents.indices].max((latents.values > FIRED_ABOVE).astype(jnp.int32))
    n_tokens = latents.values.shape[0]
    if axis_name is not None:
        fired_F = jax.lax.pmax(fired_F, axis_name)
        n_tokens = jax.lax.psum(n_tokens, axis_name)
    return jnp.where(fired_F > 0, 0, jnp.minimum(silent_F + n_tokens, _MAX_COUNT))


TrainStep: TypeAlias = Callable[[TrainState, Array], tuple[TrainState, StepMetrics]]


def make_train_step(training: Training, devices: Sequence[Any] | None = None) -> TrainStep:
    """``pmap`` the step over devices, its state replicated and donated.

    The returned function takes the state (no device axis) and raw activations
    ``[devices, batch per device, d_model]``.
    """
    body = partial(device_step, training, axis_name=AXIS)
    return jax.pmap(
        body,
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=None,
        donate_argnums=(0,),
        devices=devices,
    )
