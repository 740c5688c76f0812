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

FEATURE_WORDS = {
    "ACT_SITE": "active site catalytic residue", "BINDING": "binding site ligand",
    "CARBOHYD": "glycosylation glycan", "CA_BIND": "calcium binding", "COILED": "coiled coil",
    "COMPBIAS": "compositional bias", "CROSSLNK": "cross link crosslink",
    "DISULFID": "disulfide disulphide bond bridge cystine",
    "DNA_BIND": "dna binding", "INTRAMEM": "intramembrane", "LIPID": "lipidation",
    "MOD_RES": "modified residue modification phosphorylation acetylation methylation",
    "PROPEP": "propeptide", "SIGNAL": "signal peptide", "TOPO_DOM": "topological domain",
    "TRANSIT": "transit peptide", "TRANSMEM": "transmembrane membrane spanning",
    "ZN_FING": "zinc finger", "strand": "beta strand sheet", "helix": "alpha helix helical",
}  # fmt: skip
"""Words for UniProt's keys (https://www.uniprot.org/help/sequence_annotation) and DSSP's."""
LIGAND_WORDS = {
    "zinc": "zn", "calcium": "ca", "magnesium": "mg", "manganese": "mn", "iron": "fe",
    "copper": "cu", "sodium": "na", "nickel": "ni", "haem": "heme",
}  # fmt: skip
"""Words for ligands, of which UniProt has ChEBI's names, such as Zn(2+)."""
_GREEK = str.maketrans({"α": "alpha ", "β": "beta "})

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
    """An FTS5 expression for all words of ``text``, each quoted, and free to go on.

    Quoted, no word is an operator or a column of FTS5. None without a letter or digit.
    """
    words = [word for word in text.split() if any(ch.isalnum() for ch in word)][:MAX_TOKENS]
    # one letter begins half of all words: it has to be a whole one
    ends = ("*" if len(word) > 1 else "" for word in words)
    return " ".join(map("".join, zip(map(_quoted, words), ends))) if words else None


def concept_expression(text: str) -> str | None:
    """The same for names of concepts, which are UniProt's keys: also what people call those."""
    expression = match_expression(text)
    words = text.casefold().translate(_GREEK).replace("-", " ").split()
    long = [word for word in words if len(word) >= 3]
    if expression is None or not long or long != words:
        return expression
    either = [f"({expression})"]
    if any(word in LIGAND_WORDS for word in words):
        either.append("(" + " ".join(_begun(word) for word in words) + ")")
    either += [
        _quoted(key)
        for key, known in FEATURE_WORDS.items()
        if all(any(name.startswith(word) for name in known.split()) for word in words)
    ]
    return " OR ".join(either)


def _begun(word: str) -> str:
    """A word that may go on, or a ligand's name in whole."""
    return _quoted(LIGAND_WORDS[word]) if word in LIGAND_WORDS else _quoted(word) + "*"


def _quoted(word: str) -> str:
    return '"' + word.replace('"', '""') + '"'
