"""Residue concepts from the feature table of a UniProtKB/Swiss-Prot flat file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from Bio import SwissProt
from Bio.SeqFeature import ExactPosition
from tqdm import tqdm

from extract.errors import UserError
from extract.files import open_text
from probes.annotations import Concept, SourceReport
from probes.rows import ProteinRows

RENAMED = {
    "METAL": "BINDING",
    "NP_BIND": "BINDING",
    "CA_BIND": "BINDING",
    "HELIX": "HELIX (UniProt)",
    "STRAND": "STRAND (UniProt)",
    "TURN": "TURN (UniProt)",
}
"""Feature types by the name of their concept: releases before 2022_03 split BINDING in four; the
structure types are marked because ``helix`` and ``strand`` are DSSP's."""

STRUCTURE = frozenset(RENAMED[name] for name in ("HELIX", "STRAND", "TURN"))
"""Known only in proteins that have any of them; elsewhere nobody has looked."""

BONDS = frozenset({"DISULFID", "CROSSLNK"})
"""Their two positions are the ends of a bond; residues between them are not part of it."""

NOT_RESIDUE_PROPERTIES = frozenset({
    "CHAIN", "PEPTIDE", "INIT_MET",  # which part of the precursor is the product
    "VAR_SEQ", "VARIANT", "MUTAGEN", "CONFLICT", "UNSURE",  # other sequences than this one
    "NON_TER", "NON_CONS",  # how the sequence was obtained
})  # fmt: skip
"""Feature types left out (and counted), since they do not describe the residue itself."""

Span = tuple[int, int]


def swissprot_concepts(rows: ProteinRows, path: Path) -> tuple[list[Concept], SourceReport]:
    """Every feature type as a concept, defined on the proteins of the file.

    The file is streamed: memory holds the spans of matching proteins alone. Biopython gives
    positions as Python's half-open, 0-based spans; that conversion from UniProt's 1-based,
    inclusive positions is the only one in the project. A protein of the file without a feature of
    some type is negative for it, except HELIX, STRAND and TURN (see ``STRUCTURE``). A feature at
    an uncertain position is excluded and its concept is undefined in that protein.

    Raises:
        UserError: the file is damaged, an accession is repeated, a position lies outside its
            sequence, or no protein matches.
    """
    report = SourceReport(path.name)
    labels = _Labels(rows.n_rows)
    seen: set[str] = set()
    for number, record in _records(path):
        accession = record.accessions[0]
        where = f"{path}: record {number} ({accession})"
        if accession in seen:
            raise UserError(f"{where}: the accession occurs twice; remove one of the records")
        seen.add(accession)
        protein = report.match(rows, accession, record.sequence.upper())
        if protein is not None:
            labels.add(record, rows.slice_of(protein), where, report)
    report.finish(path)
    return labels.concepts(), report


class _Labels:
    """Spans of every feature type over the rows, and where they are known."""

    def __init__(self, n_rows: int) -> None:
        self.spans: dict[str, list[Span]] = defaultdict(list)
        self.uncertain: dict[str, list[slice]] = defaultdict(list)
        self.matched = np.zeros(n_rows, dtype=bool)
        self.solved = np.zeros(n_rows, dtype=bool)

    def add(self, record: Any, at: slice, where: str, report: SourceReport) -> None:
        """Take the features of one record, whose protein has the rows ``at``."""
        length = at.stop - at.start
        self.matched[at] = True
        for feature in record.features:
            kind: str = feature.type
            name = RENAMED.get(kind, kind)
            if kind in NOT_RESIDUE_PROPERTIES:
                report.left_out[kind] = report.left_out.get(kind, 0) + 1
                continue
            if feature.location.ref is not None:
                report.n_isoform += 1
                continue
            self.solved[at] |= name in STRUCTURE
            spans = _spans(feature, len(record.sequence), where)
            if spans is None:
                report.uncertain[name] = report.uncertain.get(name, 0) + 1
                self.uncertain[name].append(at)
                continue
            inside = [(start, min(end, length)) for start, end in spans if start < length]
            report.n_beyond_crop += not inside
            report.n_features += bool(inside)
            self.spans[name] += [(at.start + start, at.start + end) for start, end in inside]

    def concepts(self) -> list[Concept]:
        """One concept per feature type, by name."""
        found = []
        for name in sorted({*self.spans, *self.uncertain}):
            labels = np.zeros(len(self.matched), dtype=bool)
            defined = (self.solved if name in STRUCTURE else self.matched).copy()
            for start, end in self.spans[name]:
                labels[start:end] = True
            for protein in self.uncertain[name]:
                defined[protein] = False
            found.append(Concept(name, "uniprot", labels & defined, defined))
        return found


def _spans(feature: Any, length: int, where: str) -> list[Span] | None:
    """Half-open 0-based spans of a feature; None when a position is uncertain."""
    start, end = feature.location.start, feature.location.end
    # by type: Biopython's UncertainPosition (``?9``) is a subclass of ExactPosition
    if type(start) is not ExactPosition or type(end) is not ExactPosition:
        return None
    if not 0 <= start < end <= length:
        raise UserError(
            f"{where}: {feature.type} at {int(start) + 1}..{int(end)} lies outside the sequence "
            f"of {length} residues; positions run from 1 to its length, correct the record"
        )
    if feature.type in BONDS:
        return sorted({(int(start), int(start) + 1), (int(end) - 1, int(end))})
    return [(int(start), int(end))]


def _records(path: Path) -> Iterator[tuple[int, Any]]:
    """(1-based number, Biopython record), with parse errors told by record."""
    number, last = 0, "the start of the file"
    with open_text(path) as text, tqdm(desc=path.name, unit="rec", disable=None) as bar:
        parser = iter(SwissProt.parse(text))
        while True:
            try:
                record = next(parser, None)
            except UnicodeDecodeError:
                raise
            except (ValueError, AssertionError, IndexError, KeyError, TypeError) as error:
                raise UserError(
                    f"{path}: record {number + 1} (after {last}) is no UniProt flat-file record "
                    f"({str(error).strip()[:120]}); give an uncut .dat file, plain or gzipped"
                ) from error
            if record is None:
                break
            number += 1
            if not record.accessions or not record.sequence:
                raise UserError(
                    f"{path}: record {number} ({record.entry_name}) has no accession or no "
                    "sequence; give a complete .dat file"
                )
            last = record.accessions[0]
            yield number, record
            bar.update()
    if not number:
        raise UserError(f"{path}: no record in the file; a flat-file record starts with an ID line")
