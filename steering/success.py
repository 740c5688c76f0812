"""Does a latent steer? Its effect against its controls', protein by protein.

Both the sweep's verdict and the benchmark go by the **success rate** at equal KL: the share of
proteins on which the target moves further than the 95th percentile of that protein's controls.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from extract.alphabet import AMINO_ACIDS
from steering.controls import Interval, bootstrap_mean
from steering.sweep import DoseResponse

LEVEL = 0.95
"""A protein counts as steered where the latent's effect exceeds this quantile of its controls'."""
MOST = 0.5
"""Success rate from which a latent steers."""
NOTHING = Interval(float("nan"), float("nan"), float("nan"))


class Success(NamedTuple):
    """One strength of a latent against its controls. Intervals: 95 %, bootstrap over proteins."""

    strength: float
    """As the edit has it, in latent units (a factor for ``scale``)."""
    effect: Interval
    """Mean read-out under the edit."""
    random_latents: Interval
    """Mean read-out of the random latents, at the same norm."""
    random_directions: Interval
    """Mean read-out of the random directions, at the same norm."""
    excess: Interval
    """Effect less the mean of all controls at the same norm."""
    kl: float
    """Mean KL(base ‖ steered) of the edit (nats)."""
    control_kl: float
    """The same of the controls, at the same norm."""
    steered_at_equal_norm: Interval
    """Share of proteins whose effect exceeds the 95th percentile of their controls'."""
    steered_at_equal_kl: Interval
    """The same, every control taken at the norm at which its KL is the edit's."""
    controls_reached: float
    """Share of controls whose KL gets so high; the others stand at their highest."""
    relative_norm: float
    """Mean ‖Δx‖ / ‖x‖."""
    n_proteins: int
    """Proteins read out."""


def amino_acid_readout(
    response: DoseResponse, amino_acid: str
) -> Float[np.ndarray, "arms norms proteins"]:
    """Δlog p of one amino acid (nats)."""
    return response.delta_log_p[..., AMINO_ACIDS.index(amino_acid)]


def success(
    response: DoseResponse,
    readout: Float[np.ndarray, "arms norms proteins"],
    *,
    proteins: np.ndarray | slice = slice(None),
    seed: int = 0,
) -> list[Success]:
    """How each strength did.

    Args:
        response: of :func:`steering.sweep.dose_response`.
        readout: what is followed, such as :func:`amino_acid_readout`; higher is more success.
        proteins: which of them count.
        seed: of the bootstrap.
    """
    equal_kl, reached = response.at_equal_kl(readout)
    n_latents = len(response.control_latents)
    found = []
    for i, edit in enumerate(response.edits):
        effect = readout[0, i, proteins]
        has = ~np.isnan(effect)
        controls, matched = readout[1:, i, proteins], equal_kl[:, i, proteins]
        found.append(
            Success(
                edit.strength,
                bootstrap_mean(effect, seed=seed),
                _mean(controls[:n_latents], seed),
                _mean(controls[n_latents:], seed),
                bootstrap_mean(effect - controls.mean(axis=0), seed=seed)
                if len(controls)
                else NOTHING,
                float(np.nanmean(response.kl[0, i, proteins])),
                float(np.nanmean(response.kl[1:, i, proteins])) if len(controls) else float("nan"),
                share_beyond(effect, controls, seed),
                share_beyond(effect, matched, seed),
                float(reached[:, i, proteins][:, has].mean()) if len(controls) else float("nan"),
                float(np.nanmean(response.relative_norm[i, proteins])),
                int(has.sum()),
            )
        )
    return found


def strongest_amino_acid(response: DoseResponse, *, proteins: np.ndarray, strength: int) -> str:
    """The amino acid that a latent raises most, on some proteins, at one strength of the grid.

    Choose it on other proteins than it is reported on.
    """
    return AMINO_ACIDS[
        int(np.nanmean(response.delta_log_p[0, strength, proteins], axis=0).argmax())
    ]


def _mean(controls: Float[np.ndarray, "controls proteins"], seed: int) -> Interval:
    return bootstrap_mean(controls.mean(axis=0), seed=seed) if len(controls) else NOTHING


def chance(n_controls: int) -> float:
    """The success rate, at most, of a latent that does no more than its controls; NaN without any.

    Such a latent's effect takes each place among n controls' with probability 1/(n + 1), and their
    quantile is at least the k-th smallest, k = 1 + ⌊LEVEL · (n − 1)⌋. So it is (n + 1 − k)/(n + 1):
    9.5 % of proteins for 20 controls, 5.9 % for 100.
    """
    k = 1 + math.floor(LEVEL * (n_controls - 1))
    return (n_controls + 1 - k) / (n_controls + 1) if n_controls else float("nan")


def beyond_chance(rate: Interval, n_controls: int) -> bool:
    """Whether a success rate is surely (its interval's lower end) above chance."""
    return rate.low > chance(n_controls)


def steers(rate: Interval, n_controls: int) -> bool:
    """Whether a latent steers: a success rate of a half or more, surely above chance.

    Args:
        rate: at equal KL, over proteins.
        n_controls: of each protein.
    """
    return rate.mean >= MOST and beyond_chance(rate, n_controls)


def share_beyond(
    effect: Float[np.ndarray, " proteins"],
    controls: Float[np.ndarray, "controls proteins"],
    seed: int = 0,
) -> Interval:
    """Share of proteins above the :data:`LEVEL` quantile of their controls.

    An effect of exactly 0 never is; NaN (a protein without a value) is left out. All NaN without
    controls. 95 %, bootstrap over proteins.
    """
    if not len(controls):
        return NOTHING
    above = (effect > np.quantile(controls, LEVEL, axis=0)) & (effect != 0)
    return bootstrap_mean(np.where(np.isnan(effect), np.nan, above), seed=seed)
