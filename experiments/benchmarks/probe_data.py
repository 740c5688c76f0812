"""Synthetic latents and concepts for the probes' benchmark, seeded.

Concepts: the twenty amino acids, drawn one by one, and stretches of ten residues or so that cover
0.1 to 30 % of the rows. Latents: how often they fire is log-normal; six in ten fire without regard
to any concept, the others take a share of their rows (2 % to all) from one concept, where they also
fire more strongly. Values are log-normal.
"""

from __future__ import annotations

import numpy as np

from saejax.latents import LatentColumns

AMINO_ACIDS_PERCENT = (
    8.3, 1.4, 5.5, 6.7, 3.9, 7.1, 2.3, 5.9, 5.8, 9.7, 2.4, 4.1, 4.7, 3.9, 5.5, 6.6, 5.4, 6.9, 1.1,
    2.9,
)  # fmt: skip
"""Swiss-Prot's composition, A to Y."""
RUN = 10
"""Mean length of a stretch."""
FREQUENCY_SIGMA = 1.5
"""Of the logarithm of a latent's frequency: the middle 68 % differ twentyfold."""
LARGEST_FREQUENCY = 0.5


def make_labels(n_rows: int, n_concepts: int, seed: int) -> np.ndarray:
    """Concepts of every row: bool ``[rows, concepts]``."""
    rng = np.random.default_rng((seed, 0))
    labels = np.zeros((n_rows, n_concepts), dtype=bool)
    share = np.array(AMINO_ACIDS_PERCENT) / sum(AMINO_ACIDS_PERCENT)
    residue = rng.choice(len(share), n_rows, p=share)
    n_residues = min(len(share), n_concepts)
    shown = residue < n_residues
    labels[shown, residue[shown]] = True
    for c in range(n_residues, n_concepts):
        base = np.exp(rng.uniform(np.log(0.001), np.log(0.3)))
        n_runs = max(1, round(base * n_rows / RUN))
        starts = rng.integers(0, n_rows, n_runs)
        ends = np.minimum(starts + rng.geometric(1 / RUN, n_runs), n_rows)
        depth = np.bincount(starts, minlength=n_rows + 1) - np.bincount(ends, minlength=n_rows + 1)
        labels[:, c] = np.cumsum(depth[:-1]) > 0
    return labels


def make_latents(labels: np.ndarray, n_latents: int, k: int, seed: int) -> LatentColumns:
    """Latents of which k fire at a row on average (a little fewer: no row is drawn twice)."""
    n_rows, n_concepts = labels.shape
    rng = np.random.default_rng((seed, 1))
    inside = [np.flatnonzero(labels[:, c]).astype(np.int32) for c in range(n_concepts)]
    frequency = np.exp(rng.normal(0, FREQUENCY_SIGMA, n_latents))
    for _ in range(5):  # until the largest no longer moves the others
        frequency = np.minimum(frequency * (k / frequency.sum()), LARGEST_FREQUENCY)
    rows, values, counts = [], [], []
    for f in frequency:
        n = max(1, round(f * n_rows))
        fires = rng.integers(0, n_rows, n, dtype=np.int32)
        of = inside[rng.integers(n_concepts)]
        if rng.random() < 0.4 and len(of):
            n_of = min(round(n * np.exp(rng.uniform(np.log(0.02), 0))), 2 * len(of))
            fires[:n_of] = of[rng.integers(0, len(of), n_of)]
            strength = np.where(np.arange(n) < n_of, rng.uniform(0, 1.5), 0.0)
        else:
            strength = np.zeros(n)
        fires, first = np.unique(fires, return_index=True)
        value = np.exp(
            rng.normal(
                0,
                0.6,
                n,
            )
            + strength
        )[first]
        rows.append(fires)
        values.append((value * rng.uniform(0.3, 3)).astype(np.float32))
        counts.append(len(fires))
    return LatentColumns(
        np.append(0, np.cumsum(counts)), np.concatenate(rows), np.concatenate(values), n_rows
    )
