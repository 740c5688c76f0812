"""Mean and scale of activations, from moments of their shards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

_BLOCK_ROWS = 16384  # rows that are held in float64 at once


class Normalizer(NamedTuple):
    """The constants x = scale · (activation − mean) that an SAE fixes before training."""

    mean: Float[np.ndarray, " d_model"]
    """Of every dimension, float32."""
    scale: float
    """The number s with E‖s(activation − mean)‖² = d_model."""
    gamma: float | None
    """‖mean‖ / ‖standard deviation‖; None without variance."""
    n_rows: int
    """Rows it was computed from."""

    @classmethod
    def of_manifest(cls, manifest: Mapping) -> Normalizer:
        """The one that a store's, or a stream's, manifest records."""
        n_rows = manifest.get("normalizer", manifest)["n_rows"]
        mean = np.array(manifest["mean"], dtype=np.float32)
        return cls(mean, manifest["scale"], manifest["gamma"], n_rows)

    def facts(self) -> dict[str, Any]:
        """What a manifest records of it."""
        mean = [float(m) for m in self.mean]
        return {"scale": self.scale, "gamma": self.gamma, "mean": mean}


def moments(rows: np.ndarray) -> Float[np.ndarray, "2 d_model"]:
    """Mean, and sum of squared deviations from it, of every column of ``[rows, d_model]``.

    In float64, a block of rows at a time.
    """
    blocks = [rows[i : i + _BLOCK_ROWS] for i in range(0, len(rows), _BLOCK_ROWS)]
    mean, squares = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    for block in blocks:
        mean += block.sum(axis=0, dtype=np.float64)
    mean /= len(rows)
    for block in blocks:
        squares += ((block.astype(np.float64) - mean) ** 2).sum(axis=0)
    return np.stack([mean, squares])


def normalizer(shards: Iterable[tuple[int, np.ndarray]]) -> Normalizer:
    """Combine the moments of shards, in order: Chan et al. 1979's pairwise update.

    Activations without variance get scale 1 and no gamma.

    Args:
        shards: rows of each, and their :func:`moments`.
    """
    n, mean, squares = 0, np.zeros(()), np.zeros(())
    for n_new, (shard_mean, shard_squares) in shards:
        delta = shard_mean - mean
        total = n + n_new
        mean = mean + delta * (n_new / total)
        squares = squares + shard_squares + delta**2 * (n * n_new / total)
        n = total
    variance = float((squares / n).sum())
    if variance <= 0:
        return Normalizer(mean.astype(np.float32), 1.0, None, n)
    scale = float(np.sqrt(len(mean) / variance))
    gamma = float(np.linalg.norm(mean) / np.sqrt(variance))
    return Normalizer(mean.astype(np.float32), scale, gamma, n)
