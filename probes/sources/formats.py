"""Which kind of annotation file a file is, by its first lines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from extract.errors import UserError
from extract.files import open_text
from probes.sources.own_labels import LabelFormat
from probes.sources.uniprot import UniprotFormat

Format = Literal["dssp"] | UniprotFormat | LabelFormat

UNIPROT: tuple[UniprotFormat, ...] = ("flat", "json", "tsv")
LABELS: tuple[LabelFormat, ...] = ("gff3", "bed", "labels tsv")

_HEAD = 1 << 16
_BED_LINE = re.compile(r"\S+\s+\d+\s+\d+(\s|$)")
_NAMES = {
    "dssp": "a table with columns id, sequence, dssp",
    "flat": "a UniProt flat file (.dat)",
    "json": "UniProtKB JSON",
    "tsv": "a UniProtKB TSV with columns Entry and Sequence",
    "gff3": "GFF3",
    "bed": "BED",
    "labels tsv": "a TSV with columns id, label and start, end or position or neither",
}


def format_of(path: Path, among: tuple[Format, ...]) -> Format:
    """The format of a file, told by its content first and its extension second.

    Raises:
        UserError: it is none of ``among``.
    """
    with open_text(path, errors="replace") as text:
        head = text.read(_HEAD)
    by_content, by_name = _by_content(head), _by_extension(path)
    found = by_content or by_name
    if found not in among or not head.strip():
        is_what = _what_it_is(head, by_content, by_name)
        raise UserError(f"{path}: {is_what}; this must be {', or '.join(_NAMES[f] for f in among)}")
    if found == "bed" and by_name != "bed" and not head.lstrip().startswith(("track ", "browser ")):
        raise UserError(
            f"{path}: has no header, and is not named .bed; a TSV needs a first line such as id, "
            "start, end, label (counting from 1), a BED file (counting from 0) that suffix"
        )
    return found


def _what_it_is(head: str, by_content: Format | None, by_name: Format | None) -> str:
    """What a file that will not do looks like, in a few printable words."""
    if not head.strip():
        return "is empty"
    if "\0" in head or head.count("\ufffd") > len(head) / 10:
        return "is binary"
    if by_content:
        return f"is {_NAMES[by_content]}"
    begins = f"begins with {head.lstrip().splitlines()[0][:60]!r}"
    return f"is named like {_NAMES[by_name]} but {begins}" if by_name else begins


def _by_content(head: str) -> Format | None:
    start = head.lstrip()
    lines = [line for line in start.split("\n") if line.strip() and not line.startswith("#")]
    first = lines[0] if lines else ""
    columns = set(first.rstrip("\r").split("\t"))
    if start.startswith(("{", "[")):
        return "json"
    if start.startswith("ID   "):
        return "flat"
    if start.startswith("##gff-version"):
        return "gff3"
    if {"id", "sequence", "dssp"} <= columns:
        return "dssp"
    if "Entry" in columns:
        return "tsv"
    if {"id", "label"} <= columns:
        return "labels tsv"
    if first.startswith(("track ", "browser ")) or _BED_LINE.match(first):
        return "bed"
    return "gff3" if len(first.split("\t")) == 9 and first.split("\t")[3].isdigit() else None


def _by_extension(path: Path) -> Format | None:
    suffixes = [s for s in path.suffixes if s != ".gz"]
    known: dict[str, Format] = {".gff": "gff3", ".gff3": "gff3", ".bed": "bed", ".dat": "flat"}
    return known.get(suffixes[-1].lower()) if suffixes else None
