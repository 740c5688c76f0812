"""Entries of a UniProtKB flat file, ``.dat[.gz]``, by Biopython."""

from __future__ import annotations

import io
import re
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

from Bio import SwissProt
from Bio.SeqFeature import ExactPosition
from tqdm import tqdm

from extract.errors import UserError
from extract.files import open_text
from probes.data.concepts import Concept
from probes.data.rows import ProteinRows
from probes.sources.protein_labels import ec_numbers, families, terms_of
from probes.sources.source_report import SourceReport
from probes.sources.uniprot import Entry, Feature, Unused, uniprot_concepts

MAX_RECORD = 1 << 26
"""Letters of the longest record that is read; titin's has 1.5 million."""

_LINE = 1 << 16
_ACCESSION = re.compile(r"^AC   ([A-Z0-9]+);", re.M)
_DATABASES = ("Pfam", "InterPro", "GO")
_PARSE_ERRORS = (
    ValueError, AssertionError, IndexError, KeyError, TypeError, AttributeError, OverflowError,
    Warning,
)  # fmt: skip
"""What Biopython raises on a record that is none."""


def swissprot_concepts(rows: ProteinRows, path: Path) -> tuple[list[Concept], SourceReport]:
    """Concepts of one flat file; see :func:`probes.sources.uniprot.uniprot_concepts`."""
    found, reports = uniprot_concepts(rows, [(path, "flat")])
    return found, reports[0]


def read_flat_file(path: Path, wanted: Container[str]) -> Iterator[tuple[str, Entry | Unused]]:
    """("record 3", entry) of every record; only those in ``wanted`` are parsed.

    Biopython gives positions as Python's half-open, 0-based spans; this is where UniProt's
    1-based, inclusive positions of a flat file are converted.

    Raises:
        UserError: a record is damaged, or there is none.
    """
    last = "the start of the file"
    number = 0
    for number, text in enumerate(_records(path), start=1):
        found = _ACCESSION.search(text)
        if text.startswith("ID   ") and text.endswith("//\n") and found:
            last = found.group(1)
            if last not in wanted:
                yield f"record {number}", Unused(last)
                continue
        record = _parse(text, f"{path}: record {number} (after {last})")
        if not record.accessions or not record.sequence:
            raise UserError(
                f"{path}: record {number} ({record.entry_name}) has no accession or no "
                "sequence; give a complete .dat file"
            )
        last = record.accessions[0]
        yield f"record {number}", _entry(record)
    if not number:
        raise UserError(f"{path}: no record in the file; a flat-file record starts with an ID line")


def _records(path: Path) -> Iterator[str]:
    """Text from one ``//`` line to the next."""
    lines: list[str] = []
    size = 0
    with open_text(path) as text, tqdm(desc=path.name, unit="rec", disable=None) as bar:
        while line := text.readline(_LINE):
            lines.append(line)
            size += len(line)
            if size > MAX_RECORD:
                raise UserError(
                    f"{path}: a record begins that has no '//' line within {MAX_RECORD:,} "
                    "letters; give a UniProt flat file"
                )
            if line.startswith("//"):
                yield "".join(lines).removesuffix("\n") + "\n"
                lines, size = [], 0
                bar.update()
        if "".join(lines).strip():
            yield "".join(lines)


def _parse(text: str, where: str) -> Any:
    try:
        if not text.endswith("//\n"):
            raise ValueError("it does not end with a // line")
        return SwissProt.read(io.StringIO(text))
    except _PARSE_ERRORS as error:
        raise UserError(
            f"{where} is no UniProt flat-file record ({str(error).strip()[:120]}); give an uncut "
            ".dat file, plain or gzipped"
        ) from error


def _entry(record: Any) -> Entry:
    references = [(words[0], words[1]) for words in record.cross_references if len(words) > 1]
    similarity = [c[len("SIMILARITY:") :] for c in record.comments if c.startswith("SIMILARITY:")]
    labels = {name: terms_of(name, references) for name in _DATABASES}
    labels["EC"] = ec_numbers(record.description)
    labels["family"] = families(similarity)
    features = [_feature(feature) for feature in record.features]
    return Entry(record.accessions[0], record.sequence.upper(), features, labels)


def _feature(feature: Any) -> Feature:
    start, end = feature.location.start, feature.location.end
    # by type: Biopython's UncertainPosition (``?9``) is a subclass of ExactPosition
    certain = type(start) is ExactPosition and type(end) is ExactPosition
    words = feature.qualifiers
    return Feature(
        feature.type,
        int(start) if certain else None,
        int(end) if certain else None,
        words.get("note", words.get("description", "")),
        words.get("ligand", ""),
        feature.location.ref is not None,
    )
