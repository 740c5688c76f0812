"""Where along proteins latents fire: runs, coverage, rhythm, ends and residues, for all at once.

Everything here is computed from a block of sparse columns (``probes/data/firing.py``) with one pass
of NumPy each; nothing of size [rows, latents] is made.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from probes.data.firing import latent_of_entries
from probes.data.rows import OTHER_RESIDUE, ProteinRows
from saejax.latents import LatentColumns

MAX_GAP = 2
"""Silent residues that a stretch may contain in a row: under TopK another latent can displace one
at single residues of a region it marks."""

TERMINUS = 30
"""Residues at either end that count as terminal: a signal peptide with its cleavage site."""

MAX_LAG = 24
"""Residues between two firings that are still looked at: three periods of the longest."""

PERIODS = range(2, 9)
"""Lags offered as a period: strand 2, 3-10 helix 3, helix 3.6 (3 or 4), heptad 7."""


class Visits(NamedTuple):
    """(latent, protein) pairs with at least one firing, by latent."""

    entry: Int[np.ndarray, " visits"]
    """First entry of each."""
    latent: Int[np.ndarray, " visits"]
    """Latent within the block."""
    n: Int[np.ndarray, " visits"]
    """Firing residues."""
    length: Int[np.ndarray, " visits"]
    """Residues of the protein."""


class Rhythm(NamedTuple):
    """Pairs of firing residues of one protein by their distance."""

    observed: Float[np.ndarray, "block lags"]
    """Pairs ``lag`` apart, lag 0 to ``MAX_LAG`` (lag 0 unused)."""
    expected: Float[np.ndarray, "block lags"]
    """Mean over all permutations of the firings within each protein."""


def visits_of(columns: LatentColumns, rows: ProteinRows) -> Visits:
    """Group the entries of a block by latent and protein (rows must ascend in each latent)."""
    latent, protein = latent_of_entries(columns), rows.protein_idx[columns.rows]
    new = np.ones(len(latent), dtype=bool)
    new[1:] = (latent[1:] != latent[:-1]) | (protein[1:] != protein[:-1])
    entry = np.flatnonzero(new)
    length = np.diff(rows.offsets)[protein[entry]]
    return Visits(entry, latent[entry], np.diff(np.append(entry, len(latent))), length)


def mean_by(
    group: Shaped[np.ndarray, " items"], values: Shaped[np.ndarray, " items"], weights, n: int
) -> Float[np.ndarray, " n"]:
    """Weighted mean of values in each of ``n`` groups; NaN in an empty one."""
    total = np.bincount(group, weights=np.broadcast_to(weights, group.shape), minlength=n)
    summed = np.bincount(group, weights=values * weights, minlength=n)
    return np.divide(summed, total, out=np.full(n, np.nan), where=total > 0)


def coverage(visits: Visits, n: int) -> dict[str, np.ndarray]:
    """How much of the proteins a latent covers.

    ``coverage`` is the share of its protein that fires, for an average firing residue: one weak
    residue in many other proteins hardly changes it. ``coverage_mean`` counts proteins equally.
    """
    share = visits.n / visits.length
    largest = np.zeros(n)
    np.maximum.at(largest, visits.latent, visits.n)
    n_fires = np.bincount(visits.latent, weights=visits.n, minlength=n)
    return {
        "n_proteins": np.bincount(visits.latent, minlength=n),
        "coverage": mean_by(visits.latent, share, visits.n, n),
        "coverage_mean": mean_by(visits.latent, share, 1.0, n),
        "top_protein_share": np.divide(largest, n_fires, out=np.full(n, np.nan), where=n_fires > 0),
    }


def runs(columns: LatentColumns, visits: Visits) -> dict[str, np.ndarray]:
    """Lengths of runs (no gap) and of stretches (gaps of up to ``MAX_GAP``).

    ``run_mean`` counts runs equally; ``run_length`` and ``stretch_length`` are what an average
    firing residue lies in, Σ L² / Σ L for runs, so that stray single residues weigh little.
    ``stretch_density`` is the share of such a stretch that fires.
    """
    n, latent = len(columns.indptr) - 1, latent_of_entries(columns)
    step = np.diff(columns.rows, prepend=columns.rows[:1])
    new = np.zeros(len(latent), dtype=bool)
    new[visits.entry] = True
    out = {}
    for name, gap in (("run", 0), ("stretch", MAX_GAP)):
        first = np.flatnonzero(new | (step > gap + 1))
        fires = np.diff(np.append(first, len(latent)))
        span = columns.rows[first + fires - 1] - columns.rows[first] + 1
        out[f"{name}_mean"] = mean_by(latent[first], span, 1.0, n)
        out[f"{name}_length"] = mean_by(latent[first], span, fires, n)
        out[f"{name}_density"] = mean_by(latent[first], fires / np.maximum(span, 1), fires, n)
    return {k: v for k, v in out.items() if k not in ("run_density", "stretch_mean")}


def rhythm(columns: LatentColumns, visits: Visits) -> Rhythm:
    """Autocorrelation of firing along the sequence, and what no order within a protein gives.

    With n of a protein's L residues firing, a random permutation has on average
    (L − lag) · n (n − 1) / (L (L − 1)) pairs at a lag; the sum over proteins is exact.
    """
    n, size = len(columns.indptr) - 1, MAX_LAG + 1
    visit = np.repeat(np.arange(len(visits.n), dtype=np.int32), visits.n)
    observed = np.zeros(n * size)
    left = np.arange(len(visit))
    for shift in range(1, size):  # the shift-th next firing is at least ``shift`` residues on
        left = left[left < len(visit) - shift]
        lag = columns.rows[left + shift] - columns.rows[left]
        near = (lag <= MAX_LAG) & (visit[left + shift] == visit[left])
        left, lag = left[near], lag[near]
        observed += np.bincount(visits.latent[visit[left]] * size + lag, minlength=n * size)
    per_pair = visits.n * (visits.n - 1.0) / np.maximum(visits.length * (visits.length - 1.0), 1.0)
    expected = np.stack(
        [
            np.bincount(visits.latent, per_pair * np.maximum(visits.length - lag, 0), n)
            for lag in range(size)
        ],
        axis=1,
    )
    return Rhythm(observed.reshape(n, size), expected)


def periodicity(rhythm: Rhythm, n_fires: Int[np.ndarray, " block"]) -> dict[str, np.ndarray]:
    """The lag that stands out of its neighbourhood most.

    With g = (observed + 1) / (expected + 1), a lag d of ``PERIODS`` is a peak where g is no less
    than at d ± 1, and its prominence is log2 of g over the higher of the two troughs beside it
    (the least g at 1 … d−1 and at d+1 … 2d): a run or a cluster falls with the lag and has none.
    A rhythm goes on: ``period_echo`` is the same for the second period, the highest g within
    2d ± 1, over the troughs between d and it and beyond it; a pair such as C-x-x-C has no echo.

    Gives ``period`` (0 where no lag is a peak), ``period_strength`` and ``period_echo`` (log2),
    ``period_enrichment`` (g), ``period_share`` (firing residues with a partner one period on).
    """
    log_g = np.log2((rhythm.observed + 1) / (rhythm.expected + 1))
    n = len(log_g)
    out = {k: np.zeros(n) for k in ("strength", "echo", "enrichment", "share")}
    period = np.zeros(n, dtype=np.int64)
    for d in PERIODS:
        peak = (log_g[:, d] >= log_g[:, d - 1]) & (log_g[:, d] >= log_g[:, d + 1])
        troughs = np.maximum(log_g[:, 1:d].min(axis=1), log_g[:, d + 1 : 2 * d + 1].min(axis=1))
        strength = log_g[:, d] - troughs
        better = peak & (strength > out["strength"])
        period[better] = d
        out["strength"][better] = strength[better]
        out["echo"][better] = _echo(log_g, d)[better]
        out["enrichment"][better] = 2 ** log_g[better, d]
        share = rhythm.observed[:, d] / np.maximum(n_fires, 1)
        out["share"][better] = share[better]
    return {"period": period} | {f"period_{k}": v for k, v in out.items()}


def _echo(log_g: np.ndarray, d: int) -> np.ndarray:
    """Prominence of the second period."""
    at = 2 * d - 1 + log_g[:, 2 * d - 1 : 2 * d + 2].argmax(axis=1)
    lags = np.arange(log_g.shape[1])
    between = (lags > d) & (lags < at[:, None])
    beyond = (lags > at[:, None]) & (lags <= np.minimum(at[:, None] + d, MAX_LAG))
    before = np.where(between, log_g, np.inf).min(axis=1)
    after = np.where(beyond, log_g, np.inf).min(axis=1)
    return log_g[np.arange(len(log_g)), at] - np.maximum(before, after)


def terminal(columns: LatentColumns, visits: Visits, rows: ProteinRows) -> dict[str, np.ndarray]:
    """Share of firings in the first and the last ``TERMINUS`` residues, and what chance gives.

    ``terminal_expected`` is Σ n · min(TERMINUS, L) / L over the proteins where it fires, the same
    for both ends. A protein that was cropped or is a fragment ends where its stored sequence does.
    """
    n, latent = len(columns.indptr) - 1, latent_of_entries(columns)
    protein = rows.protein_idx[columns.rows]
    from_start = columns.rows - rows.offsets[protein]
    to_end = rows.offsets[protein + 1] - columns.rows
    chance = np.minimum(TERMINUS, visits.length) / visits.length
    return {
        "n_terminal_share": mean_by(latent, from_start < TERMINUS, 1.0, n),
        "c_terminal_share": mean_by(latent, to_end <= TERMINUS, 1.0, n),
        "terminal_expected": mean_by(visits.latent, chance, visits.n, n),
    }


def residue_mass(columns: LatentColumns, rows: ProteinRows) -> Float[np.ndarray, "block classes"]:
    """Share of each latent's Σ z on each class of ``residue_class``; zeros where it is silent."""
    n, n_classes = len(columns.indptr) - 1, OTHER_RESIDUE + 1
    cell = latent_of_entries(columns) * n_classes + rows.residue_class[columns.rows]
    mass = np.bincount(cell, weights=columns.values, minlength=n * n_classes)
    mass = mass.reshape(n, n_classes).astype(np.float64)  # integers where there is no entry
    total = mass.sum(axis=1, keepdims=True)
    return np.divide(mass, total, out=np.zeros_like(mass), where=total > 0)
