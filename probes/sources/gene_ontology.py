"""The Gene Ontology: what else is true of a protein that has a term.

A term's *ancestors* are all that ``is_a`` and ``part_of`` lead to (the "true path rule" of GO:
what has the term has them); other relations, such as ``regulates``, do not carry over. They may
lead from one of GO's three branches into another, as a function that is part of a process.
An obsolete term counts as the one that replaced it (``replaced_by``, one at most); where none did,
it is no term any more. One that it says to ``consider`` need not be true.
Source: geneontology.org/docs/ontology-relations, and the OBO 1.4 format.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from extract.errors import UserError
from extract.files import open_text

REMEDY = "give the Gene Ontology's go-basic.obo"

_TAG = re.compile(r"(id|alt_id|is_a|replaced_by|relationship): +(?:(part_of) +)?(GO:\d{7})\b")
_OBSOLETE = re.compile(r"is_obsolete: +true\b")
_SHOWN = 6
"""Terms of a cycle that an error names."""


class GeneOntology:
    """Which terms imply which."""

    def __init__(self, parents: dict[str, set[str]], primary: dict[str, str]) -> None:
        """Of every term its parents, and of every other id of a term the one it has now."""
        self._parents, self._primary = parents, primary
        self._ancestors: dict[str, frozenset[str]] = {}

    @classmethod
    def read(cls, path: Path) -> GeneOntology:
        """Read ``go-basic.obo``, plain or gzipped.

        Raises:
            UserError: no such file, no GO term in it, a term that occurs twice, a parent that the
                file does not have, or terms that imply each other in a circle.
        """
        read = _Stanzas.of(path)
        parents, primary = read.parents, read.primary()
        for term in read.obsolete:
            del parents[term]
        for (term, parent), number in read.line_of.items():
            if parent not in parents and parent not in primary:
                raise UserError(
                    f"{path}: line {number}: {term} lies below {parent}, which the file does not "
                    f"have; {REMEDY}, whole"
                )
        parents = {t: {primary.get(p, p) for p in above} for t, above in parents.items()}
        _refuse_cycles(path, parents)
        return cls(parents, primary)

    def unknown(self, terms: Iterable[str]) -> list[str]:
        """Terms that the ontology does not have, or no longer, and that none has replaced."""
        return [t for t in terms if t not in self._parents and t not in self._primary]

    def with_ancestors(self, terms: Iterable[str]) -> set[str]:
        """The terms under the ids they have now, and all above them; unknown ones as they are."""
        found: set[str] = set()
        for term in terms:
            found |= self._upward(self._primary.get(term, term))
        return found

    def _upward(self, term: str) -> frozenset[str]:
        """A term and its ancestors."""
        if term not in self._ancestors:
            seen, left = {term}, [term]
            while left:
                above = self._parents.get(left.pop(), set()) - seen
                seen |= above
                left += above
            self._ancestors[term] = frozenset(seen)
        return self._ancestors[term]


@dataclass
class _Stanzas:
    """What the file says of its terms, obsolete ones among them."""

    parents: dict[str, set[str]] = field(default_factory=dict)
    former: dict[str, str] = field(default_factory=dict)
    """Term of each other id."""
    replaced: dict[str, str] = field(default_factory=dict)
    obsolete: set[str] = field(default_factory=set)
    line_of: dict[tuple[str, str], int] = field(default_factory=dict)
    """Where each (term, parent) stands."""

    @classmethod
    def of(cls, path: Path) -> _Stanzas:
        """Gather them."""
        found, term = cls(), ""
        for number, tag, go in _tags(path):
            if tag == "id":
                if go in found.parents:
                    raise UserError(
                        f"{path}: line {number}: {go} occurs twice; {REMEDY} as it was published"
                    )
                term = go
                found.parents[term] = set()
            elif tag == "alt_id":
                found.former[go] = term
            elif tag == "replaced_by":
                found.replaced[term] = go
            elif tag == "obsolete":
                found.obsolete.add(term)
            else:
                found.line_of.setdefault((term, go), number)
                found.parents[term].add(go)
        if not found.parents:
            raise UserError(f"{path}: holds no GO term; {REMEDY}")
        return found

    def primary(self) -> dict[str, str]:
        """The present id of each former one; those that lead to no present term are left out."""
        there = self.parents.keys() - self.obsolete
        leads = {old: new for old, new in self.former.items() if old not in self.parents}
        leads |= {old: new for old, new in self.replaced.items() if old in self.obsolete}
        found = {}
        for old, new in leads.items():
            passed = {old}
            while new in leads and new not in passed:  # a replacement may have been replaced
                passed.add(new)
                new = leads[new]
            if new in there:
                found[old] = new
        return found


def _tags(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line, what, GO id) in the stanzas of terms: ``id``, ``alt_id``, ``replaced_by``, ``parent``,
    or ``obsolete``."""
    in_term = has_id = False
    with open_text(path) as text:
        for number, line in enumerate(text, start=1):
            if line.startswith("["):
                in_term, has_id = line.strip() == "[Term]", False
            elif line.startswith("id:"):
                in_term &= "GO:" in line  # go-plus.obo has terms of other ontologies, too
            match = _TAG.match(line) if in_term else None
            if in_term and has_id and _OBSOLETE.match(line):
                yield number, "obsolete", ""
            if match is None:
                continue
            tag, part_of, go = match.groups()
            if tag == "id":
                has_id = True
            elif not has_id:
                raise UserError(
                    f"{path}: line {number}: a [Term] begins without its id; {REMEDY} as it was "
                    "published"
                )
            if tag == "is_a" or part_of:
                yield number, "parent", go
            elif tag != "relationship":
                yield number, tag, go


def _refuse_cycles(path: Path, parents: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter(parents).prepare()
    except CycleError as error:
        cycle = error.args[1]
        words = " → ".join(cycle if len(cycle) <= _SHOWN else [*cycle[:_SHOWN], "…"])
        raise UserError(
            f"{path}: terms imply each other in a circle ({words}); {REMEDY}, which has none"
        ) from None
