"""Concepts: yes-or-no questions about residues or proteins, kept as spans and not as columns.

All of Swiss-Prot is 570,000 proteins, 205 million residues and many thousands of concepts: as spans
of 16 bytes it fits in memory, as one column for each concept it does not.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from extract.alphabet import AMINO_ACIDS
from probes.data.rows import OTHER_RESIDUE, ProteinRows

Kind = Literal["amino acid", "amino-acid class", "dssp", "uniprot", "own", "protein"]
Level = Literal["residue", "protein"]

IDENTITY: frozenset[Kind] = frozenset({"amino acid", "amino-acid class"})
"""Kinds that the residue's letter alone decides."""


@dataclass(frozen=True)
class Concept:
    """A yes-or-no question about a residue, or about a protein."""

    name: str
    """Unique; such as ``A``, ``helix``, ``BINDING``, ``BINDING ATP``, ``Pfam PF00069``."""
    kind: Kind
    """Where the labels come from."""
    spans: Int[np.ndarray, "spans 2"]
    """Yes: half-open rows, int64, sorted by start and without repeats. A span is one occurrence (a
    domain, a site, one end of a bond) and crosses no protein; spans may overlap."""
    defined: Bool[np.ndarray, " proteins"]
    """Proteins where the answer is known; the rest are neither yes nor no. Spans lie in these."""
    level: Level = "residue"
    """``protein``: the question is about whole proteins, and a span is one."""

    def __post_init__(self) -> None:
        """A span that is empty or out of order would be ours to fix."""
        spans = self.spans
        assert spans.dtype == np.int64, f"{self.name}: spans are {spans.dtype}"
        assert (spans[:, 0] < spans[:, 1]).all(), f"{self.name}: an empty span"
        assert (np.diff(spans[:, 0]) >= 0).all(), f"{self.name}: spans out of order"

    def labels(self, n_rows: int) -> Bool[np.ndarray, " rows"]:
        """Yes, row by row; False wherever the concept is undefined. Made anew at each call."""
        edges = np.zeros(n_rows + 1, dtype=np.int32)
        np.add.at(edges, self.spans[:, 0], 1)
        np.add.at(edges, self.spans[:, 1], -1)
        return np.cumsum(edges[:-1], dtype=np.int32) > 0

    def defined_rows(self, rows: ProteinRows) -> Bool[np.ndarray, " rows"]:
        """Where the answer is known, row by row."""
        return np.repeat(self.defined, np.diff(rows.offsets))

    @property
    def n_positive(self) -> int:
        """Rows in the union of the spans."""
        return int(_newly_covered(self.spans).sum())

    def positives(self, rows: ProteinRows) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """The proteins that have a span, and how many rows the union of each one's spans has."""
        proteins, inverse = np.unique(rows.protein_of(self.spans[:, 0]), return_inverse=True)
        covered = _newly_covered(self.spans)
        counts = np.bincount(inverse, weights=covered, minlength=len(proteins))
        return proteins, counts.astype(np.int64)


def _newly_covered(spans: np.ndarray) -> np.ndarray:
    """Rows of each span that no earlier one holds (spans sorted by start)."""
    if not len(spans):
        return np.zeros(0, dtype=np.int64)
    reached = np.maximum.accumulate(spans[:, 1])
    before = np.append(spans[0, 0], reached[:-1])
    return np.maximum(spans[:, 1] - np.maximum(spans[:, 0], before), 0)


class ResidueConcept(Concept):
    """A concept that the residue's letter decides; its spans are made when asked for.

    Kept, the spans of the 20 amino acids alone would take 3 GB for all of Swiss-Prot.
    """

    def __init__(self, name: str, kind: Kind, letters: str, rows: ProteinRows) -> None:
        """The residues in ``letters``, in every protein of ``rows``."""
        is_member = np.zeros(OTHER_RESIDUE + 1, dtype=bool)
        is_member[[AMINO_ACIDS.index(letter) for letter in letters]] = True
        everywhere = np.ones(rows.n_proteins, dtype=bool)
        values = {"name": name, "kind": kind, "defined": everywhere, "level": "residue",
                  "_rows": rows, "_is_member": is_member}  # fmt: skip
        for key, value in values.items():
            object.__setattr__(self, key, value)

    _rows: ProteinRows
    _is_member: np.ndarray

    @property
    def spans(self) -> Int[np.ndarray, "spans 2"]:  # type: ignore[override]
        """Runs of such residues, cut at the ends of proteins."""
        yes = np.concatenate([[False], self.labels(self._rows.n_rows), [False]])
        starts = yes[1:-1] & ~yes[:-2]
        ends = yes[1:-1] & ~yes[2:]
        first = self._rows.offsets[:-1]
        starts[first] = yes[1:-1][first]
        ends[self._rows.offsets[1:] - 1] = yes[1:-1][self._rows.offsets[1:] - 1]
        return np.stack([np.flatnonzero(starts), np.flatnonzero(ends) + 1], axis=1)

    def labels(self, n_rows: int) -> Bool[np.ndarray, " rows"]:
        """Yes, row by row."""
        assert n_rows == self._rows.n_rows
        return self._is_member[self._rows.residue_class]

    @property
    def n_positive(self) -> int:
        """Residues with one of the letters."""
        return int(self.labels(self._rows.n_rows).sum())

    def positives(self, rows: ProteinRows) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """The proteins that have such residues, and how many each has."""
        counts = np.add.reduceat(self.labels(rows.n_rows), rows.offsets[:-1], dtype=np.int64)
        proteins = np.flatnonzero(counts)
        return proteins, counts[proteins]


class PartlyUnknownConcept(Concept):
    """A concept that is unknown in a few proteins of a mask that it shares with many others."""

    def __init__(
        self, name: str, kind: Kind, spans: np.ndarray, mask: np.ndarray, unknown: np.ndarray,
        level: Level,
    ) -> None:  # fmt: skip
        """Defined where ``mask`` is, but not in the proteins ``unknown``."""
        values = {"name": name, "kind": kind, "spans": spans, "level": level,
                  "_mask": mask, "_unknown": unknown}  # fmt: skip
        for key, value in values.items():
            object.__setattr__(self, key, value)
        self.__post_init__()

    _mask: np.ndarray
    _unknown: np.ndarray

    @property
    def defined(self) -> Bool[np.ndarray, " proteins"]:  # type: ignore[override]
        """Where the answer is known, made anew."""
        defined = self._mask.copy()
        defined[self._unknown] = False
        return defined


class ConceptTable:
    """Collects the spans of named concepts while files are read; 16 bytes for each.

    A concept is defined on the proteins of its *groups*: "everything in this file", say, or "every
    protein with a structure". Groups are shared, so that ten thousand concepts cost little.
    """

    def __init__(self, rows: ProteinRows, kind: Kind, level: Level = "residue") -> None:
        self.rows = rows
        self.kind: Kind = kind
        self.level: Level = level
        self._groups: dict[str, np.ndarray] = {}
        self._groups_of: dict[str, set[str]] = defaultdict(set)
        self._spans: dict[str, array] = defaultdict(lambda: array("q"))
        self._unknown: dict[str, set[int]] = defaultdict(set)
        self._all_unknown: dict[str, frozenset[int]] = {}

    def define(self, group: str, protein: int) -> None:
        """Concepts of ``group`` are known in ``protein``."""
        if group not in self._groups:
            self._groups[group] = np.zeros(self.rows.n_proteins, dtype=bool)
        self._groups[group][protein] = True

    def name(self, name: str, groups: Iterable[str]) -> None:
        """There is a concept ``name``, defined on the proteins of any of ``groups``."""
        self._groups_of[name].update(groups)

    def add(self, name: str, groups: Iterable[str], start: int, end: int) -> None:
        """Rows ``start`` up to ``end`` are ``name``."""
        self.name(name, groups)
        self._spans[name].extend((start, end))

    def leave_unknown(self, name: str, groups: Iterable[str], protein: int) -> None:
        """``name`` is not known in ``protein``, although its group is."""
        self.name(name, groups)
        self._unknown[name].add(protein)

    def leave_all_unknown(self, name: str, proteins: frozenset[int]) -> None:
        """The same of many proteins, in a set that concepts may share."""
        self._all_unknown[name] = proteins

    def is_in(self, name: str, group: str) -> bool:
        """Whether ``name`` is defined on the proteins of ``group``."""
        return name in self._groups_of and group in self._groups_of[name]

    def names(self) -> list[str]:
        """Concepts so far, by name."""
        return sorted(self._groups_of)

    def concepts(self) -> list[Concept]:
        """One concept for each name, by name; masks are shared."""
        masks: dict[frozenset[str], np.ndarray] = {}
        indices: dict[frozenset[int], np.ndarray] = {}
        found = []
        for name in self.names():
            groups = frozenset(self._groups_of[name])
            if groups not in masks:
                known = [self._groups[g] for g in groups if g in self._groups]
                nowhere = np.zeros(self.rows.n_proteins, dtype=bool)
                masks[groups] = np.logical_or.reduce([nowhere, *known])
            spans = _sorted_spans(self._spans.pop(name, array("q")))
            protein = self.rows.protein_of(spans[:, 0])
            assert masks[groups][protein].all(), f"{name}: undefined span"
            unknown = self._all_unknown.get(name, frozenset())
            unknown = unknown.union(self._unknown[name]) if name in self._unknown else unknown
            if not unknown:
                found.append(Concept(name, self.kind, spans, masks[groups], self.level))
                continue
            if unknown not in indices:
                indices[unknown] = np.array(sorted(unknown), dtype=np.int32)
            spans = spans[~np.isin(protein, indices[unknown])]
            of = (masks[groups], indices[unknown])
            found.append(PartlyUnknownConcept(name, self.kind, spans, *of, self.level))
        return found


def _sorted_spans(flat: array) -> np.ndarray:
    """Spans by start and end, each once."""
    spans = np.array(flat, dtype=np.int64).reshape(-1, 2)
    spans = spans[np.lexsort((spans[:, 1], spans[:, 0]))]
    is_new = np.append(True, (np.diff(spans, axis=0) != 0).any(axis=1))[: len(spans)]
    return spans[is_new]
