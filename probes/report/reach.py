"""What the homology clusters of the test part allow to be said, in words for terminal and page."""

from __future__ import annotations

import pandas as pd

from probes.data.frames import records, where
from probes.protocols.found import MAX_Q

FEW_CLUSTERS = 5.0
"""Effective clusters below which scores are said to rest on few: a single concept needs five to be
found at all."""
NAMED = 12
"""Concepts in a warning; the tables have all."""


def one_large_cluster(split: pd.DataFrame) -> list[str]:
    """A warning where one cluster holds more than half of the test proteins."""
    test = where(split, split["part"] == "test")
    largest = max(test["cluster"].value_counts().tolist())
    if 2 * largest <= len(test):
        return []
    return [
        f"WARNING: one homology cluster holds {largest} of {len(test)} test proteins: F1, "
        "precision and recall are mostly of that cluster. A concept is found, and a latent "
        "confirmed, only where other clusters agree."
    ]


def reach(probes: pd.DataFrame) -> list[str]:
    """Concepts that no feature could be found for, and those whose scores rest on few clusters.

    Args:
        probes: of :func:`probes.report.tables.by_concept`.
    """
    beyond = probes["q_least"] >= MAX_Q
    lines = []
    if names := _names(where(probes, beyond), "n_clusters_test", 0):
        lines.append(
            f"WARNING: {beyond.sum()} concepts have too few homology clusters on test for any "
            f"feature to be found, however good (clusters): {names}."
        )
    if "n_effective_test" not in probes:  # tables of an earlier version
        return lines
    few = ~beyond & (probes["n_effective_test"] < FEW_CLUSTERS)
    if names := _names(where(probes, few), "n_effective_test", 1):
        lines.append(
            f"WARNING: F1, precision and recall of {few.sum()} concepts rest on few homology "
            f"clusters, since one or some hold most of their residues (effective number): {names}."
        )
    return lines


def _names(rows: pd.DataFrame, column: str, digits: int) -> str:
    """The first of them, with a number each."""
    names = [f"{row['concept']} ({row[column]:.{digits}f})" for row in records(rows)]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
