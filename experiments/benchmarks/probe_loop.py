"""One pair at a time by scikit-learn, as a loop over pairs has it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from saejax.latents import LatentColumns


def timed(call: Callable[[], Any]) -> tuple[Any, np.ndarray]:
    """(result, [seconds, seconds of all cores])."""
    start = np.array([time.perf_counter(), time.process_time()])
    found = call()
    return found, np.array([time.perf_counter(), time.process_time()]) - start


def dense(columns: LatentColumns, latent: int) -> np.ndarray:
    """One latent on every row, ``[rows, 1]``."""
    x = np.zeros((columns.n_rows, 1))
    rows, values = columns.column(latent)
    x[rows, 0] = values
    return x


def fit_by_sklearn(x: np.ndarray, y: np.ndarray, **settings: Any) -> np.ndarray:
    """(coefficient, intercept)."""
    model = LogisticRegression(**settings).fit(x, y)
    return np.array([np.asarray(model.coef_)[0, 0], np.asarray(model.intercept_)[0]])


def scores_by_sklearn(score: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(AUROC, average precision, best F1 of the cuts that do not call everything positive)."""
    precision, recall, _ = precision_recall_curve(y, score)
    f1 = 2 * precision[1:] * recall[1:] / np.maximum(precision[1:] + recall[1:], 1e-300)
    return np.array([roc_auc_score(y, score), average_precision_score(y, score), f1.max()])
