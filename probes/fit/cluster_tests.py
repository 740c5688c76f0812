"""One-sided tests in which every homology cluster counts once, however large it is.

Sums over residues are those of the largest cluster where one holds most of them: what such a sum
shows is one observation, whether or not the other clusters agree. So every cluster is first reduced
to a share (of its residues in the concept that are called; of those on which a latent fires that
are in the concept), and shares weigh alike. That is what drawing one residue from each cluster
estimates (Hoffman, Sen & Weinberg 2001), positives and negatives apart (Dutta & Datta 2016).

The p-value is the largest of three, each right where the others are too sure:

- *signs*: clusters' differences d_c come out as high in sum as they did, when each is as likely to
  be −d_c (:func:`sign_flip`; Canay, Romano & Shaikh 2017, for few clusters of any size). It knows
  nothing of how rare a difference is, only how many clusters carry the sum: one gives 1/2.
- *shares*: the sum is high when each cluster is a single observation, right or wrong as a whole
  (a variance of e (1 − e), the largest a share of mean e can have). Signs are too sure where a
  latent fires nearly everywhere: clusters in which it is right are then many, and not by merit.
- 2^−n, with n clusters on the side that has fewer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

EXACT_CLUSTERS = 12
"""Clusters of largest difference whose signs are gone through, all 4,096 ways; the sum of the
others is taken for normal."""
TESTS_AT_ONCE = 256
"""8 MB of sums."""


class CallTest(NamedTuple):
    """Is a concept called more often than what is not in it?"""

    p: float
    """One-sided; never below ``p_least``."""
    p_least: float
    """2^−n, with n the clusters that have a positive, or a negative if they are fewer."""
    recall: float
    """Share of a cluster's positives that are called, averaged over clusters that have some."""
    false_alarms: float
    """The same of negatives."""


def sign_flip(d: Float[np.ndarray, "clusters tests"]) -> Float[np.ndarray, " tests"]:
    """P(Σ_c ε_c d_c ≥ Σ_c d_c) for signs ε_c of a fair coin.

    Exact up to ``EXACT_CLUSTERS`` differences other than 0. Beyond, the smaller ones are a normal
    with their variance.
    """
    n_tests = d.shape[1]
    largest = -np.sort(-np.abs(d), axis=0)
    top, rest = largest[:EXACT_CLUSTERS], largest[EXACT_CLUSTERS:]
    bits = np.arange(1 << len(top))[:, None] >> np.arange(len(top)) & 1
    signs = 1.0 - 2.0 * bits
    spread = np.sqrt((rest**2).sum(axis=0))
    rounding = 1e-12 * largest.sum(axis=0)  # ties are as high
    p = np.empty(n_tests)
    for start in range(0, n_tests, TESTS_AT_ONCE):
        some = slice(start, start + TESTS_AT_ONCE)
        above = signs @ top[:, some] - d[:, some].sum(axis=0) + rounding[some]
        with np.errstate(divide="ignore", invalid="ignore"):
            tail = ndtr(above / spread[some])
        p[some] = np.where(spread[some] > 0, tail, above >= 0).mean(axis=0)
    return p


def call_test(
    hits: Float[np.ndarray, " clusters"],
    called: Float[np.ndarray, " clusters"],
    positives: Float[np.ndarray, " clusters"],
    size: Float[np.ndarray, " clusters"],
) -> CallTest:
    """Are positives called more often than negatives, cluster by cluster?::

        r_c = share of c's positives that are called,  R = its mean over the P clusters with some
        f_c = share of c's negatives that are called,  F = its mean over the N clusters with some
        signs of   d_c = (r_c − F) / P − (f_c − F) / N,   Σ_c d_c = R − F
        shares     Z = (R − F) / √(m (1 − m) (1/P + 1/N)),   m = (P R + N F) / (P + N)

    Args:
        hits: called residues in the concept.
        called: called residues.
        positives: residues in the concept.
        size: residues; every cluster has some.
    """
    with_positive, with_negative = positives > 0, size > positives
    n_pos, n_neg = int(with_positive.sum()), int(with_negative.sum())
    least = 0.5 ** min(n_pos, n_neg)
    if not n_pos or not n_neg:
        return CallTest(1.0, least, float("nan"), float("nan"))
    r = hits[with_positive] / positives[with_positive]
    f = (called - hits)[with_negative] / (size - positives)[with_negative]
    recall, false_alarms = float(r.mean()), float(f.mean())
    d = np.zeros(len(size))
    d[with_positive] += (r - false_alarms) / n_pos
    d[with_negative] -= (f - false_alarms) / n_neg
    mean = (r.sum() + f.sum()) / (n_pos + n_neg)
    variance = mean * (1 - mean) * (1 / n_pos + 1 / n_neg)
    z = (recall - false_alarms) / np.sqrt(variance) if variance > 0 else -np.inf
    p = max(float(sign_flip(d[:, None])[0]), float(ndtr(-z)), least)
    return CallTest(p, least, recall, false_alarms)


def excess_test(
    hits: Float[np.ndarray, "clusters latents"],
    fires: Float[np.ndarray, "clusters latents"],
    expected: Float[np.ndarray, "clusters latents"],
) -> Float[np.ndarray, " latents"]:
    """One-sided p-value for precision above an expectation, of many latents::

        e_c = expected_c / fires_c
        signs of   d_c = hits_c / fires_c − e_c
        shares     Z = Σ_c d_c / √(Σ_c e_c (1 − e_c))

    over clusters in which a latent fires. 1 where nothing is expected (NaN) or it fires nowhere.

    Args:
        hits: residues on which it fires that are in the concept.
        fires: residues on which it fires.
        expected: Σ e_i over them, with e_i what is expected of residue i.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        e = np.where(fires > 0, expected / fires, 0.0)
        d = np.where(fires > 0, hits / fires - e, 0.0)
    known, n = np.isfinite(d).all(axis=0), (fires > 0).sum(axis=0)
    spread = np.sqrt((e * (1 - e)).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.where(spread > 0, d.sum(axis=0) / spread, -np.inf)
    p = np.ones(d.shape[1])
    flipped = sign_flip(d[:, known])
    p[known] = np.maximum(np.maximum(flipped, ndtr(-z[known])), 0.5 ** n[known])
    return p
