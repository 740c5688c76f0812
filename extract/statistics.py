"""Mean and scale of activations, from moments of their shards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Normalizer(NamedTuple):
    """The constants x = scale · (activation − mean) that an SAE fixes before training."""

    mean: Float[np.ndarray, " d_model"]
    """Of every dimension, float32."""
    scale: float
    """The number s with E‖s(activation − mean)‖² = d_model."""
    gamma: float
    """‖mean‖ / ‖standard deviation‖."""
    n_rows: int
    """Rows it was computed from."""

    @classmethod
    def of_manifest(cls, manifest: Mapping) -> Normalizer:
        """The one that a store's, or a stream's, manifest records."""
        n_rows = manifest.get("normalizer", manifest)["n_rows"]
        mean = np.array(manifest["mean"], dtype=np.float32)
        return cls(mean, manifest["scale"], manifest["gamma"], n_rows)


def moments(rows: Float[np.ndarray, "rows d_model"]) -> Float[np.ndarray, "2 d_model"]:
    """Mean, and sum of squared deviations from it, of every dimension: float64."""
    wide = rows.astype(np.float64)
    mean = wide.mean(axis=0)
    return np.stack([mean, ((wide - mean) ** 2).sum(axis=0)])


def normalizer(shards: Iterable[tuple[int, np.ndarray]]) -> Normalizer:
    """Combine the moments of shards, in order: Chan et al. 1979's pairwise update.

    Activations without variance get scale 1 and an infinite gamma.

    Args:
        shards: rows of each, and their :func:`moments`.
    """
    n, mean, m2 = 0, np.zeros(()), np.zeros(())
    for n_new, (shard_mean, shard_m2) in shards:
        delta = shard_mean - mean
        total = n + n_new
        mean = mean + delta * (n_new / total)
        m2 = m2 + shard_m2 + delta**2 * (n * n_new / total)
        n = total
    variance = float((m2 / n).sum())
    if variance <= 0:
        return Normalizer(mean.astype(np.float32), 1.0, float("inf"), n)
    scale = float(np.sqrt(len(mean) / variance))
    gamma = float(np.linalg.norm(mean) / np.sqrt(variance))
    return Normalizer(mean.astype(np.float32), scale, gamma, n)
