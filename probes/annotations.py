"""What is known of every residue and protein: concepts, and where each is defined.

Where nothing is known of a protein a concept is *undefined*, not negative. UniProtKB is read in
``probes/sources/uniprot.py``, a person's own labels in ``probes/sources/own_labels.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from extract.alphabet import AMINO_ACIDS
from extract.errors import UserError
from probes.data.amino_acid_classes import PUBLISHED
from probes.data.concepts import Concept, ConceptTable, Kind, ResidueConcept
from probes.data.rows import ProteinRows
from probes.sources.files import read_tsv
from probes.sources.formats import LABELS, UNIPROT, format_of
from probes.sources.gene_ontology import GeneOntology
from probes.sources.own_labels import LabelFormat, own_concepts
from probes.sources.source_report import SourceReport
from probes.sources.uniprot import UniprotFormat, uniprot_concepts

__all__ = [
    "Annotations",
    "Concept",
    "Kind",
    "SourceReport",
    "amino_acid_class_concepts",
    "amino_acid_concepts",
    "dssp_concepts",
]

HELIX_STATES = "HGI"
"""DSSP: alpha, 3-10 and pi helix."""
STRAND_STATES = "EB"
"""DSSP: extended strand and isolated bridge."""
DSSP_STATES = frozenset("HGIEBTSPC-")
"""Legal letters; ``C`` and ``-`` stand for the program's blank."""


@dataclass(frozen=True)
class Annotations:
    """Every concept over the rows of some activation stores."""

    rows: ProteinRows
    """The rows."""
    concepts: Sequence[Concept]
    """Amino acids and their classes first, then DSSP, UniProtKB and own labels; names unique."""
    reports: Sequence[SourceReport]
    """One for each file read."""

    @classmethod
    def load(
        cls,
        rows: ProteinRows,
        *,
        sources: Iterable[Path] = (),
        dssp: Path | None = None,
        swissprot: Path | None = None,
        uniprot: Iterable[Path] = (),
        labels: Iterable[Path] = (),
        go_obo: Path | None = None,
    ) -> Annotations:
        """Amino-acid identity and class, and what the given files say.

        Args:
            rows: proteins to annotate.
            sources: any of the files below; told apart by their content.
            dssp: TSV[.gz] with columns ``id``, ``sequence``, ``dssp``.
            swissprot: UniProt flat file, ``.dat[.gz]``.
            uniprot: UniProtKB flat files, JSON or TSV.
            labels: own labels, GFF3, BED or TSV.
            go_obo: the Gene Ontology, to add the ancestors of UniProtKB's GO terms.

        Raises:
            UserError: a file is missing, damaged, inconsistent, of no known format, or matches no
                protein; or two concepts have one name.
        """
        of_dssp = [] if dssp is None else [dssp]
        of_uniprot: list[tuple[Path, UniprotFormat]] = []
        own: list[tuple[Path, LabelFormat]] = []
        if swissprot is not None:
            of_uniprot.append((swissprot, "flat"))
        given = [(p, UNIPROT) for p in uniprot] + [(p, LABELS) for p in labels]
        for path, among in [*given, *((p, ("dssp", *UNIPROT, *LABELS)) for p in sources)]:
            found = format_of(path, among)
            if found == "dssp":
                of_dssp.append(path)
            elif found in UNIPROT:
                of_uniprot.append((path, found))
            elif found in LABELS:
                own.append((path, found))
        ontology = None if go_obo is None else GeneOntology.read(go_obo)
        read_uniprot = partial(uniprot_concepts, ontology=ontology)
        concepts = [*amino_acid_concepts(rows), *amino_acid_class_concepts(rows)]
        reports: list[SourceReport] = []
        for files, read in (
            (of_dssp, dssp_concepts), (of_uniprot, read_uniprot), (own, own_concepts)
        ):  # fmt: skip
            if files:
                more, reported = read(rows, files)  # type: ignore[arg-type]
                concepts += more
                reports += reported
        _require_unique(concepts)
        return cls(rows, concepts, reports)

    def summary(self) -> list[dict]:
        """The reports as plain values."""
        return [asdict(report) for report in self.reports]


def _require_unique(concepts: Sequence[Concept]) -> None:
    kinds: dict[str, Kind] = {}
    for concept in concepts:
        if concept.name in kinds:
            raise UserError(
                f"the label {concept.name!r} is also the name of a concept of the kind "
                f"{kinds[concept.name]!r}; rename it in your labels"
            )
        kinds[concept.name] = concept.kind


def amino_acid_concepts(rows: ProteinRows) -> list[Concept]:
    """One concept for each of the 20 amino acids, defined everywhere."""
    return [ResidueConcept(letter, "amino acid", letter, rows) for letter in AMINO_ACIDS]


def amino_acid_class_concepts(rows: ProteinRows) -> list[Concept]:
    """One concept for each class of amino acids, defined everywhere."""
    return [
        ResidueConcept(name, "amino-acid class", letters, rows)
        for name, letters in PUBLISHED.items()
    ]


def dssp_concepts(
    rows: ProteinRows, files: Sequence[Path]
) -> tuple[list[Concept], list[SourceReport]]:
    """``helix`` (H, G, I) and ``strand`` (E, B), defined on the proteins of the tables.

    Raises:
        UserError: wrong columns, a repeated id, a DSSP string of another length than its
            sequence, an unknown state, or no protein that matches.
    """
    table = ConceptTable(rows, "dssp")
    home: dict[str, str] = {}
    reports = []
    for path in files:
        report = SourceReport(path.name, "DSSP")
        for number, (protein_id, sequence, dssp) in read_tsv(path, ("id", "sequence", "dssp")):
            where = f"{path}: line {number} ({protein_id})"
            if protein_id in home:
                raise UserError(f"{where}: the id is also on {home[protein_id]}; remove one")
            home[protein_id] = f"line {number} of {path.name}"
            _check_states(sequence, dssp, where)
            protein = report.match(rows, protein_id, sequence.upper())
            if protein is not None:
                table.define("dssp", protein)
                at = rows.slice_of(protein)
                _add_runs(table, dssp[: at.stop - at.start], at.start)
        report.finish(path)
        reports.append(report)
    for name in ("helix", "strand"):
        table.name(name, ("dssp",))
    return table.concepts(), reports


def _check_states(sequence: str, dssp: str, where: str) -> None:
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


def _add_runs(table: ConceptTable, dssp: str, first_row: int) -> None:
    """Runs of helix and of strand as spans."""
    states = np.frombuffer(dssp.encode("ascii"), dtype=np.uint8)
    for name, letters in (("helix", HELIX_STATES), ("strand", STRAND_STATES)):
        yes = np.isin(states, [ord(s) for s in letters]).astype(np.int8)
        change = np.diff(yes, prepend=0, append=0)
        starts, ends = np.flatnonzero(change > 0), np.flatnonzero(change < 0)
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            table.add(name, ("dssp",), first_row + start, first_row + end)
