"""Split proteins by homology, so that nothing is scored on a relative of what chose it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int8

from extract.errors import UserError
from extract.files import open_text
from probes.data.concepts import Concept
from probes.data.rows import ProteinRows
from probes.sources.files import read_table

PartName = Literal["train", "validation", "test"]
PARTS: tuple[PartName, ...] = ("train", "validation", "test")

CLUSTER_COLUMNS = (
    ("id", "cluster"),
    ("From", "Cluster ID"),
    ("From", "To"),
    ("Entry", "Cluster ID"),
    ("Entry", "UniRef50"),
)
"""Header names of (protein, cluster): ours, then UniProt's ID mapping to UniRef50."""


@dataclass(frozen=True)
class Split:
    """Which proteins fit (train), choose latents and thresholds (validation), and score (test)."""

    ids: Sequence[str]
    """Protein ids, in row order."""
    clusters: Sequence[str]
    """Homology cluster of each; a protein's own id in a random split."""
    part: Int8[np.ndarray, " proteins"]
    """Position in ``PARTS``."""
    random: bool
    """True when there are no clusters: relatives may sit on both sides."""
    method: str = "homology cluster"
    """What was split by, in words."""

    @property
    def is_test(self) -> Bool[np.ndarray, " proteins"]:
        """Whether each protein is in the test part; the others choose."""
        return self.part == PARTS.index("test")

    def table(self) -> pd.DataFrame:
        """Columns ``id``, ``cluster``, ``part`` (``train``, ``validation`` or ``test``)."""
        part = np.array(PARTS)[self.part]
        return pd.DataFrame({"id": self.ids, "cluster": self.clusters, "part": part})

    def rows_in(self, rows: ProteinRows, *parts: PartName) -> Bool[np.ndarray, " rows"]:
        """Whether each row belongs to a protein of one of ``parts``."""
        inside = np.isin(self.part, [PARTS.index(p) for p in parts])
        return np.repeat(inside, np.diff(rows.offsets))

    def test_rows(self, rows: ProteinRows) -> Bool[np.ndarray, " rows"]:
        """Whether each row belongs to a test protein."""
        return self.rows_in(rows, "test")

    def counts(self, rows: ProteinRows, concept: Concept) -> dict[str, int]:
        """``n_positive_<part>`` and ``n_negative_<part>``, in residues (or in proteins)."""
        proteins, n_rows = concept.positives(rows)
        of_proteins = concept.level == "protein"
        weights = np.ones(len(proteins)) if of_proteins else n_rows
        positive = np.bincount(self.part[proteins], weights=weights, minlength=len(PARTS))
        known = self._n_known(rows, concept, of_proteins)
        found = {}
        for i, name in enumerate(PARTS):
            found[f"n_positive_{name}"] = int(positive[i])
            found[f"n_negative_{name}"] = int(known[i] - positive[i])
        return found

    def _n_known(self, rows: ProteinRows, concept: Concept, of_proteins: bool) -> np.ndarray:
        """Residues (or proteins) of each part where the concept is defined."""
        mask = concept.defined
        if mask is concept.defined and (id(mask), of_proteins) in self._known:
            return self._known[id(mask), of_proteins][0]
        size = np.ones(rows.n_proteins) if of_proteins else np.diff(rows.offsets)
        known = np.bincount(self.part[mask], weights=size[mask], minlength=len(PARTS))
        if mask is concept.defined:  # kept, and shared by many concepts
            self._known[id(mask), of_proteins] = known, mask
        return known

    @cached_property
    def _known(self) -> dict[tuple[int, bool], tuple[np.ndarray, np.ndarray]]:
        """Results of :meth:`_n_known`, with the mask, so that its id is not given to another."""
        return {}

    def single_class(
        self, rows: ProteinRows, concepts: Sequence[Concept]
    ) -> dict[PartName, dict[str, str]]:
        """By part, the concepts that have no positives, or no negatives, there: nothing to score.

        Returns:
            {part: {concept: "no positives" or "no negatives"}}, for parts that have proteins.
        """
        found: dict[PartName, dict[str, str]] = {
            name: {} for i, name in enumerate(PARTS) if (self.part == i).any()
        }
        for concept in concepts:
            counts = self.counts(rows, concept)
            for name, lacking in found.items():
                if not counts[f"n_positive_{name}"]:
                    lacking[concept.name] = "no positives"
                elif not counts[f"n_negative_{name}"]:
                    lacking[concept.name] = "no negatives"
        return found


def read_clusters(path: Path) -> dict[str, str]:
    """Cluster by protein id.

    Args:
        path: TSV[.gz] with columns ``id`` and ``cluster``; UniProt's ID mapping to UniRef50
            (``From`` and ``To`` or ``Cluster ID``); or the ``_cluster.tsv`` of MMseqs2, which has
            no header and names the representative first.

    Raises:
        UserError: wrong columns, an empty field, or an id in two clusters.
    """
    clusters: dict[str, str] = {}
    for number, protein_id, cluster in _cluster_lines(path):
        if not protein_id or not cluster:
            raise UserError(f"{path}: line {number} has an empty id or cluster; fill it in")
        if clusters.setdefault(protein_id, cluster) != cluster:
            raise UserError(
                f"{path}: line {number} puts {protein_id} in cluster {cluster}, an earlier line in "
                f"{clusters[protein_id]}; a protein has one cluster, remove one line"
            )
    return clusters


def _cluster_lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line number, id, cluster)."""
    with open_text(path) as text:
        first = text.readline().rstrip("\r\n").split("\t")
    columns = next((pair for pair in CLUSTER_COLUMNS if set(pair) <= set(first)), None)
    words = {word.lower() for pair in CLUSTER_COLUMNS for word in pair}
    if columns is None and (len(first) != 2 or words & {word.lower() for word in first}):
        columns = CLUSTER_COLUMNS[0]  # read_table will say what is missing
    if columns is not None:
        for number, cells in read_table(path, columns):
            yield number, cells[columns[0]], cells[columns[1]]
        return
    representatives, members = set(), set()
    with open_text(path) as text:
        for number, line in enumerate(text, start=1):
            fields = line.rstrip("\r\n").split("\t")
            if len(fields) != 2:
                raise UserError(
                    f"{path}: line {number} has {len(fields)} fields; without a header every line "
                    "must be a representative, a tab and a member, as MMseqs2 writes them"
                )
            representatives.add(fields[0])
            members.add(fields[1])
            yield number, fields[1], fields[0]
    if lonely := representatives - members:
        raise UserError(
            f"{path}: {min(lonely)} stands first on a line but is no member of its own cluster; "
            "MMseqs2 writes representative, tab, member; for other tables add a header line "
            "id, cluster"
        )


def split_proteins(
    ids: Sequence[str],
    clusters: Mapping[str, str] | None,
    *,
    seed: int = 0,
    test_fraction: float = 0.3,
    validation_fraction: float = 0.2,
    method: str = "homology cluster",
) -> Split:
    """Send every cluster, whole, to train, validation or test.

    With u = SHA-256(seed, cluster) / 2^64, a cluster is in test when u < test_fraction, in
    validation when u < test_fraction + validation_fraction, else in train: its part depends
    neither on the other clusters nor on their order.

    Args:
        ids: proteins.
        clusters: cluster of every protein; None splits at random, protein by protein.
        seed: another seed, another split.
        test_fraction: expected share of clusters in test.
        validation_fraction: expected share of clusters in validation; may be 0.
        method: what the clusters are, in words.

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
    fractions = {"train": 1 - test_fraction - validation_fraction,
                 "validation": validation_fraction, "test": test_fraction}  # fmt: skip
    u = np.array([_uniform(name, seed) for name in names])
    edges = [test_fraction, test_fraction + validation_fraction]
    part = (2 - np.searchsorted(edges, u, side="right")).astype(np.int8)
    empty = [name for i, name in enumerate(PARTS) if fractions[name] > 0 and not (part == i).any()]
    if empty:
        raise UserError(
            f"of {len(ids)} proteins ({len(set(names))} clusters) none falls in the part(s) "
            f"{', '.join(empty)} with seed {seed}; give more proteins, larger fractions or another "
            "--seed"
        )
    random = clusters is None
    return Split(list(ids), names, part, random, "protein, at random" if random else method)


def _uniform(name: str, seed: int) -> float:
    """A number in [0, 1) that depends on the name and the seed alone."""
    digest = hashlib.sha256(f"{seed}\t{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
