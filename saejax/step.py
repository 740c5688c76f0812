"""One training step: a pure per-device body, and ``pmap`` or ``shard_map`` around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from saejax.axes import NOWHERE, Axes
from saejax.model import DENSE_ABOVE, LossParts, Now
from saejax.recipes import unit_norm_decoder
from saejax.rows import orthogonal_to_rows, unit_rows
from saejax.state import Params, StepMetrics, Training, TrainState

DATA, LATENT, SWEEP = "data", "latent", "sweep"
"""Names of the mapped axes."""
FREQUENCY_DECAY = 0.99
"""Of the moving average of firing frequencies, per step."""
FREQUENCY_BINS = np.array([0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0])
"""Edges of the frequency histogram; never is in the first bin."""
_MAX_COUNT = 2**30


def device_step(
    training: Training,
    state: TrainState,
    activations: Float[Array, "batch d"],
    *,
    axes: Axes = NOWHERE,
) -> tuple[TrainState, StepMetrics]:
    """One step on this device's share of the batch; pure, and independent of the wrapper.

    Args:
        training: fixed.
        state: the same on every device that shares the batch, before and after; this device's
            latents where the dictionary is split.
        activations: raw, an equal number on every device; a transcoder's targets lie beside its
            inputs, ``[batch, d_model + d_out]``.
        axes: mapped axes to reduce over.
    """
    dead_F = state.tokens_since_fired > training.dead_after_tokens
    now = _now(training, state, dead_F, axes)
    (loss, parts), grads = _gradients(training, state.params, activations, now)
    grads = jax.tree.map(axes.mean_data, grads)
    params, opt_state, grad_norm = _update(training, state, grads, axes)
    ema = state.ema
    if training.ema_decay is not None:
        keep = training.ema_decay
        ema = jax.tree.map(lambda e, p: keep * e + (1 - keep) * p, ema, params)
    n_rows = len(activations) * (1 if axes.data is None else jax.lax.axis_size(axes.data))
    fired_F = axes.sum_data(parts.fired)
    silent_F = jnp.where(fired_F > 0, 0, jnp.minimum(state.tokens_since_fired + n_rows, _MAX_COUNT))
    frequency_F = _moving_frequency(state, fired_F / n_rows)
    n_elements = n_rows * training.sae_config.output_size
    error = axes.sum_data(parts.squared_error)
    n_latents = training.sae_config.d_sae
    loss = axes.mean_data(loss)
    step = state.step + 1
    bad = (state.first_bad_step == 0) & ~jnp.isfinite(loss + grad_norm)
    first_bad_step = jnp.where(bad, step, state.first_bad_step)
    metrics = StepMetrics(
        loss=loss,
        fvu=error / axes.sum_data(parts.squared_deviation),
        normalized_mse=error / n_elements,
        auxk=axes.mean_data(parts.auxk),
        l0=axes.mean_data(parts.l0),
        frac_dead=axes.sum_latent(dead_F.sum()) / n_latents,
        frac_dense=axes.sum_latent((frequency_F > DENSE_ABOVE).sum()) / n_latents,
        grad_norm=grad_norm,
        frequency_histogram=axes.sum_latent(_histogram(frequency_F)),
        first_bad_step=first_bad_step,
    )
    new = TrainState(
        params, ema, opt_state, silent_F, frequency_F, step, state.hyper, first_bad_step
    )
    return new, metrics


def _now(training: Training, state: TrainState, dead_F: Array, axes: Axes) -> Now:
    plan, hyper = training.schedules, state.hyper
    k = hyper.k if training.k_varies else None
    if plan.k_progress is not None and training.k_start is not None:
        start, progress = training.k_start, plan.k_progress(state.step)
        k = jnp.round(start + (hyper.k - start) * progress).astype(jnp.int32)
    return Now(dead_F, k, hyper.sparsity * plan.sparsity(state.step), axes)


def _gradients(
    training: Training, params: Params, activations: Array, now: Now
) -> tuple[tuple[Array, LossParts], Params]:
    """Loss and gradient of this device's rows, part by part when the batch is accumulated."""

    def loss(params: Params, rows_BD: Array) -> tuple[Array, LossParts]:
        sae = training.sae(params)
        d_model = training.sae_config.d_model
        x_BD = sae.normalize(rows_BD[:, :d_model])
        transcoder = training.sae_config.d_out is not None
        y_BD = sae.normalize_output(rows_BD[:, d_model:]) if transcoder else x_BD
        return sae.loss(x_BD, y_BD, training.auxk_coefficient, now)

    of_rows = partial(jax.value_and_grad(loss, has_aux=True), now.axes.on_every_data_device(params))
    n = training.accumulate_steps
    if n == 1:
        return of_rows(activations)
    blocks = activations.reshape(n, -1, activations.shape[1])
    first = of_rows(blocks[0])

    def add(total, rows_BD):
        return jax.tree.map(jnp.add, total, of_rows(rows_BD)), None

    (total, parts), grads = jax.lax.scan(add, first, blocks[1:])[0]
    parts = parts._replace(auxk=parts.auxk / n, l0=parts.l0 / n)
    return (total / n, parts), jax.tree.map(lambda g: g / n, grads)


def _update(
    training: Training, state: TrainState, grads: Params, axes: Axes
) -> tuple[Params, Any, Array]:
    """Project, clip, step, and put the decoder's rows back to unit norm."""
    unit_norm = unit_norm_decoder(training.sae_config)
    if unit_norm:
        grads = grads | {"W_dec": orthogonal_to_rows(grads["W_dec"], state.params["W_dec"])}
    squares = {name: (g**2).sum() for name, g in grads.items()}
    split = sum(axes.sum_latent(s) for name, s in squares.items() if name != "b_dec")
    grad_norm = jnp.sqrt(split + squares["b_dec"])
    if training.clip_norm is not None:
        factor = jnp.minimum(1.0, training.clip_norm / jnp.maximum(grad_norm, 1e-30))
        grads = jax.tree.map(lambda g: g * factor, grads)
    updates, opt_state = training.optimizer.update(grads, state.opt_state, state.params)
    rate = state.hyper.learning_rate * training.schedules.learning_rate(state.step)
    params = cast(Params, jax.tree.map(lambda p, u: p - rate * u, state.params, updates))
    if unit_norm:
        params = params | {"W_dec": unit_rows(params["W_dec"])}
    return params, opt_state, grad_norm


def _moving_frequency(state: TrainState, now_F: Array) -> Array:
    """Debiased by starting from the first batch."""
    keep = jnp.where(state.step == 0, 0.0, FREQUENCY_DECAY)
    return keep * state.frequency + (1 - keep) * now_F


def _histogram(frequency_F: Array) -> Array:
    inner = jnp.asarray(FREQUENCY_BINS[1:-1], frequency_F.dtype)
    bins = jnp.searchsorted(inner, frequency_F, side="right")
    return (bins[:, None] == jnp.arange(len(FREQUENCY_BINS) - 1)[None]).sum(axis=0)


TrainStep: TypeAlias = Callable[[TrainState, Array], tuple[TrainState, StepMetrics]]


def make_train_step(
    training: Training,
    devices: Sequence[Any] | None = None,
    *,
    latent_devices: int = 1,
    sweep: bool = False,
) -> TrainStep:
    """The step over devices, its state donated.

    Under ``pmap`` the state is replicated; in several processes it takes the global array of a
    batch as it is, and gives each process its own copy of the state. With ``latent_devices`` above
    1 it is ``shard_map`` on a (data, latent) mesh, and arrays of the state with a row per latent
    are split.

    The returned function takes the state (no device axis) and raw activations
    ``[devices that share the batch, batch per device, d]``.

    Args:
        training: fixed.
        devices: all of them by default.
        latent_devices: devices that share one dictionary.
        sweep: the state has a leading axis of runs that are trained side by side.
    """
    devices = jax.devices() if devices is None else devices
    axes = Axes(DATA, LATENT if latent_devices > 1 else None, SWEEP if sweep else None)
    body: Any = partial(device_step, training, axes=axes)
    if sweep:
        body = jax.vmap(body, in_axes=(0, None), axis_name=SWEEP)
    if latent_devices == 1:
        return jax.pmap(
            body,
            axis_name=DATA,
            in_axes=(None, 0),
            out_axes=None,
            donate_argnums=(0,),
            devices=devices,
        )
    mesh = device_mesh(devices, latent_devices)

    def step(state: TrainState, batch: Array) -> tuple[TrainState, StepMetrics]:
        specs = state_specs(state)
        mapped = jax.shard_map(
            lambda state, batch: body(state, batch[0]),
            mesh=mesh,
            in_specs=(specs, P(DATA)),
            out_specs=(specs, P()),
        )
        return mapped(state, batch)

    return jax.jit(step, donate_argnums=(0,))


def device_mesh(devices: Sequence[Any], latent_devices: int = 1) -> Mesh:
    """Devices as (data, latent)."""
    grid = np.array(devices).reshape(-1, latent_devices)
    return Mesh(grid, (DATA, LATENT), axis_types=(AxisType.Auto, AxisType.Auto))


def state_specs(state: TrainState) -> TrainState:
    """How each array of the state is split: by latents, or not at all."""

    def spec(path: tuple[Any, ...], leaf: Array) -> P:
        names = {getattr(key, "key", getattr(key, "name", None)) for key in path}
        return P(LATENT) if jnp.ndim(leaf) and "b_dec" not in names else P()

    return jax.tree_util.tree_map_with_path(spec, state)
