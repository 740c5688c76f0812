"""Places of latents on the map: UMAP of their decoder rows."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from explorer.build.neighbours import Neighbours
from extract.errors import UserError

N_NEIGHBOURS = 15
"""UMAP's own default, the latent itself counted."""
FEWEST = 32
"""Living latents below which principal components give the places."""
SPECTRAL_UP_TO = 20_000
"""Latents above which principal components begin the layout: eigenvectors take too long."""
STRIP = 0.08
"""Height, at the bottom, in which dead latents lie."""
SEED = 0


def places(
    rows_FD: Float[np.ndarray, "latents d_model"],
    alive: Bool[np.ndarray, " latents"],
    cosine: Neighbours,
) -> Float[np.ndarray, "latents 2"]:
    """x and y of each latent, −1 … 1, the same at every call.

    UMAP (McInnes, Healy & Melville 2018, arXiv 1802.03426) with its defaults, by the cosines of
    decoder rows, whose nearest neighbours are already known exactly. Dead latents lie in rows
    below the others.
    """
    found = np.zeros((len(rows_FD), 2), np.float32)
    living = np.flatnonzero(alive)
    unit = rows_FD[living] / np.maximum(np.linalg.norm(rows_FD[living], axis=1), 1e-12)[:, None]
    small = len(living) < FEWEST
    xy = _principal(unit) if small else _umap(unit, living, cosine, len(rows_FD))
    floor = -1.0 if alive.all() else -1.0 + 1.5 * STRIP
    found[living] = _scaled(xy, floor)
    found[~alive] = _strip(int((~alive).sum()))
    return found


def _umap(
    unit: np.ndarray, living: np.ndarray, cosine: Neighbours, n_latents: int
) -> Float[np.ndarray, "living 2"]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numba's and UMAP's own, on what is chosen on purpose
        umap = _umap_class()
        number = np.full(n_latents + 1, -1)
        number[living] = np.arange(len(living))
        near = number[cosine.other[living, : N_NEIGHBOURS - 1]]
        itself = np.arange(len(living))[:, None]
        distance = 1 - cosine.value[living, : N_NEIGHBOURS - 1]
        known = (
            np.concatenate([itself, near], axis=1),
            np.concatenate([np.zeros_like(itself), distance], axis=1).astype(np.float32),
        )
        return umap(
            n_neighbors=N_NEIGHBOURS, metric="cosine", precomputed_knn=known, random_state=SEED,
            init="spectral" if len(unit) <= SPECTRAL_UP_TO else "pca", n_jobs=1,
            force_approximation_algorithm=True,
        ).fit_transform(unit)  # fmt: skip


def _umap_class() -> Any:
    try:
        from umap import UMAP
    except ImportError:
        raise UserError(
            "the map needs umap-learn; pip install umap-learn, or give --no-umap for a bundle "
            "without one"
        ) from None
    return UMAP


def _principal(unit: np.ndarray) -> Float[np.ndarray, "living 2"]:
    """The first two principal components; zeros where there are fewer."""
    xy = np.zeros((len(unit), 2))
    if len(unit) > 1:
        u, s, _ = np.linalg.svd(unit - unit.mean(axis=0), full_matrices=False)
        n = min(2, len(s))
        signs = np.sign(u[np.abs(u[:, :n]).argmax(axis=0), np.arange(n)])
        xy[:, :n] = u[:, :n] * s[:n] * signs
    return xy


def _scaled(xy: np.ndarray, floor: float) -> np.ndarray:
    """To −1 … 1, and ``floor`` … 1 upwards."""
    if not len(xy):
        return xy
    low, high = xy.min(axis=0), xy.max(axis=0)
    share = np.divide(xy - low, high - low, out=np.full(xy.shape, 0.5), where=high > low)
    bottom = np.array([-1.0, floor])
    return (bottom + share * (1 - bottom)).astype(np.float32)


def _strip(n: int) -> np.ndarray:
    """Places for ``n`` latents in rows at the bottom, left to right."""
    n_lines = max(1, min(8, -(-n // 400)))
    each = -(-n // n_lines) if n else 1
    line, at = np.divmod(np.arange(n), each)
    x = (2 * at + 1) / each - 1
    y = -1 + STRIP * line / n_lines
    return np.stack([x, y], axis=1).astype(np.float32)
