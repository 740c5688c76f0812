"""Do the probes mean what they say? Predicted against observed share of positives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool
from scipy.special import expit

from probes.data.concepts import Concept
from probes.data.features import Features
from probes.data.part_columns import dense_column
from probes.fit.scores import restrict

CALIBRATION_BINS = 10


def calibration(
    features: Features,
    concept: Concept,
    row: dict[str, Any],
    labels: Bool[np.ndarray, " test_rows"],
    test: Bool[np.ndarray, " rows"],
) -> pd.DataFrame:
    """Does the chosen feature's probe mean what it says? Test rows in bins of its prediction.

    Returns:
        ``concept``, ``kind``, ``predicted`` (mean of σ(coef · z + intercept)), ``observed`` (share
        of positives) and ``n``, for each tenth of [0, 1] that has a row.
    """
    z = dense_column(restrict(features.columns(row["feature"], row["feature"] + 1), test), 0)
    p = expit(row["coef"] * z + row["intercept"])
    which = np.minimum((p * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    n = np.bincount(which, minlength=CALIBRATION_BINS)
    filled = n > 0
    return pd.DataFrame({
        "concept": concept.name, "kind": concept.kind,
        "predicted": np.bincount(which, p, minlength=CALIBRATION_BINS)[filled] / n[filled],
        "observed": np.bincount(which, labels, minlength=CALIBRATION_BINS)[filled] / n[filled],
        "n": n[filled],
    })  # fmt: skip
