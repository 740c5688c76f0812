"""Entries of UniProtKB's JSON and TSV downloads.

Positions there are 1-based and inclusive; this is where they are converted. Types and columns have
the names of ``probes.sources.feature_names.FEATURE_TYPES``.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from extract.errors import UserError
from probes.sources.feature_names import FEATURE_TYPES
from probes.sources.files import read_table
from probes.sources.json_stream import json_objects
from probes.sources.protein_labels import (
    ec_numbers_in,
    families,
    families_in,
    terms_in,
    terms_of,
)
from probes.sources.uniprot import Entry, Feature, Unused

_KEY_OF_JSON = {names.json: key for key, names in FEATURE_TYPES.items()}
_KEY_OF_COLUMN = {names.column: key for key, names in FEATURE_TYPES.items()}
_DATABASES = ("Pfam", "InterPro", "GO")
_GO_COLUMNS = (
    "Gene Ontology IDs", "Gene Ontology (GO)",
    "Gene Ontology (biological process)", "Gene Ontology (cellular component)",
    "Gene Ontology (molecular function)",
)  # fmt: skip
_ALL_GO = frozenset(_GO_COLUMNS[:2])
"""Either of these has every GO term; the three aspects do only together."""

_POSITION = re.compile(r"(?:([\w-]+):)?([<>?]?\d*)(?:\.\.([<>?]?\d*))?$")
_START = re.compile(r"([A-Z_]+) ((?:[\w-]+:)?[<>?\d][<>?\d.]*)")
_QUALIFIER = re.compile(r';\s*/(\w+)="(.*?)"(?=\s*;\s*(?:/\w+="|[A-Z_]+ [\w<>?])|\s*;?\s*$)')


def read_json_entries(path: Path, wanted: Container[str]) -> Iterator[tuple[str, Entry | Unused]]:
    """("record 3", entry) of UniProtKB JSON: ``{"results": [...]}``, an array, or lines.

    Raises:
        UserError: the file is no UniProtKB JSON, or is damaged.
    """
    number = 0
    with tqdm(desc=path.name, unit="rec", disable=None) as bar:
        for number, value in json_objects(path):
            try:
                yield f"record {number}", _json_entry(value, wanted)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise UserError(
                    f"{path}: record {number} is no UniProtKB entry ({type(error).__name__}: "
                    f"{str(error)[:80]}); give JSON as UniProt's website and REST service do"
                ) from error
            bar.update()
    if not number:
        raise UserError(f"{path}: no entry in the file; give UniProtKB JSON")


def _json_entry(value: Any, wanted: Container[str]) -> Entry | Unused:
    if isinstance(value.get("to"), dict):
        value = value["to"]  # ID mapping wraps each entry
    accession = _text(value["primaryAccession"])
    if not accession:
        raise ValueError("primaryAccession is empty")
    if accession not in wanted:
        return Unused(accession)
    if "sequence" not in value:
        return Unused(accession, "no sequence")
    references = [
        (_text(r["database"]), _text(r["id"])) for r in value.get("uniProtKBCrossReferences", [])
    ]
    labels = {name: terms_of(name, references) for name in _DATABASES}
    labels["EC"] = {n for text in _ec_values(value.get("proteinDescription", {}))
                    for n in ec_numbers_in(text)}  # fmt: skip
    comments = [c for c in value.get("comments", []) if c.get("commentType") == "SIMILARITY"]
    labels["family"] = families(_text(t["value"]) for c in comments for t in c.get("texts", []))
    features = [_json_feature(feature) for feature in value.get("features", [])]
    return Entry(accession, _text(value["sequence"]["value"]).upper(), features, labels)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:40]!r} is no text")
    return value


def _ec_values(value: Any) -> Iterator[str]:
    """Values of every ``ecNumbers`` list below ``value``."""
    pending = [value]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        elif isinstance(value, dict):
            for number in value.get("ecNumbers", []):
                yield _text(number["value"])
            pending += [v for k, v in value.items() if k != "ecNumbers"]


def _json_feature(feature: Any) -> Feature:
    location = feature["location"]
    ends = [_json_position(location["start"]), _json_position(location["end"])]
    kind = _text(feature["type"])
    ligand = feature.get("ligand") or {}
    return Feature(
        _KEY_OF_JSON.get(kind, kind),
        *_converted(*ends),
        _text(feature.get("description") or ""),
        _text(ligand.get("name") or ""),
        "sequence" in location and location["sequence"] is not None,
    )


def _json_position(position: Any) -> int | None:
    """1-based, or None unless it is exact."""
    value = position.get("value")
    if position.get("modifier", "EXACT") != "EXACT" or value is None:
        return None
    if type(value) is not int:
        raise TypeError(f"position {str(value)[:40]!r} is no whole number")
    return value


def _converted(start: int | None, end: int | None) -> tuple[int | None, int | None]:
    """1-based, inclusive → 0-based, half-open."""
    return (None, None) if start is None or end is None else (start - 1, end)


def read_tsv_entries(path: Path, wanted: Container[str]) -> Iterator[tuple[str, Entry | Unused]]:
    """("line 3", entry) of a UniProtKB TSV download with the columns Entry and Sequence.

    A feature type without its column is unknown, not absent, in all entries.

    Raises:
        UserError: a column is missing, or a cell is damaged.
    """
    optional = (*_KEY_OF_COLUMN, *_DATABASES, *_GO_COLUMNS, "EC number", "Protein families")
    empty = True
    with tqdm(desc=path.name, unit="rec", disable=None) as bar:
        for number, cells in read_table(path, ("Entry", "Sequence"), optional):
            empty = False
            yield f"line {number}", _tsv_entry(cells, wanted, f"{path}: line {number}")
            bar.update()
    if empty:
        raise UserError(f"{path}: no entry below the header; download it again")


def _tsv_entry(cells: dict[str, str], wanted: Container[str], where: str) -> Entry | Unused:
    accession = cells["Entry"]
    if not accession:
        raise UserError(f"{where} has no accession in the column Entry; fill it in")
    if accession not in wanted:
        return Unused(accession)
    if not cells["Sequence"]:
        return Unused(accession, "no sequence")
    known = frozenset(key for column, key in _KEY_OF_COLUMN.items() if column in cells)
    features = []
    for column, key in _KEY_OF_COLUMN.items():
        if cells.get(column):
            told = f"{where} ({accession}), column {column!r}"
            features += parse_features(cells[column], key, told)
    labels = {name: terms_in(name, cells[name]) for name in ("Pfam", "InterPro") if name in cells}
    go = [cells[column] for column in _GO_COLUMNS if column in cells]
    if _ALL_GO & cells.keys() or len(go) == len(_GO_COLUMNS[2:]):
        labels["GO"] = terms_in("GO", " ".join(go))
    if "EC number" in cells:
        labels["EC"] = ec_numbers_in(cells["EC number"])
    if "Protein families" in cells:
        labels["family"] = families_in(cells["Protein families"])
    return Entry(accession, cells["Sequence"].upper(), features, labels, known)


def parse_features(cell: str, key: str, where: str) -> list[Feature]:
    """``BINDING 45..52; /ligand="ATP"; /evidence="ECO:…"; BINDING 70; …`` of one column.

    Args:
        cell: its text.
        key: feature type that the column holds.
        where: what to call it in the message.

    Raises:
        UserError: it reads otherwise.
    """
    features = []
    at = 0
    while at < len(cell):
        begin, start = at, _START.match(cell, at)
        position = _POSITION.match(start.group(2)) if start else None
        at, words = start.end() if start else at, {}
        while qualifier := _QUALIFIER.match(cell, at):
            words[qualifier.group(1)] = qualifier.group(2).replace('""', '"')
            at = qualifier.end()
        after = cell[at:].lstrip()
        if not start or not position or start.group(1) != key or after[:1] not in ("", ";"):
            raise UserError(
                f"{where}: {cell[begin : begin + 40]!r} is no feature; it must read like "
                f"'{key} 45..52; /note=\"…\"; …', download the table again"
            )
        isoform, first, last = position.groups()
        ends = [_tsv_position(first), _tsv_position(first if last is None else last)]
        features.append(
            Feature(key, *_converted(*ends), words.get("note", ""), words.get("ligand", ""),
                    isoform is not None)
        )  # fmt: skip
        at += len(cell[at:]) - len(cell[at:].lstrip("; "))
    return features


def _tsv_position(text: str) -> int | None:
    """1-based, or None unless it is exact."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
