"""How learning rate, k and λ change over a run, as optax schedules."""

from __future__ import annotations

from typing import NamedTuple

import optax

from saejax.config import TrainConfig


class Schedules(NamedTuple):
    """Functions of the number of steps done."""

    learning_rate: optax.Schedule
    """As a share of its peak."""
    k_progress: optax.Schedule | None
    """How far k has come from ``k_start`` to ``k``, from 0 to 1; None when it stays."""
    sparsity: optax.Schedule
    """λ as a share of its final value."""


def schedules(config: TrainConfig, n_steps: int) -> Schedules:
    """Those of a run of ``n_steps``."""
    recipe = config.recipe
    k_progress = None
    if recipe.k_start is not None:
        anneal = max(1, int(n_steps * recipe.k_anneal_fraction))
        k_progress = optax.linear_schedule(0.0, 1.0, anneal)
    fraction = recipe.sparsity_warmup_fraction
    fraction = config.own.sparsity_warmup_fraction if fraction is None else fraction
    warmup = int(n_steps * fraction)
    sparsity = optax.linear_schedule(0.0, 1.0, warmup) if warmup else optax.constant_schedule(1.0)
    return Schedules(_learning_rate(config, n_steps), k_progress, sparsity)


def _learning_rate(config: TrainConfig, n_steps: int) -> optax.Schedule:
    """Linear warm-up, constant, linear decay to zero over the last ``decay_fraction``."""
    recipe = config.recipe
    warmup = min(recipe.warmup_steps, max(1, n_steps // 10))
    if warmup == 0 and recipe.decay_fraction == 0:
        return optax.constant_schedule(1.0)
    decay = max(1, int(n_steps * recipe.decay_fraction))
    parts = [
        optax.linear_schedule(1 / max(1, warmup), 1.0, max(1, warmup - 1)),
        optax.linear_schedule(1.0, 0.0, decay),
    ]
    return optax.join_schedules(parts, [max(warmup, n_steps - decay)])
