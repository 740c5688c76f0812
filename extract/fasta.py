"""Read and validate protein sequences from FASTA, plain or gzipped."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from extract.alphabet import LEGAL_RESIDUES
from extract.errors import UserError
from extract.files import open_text

log = logging.getLogger(__name__)

MAX_POSITION = 65535
"""Longest protein a store can index (positions are uint16)."""

MAX_ID_LENGTH = 255
"""Letters of an id."""

TooLong = Literal["skip", "crop"]
_LEGAL_LETTERS = LEGAL_RESIDUES | {letter.lower() for letter in LEGAL_RESIDUES}
_UNIPROT_ID = re.compile(r"^(?:sp|tr)\|([^|\s]+)\|")


@dataclass(frozen=True)
class Protein:
    """One sequence: ``id`` (a UniProt accession where the header has one) and its residues."""

    id: str
    sequence: str


@dataclass
class FastaReport:
    """What reading a FASTA file found: counts for the manifest."""

    file: str
    """File name, without its folder."""
    sha256: str
    """Hash of the file's bytes as stored (compressed if it is)."""
    n_records: int = 0
    """Records in the file."""
    n_kept: int = 0
    """Records used."""
    n_residues: int = 0
    """Residues used."""
    n_too_long_skipped: int = 0
    """Records left out because they exceed the limit."""
    n_too_long_cropped: int = 0
    """Records cut to the limit, from their N-terminus."""
    n_stop_stripped: int = 0
    """Records whose final ``*`` was removed."""
    max_residues: int = 0
    """The limit that applied."""


def read_fasta(
    path: str | Path, *, max_residues: int = 1022, too_long: TooLong = "skip"
) -> tuple[list[Protein], FastaReport]:
    """Read and check a whole FASTA file.

    Letters are upper-cased; a final ``*`` is stripped with a warning. The id is the header's first
    word, or the accession of a UniProt header (``sp|P12345|NAME``).

    Args:
        path: FASTA, or FASTA.gz (told by its content, not its name).
        max_residues: longest sequence to use, in residues (ESM2 was trained on up to 1022).
        too_long: whether a longer record is left out or cut.

    Raises:
        UserError: naming the file, the record, the rule and the remedy.
    """
    path = Path(path)
    if not 1 <= max_residues <= MAX_POSITION:
        raise UserError(f"--max-residues ({max_residues}) must be from 1 to {MAX_POSITION}")
    report = FastaReport(path.name, _sha256(path), max_residues=max_residues)
    proteins: list[Protein] = []
    record_of_id: dict[str, int] = {}
    for protein, stripped in _checked_records(path):
        report.n_records += 1
        report.n_stop_stripped += stripped
        if protein.id in record_of_id:
            raise UserError(
                f"{path}: records {record_of_id[protein.id]} and {report.n_records} have the same "
                f"id {protein.id!r}; ids must be unique, rename or remove one"
            )
        record_of_id[protein.id] = report.n_records
        if len(protein.sequence) > max_residues:
            if too_long == "skip":
                report.n_too_long_skipped += 1
                continue
            report.n_too_long_cropped += 1
            protein = Protein(protein.id, protein.sequence[:max_residues])
        proteins.append(protein)
    if not report.n_records:
        raise UserError(f"{path}: no sequence in the file; a FASTA record starts with '>'")
    if not proteins:
        raise UserError(
            f"{path}: all {report.n_records} sequences are longer than {max_residues} residues; "
            "use --too-long crop or raise --max-residues"
        )
    report.n_kept = len(proteins)
    report.n_residues = sum(len(p.sequence) for p in proteins)
    _log_report(path, report)
    return proteins, report


def _log_report(path: Path, report: FastaReport) -> None:
    log.info("%s: %d proteins, %d residues", path, report.n_kept, report.n_residues)
    if report.n_stop_stripped:
        log.warning("%s: final '*' stripped from %d records", path, report.n_stop_stripped)
    if report.n_too_long_skipped:
        log.warning("%s: %d records over %d residues skipped", path, report.n_too_long_skipped,
                    report.max_residues)  # fmt: skip
    if report.n_too_long_cropped:
        log.warning("%s: %d records cropped to %d residues", path, report.n_too_long_cropped,
                    report.max_residues)  # fmt: skip


def check_sequence(sequence: str, where: str) -> str:
    """Return ``sequence`` upper-cased if every letter is a legal residue.

    Args:
        sequence: letters, without white space.
        where: what to call it in the message, such as ``"a.fasta: record 3 (P12345)"``.

    Raises:
        UserError: with the 1-based position of the first illegal character.
    """
    if not sequence:
        raise UserError(f"{where}: no sequence; add its residues or remove the record")
    illegal = set(sequence) - _LEGAL_LETTERS
    if illegal:
        at = min(sequence.index(c) for c in illegal)
        raise UserError(
            f"{where}: illegal character {sequence[at]!r} at position {at + 1}; residues are the "
            "20 standard letters and B, Z, U, O, X"
        )
    return sequence.upper()


def _checked_records(path: Path) -> Iterator[tuple[Protein, bool]]:
    for number, (header, sequence) in enumerate(_raw_records(path), start=1):
        words = header.split()
        if not words:
            raise UserError(f"{path}: record {number} has no id after '>'; give it one")
        uniprot = _UNIPROT_ID.match(words[0])
        name = uniprot.group(1) if uniprot else words[0]
        if not name.isprintable() or len(name) > MAX_ID_LENGTH:
            raise UserError(
                f"{path}: record {number}: its id {name[:40]!r} has control characters or more "
                f"than {MAX_ID_LENGTH} letters; shorten or clean it"
            )
        stripped = sequence.endswith("*")
        where = f"{path}: record {number} ({name[:60]})"
        yield Protein(name, check_sequence(sequence.removesuffix("*"), where)), stripped


def _raw_records(path: Path) -> Iterator[tuple[str, str]]:
    header: str | None = None
    parts: list[str] = []
    for number, line in enumerate(_lines(path), start=1):
        if line.startswith(">"):
            if header is not None:
                yield header, "".join(parts)
            header, parts = line[1:], []
        elif line.strip():
            if header is None:
                raise UserError(
                    f"{path}: line {number} comes before any record; a FASTA record starts "
                    "with a header line beginning with '>'"
                )
            parts.append("".join(line.split()))
    if header is not None:
        yield header, "".join(parts)


def _lines(path: Path) -> Iterator[str]:
    with open_text(path, errors="replace") as text:
        yield from text


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; give a FASTA file") from None
