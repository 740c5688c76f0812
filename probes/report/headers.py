"""Columns of the tables that may have no row, so that a file always has its header."""

from __future__ import annotations

_PRECISE = ("precision", "expected_precision", "excess", "enrichment", "base_rate", "recall",
            "n_fires", "n_proteins", "expected_neighbours", "excess_neighbours",
            "enrichment_neighbours")  # fmt: skip

HEADERS: dict[str, tuple[str, ...]] = {
    "interplm": ("features", "feature", "concept", "fraction", "precision_validation",
                 "recall_validation", "f1_validation", "precision_test", "recall_test", "f1_test",
                 "f1_test_repicked"),
    "interprot": ("features", "concept", "best_on_test", "f1_best_on_test", "chosen_on_training",
                  "f1_chosen_on_training", "n_proteins_train", "n_proteins_test"),
    "families": ("features", "feature", "family", "threshold", "f1_train", "precision_test",
                 "recall_test", "f1_test", "n_members_train", "n_members_test", "specific"),
    "sparse_probes": ("concept", "kind", "k", "latents", "latents_auroc",
                      "latents_average_precision", "dense_auroc", "dense_average_precision",
                      "n_positive_select", "n_positive_test", "base_rate_test"),
    "precise_latents": ("concept", "kind", "firing", "rank", "latent", "threshold",
                        "threshold_fraction", *(f"select_{name}" for name in _PRECISE),
                        *(f"test_{name}" for name in _PRECISE)),
    "coverage": ("concept", "kind", "min_precision_select", "candidates", "taken", "recall_test",
                 "precision_test", "latents", "needed_for_0.1", "needed_for_0.25",
                 "needed_for_0.5", "needed_for_0.8"),
}  # fmt: skip
"""By table; ``tests/probes/test_evaluate.py`` compares them with tables that have rows."""
