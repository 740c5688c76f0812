"""What a random latent would have done: matched controls, and intervals over proteins."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from extract.errors import UserError
from steering.torch_sae import TorchSAE


def matched_latents(
    frequency: Float[np.ndarray, " d_sae"],
    latent: int,
    n: int,
    *,
    seed: int = 0,
    exclude: Collection[int] = (),
) -> Int[np.ndarray, " n"]:
    """The ``n`` latents whose log firing frequency is nearest to that of ``latent``.

    Frequencies counted on few residues often tie: ties are drawn at random.

    Args:
        frequency: share of residues on which each latent fires (``LoadedSAE.latent_frequency``).
        latent: the target; never among its own controls.
        n: how many.
        seed: of the order of ties.
        exclude: latents that may not serve, such as others of the same concept.

    Raises:
        UserError: the target never fired, or fewer than ``n`` others did.
    """
    if n < 1:
        raise UserError(f"n ({n}) controls: at least 1 is needed")
    if frequency[latent] <= 0:
        raise UserError(
            f"latent {latent} never fired on the held-out residues, so no control matches its "
            "frequency; choose another latent"
        )
    usable = np.flatnonzero(frequency > 0)
    usable = usable[~np.isin(usable, [latent, *exclude])]
    if len(usable) < n:
        raise UserError(
            f"latent {latent}: {n} controls asked for, but only {len(usable)} other latents fire; "
            "ask for fewer"
        )
    shuffled = np.random.default_rng(seed).permutation(usable)
    distance = np.abs(np.log(frequency[shuffled]) - np.log(frequency[latent]))
    return shuffled[np.argsort(distance, kind="stable")[:n]]


def random_directions(d_model: int, n: int, *, seed: int = 0) -> Float[Tensor, "n d_model"]:
    """``n`` directions drawn evenly from the unit sphere."""
    directions = np.random.default_rng(seed).normal(size=(n, d_model))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return torch.from_numpy(directions.astype(np.float32))


def latent_directions(sae: TorchSAE, latents: Sequence[int]) -> Float[Tensor, "n d_model"]:
    """W_dec[j] / ‖W_dec[j]‖ of each latent."""
    chosen = torch.tensor(list(latents), dtype=torch.long, device=sae.W_dec.device)
    rows = sae.W_dec[chosen]
    return rows / torch.linalg.vector_norm(rows, dim=-1, keepdim=True)


def matched_change(
    direction_D: Float[Tensor, " d_model"], norms_R: Float[Tensor, " rows"]
) -> Float[Tensor, "rows d_model"]:
    """A change along a unit direction whose norm at each row is that of another edit.

    Along ``+W_dec[j]`` this raises latent j by norm · scale / ‖W_dec[j]‖ at each row: its decoder
    norm times its strength is that of the other edit.

    Args:
        direction_D: of norm 1.
        norms_R: ‖Δx‖ of the edit to match, in raw units.
    """
    return norms_R[:, None] * direction_D


class Interval(NamedTuple):
    """A mean over proteins and its bootstrap interval."""

    mean: float
    """Mean over proteins."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""


def bootstrap_mean(
    per_protein: Float[np.ndarray, " proteins"],
    *,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Mean over proteins with a percentile bootstrap interval, proteins being the unit.

    Efron & Tibshirani 1993, chapter 13. NaN (a protein without a value) is left out.

    Raises:
        ValueError: no protein has a value.
    """
    values = per_protein[~np.isnan(per_protein)]
    if not len(values):
        raise ValueError("bootstrap_mean needs at least one protein with a value; got none")
    draws = np.random.default_rng(seed).integers(len(values), size=(n_resamples, len(values)))
    means = values[draws].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def bootstrap_totals(
    per_protein: Float[np.ndarray, "proteins sums"], *, n_resamples: int = 2000, seed: int = 0
) -> Float[np.ndarray, "resamples sums"]:
    """Totals of sums over proteins drawn with replacement, as many as there are.

    A figure of the totals, such as a mean over residues or a ratio of means, has its percentile
    interval from the same figure of each row (Efron & Tibshirani 1993, chapter 13): proteins are
    the unit, for residues of one protein are not independent.
    """
    n, rng = len(per_protein), np.random.default_rng(seed)
    equal = np.full(n, 1 / n)
    step = max(1, 2**22 // n)  # so many resamples have 32 MB of counts
    sizes = [min(step, n_resamples - start) for start in range(0, n_resamples, step)]
    return np.concatenate([rng.multinomial(n, equal, size=size) @ per_protein for size in sizes])
