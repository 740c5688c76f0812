"""The Gene Ontology: what else is true of a protein that has a term.

A term's *ancestors* are all that ``is_a`` and ``part_of`` lead to (the "true path rule" of GO:
what has the term has them); other relations, such as ``regulates``, do not carry over. They may
lead from one of GO's three branches into another, as a function that is part of a process.
Source: geneontology.org/docs/ontology-relations, and the OBO 1.4 format.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from extract.errors import UserError
from extract.files import open_text

REMEDY = "give the Gene Ontology's go-basic.obo"

_TAG = re.compile(r"(id|alt_id|is_a|relationship): +(?:(part_of) +)?(GO:\d{7})\b")
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
        parents: dict[str, set[str]] = {}
        primary: dict[str, str] = {}
        line_of: dict[tuple[str, str], int] = {}
        term = ""
        for number, tag, go in _tags(path):
            if tag == "id":
                if go in parents:
                    raise UserError(
                        f"{path}: line {number}: {go} occurs twice; {REMEDY} as it was published"
                    )
                term = go
                parents[term] = set()
            elif tag == "alt_id":
                primary[go] = term
            else:
                line_of.setdefault((term, go), number)
                parents[term].add(go)
        if not parents:
            raise UserError(f"{path}: holds no GO term; {REMEDY}")
        primary = {old: new for old, new in primary.items() if old not in parents}
        for (term, parent), number in line_of.items():
            if parent not in parents and parent not in primary:
                raise UserError(
                    f"{path}: line {number}: {term} lies below {parent}, which the file does not "
                    f"have; {REMEDY}, whole"
                )
        parents = {t: {primary.get(p, p) for p in above} for t, above in parents.items()}
        _refuse_cycles(path, parents)
        return cls(parents, primary)

    def unknown(self, terms: Iterable[str]) -> list[str]:
        """Terms that the ontology does not have, neither as present nor as former ids."""
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


def _tags(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line, ``id``, ``alt_id`` or ``parent``, GO id) in the stanzas of terms."""
    in_term = has_id = False
    with open_text(path) as text:
        for number, line in enumerate(text, start=1):
            if line.startswith("["):
                in_term, has_id = line.strip() == "[Term]", False
            elif line.startswith("id:"):
                in_term &= "GO:" in line  # go-plus.obo has terms of other ontologies, too
            match = _TAG.match(line) if in_term else None
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
