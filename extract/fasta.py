"""Read and check protein sequences from FASTA, plain or gzipped, in constant memory."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from extract.alphabet import LEGAL_RESIDUES
from extract.errors import UserError
from extract.files import open_text

MAX_POSITION = 65535
"""Longest protein a store can index (positions are uint16)."""

MAX_ID_LENGTH = 255
"""Letters of an id."""

MAX_LETTERS = 1_000_000
"""Longest record that is read at all; the longest known protein has some 45,000 residues."""

_PIECE = 1 << 16  # characters read at once, so that a line without end fills no memory
_LEGAL_LETTERS = LEGAL_RESIDUES | {letter.lower() for letter in LEGAL_RESIDUES}
_UNIPROT_ID = re.compile(r"^(?:sp|tr)\|([^|\s]+)\|")


@dataclass(frozen=True)
class Protein:
    """One sequence: ``id`` (a UniProt accession where the header has one) and its residues."""

    id: str
    sequence: str


class FastaRecord(NamedTuple):
    """A record whose header is checked and whose sequence is not yet."""

    number: int
    """1-based, in the file."""
    id: str
    """The header's first word, or the accession of a UniProt header (``sp|P12345|NAME``)."""
    sequence: str
    """Letters without white space and without a final ``*``."""
    had_stop: bool
    """Whether a final ``*`` was removed."""

    def where(self, path: Path) -> str:
        """What to call it in a message."""
        return f"{path}: record {self.number} ({self.id[:60]})"


def read_records(path: Path, *, digest: object = None) -> Iterator[FastaRecord]:
    """Every record of a FASTA file, one at a time.

    Args:
        path: FASTA, or FASTA.gz (told by its content, not its name).
        digest: a ``hashlib`` object that is fed the file's bytes as stored.

    Raises:
        UserError: naming the file, the record, the rule and the remedy.
    """
    with open_text(path, errors="replace", digest=digest) as text:
        for record, _ in _records(text, str(path)):
            yield record


def parse_fasta(text: str, name: str) -> Iterator[tuple[FastaRecord, str]]:
    """Records of a FASTA text and their headers, as :func:`read_records` reads them from a file.

    Raises:
        UserError: naming the text, the record, the rule and the remedy.
    """
    yield from _records(io.StringIO(text), name)


def _records(text: io.TextIOBase, path: str) -> Iterator[tuple[FastaRecord, str]]:
    for number, (header, sequence) in enumerate(_raw_records(text, path), start=1):
        words = header.split(maxsplit=1)
        if not words:
            raise UserError(f"{path}: record {number} has no id after '>'; give it one")
        uniprot = _UNIPROT_ID.match(words[0])
        name = uniprot.group(1) if uniprot else words[0]
        if not name.isprintable() or len(name) > MAX_ID_LENGTH:
            raise UserError(
                f"{path}: record {number}: its id {name[:40]!r} has control characters or more "
                f"than {MAX_ID_LENGTH} letters; shorten or clean it"
            )
        had_stop = sequence.endswith("*")
        yield FastaRecord(number, name, sequence.removesuffix("*"), had_stop), header


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


def _raw_records(text: io.TextIOBase, path: str) -> Iterator[tuple[str, str]]:
    header: str | None = None
    parts: list[str] = []
    n_letters = n_records = 0
    in_header = False
    for number, begins, piece in _pieces(text):
        if begins:
            in_header = piece.startswith(">")
            if in_header:
                if header is not None:
                    yield header, "".join(parts)
                header, parts, n_letters, n_records = piece[1:], [], 0, n_records + 1
        if in_header or not piece.strip():
            continue  # also the rest of a header that is longer than a piece
        if header is None:
            raise UserError(
                f"{path}: line {number} comes before any record; a FASTA record starts "
                "with a header line beginning with '>'"
            )
        parts.append("".join(piece.split()))
        n_letters += len(parts[-1])
        if n_letters > MAX_LETTERS:
            raise UserError(
                f"{path}: record {n_records} ({header[:60].strip()}) has more than "
                f"{MAX_LETTERS:,} letters, which no protein has; remove it"
            )
    if header is not None:
        yield header, "".join(parts)


def _pieces(text: io.TextIOBase) -> Iterator[tuple[int, bool, str]]:
    """Lines (or pieces of very long ones): the line's number, whether it begins, the text."""
    number, begins = 1, True
    while piece := text.readline(_PIECE):
        yield number, begins, piece
        begins = piece.endswith("\n")
        number += begins
