"""Split proteins by homology, so that nothing is scored on a relative of what chose it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool

from extract.errors import UserError
from probes.files import read_tsv
from probes.rows import ProteinRows


@dataclass(frozen=True)
class Split:
    """Which proteins choose latents and thresholds (select), and which score them (test)."""

    ids: Sequence[str]
    """Protein ids, in row order."""
    clusters: Sequence[str]
    """Homology cluster of each; a protein's own id in a random split."""
    is_test: Bool[np.ndarray, " proteins"]
    """Part of each protein."""
    random: bool
    """True when no cluster file was given: relatives may sit on both sides."""

    def table(self) -> pd.DataFrame:
        """Columns ``id``, ``cluster``, ``part`` (``select`` or ``test``)."""
        part = np.where(self.is_test, "test", "select")
        return pd.DataFrame({"id": self.ids, "cluster": self.clusters, "part": part})

    def test_rows(self, rows: ProteinRows) -> Bool[np.ndarray, " rows"]:
        """Whether each row belongs to a test protein."""
        return np.repeat(self.is_test, np.diff(rows.offsets))


def read_clusters(path: Path) -> dict[str, str]:
    """Cluster by protein id, from a TSV[.gz] with columns ``id`` and ``cluster``.

    Raises:
        UserError: wrong columns, an empty field, or an id in two clusters.
    """
    clusters: dict[str, str] = {}
    for number, (protein_id, cluster) in read_tsv(path, ("id", "cluster")):
        if not protein_id or not cluster:
            raise UserError(f"{path}: line {number} has an empty id or cluster; fill it in")
        if clusters.setdefault(protein_id, cluster) != cluster:
            raise UserError(
                f"{path}: line {number} puts {protein_id} in cluster {cluster}, an earlier line in "
                f"{clusters[protein_id]}; a protein has one cluster, remove one line"
            )
    return clusters


def split_proteins(
    ids: Sequence[str],
    clusters: Mapping[str, str] | None,
    *,
    seed: int = 0,
    test_fraction: float = 0.5,
) -> Split:
    """Send every cluster, whole, to ``select`` or ``test``.

    A cluster is in test when SHA-256(seed, cluster) / 2^64 < test_fraction: its part depends
    neither on the other clusters nor on their order.

    Args:
        ids: proteins.
        clusters: cluster of every protein; None splits at random, protein by protein.
        seed: another seed, another split.
        test_fraction: expected share of clusters in test.

    Raises:
        UserError: a protein has no cluster, or a part would be empty.
    """
    if clusters is not None:
        missing = [i for i in ids if i not in clusters]
        if missing:
            raise UserError(
                f"{len(missing)} of {len(ids)} proteins are in no homology cluster (the first is "
                f"{missing[0]}); every protein needs a line in --clusters, alone in its cluster "
                "if need be"
            )
    names = list(ids) if clusters is None else [clusters[i] for i in ids]
    is_test = np.array([_uniform(name, seed) < test_fraction for name in names], dtype=bool)
    if is_test.all() or not is_test.any():
        raise UserError(
            f"all {len(ids)} proteins ({len(set(names))} clusters) fall in one part with seed "
            f"{seed} and test fraction {test_fraction}; give more proteins or another --seed"
        )
    return Split(list(ids), names, is_test, clusters is None)


def _uniform(name: str, seed: int) -> float:
    """A number in [0, 1) that depends on the name and the seed alone."""
    digest = hashlib.sha256(f"{seed}\t{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
