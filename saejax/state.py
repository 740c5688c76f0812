"""What a training step changes, what it reads, and what it tells."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from saejax.architectures import ARCHITECTURES
from saejax.config import TrainConfig
from saejax.model import SAE, Constants
from saejax.sae_config import SAEConfig
from saejax.schedules import Schedules, schedules

AS_CONFIGURED = -1.0
"""The run's own ``clip_norm``."""

Params: TypeAlias = dict[str, Array]


class Hyper(NamedTuple):
    """Settings that runs trained side by side may differ in."""

    learning_rate: Float[Array, ""]
    """Peak."""
    k: Int[Array, ""]
    """Active latents."""
    sparsity: Float[Array, ""]
    """λ."""


class TrainState(NamedTuple):
    """Everything a step changes, and the settings it reads."""

    params: Params
    """Of the NNX module: W_dec, W_enc_T, b_enc, b_dec, and the architecture's own."""
    ema: Params
    """Their moving average; empty without one."""
    opt_state: Any
    """Of the optax transformation."""
    tokens_since_fired: Int[Array, " d_sae"]
    """Residues since each latent last fired, over all devices."""
    frequency: Float[Array, " d_sae"]
    """Moving average of the share of residues on which each latent fires."""
    step: Int[Array, ""]
    """Steps done."""
    hyper: Hyper
    """Of this run."""
    first_bad_step: Int[Array, ""]
    """The first step whose loss was not finite; 0 when there is none."""


class StepMetrics(NamedTuple):
    """Figures of one step, over all devices."""

    loss: Array
    """What is minimised."""
    fvu: Array
    """Squared error over squared deviation from the mean, of this batch."""
    normalized_mse: Array
    """Squared error per element, over the variance measured before training."""
    auxk: Array
    """AuxK, before its coefficient."""
    l0: Array
    """Latents above zero per residue."""
    frac_dead: Array
    """Share of latents silent for longer than the threshold."""
    frac_dense: Array
    """Share of latents that fire on more than a tenth of the residues, lately."""
    grad_norm: Array
    """Global norm of the gradient after projection, before clipping."""
    frequency_histogram: Array
    """Latents by how often they fire lately, between the edges of ``FREQUENCY_BINS``."""
    first_bad_step: Array
    """The first step whose loss was not finite; 0 when there is none."""


class Training(NamedTuple):
    """The fixed half of training: what is compiled into the step."""

    graphdef: Any
    """NNX structure of the SAE."""
    constants: Any
    """Mean and scale."""
    sae_config: SAEConfig
    """Architecture and sizes."""
    optimizer: optax.GradientTransformation
    """Gradients to directions; the learning rate comes after it."""
    schedules: Schedules
    """Over the run."""
    dead_after_tokens: int
    """Silence that makes a latent dead."""
    auxk_coefficient: float
    """Weight of AuxK."""
    accumulate_steps: int
    """Parts of a batch."""
    ema_decay: float | None
    """Of the moving average of the weights."""
    k_start: int | None
    """Where k starts, when it changes."""
    k_varies: bool
    """Whether k is read from the state rather than compiled in."""
    clip_norm: float | None
    """Largest gradient norm."""

    def sae(self, params: Params) -> SAE:
        """The module with these parameters."""
        return nnx.merge(self.graphdef, params, self.constants)


def init_state(
    config: TrainConfig,
    sae_config: SAEConfig,
    constants: Constants,
    n_steps: int,
    *,
    sample: Float[np.ndarray, "rows d_model"] | None = None,
    optimizer: optax.GradientTransformation | None = None,
    clip_norm: float | None = AS_CONFIGURED,
    k_varies: bool = False,
) -> tuple[Training, TrainState]:
    """Fresh SAE, optimiser and counters.

    Args:
        config: the run.
        sae_config: architecture and sizes.
        constants: normalisation.
        n_steps: length of the run, for schedules and the dead threshold.
        sample: raw activations that some architectures start from.
        optimizer: instead of Adam (the device tests use the plain gradient).
        clip_norm: largest gradient norm instead of the run's own; None for any.
        k_varies: read k from the state, so that runs side by side can differ in it.
    """
    kind = ARCHITECTURES[sae_config.architecture]
    sae = kind(sae_config, constants, rngs=nnx.Rngs(config.seed))
    if config.recipe.encoder_norm != 1.0:
        sae.W_enc_T[...] = config.recipe.encoder_norm * sae.W_enc_T[...]
    if sample is not None:
        sae.start_from(sae.normalize(sample))
    graphdef, params, rest = nnx.split(sae, nnx.Param, ...)
    own = config.own
    optimizer = optimizer or optax.scale_by_adam(b1=own.adam_b1, b2=own.adam_b2, eps=own.adam_eps)
    plan = schedules(config, n_steps)
    training = Training(
        graphdef=graphdef,
        constants=nnx.to_pure_dict(rest),
        sae_config=sae_config,
        optimizer=optimizer,
        schedules=plan,
        dead_after_tokens=config.dead_threshold_tokens(n_steps),
        auxk_coefficient=config.recipe.auxk_coefficient,
        accumulate_steps=config.recipe.accumulate_steps,
        ema_decay=config.recipe.ema_decay,
        k_start=config.recipe.k_start,
        k_varies=k_varies or plan.k_progress is not None,
        clip_norm=config.recipe.clip_norm if clip_norm == AS_CONFIGURED else clip_norm,
    )
    pure: Params = nnx.to_pure_dict(params)
    ema = jax.tree.map(jnp.array, pure) if config.recipe.ema_decay is not None else {}
    hyper = Hyper(
        jnp.float32(config.peak_learning_rate()),
        jnp.int32(sae_config.k),
        jnp.float32(config.sparsity()),
    )
    silent = jnp.zeros(sae_config.d_sae, jnp.int32)
    frequency = jnp.zeros(sae_config.d_sae)
    state = TrainState(
        params=pure,
        ema=ema,
        opt_state=optimizer.init(pure),
        tokens_since_fired=silent,
        frequency=frequency,
        step=jnp.zeros((), jnp.int32),
        hyper=hyper,
        first_bad_step=jnp.zeros((), jnp.int32),
    )
    return training, state
