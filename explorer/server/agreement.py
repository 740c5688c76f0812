"""How far raters agree."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def krippendorff_alpha(ratings: Float[np.ndarray, "raters units"]) -> float | None:
    """Krippendorff's α for ordinal ratings, NaN where a rater left out a unit.

    α = 1 − D_o / D_e over pairs of ratings within units, with the squared ordinal distance
    (n_c / 2 + n_{c+1} + … + n_k / 2)² of Krippendorff 2011, "Computing Krippendorff's
    Alpha-Reliability", §D and metric 2. None where no unit has two ratings, or where all ratings
    are the same, for which it is not defined.
    """
    levels, index = np.unique(ratings[~np.isnan(ratings)], return_inverse=True)
    if len(levels) < 2:
        return None
    coded = np.full(ratings.shape, -1)
    coded[~np.isnan(ratings)] = index
    counts = (coded[:, :, None] == np.arange(len(levels))).sum(axis=0).astype(float)
    of_unit = counts.sum(axis=1)
    counts, of_unit = counts[of_unit > 1], of_unit[of_unit > 1]
    if not len(counts):
        return None
    # coincidences: ordered pairs within a unit, each unit weighing as many ratings as it has
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(len(levels))
    observed = (pairs / (of_unit - 1)[:, None, None]).sum(axis=0)
    n_level = observed.sum(axis=1)
    n = n_level.sum()
    place = np.cumsum(n_level) - n_level / 2
    distance = (place[:, None] - place[None, :]) ** 2
    expected = (n_level[:, None] * n_level[None, :] * distance).sum() / (n - 1)
    return float(1 - (observed * distance).sum() / expected) if expected > 0 else None
