"""What a person who types something into the search box means by it."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from explorer.server.pattern import looks_like_motif
from explorer.server.proteins import PDB, UNIPROT
from extract.alphabet import LEGAL_RESIDUES

ReadAs = Literal["text", "latent", "accession", "motif", "sequence", "nothing"]

MIN_SEQUENCE = 20
"""Letters from which a word of residue letters is a sequence at once: TRYPSIN could be one, too."""
MIN_PEPTIDE = 5
"""Letters from which such a word is looked for as a peptide when no text has it."""
MAX_TOKENS = 16

_LATENT = re.compile(r"(?:[Ll#]|[Ll]atent\s*)?\s*#?(\d{1,9})", re.ASCII)


class Query(NamedTuple):
    """A query as it is understood."""

    read_as: ReadAs
    text: str
    """Normalised: digits of a latent, letters of a sequence."""


def read_query(query: str) -> Query:
    """What a query is taken for; an accession may yet turn out to be a word."""
    text = " ".join(query.replace("\0", " ").split())
    if not text:
        return Query("nothing", "")
    if found := _LATENT.fullmatch(text):
        return Query("latent", found[1])
    sequence = as_sequence(query)
    if sequence is not None and len(sequence) >= MIN_SEQUENCE:
        return Query("sequence", sequence)
    if UNIPROT.fullmatch(text.upper()) or PDB.fullmatch(text):
        return Query("accession", text)
    if looks_like_motif(text):
        return Query("motif", text)
    return Query("text", text)


def as_sequence(query: str) -> str | None:
    """Letters of a sequence, pasted as FASTA (its first record) or in lines and blocks, or None."""
    lines = query.strip().splitlines()
    if lines and lines[0].startswith(">"):
        body = []
        for line in lines[1:]:
            if line.startswith(">"):
                break
            body.append(line)
        lines = body
    letters = re.sub(r"[\s\d*]", "", "".join(lines))
    if letters.isupper() or len(letters) >= MIN_SEQUENCE * 2:
        letters = letters.upper()
        if letters and set(letters) <= LEGAL_RESIDUES:
            return letters
    return None


def match_expression(text: str) -> str | None:
    """An FTS5 expression for all words of ``text``, each quoted and the last letters free.

    Quoted, no word is an operator or a column of FTS5. None without a letter or digit.
    """
    words = [word for word in text.split() if any(ch.isalnum() for ch in word)][:MAX_TOKENS]
    if not words:
        return None
    return " ".join('"' + word.replace('"', '""') + '"*' for word in words)
