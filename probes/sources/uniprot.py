"""Residue and protein concepts from UniProtKB, whichever way it was downloaded.

A flat file, JSON or TSV is read entry by entry (``probes/sources/swissprot.py``,
``probes/sources/uniprot_tables.py``), and the same entry gives the same concepts in all three.
Memory holds the spans of matching proteins alone.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from extract.errors import UserError
from probes.data.concepts import Concept, ConceptTable
from probes.data.rows import ProteinRows
from probes.sources.feature_names import (
    BONDS,
    FEATURE_TYPES,
    MARKED,
    NOT_RESIDUE_PROPERTIES,
    RENAMED,
    STRUCTURE,
    concept_names,
)
from probes.sources.gene_ontology import GeneOntology
from probes.sources.protein_labels import ProteinLabels
from probes.sources.source_report import SourceReport

UniprotFormat = Literal["flat", "json", "tsv"]

EVERYTHING = "every type"
"""Group of proteins whose whole feature table was read."""


class Feature(NamedTuple):
    """A line of a feature table, its positions converted."""

    kind: str
    """Type, as flat files name it."""
    start: int | None
    """First residue, 0-based; None when it is uncertain."""
    end: int | None
    """One past the last residue, 0-based; None when it is uncertain."""
    note: str = ""
    """Description."""
    ligand: str = ""
    """Ligand of a binding site."""
    on_isoform: bool = False
    """Whether the positions are those of another isoform's sequence."""


class Entry(NamedTuple):
    """What an entry of UniProtKB says of its protein."""

    accession: str
    """Primary accession."""
    sequence: str
    """Upper-case residues."""
    features: Sequence[Feature]
    """Its feature table."""
    labels: dict[str, set[str]]
    """Protein-level terms by source (``Pfam``, ``GO`` …), an empty set where it has none."""
    known: frozenset[str] | None = None
    """Feature types that the download has; None for all of them."""


class Unused(NamedTuple):
    """An entry of which no more was read than that it is there."""

    accession: str
    """Primary accession."""
    reason: Literal["not in store", "no sequence"] = "not in store"
    """Why it was not read: nobody asked for its accession, or it is inactive."""


Reader = Callable[[Path, Container[str]], Iterator[tuple[str, Entry | Unused]]]
"""(file, accessions that are wanted) → (where it stands in the file, entry)."""


def reader_of(file_format: UniprotFormat) -> Reader:
    """The function that reads a format."""
    from probes.sources.swissprot import read_flat_file
    from probes.sources.uniprot_tables import read_json_entries, read_tsv_entries

    return {"flat": read_flat_file, "json": read_json_entries, "tsv": read_tsv_entries}[file_format]


def uniprot_concepts(
    rows: ProteinRows,
    files: Sequence[tuple[Path, UniprotFormat]],
    ontology: GeneOntology | None = None,
) -> tuple[list[Concept], list[SourceReport]]:
    """Concepts of the proteins in UniProtKB files, and a report for each file.

    A protein of a file without a feature of some type is negative for it, except HELIX, STRAND and
    TURN (see ``STRUCTURE``) and types of which the download has no column. A feature at an
    uncertain position is excluded and its concepts are undefined in that protein. Protein-level
    concepts: see ``probes/sources/protein_labels.py``.

    Args:
        rows: proteins to annotate.
        files: with their formats.
        ontology: adds the ancestors of GO terms.

    Raises:
        UserError: a file is damaged, an accession is repeated, a position lies outside its
            sequence, or no protein matches.
    """
    features, labels = FeatureTable(rows), ProteinLabels(rows, ontology)
    home: dict[str, Path] = {}
    reports = []
    for path, file_format in files:
        report = SourceReport(path.name, f"UniProt {file_format}")
        for place, entry in reader_of(file_format)(path, rows.index_of_id):
            where = f"{path}: {place} ({entry.accession})"
            if entry.accession in home:
                other = home[entry.accession]
                also = "" if other == path else f", also in {other}"
                raise UserError(
                    f"{where}: the accession occurs twice{also}; remove one of the records"
                )
            home[entry.accession] = path
            if isinstance(entry, Unused):
                report.n_records += 1
                report.n_without_sequence += entry.reason == "no sequence"
                if entry.reason == "not in store":
                    report.find(rows, entry.accession)
                continue
            protein = report.match(rows, entry.accession, entry.sequence)
            if protein is not None:
                features.add(entry, protein, where, report)
                labels.add(protein, entry.labels)
                if ontology is not None:
                    report.count_unknown_go(ontology.unknown(entry.labels.get("GO", ())))
        report.finish(path)
        reports.append(report)
    return features.concepts() + labels.concepts(), reports


class FeatureTable:
    """Concepts of feature tables."""

    def __init__(self, rows: ProteinRows) -> None:
        self.rows = rows
        self.table = ConceptTable(rows, "uniprot")

    def add(self, entry: Entry, protein: int, where: str, report: SourceReport) -> None:
        """Take the features of one entry, counting what is left out.

        Raises:
            UserError: a position outside the entry's sequence.
        """
        known = (EVERYTHING,) if entry.known is None else entry.known
        for group in known:
            self.table.define(group, protein)
        for feature in entry.features:
            kind = feature.kind
            today = RENAMED.get(kind, kind)
            has_column = entry.known is None or today in entry.known
            if kind in NOT_RESIDUE_PROPERTIES or kind not in FEATURE_TYPES or not has_column:
                report.left_out[kind] = report.left_out.get(kind, 0) + 1
            elif feature.on_isoform:
                report.n_isoform += 1
            else:
                self._add(feature, entry, protein, where, report)

    def _add(
        self, feature: Feature, entry: Entry, protein: int, where: str, report: SourceReport
    ) -> None:
        kind = RENAMED.get(feature.kind, feature.kind)
        groups = (EVERYTHING, kind)
        if kind in STRUCTURE:
            groups = ("structure",)
            self.table.define("structure", protein)
        names = concept_names(feature.kind, feature.note, feature.ligand)
        if feature.start is None or feature.end is None:
            name = MARKED.get(kind, kind)
            report.uncertain[name] = report.uncertain.get(name, 0) + 1
            for name in names:
                self.table.leave_unknown(name, groups, protein)
            return
        at = self.rows.slice_of(protein)
        length = at.stop - at.start
        spans = _spans(feature, len(entry.sequence), where)
        inside = [(start, min(end, length)) for start, end in spans if start < length]
        report.n_beyond_crop += not inside
        report.n_features += bool(inside)
        for name in names:
            self.table.name(name, groups)
            for start, end in inside:
                self.table.add(name, groups, at.start + start, at.start + end)

    def concepts(self) -> list[Concept]:
        """One concept for each type, and for each type with a kind, by name."""
        return self.table.concepts()


def _spans(feature: Feature, length: int, where: str) -> list[tuple[int, int]]:
    """Half-open 0-based spans of a feature at certain positions."""
    start, end = feature.start, feature.end
    assert start is not None
    assert end is not None
    if not 0 <= start < end <= length:
        raise UserError(
            f"{where}: {feature.kind} at {start + 1}..{end} lies outside the sequence of {length} "
            "residues; positions run from 1 to its length, correct the record"
        )
    if feature.kind in BONDS:
        return sorted({(start, start + 1), (end - 1, end)})
    return [(start, end)]
