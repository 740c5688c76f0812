"""One line on each protein: UniProt's recommended name and organism, or a FASTA header."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from extract.files import open_text

MAX_CHARS = 300
_NAMES = ("RecName: Full=", "SubName: Full=")
_PDB_CHAIN = re.compile(r"(?P<entry>[0-9][A-Z0-9]{3})_(?P<chain>[A-Za-z0-9]+)")
_UNIPROT_ID = re.compile(r"(?:sp|tr)\|([^|\s]+)\|")
_UNIPROT_WORDS = re.compile(r"(?P<name>.*?)\sOS=(?P<organism>.*?)(?:\s[A-Z]{2}=.*)?$")


def descriptions(
    ids: Sequence[str], flat_files: Sequence[Path], fastas: Sequence[Path]
) -> list[str]:
    """A description for each id, empty where nothing says one.

    Args:
        ids: of proteins.
        flat_files: of UniProtKB; other files of it are passed over.
        fastas: whose headers come next.

    Raises:
        UserError: a file is missing or damaged.
    """
    wanted, found = set(ids), {}
    for path in flat_files:
        for accession, text in _of_flat_file(path):
            if accession in wanted:
                found.setdefault(accession, text)
    for path in fastas:
        for name, text in _of_fasta(path):
            if name in wanted and text:
                found.setdefault(name, text)
    return [_clean(found.get(i) or _of_name(i)) for i in ids]


def _of_name(protein_id: str) -> str:
    chain = _PDB_CHAIN.fullmatch(protein_id)
    return f"PDB entry {chain['entry']}, chain {chain['chain']}" if chain else ""


def _of_flat_file(path: Path) -> Iterator[tuple[str, str]]:
    """(primary accession, name and organism) of each record; nothing of another format."""
    accession = name = organism = ""
    with open_text(path, errors="replace") as text:
        if text.read(5) != "ID   ":
            return
        for line in text:
            code, words = line[:5], line[5:].strip()
            if code == "AC   " and not accession:
                accession = words.split(";")[0]
            elif (
                code == "DE   "
                and not name
                and words.startswith(("RecName: Full=", "SubName: Full="))
            ):
                name = words.split("Full=", 1)[1].split(" {")[0].rstrip(";")
            elif code == "OS   " and not organism:
                organism = words.split(" (")[0].rstrip(".")
            elif line.startswith("//"):
                yield accession, f"{name} ({organism})" if organism else name
                accession = name = organism = ""


def _of_fasta(path: Path) -> Iterator[tuple[str, str]]:
    """(id, words after it) of each header; of UniProt's the name and the organism."""
    with open_text(path, errors="replace") as text:
        for line in text:
            if line.startswith(">"):
                first, _, rest = line[1:].strip().partition(" ")
                uniprot = _UNIPROT_ID.match(first)
                words = _UNIPROT_WORDS.match(rest)
                said = f"{words['name']} ({words['organism']})" if words else rest
                yield uniprot.group(1) if uniprot else first, said


def _clean(text: str) -> str:
    """Printable, on one line, not endless; it is data and stays text wherever it is shown."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= MAX_CHARS else line[: MAX_CHARS - 1] + "…"
