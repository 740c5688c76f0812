"""The best raw dimension of the parent for every concept: what a latent must beat."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from tqdm import tqdm

BLOCK = 64


class Neuron(NamedTuple):
    """A signed dimension with a cut: positive where ``sign · x >= sign · threshold``."""

    dimension: int
    """0-based."""
    sign: int
    """+1 or −1; 0 if no dimension offers a cut."""
    threshold: float
    """On the raw activation."""
    f1: float
    """On the rows that chose it."""


def best_neurons(
    x: Float[np.ndarray, "rows d_model"], labels: Bool[np.ndarray, "rows concepts"]
) -> list[Neuron]:
    """The F1-best dimension, sign and threshold of every concept, exact over all cuts.

    Each dimension is sorted once. In a block of sorted rows F1 = 2 tp / (n + positives) is at most
    2 tp(block's end) / (n(block's first row) + positives), so only blocks whose bound exceeds the
    best F1 so far are looked into. Calling every row positive is no cut.
    """
    n_rows, n_concepts = labels.shape
    padding = -n_rows % BLOCK
    best = [Neuron(0, 0, float("inf"), 0.0)] * n_concepts
    for d in tqdm(range(x.shape[1]), desc="neurons", unit="dim", disable=None):
        column = np.ascontiguousarray(x[:, d])
        order = np.argsort(-column)
        values = column[order]
        is_cut = np.append(values[1:] != values[:-1], False)
        ordered = labels[order]
        for sign in (1, -1):
            if sign < 0:
                values, ordered = values[::-1], ordered[::-1]
                is_cut = np.append(is_cut[:-1][::-1], False)
            padded = np.concatenate([ordered, np.zeros((padding, n_concepts), bool)])
            cuts = np.append(is_cut, np.zeros(padding, bool))
            for c, (at, f1) in _improvements(padded, cuts, np.array([b.f1 for b in best])).items():
                best[c] = Neuron(d, sign, float(values[at]), f1)
    return best


def _improvements(
    labels: np.ndarray, is_cut: np.ndarray, best: np.ndarray
) -> dict[int, tuple[int, float]]:
    """{concept: (last positive row, F1)} where cuts of the sorted rows beat ``best``."""
    n_concepts = labels.shape[1]
    blocks = labels.reshape(-1, BLOCK, n_concepts)
    tp = np.cumsum(blocks.view(np.uint8).sum(axis=1, dtype=np.uint8), axis=0, dtype=np.int32)
    n_pos = tp[-1]
    ends = np.arange(1, len(blocks) + 1) * BLOCK
    at_ends = 2.0 * tp / (ends[:, None] + n_pos)
    floor = np.maximum(best, np.where(is_cut[ends - 1, None], at_ends, 0.0).max(axis=0) - 1e-12)
    bound = 2.0 * tp / (ends[:, None] - (BLOCK - 1) + n_pos)
    block, concept = np.nonzero(bound > floor)
    if not len(block):
        return {}
    y = blocks[block, :, concept]
    before = tp[block, concept] - y.sum(axis=1)
    within = np.arange(BLOCK)
    n = block[:, None] * BLOCK + within + 1
    f1 = 2.0 * (before[:, None] + np.cumsum(y, axis=1)) / (n + n_pos[concept][:, None])
    f1[~is_cut[n - 1]] = -1.0
    at, top = f1.argmax(axis=1), f1.max(axis=1)
    found: dict[int, tuple[int, float]] = {}
    for i in np.argsort(-top, kind="stable"):
        c = int(concept[i])
        if c not in found and top[i] > best[c]:
            found[c] = (int(block[i] * BLOCK + at[i]), float(top[i]))
    return found
