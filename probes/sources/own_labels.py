"""A person's own labels: GFF3, BED or TSV, of residues or of whole proteins.

- **TSV** with a header: ``id, start, end, label`` (a stretch), ``id, position, label`` (a residue)
  or ``id, label`` (a protein). Positions are 1-based and inclusive. An optional column
  ``sequence`` says which sequence the positions mean. Other columns are named in the log; without
  positions they are refused, since ``pos`` for ``position`` would make a site a whole protein's.
- **GFF3** (1-based, inclusive): the label is the type (column 3), and with a ``Name`` also
  ``type Name``. ``##sequence-region`` names a protein that was examined, and its length.
- **BED** (0-based, half-open): the label is the name (column 4), or the file's name without one.

A label is known in the proteins its file names: yes where it says so, no elsewhere in them. A line
with an id and neither position nor label (or ``##sequence-region``) names one that has none.
This is where positions are converted.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import unquote

from extract.errors import UserError
from extract.files import open_text
from probes.data.concepts import Concept, ConceptTable, Level
from probes.data.rows import ProteinRows
from probes.sources.files import read_table
from probes.sources.source_report import SourceReport

LabelFormat = Literal["gff3", "bed", "labels tsv"]

log = logging.getLogger(__name__)

LABEL_COLUMNS = ("id", "label", "start", "end", "position", "sequence")
COUNTING: dict[LabelFormat, str] = {
    "labels tsv": "a label TSV, counting from 1",
    "gff3": "GFF3, counting from 1",
    "bed": "BED, counting from 0 with the end left out",
}

_WHOLE = re.compile(r"\d{1,9}")


class Label(NamedTuple):
    """One line of a file."""

    line: int
    """Its number, from 1."""
    protein_id: str
    """Whom it is about."""
    names: tuple[str, ...] = ()
    """Labels; none when the line only says that the protein was examined."""
    start: int | None = None
    """First residue, 0-based; None for the whole protein."""
    end: int | None = None
    """One past the last residue; None for the whole protein."""
    sequence: str | None = None
    """The sequence that was labelled, where the file has it."""
    length: int | None = None
    """Its length, where the file has that."""


def own_concepts(
    rows: ProteinRows, files: Sequence[tuple[Path, LabelFormat]]
) -> tuple[list[Concept], list[SourceReport]]:
    """Concepts of label files, and a report for each file. Equal labels of two files are one.

    Raises:
        UserError: a line is damaged, a position lies outside its protein, a label is of residues
            in one place and of proteins in another, or no protein matches.
    """
    tables: dict[Level, ConceptTable] = {
        "residue": ConceptTable(rows, "own", "residue"),
        "protein": ConceptTable(rows, "own", "protein"),
    }
    home: dict[str, tuple[Level, Path]] = {}
    reports = []
    for number, (path, file_format) in enumerate(files):
        report = SourceReport(path.name, file_format)
        log.info("%s: read as %s", path, COUNTING[file_format])
        group = f"file {number}"
        changed: set[int] = set()
        for label in READERS[file_format](path):
            where = f"{path}: line {label.line} ({label.protein_id})"
            protein = _protein(rows, label, report, changed)
            for name in label.names:
                level: Level = "protein" if label.start is None else "residue"
                if home.setdefault(name, (level, path))[0] != level:
                    raise UserError(
                        f"{where}: {name!r} labels a {level} here and a {home[name][0]} in "
                        f"{home[name][1]}; rename one of them"
                    )
                tables[level].name(name, (group,))
            if protein is None:
                continue
            for table in tables.values():
                table.define(group, protein)
            _add(rows, tables, label, group, protein, report, where)
        _forget(tables, home, group, changed)
        report.finish(path)
        reports.append(report)
    return [c for table in tables.values() for c in table.concepts()], reports


def _forget(tables: dict[Level, ConceptTable], home: dict, group: str, proteins: set[int]) -> None:
    """Nothing of a file is known of proteins of which a later line showed another sequence."""
    for protein in proteins:
        for name, (level, _) in home.items():
            if tables[level].is_in(name, group):
                tables[level].leave_unknown(name, (group,), protein)


def _protein(
    rows: ProteinRows, label: Label, report: SourceReport, changed: set[int]
) -> int | None:
    """The protein, if it is there and its sequence is the labelled one."""
    report.n_records += 1
    protein = report.find(rows, label.protein_id)
    if protein is None:
        return None
    stored = rows.proteins[protein].sequence
    if label.sequence is not None and not label.sequence.startswith(stored):
        changed.add(protein)
    if label.length is not None and label.length < len(stored):
        changed.add(protein)
    if label.length is not None and label.length > len(stored) and not rows.may_be_cropped(protein):
        changed.add(protein)
    if protein in changed:
        report.mismatch(label.protein_id)
        return None
    report.n_matched += 1
    return protein


def _add(
    rows: ProteinRows, tables: dict[Level, ConceptTable], label: Label, group: str, protein: int,
    report: SourceReport, where: str,
) -> None:  # fmt: skip
    at = rows.slice_of(protein)
    length = at.stop - at.start
    if not label.names:
        return
    report.n_features += 1
    if label.start is None or label.end is None:
        for name in label.names:
            tables["protein"].add(name, (group,), at.start, at.stop)
        return
    full = len(label.sequence) if label.sequence is not None else length
    cropped = label.sequence is None and rows.may_be_cropped(protein)
    if label.end > full and not cropped:
        raise UserError(
            f"{where}: {label.names[0]!r} at {label.start + 1}..{label.end} (1-based) lies outside "
            f"the sequence of {full} residues; the labels may be of another version of it"
        )
    if label.start >= length:
        report.n_features -= 1
        report.n_beyond_crop += 1
        return
    for name in label.names:
        end = min(label.end, length)
        tables["residue"].add(name, (group,), at.start + label.start, at.start + end)


def read_label_tsv(path: Path) -> Iterator[Label]:
    """Lines of a TSV with the columns id, label and start, end or position or neither.

    Raises:
        UserError: a column is missing or of an unknown name, or a line is damaged.
    """
    _check_columns(path)
    for number, cells in read_table(path, LABEL_COLUMNS[:2], LABEL_COLUMNS[2:], bare_ids=True):
        where = f"{path}: line {number} ({cells['id']})"
        if ("start" in cells) != ("end" in cells) or {"start", "position"} <= cells.keys():
            raise UserError(
                f"{path}: line 1 must name start and end, or position, or none of them (for labels "
                "of whole proteins)"
            )
        if not cells["id"]:
            raise UserError(f"{path}: line {number} has no id; fill it in")
        sequence = cells.get("sequence", "").upper() or None
        names = (cells["label"],) if cells["label"] else ()
        given = [cells[c] for c in ("start", "end", "position") if c in cells]
        if given and not any(given) and names:
            raise UserError(
                f"{where}: label {names[0]!r} without a position; give one, or leave the label "
                "empty too to say that the protein has none"
            )
        if any(given) and not names:
            raise UserError(f"{where}: a position without a label; fill it in")
        if not any(given):
            yield Label(number, cells["id"], names, sequence=sequence)
            continue
        start, end = _stretch(given[0], given[-1], 1, where)
        yield Label(number, cells["id"], names, start, end, sequence)


def _check_columns(path: Path) -> None:
    """Refuse unknown columns where none says a position; name them otherwise."""
    with open_text(path) as text:
        header = text.readline().rstrip("\r\n").split("\t")
    unknown = [name for name in header if name not in LABEL_COLUMNS]
    words = ", ".join(repr(name[:40]) for name in unknown[:8])
    if unknown and not {"start", "end", "position"} & set(header):
        raise UserError(
            f"{path}: line 1 has the unknown column(s) {words} and none with a position; name "
            "start and end, or position, for labels of residues, or remove what is unknown to "
            "label whole proteins"
        )
    if unknown:
        known = ", ".join(LABEL_COLUMNS)
        log.warning("%s: ignores the column(s) %s; known are %s", path, words, known)


def read_gff3(path: Path) -> Iterator[Label]:
    """Lines of a GFF3 file, up to ``##FASTA``.

    Raises:
        UserError: a line is damaged.
    """
    with open_text(path) as text:
        for number, line in enumerate(text, start=1):
            line = line.rstrip("\r\n")
            if line.startswith("##FASTA"):
                break
            if line.startswith("##sequence-region"):
                words = line.split()
                if len(words) != 4 or not _WHOLE.fullmatch(words[3]) or words[2] != "1":
                    raise UserError(
                        f"{path}: line {number}: must read '##sequence-region ID 1 LENGTH'"
                    )
                yield Label(number, unquote(words[1]), length=int(words[3]))
            if line.startswith("#") or not line.strip():
                continue
            fields = line.split("\t")
            if len(fields) not in (8, 9):
                raise UserError(
                    f"{path}: line {number} has {len(fields)} fields; a GFF3 line has 9, separated "
                    "by single tabs"
                )
            where = f"{path}: line {number} ({fields[0]})"
            start, end = _stretch(fields[3], fields[4], 1, where)
            kind, name = unquote(fields[2]), _gff3_name(fields[8:])
            if not kind or not fields[0]:
                raise UserError(f"{where}: an empty id or type (columns 1 and 3); fill it in")
            names = (kind, f"{kind} {name}") if name else (kind,)
            yield Label(number, unquote(fields[0]), names, start, end)


def _gff3_name(attributes: list[str]) -> str:
    for pair in (p for text in attributes for p in text.split(";")):
        key, _, value = pair.partition("=")
        if key.strip() == "Name":
            return unquote(value.strip())
    return ""


def read_bed(path: Path) -> Iterator[Label]:
    """Lines of a BED file; its fields are separated by tabs, or by spaces when there is no tab.

    Raises:
        UserError: a line is damaged.
    """
    default = path.name.split(".")[0]
    with open_text(path) as text:
        for number, line in enumerate(text, start=1):
            fields = line.rstrip("\r\n").split("\t") if "\t" in line else line.split()
            if not "".join(fields).strip() or line.startswith(("#", "track", "browser")):
                continue
            if len(fields) == 1:
                yield Label(number, fields[0])
                continue
            where = f"{path}: line {number} ({fields[0]})"
            if len(fields) < 3 or not fields[0]:
                raise UserError(f"{where}: has {len(fields)} fields; a BED line has at least 3")
            start, end = _stretch(fields[1], fields[2], 0, where)
            name = fields[3] if len(fields) > 3 and fields[3] not in ("", ".") else default
            yield Label(number, fields[0], (name,), start, end)


def _stretch(start: str, end: str, base: Literal[0, 1], where: str) -> tuple[int, int]:
    """0-based, half-open positions of a line that counts from ``base``."""
    for text in (start, end):
        if not _WHOLE.fullmatch(text) or not text.isascii():
            raise UserError(f"{where}: {text[:40]!r} is no position; give a whole number")
    first, stop = int(start) - base, int(end)
    if not 0 <= first < stop:
        rule = "counts from 1 and ends at or after its start" if base else (
            "counts from 0 and ends after its start"
        )  # fmt: skip
        raise UserError(f"{where}: {start}..{end} is no stretch; it {rule}")
    return first, stop


READERS: dict[LabelFormat, Callable[[Path], Iterator[Label]]] = {
    "gff3": read_gff3,
    "bed": read_bed,
    "labels tsv": read_label_tsv,
}
