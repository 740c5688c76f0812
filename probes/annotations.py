"""What is known of every residue: concepts with labels, and where each concept is defined.

Where nothing is known of a protein a concept is *undefined*, not negative. Swiss-Prot flat files
are read in ``probes/swissprot.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool

from extract.alphabet import AMINO_ACIDS
from extract.errors import UserError
from probes.files import read_tsv
from probes.rows import ProteinRows

log = logging.getLogger(__name__)

Kind = Literal["amino acid", "dssp", "uniprot"]

HELIX_STATES = "HGI"
"""DSSP: alpha, 3-10 and pi helix."""
STRAND_STATES = "EB"
"""DSSP: extended strand and isolated bridge."""
DSSP_STATES = frozenset("HGIEBTSPC-")
"""Legal letters; ``C`` and ``-`` stand for the program's blank."""


@dataclass(frozen=True)
class Concept:
    """A yes-or-no question about a residue."""

    name: str
    """Unique; ``A`` to ``Y``, ``helix``, ``strand``, or a UniProt feature type."""
    kind: Kind
    """Where the labels come from."""
    labels: Bool[np.ndarray, " rows"]
    """Yes; False wherever the concept is undefined."""
    defined: Bool[np.ndarray, " rows"]
    """Where the answer is known."""

    def __post_init__(self) -> None:
        """A label outside the defined rows would be ours to fix."""
        assert self.labels.shape == self.defined.shape
        assert not (self.labels & ~self.defined).any(), f"{self.name}: label where undefined"


@dataclass
class SourceReport:
    """What reading one annotation file found: counts for the summary."""

    file: str
    """File name, without its folder."""
    n_records: int = 0
    """Records in the file."""
    n_matched: int = 0
    """Records whose protein is in the activations with the same sequence."""
    n_not_in_store: int = 0
    """Records of proteins that are not in the activations."""
    n_cropped: int = 0
    """Matched records whose stored sequence is a proper prefix of theirs."""
    n_sequence_mismatch: int = 0
    """Records whose protein has another sequence in the activations; left undefined."""
    mismatched_ids: list[str] = field(default_factory=list)
    """The first ten of those."""
    n_features: int = 0
    """Features used (flat files)."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Features of types that are no property of a residue, by type."""
    uncertain: dict[str, int] = field(default_factory=dict)
    """Features at uncertain positions (``<1``, ``>9``, ``?``), by concept: excluded, and the
    concept is undefined in that protein."""
    n_isoform: int = 0
    """Features placed on another isoform's sequence: excluded."""
    n_beyond_crop: int = 0
    """Features wholly behind the end of a cropped sequence: excluded."""

    def match(self, rows: ProteinRows, protein_id: str, sequence: str) -> int | None:
        """Index of the record's protein when it may be used, counting why when it may not."""
        self.n_records += 1
        index = rows.index_of_id.get(protein_id)
        if index is None:
            self.n_not_in_store += 1
            return None
        stored = rows.proteins[index].sequence
        if not sequence.startswith(stored):
            self.n_sequence_mismatch += 1
            self.mismatched_ids += [protein_id] if len(self.mismatched_ids) < 10 else []
            return None
        self.n_matched += 1
        self.n_cropped += len(stored) < len(sequence)
        return index

    def finish(self, path: Path) -> None:
        """Refuse a file of which no record could be used; log what was left out.

        Raises:
            UserError: no protein matches.
        """
        if not self.n_matched:
            raise UserError(
                f"{path}: none of its {self.n_records} records fits a protein of the activations "
                f"({self.n_not_in_store} ids are not there, {self.n_sequence_mismatch} have "
                "another sequence); check that ids and sequence versions agree"
            )
        log.info("%s: %d of %d records used", path, self.n_matched, self.n_records)
        if self.n_sequence_mismatch:
            log.warning("%s: %d records have another sequence than the activations (%s): left out",
                        path, self.n_sequence_mismatch, ", ".join(self.mismatched_ids))  # fmt: skip
        if self.uncertain:
            log.warning("%s: %d features at uncertain positions excluded",
                        path, sum(self.uncertain.values()))  # fmt: skip


@dataclass(frozen=True)
class Annotations:
    """Every concept over the rows of some activation stores."""

    rows: ProteinRows
    """The rows."""
    concepts: Sequence[Concept]
    """Amino acids first, then DSSP, then Swiss-Prot."""
    reports: Sequence[SourceReport]
    """One for each file read."""

    @classmethod
    def load(
        cls, rows: ProteinRows, *, dssp: Path | None = None, swissprot: Path | None = None
    ) -> Annotations:
        """Amino-acid identity, and what the given files say.

        Args:
            rows: proteins to annotate.
            dssp: TSV[.gz] with columns ``id``, ``sequence``, ``dssp``.
            swissprot: UniProt flat file, ``.dat[.gz]``.

        Raises:
            UserError: a file is missing, damaged, inconsistent, or matches no protein.
        """
        from probes.swissprot import swissprot_concepts

        concepts, reports = amino_acid_concepts(rows), []
        for path, read in ((dssp, dssp_concepts), (swissprot, swissprot_concepts)):
            if path is not None:
                found, report = read(rows, path)
                concepts += found
                reports.append(report)
        return cls(rows, concepts, reports)

    def summary(self) -> list[dict]:
        """The reports as plain values."""
        return [asdict(report) for report in self.reports]


def amino_acid_concepts(rows: ProteinRows) -> list[Concept]:
    """One concept for each of the 20 amino acids, defined everywhere."""
    everywhere = np.ones(rows.n_rows, dtype=bool)
    return [
        Concept(letter, "amino acid", rows.residue_class == i, everywhere)
        for i, letter in enumerate(AMINO_ACIDS)
    ]


def dssp_concepts(rows: ProteinRows, path: Path) -> tuple[list[Concept], SourceReport]:
    """``helix`` (H, G, I) and ``strand`` (E, B), defined on the proteins of the table.

    Raises:
        UserError: wrong columns, a repeated id, a DSSP string of another length than its
            sequence, an unknown state, or no protein that matches.
    """
    report = SourceReport(path.name)
    state_of_row = np.zeros(rows.n_rows, dtype=np.uint8)
    line_of_id: dict[str, int] = {}
    for number, (protein_id, sequence, dssp) in read_tsv(path, ("id", "sequence", "dssp")):
        where = f"{path}: line {number} ({protein_id})"
        if protein_id in line_of_id:
            raise UserError(
                f"{where}: the id is also on line {line_of_id[protein_id]}; remove one of them"
            )
        line_of_id[protein_id] = number
        if len(dssp) != len(sequence):
            raise UserError(
                f"{where}: {len(dssp)} DSSP states for {len(sequence)} residues; there must be "
                "one state per residue, with C for a blank"
            )
        for state in set(dssp) - DSSP_STATES:
            raise UserError(
                f"{where}: unknown DSSP state {state!r} at position {dssp.index(state) + 1}; use "
                "H G I E B T S P, and C for a blank"
            )
        protein = report.match(rows, protein_id, sequence.upper())
        if protein is not None:
            at = rows.slice_of(protein)
            states = np.frombuffer(dssp.encode("ascii"), dtype=np.uint8)
            state_of_row[at] = states[: at.stop - at.start]
    report.finish(path)
    defined = state_of_row > 0
    names = {"helix": HELIX_STATES, "strand": STRAND_STATES}
    concepts = [
        Concept(name, "dssp", np.isin(state_of_row, [ord(s) for s in states]), defined)
        for name, states in names.items()
    ]
    return concepts, report
