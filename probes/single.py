"""One latent, or one raw dimension, per concept: chosen on select, scored once on test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from probes.logistic import fit_logistic_1d, fit_logistic_dense
from probes.neurons import Neuron
from probes.scores import (
    auroc,
    dense_column,
    f1_all_positive,
    rank_scores,
    score_at,
    scores,
)
from saejax.latents import LatentColumns


def probe_latents(
    select: LatentColumns,
    y: Bool[np.ndarray, "select_rows concepts"],
    test: LatentColumns,
    y_test: Bool[np.ndarray, "test_rows concepts"],
) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Fit, cut and score every latent for every concept.

    The best latent is the one of highest F1 on ``select`` among those with a positive coefficient:
    it tells of the concept by firing. (The absence of any rare latent is nearly everywhere, so its
    F1 is that of calling everything positive.) Nothing of ``test`` enters a choice.

    Args:
        select: sorted columns of the select part.
        y: concepts on its rows, both classes in each.
        test: sorted columns of the test part.
        y_test: concepts on its rows, both classes in each.

    Returns:
        For each concept the numbers of the best latent, and the table of all latents.
    """
    fit = fit_logistic_1d(select, y)
    sign = np.sign(fit.coef).astype(int)
    cut = rank_scores(select, y, sign)
    scored = score_at(test, y_test, sign, cut.threshold)
    fires = np.diff(select.indptr), np.diff(test.indptr)
    found = []
    for c in range(y.shape[1]):
        table = pd.DataFrame({
            "latent": np.arange(len(sign)),
            "coef": fit.coef[:, c],
            "intercept": fit.intercept[:, c],
            "threshold": cut.threshold[:, c],
            "f1_select": cut.f1[:, c],
            "f1_test": scored.f1[:, c],
            "precision_test": scored.precision[:, c],
            "recall_test": scored.recall[:, c],
            "n_predicted_test": scored.n_predicted[:, c],
            "n_fires_select": fires[0],
            "n_fires_test": fires[1],
        })  # fmt: skip
        best = int(np.where(sign[:, c] > 0, cut.f1[:, c], -1.0).argmax())
        found.append((_best_row(table, best, y[:, c], test, y_test[:, c]), table))
    return found


def _best_row(
    table: pd.DataFrame, best: int, y: np.ndarray, test: LatentColumns, y_test: np.ndarray
) -> dict[str, Any]:
    latent = table.iloc[best]
    return {
        "n_select": len(y),
        "n_test": len(y_test),
        "n_positive_select": int(y.sum()),
        "n_positive_test": int(y_test.sum()),
        "base_rate_select": float(y.mean()),
        "base_rate_test": float(y_test.mean()),
        "f1_all_positive": f1_all_positive(y_test),
        "latent": best,
        "latent_coef": float(latent["coef"]),
        "latent_intercept": float(latent["intercept"]),
        "latent_threshold": float(latent["threshold"]),
        "latent_f1_select": float(latent["f1_select"]),
        "latent_precision": float(latent["precision_test"]),
        "latent_recall": float(latent["recall_test"]),
        "latent_f1": float(latent["f1_test"]),
        "latent_auroc": auroc(y_test, dense_column(test, best)),
        "latent_n_predicted": int(latent["n_predicted_test"]),
    }


def probe_neuron(
    neuron: Neuron,
    x_select: Float[np.ndarray, "select_rows d_model"],
    y: Bool[np.ndarray, " select_rows"],
    x_test: Float[np.ndarray, "test_rows d_model"],
    y_test: Bool[np.ndarray, " test_rows"],
) -> dict[str, Any]:
    """Score a neuron chosen and cut on ``x_select`` once on ``x_test``, with its logistic fit."""
    d = slice(neuron.dimension, neuron.dimension + 1)
    fit = fit_logistic_dense(x_select[:, d], y)
    score = neuron.sign * x_test[:, neuron.dimension]
    called = score >= neuron.sign * neuron.threshold if neuron.sign else np.zeros(len(score), bool)
    scored = scores((called & y_test).sum(), called.sum(), int(y_test.sum()))
    return {
        "neuron": neuron.dimension,
        "neuron_sign": neuron.sign,
        "neuron_coef": float(fit.coef[0]),
        "neuron_intercept": float(fit.intercept[0]),
        "neuron_threshold": neuron.threshold,
        "neuron_f1_select": neuron.f1,
        "neuron_precision": float(scored.precision),
        "neuron_recall": float(scored.recall),
        "neuron_f1": float(scored.f1),
        "neuron_auroc": auroc(y_test, score),
        "neuron_n_predicted": int(scored.n_predicted),
    }
