"""Several SAEs from one pass over the data: which ones, and how alike they become."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from extract.errors import UserError
from saejax.config import TrainConfig
from saejax.sae_config import WITH_K, WITH_SPARSITY

SWEPT = {"seed": int, "k": int, "learning_rate": float, "sparsity": float}
"""Settings that runs side by side may differ in, and their types."""
SAME_LATENT = 0.7
"""Decoder cosine from which two seeds are said to have found the same latent (Paulo and Belrose
2025, arXiv 2501.16615)."""


def members(config: TrainConfig) -> list[TrainConfig]:
    """The runs of a sweep, each with its own folder; the run itself when there is no sweep.

    All see the data in the order that the sweep's seed gives.

    Raises:
        UserError: an entry that is not ``name=value,value``, or a run that can't be.
    """
    if not config.sweep:
        return [config]
    values: dict[str, list[Any]] = {}
    for entry in config.sweep:
        name, _, listed = entry.partition("=")
        name = name.lstrip("-").replace("-", "_")
        if name not in SWEPT or not listed:
            raise UserError(
                f"--sweep {entry}: must be one of {', '.join(SWEPT)}, and its values, such as "
                "k=16,32"
            )
        if name in values:
            raise UserError(f"--sweep {entry}: {name} is given twice; join the two lists")
        values[name] = [_value(entry, name, text) for text in listed.split(",")]
        if len(set(values[name])) < len(values[name]):
            raise UserError(f"--sweep {entry}: the same value twice; remove one")
    _check_architecture(config, values)
    found = []
    for chosen in itertools.product(*values.values()):
        settings = dict(zip(values, chosen, strict=True))
        folder = "_".join(f"{name}={value:g}" for name, value in settings.items())
        settings |= {"out": config.out / folder, "sweep": (), "data_seed": config.data_order_seed}
        found.append(config.replace(**settings))
    return found


def _value(entry: str, name: str, text: str) -> int | float:
    try:
        return SWEPT[name](text)
    except ValueError as error:
        raise UserError(f"--sweep {entry}: {text!r} is no {SWEPT[name].__name__}") from error


def _check_architecture(config: TrainConfig, values: dict[str, list[Any]]) -> None:
    architecture = config.dictionary.architecture
    for name, fitting in (("k", WITH_K), ("sparsity", WITH_SPARSITY)):
        if name in values and architecture not in fitting:
            raise UserError(f"--sweep {name}=...: {architecture} has no {name}")
    if config.layout.latent_devices > 1:
        raise UserError("--sweep does not go with --latent-devices; remove one of the two")


def common_step(outs: Sequence[Path], steps: Sequence[Sequence[int]]) -> int:
    """The last step that every run has a checkpoint of, from which they go on together; or 0.

    A kill may leave runs one checkpoint apart: the older one is kept until all have the newer.

    Args:
        outs: the run folders.
        steps: steps of each one's checkpoints.

    Raises:
        UserError: the runs were taken apart: one was trained on alone.
    """
    shared = set(steps[0]).intersection(*steps[1:])
    if shared:
        return max(shared)
    ahead = max(range(len(outs)), key=lambda i: max(steps[i], default=0))
    if all(steps) or max(map(len, steps)) > 1:
        raise UserError(
            f"{outs[ahead]}: is at step {max(steps[ahead])}, from which other runs of the sweep "
            "can't go on; finish each one by a command of its own, or remove the sweep's folder"
        )
    return 0


def stack(states: Sequence[Any]) -> Any:
    """States of runs side by side: every array gets a leading axis of runs."""
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *states)


def unstack(stacked: Any, n: int) -> list[Any]:
    """The opposite, of arrays on the host."""
    return [jax.tree.map(lambda a, i=i: a[i], stacked) for i in range(n)]


def seed_stability(
    ours: Float[np.ndarray, "d_sae d_model"], theirs: Float[np.ndarray, "d_sae d_model"]
) -> dict[str, float]:
    """How many latents of one seed another seed has found too.

    Every latent is matched with the other dictionary's nearest, by the cosine of decoder rows.

    Returns:
        ``mean_cosine`` of the matches and ``shared``, the share of them at or above
        ``SAME_LATENT``; both are means over the two directions.
    """
    a, b = (w / np.maximum(np.linalg.norm(w, axis=1, keepdims=True), 1e-30) for w in (ours, theirs))
    forth, back = np.full(len(a), -1.0), np.full(len(b), -1.0)
    for start in range(0, len(a), 1024):
        cosines = a[start : start + 1024] @ b.T
        forth[start : start + 1024] = cosines.max(axis=1)
        back = np.maximum(back, cosines.max(axis=0))
    return {
        "mean_cosine": float((forth.mean() + back.mean()) / 2),
        "shared": float(((forth >= SAME_LATENT).mean() + (back >= SAME_LATENT).mean()) / 2),
    }


def stability_of(
    runs: Sequence[TrainConfig], decoders: Sequence[np.ndarray]
) -> list[dict[str, Any]]:
    """:func:`seed_stability` of every pair of runs that differ in nothing but the seed."""
    found = []
    for (a, w_a), (b, w_b) in itertools.combinations(zip(runs, decoders, strict=True), 2):
        if a.replace(seed=b.seed, out=b.out) == b:
            names = {"first": a.out.name, "second": b.out.name}
            found.append(names | seed_stability(w_a, w_b))
    return found
