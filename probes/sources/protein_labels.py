"""Questions about whole proteins: Pfam, InterPro, GO, EC number and family, from UniProtKB.

Where each is known:

- **Pfam, InterPro**: in every entry of the file. All of UniProtKB is scanned with all signatures,
  so no match is an answer.
- **GO, EC, family**: only in entries with some term of that kind. Of an entry without any GO term,
  say, nobody has said anything; one with some is taken as complete, which it need not be.
- An incomplete EC number (``3.4.-.-``) leaves its refinements (``3.4.21.4``) unknown.

EC numbers count at every level of the hierarchy (``EC 3.-.-.-`` to ``EC 3.4.21.4``). GO terms are
those the entry lists, with their ancestors where the ontology is given
(``probes/sources/gene_ontology.py``); without it a protein that has only a term's child is its
negative.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from probes.data.concepts import Concept, ConceptTable
from probes.data.rows import ProteinRows
from probes.sources.gene_ontology import GeneOntology

ALWAYS_KNOWN = frozenset({"Pfam", "InterPro"})
"""Kinds of which an entry without a term is negative, not unknown."""

EC_LEVELS = 4

_TERM = {
    "Pfam": re.compile(r"PF\d{5}"),
    "InterPro": re.compile(r"IPR\d{6}"),
    "GO": re.compile(r"GO:\d{7}"),
}
_EC = re.compile(r"EC[= ](\d+(?:\.(?:\d+|n\d+|-)){3})")
_NUMBER = re.compile(r"\d+(?:\.(?:\d+|n\d+|-)){3}")
_BELONGS = re.compile(
    r"(?:In the .+? section; )?[Bb]elongs to the (.+?family)\.(?: (.+?family)\.)?"
    r"(?: (.+?family)\.)?(?: Highly divergent\.)?$"
)
"""UniProt's own rule for its column "Protein families" (``EntryCommentsMap`` of uniprot-core)."""
_EVIDENCE = re.compile(r"\s*\{ECO:[^{}]*\}\.?")


def terms_of(database: str, references: Iterable[tuple[str, str]]) -> set[str]:
    """Terms of one database among (database, id) cross-references."""
    pattern = _TERM[database]
    return {term for name, term in references if name == database and pattern.fullmatch(term)}


def terms_in(database: str, text: str) -> set[str]:
    """Terms of one database in a TSV cell."""
    return set(_TERM[database].findall(text))


def ec_numbers(description: str) -> set[str]:
    """EC numbers in the DE lines of a flat file."""
    return set(_EC.findall(description))


def ec_numbers_in(text: str) -> set[str]:
    """EC numbers in a list of them."""
    return set(_NUMBER.findall(text))


def families(similarities: Iterable[str]) -> set[str]:
    """Superfamily, family and subfamily in SIMILARITY comments."""
    found: set[str] = set()
    for text in similarities:
        text = " ".join(_EVIDENCE.sub("", text).split())
        match = _BELONGS.match(text if text.endswith(".") else text + ".")
        if match:
            found |= {_capital(level) for level in match.groups() if level}
    return found


def families_in(text: str) -> set[str]:
    """The same in a cell of the column "Protein families"."""
    levels = [level.strip() for level in re.split(r"(?<=family)[,;] ", text)]
    return {_capital(level) for level in levels if level}


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


class ProteinLabels:
    """Concepts of whole proteins."""

    def __init__(self, rows: ProteinRows, ontology: GeneOntology | None = None) -> None:
        self.rows = rows
        self.ontology = ontology
        self.table = ConceptTable(rows, "protein", "protein")
        self._incomplete: dict[str, set[int]] = defaultdict(set)
        self._names_of: dict[int, set[str]] = {}

    def add(self, protein: int, labels: dict[str, set[str]]) -> None:
        """Take the terms of one protein; a kind that is not in ``labels`` was not asked for."""
        at = self.rows.slice_of(protein)
        for kind, terms in labels.items():
            if terms or kind in ALWAYS_KNOWN:
                self.table.define(kind, protein)
            names = {term if kind == "GO" else f"{kind} {term}" for term in terms}
            if kind == "GO" and self.ontology is not None:
                names = self.ontology.with_ancestors(terms)
            elif kind == "EC":
                names = self._levels(terms, protein)
            for name in names:
                self.table.add(name, (kind,), at.start, at.stop)

    def _levels(self, numbers: set[str], protein: int) -> set[str]:
        """``EC 3.-.-.-`` to ``EC 3.4.21.4`` of each number; remembers which are incomplete."""
        names = set()
        incomplete = False
        for number in numbers:
            levels = _levels_of(number)
            names |= {f"EC {level}" for level in levels}
            if len(levels) < EC_LEVELS:
                self._incomplete[levels[-1]].add(protein)
                incomplete = True
        if incomplete:
            self._names_of[protein] = names
        return names

    def concepts(self) -> list[Concept]:
        """One concept for each term, by name."""
        unknown: dict[str, frozenset[int]] = {}
        for name in self.table.names() if self._incomplete else ():
            if not name.startswith("EC "):
                continue
            *above, _ = _levels_of(name.removeprefix("EC "))
            if not above:
                continue
            if above[-1] not in unknown:
                proteins = [self._incomplete.get(level, ()) for level in above]
                unknown[above[-1]] = frozenset().union(*proteins)
            here = unknown[above[-1]]
            positive = [p for p in here if name in self._names_of[p]]
            self.table.leave_all_unknown(name, here.difference(positive) if positive else here)
        return self.table.concepts()


def _levels_of(number: str) -> list[str]:
    """``3.4.-.-`` → ``3.-.-.-``, ``3.4.-.-``."""
    parts = number.split(".")
    depth = parts.index("-") if "-" in parts else EC_LEVELS
    return [".".join([*parts[:n], *"-" * (EC_LEVELS - n)]) for n in range(1, depth + 1)]
