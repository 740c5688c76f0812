"""PROSITE patterns: parsed here, and never given to a backtracking matcher.

Syntax (https://prosite.expasy.org/prosuser.html): elements joined by ``-``; a letter; ``x`` or
``X`` for any; ``[ST]`` for one of; ``{P}`` for none of; ``(3)`` or ``(2,4)`` repeats the element
before it; ``<`` and ``>`` tie a pattern to the protein's ends; a final full stop is allowed.
Differs: ``[G>]`` (the end as an alternative to a residue) is refused.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from extract.alphabet import LEGAL_RESIDUES
from extract.errors import UserError

LETTERS = "".join(sorted(LEGAL_RESIDUES))
MAX_PATTERN_CHARS = 400
MAX_ELEMENTS = 64
MAX_REPEAT = 300
MAX_SPAN = 1_000

_ELEMENT = re.compile(r"([A-Zx]|\[[A-Z]+\]|\{[A-Z]+\})(?:\((\d{1,4})(?:,(\d{1,4}))?\))?", re.ASCII)


class Element(NamedTuple):
    """``low`` to ``high`` residues, each of ``letters``."""

    letters: str
    """Sorted; all of :data:`LETTERS` for ``x``."""
    low: int
    high: int


class Motif(NamedTuple):
    """A parsed pattern."""

    pattern: str
    """As PROSITE writes it."""
    elements: tuple[Element, ...]
    at_start: bool
    at_end: bool

    @property
    def shortest(self) -> int:
        """Residues of the shortest match."""
        return sum(e.low for e in self.elements)

    @property
    def longest(self) -> int:
        """Residues of the longest match."""
        return sum(e.high for e in self.elements)

    @property
    def regex(self) -> str:
        """The same pattern as a regular expression, for people to copy."""
        parts = [_regex_of(e) for e in self.elements]
        return ("^" if self.at_start else "") + "".join(parts) + ("$" if self.at_end else "")


def looks_like_motif(query: str) -> bool:
    """Whether a person who types this means a pattern, right or wrong: not ``helix-turn-helix``."""
    text = query.strip().rstrip(".")
    if not re.fullmatch(r"[A-Zx\[\]{}()<>,\d-]+", text, re.ASCII):
        return False
    single = re.fullmatch(r"<?[A-Zx](-[A-Zx])+>?", text, re.ASCII)
    return bool(single) or bool(re.search(r"[\[{]|x\(|[A-Z]\(\d", text))


def parse(pattern: str) -> Motif:
    """Read a pattern.

    Raises:
        UserError: the place, the rule and what is right.
    """
    text = "".join(pattern.split()).removesuffix(".")
    if not text:
        raise UserError("the pattern is empty; write one such as C-x(2,4)-C")
    if len(text) > MAX_PATTERN_CHARS:
        raise UserError(f"the pattern has {len(text)} characters; {MAX_PATTERN_CHARS} are allowed")
    at_start, at_end = text.startswith("<"), text.endswith(">")
    parts = text[at_start : len(text) - at_end].split("-")
    if len(parts) > MAX_ELEMENTS:
        raise UserError(f"the pattern has {len(parts)} elements; {MAX_ELEMENTS} are allowed")
    elements = tuple(_parse_element(part, i + 1) for i, part in enumerate(parts))
    motif = Motif(_written(elements, at_start, at_end), elements, at_start, at_end)
    if motif.longest > MAX_SPAN:
        raise UserError(f"the pattern can span {motif.longest} residues; {MAX_SPAN} are allowed")
    if all(e.letters == LETTERS or e.low == 0 for e in elements):
        raise UserError("the pattern matches anything; name at least one residue, as in C-x(2)-C")
    return motif


def _parse_element(part: str, number: int) -> Element:
    place = f"element {number} of the pattern ({part[:20]!r})"
    found = _ELEMENT.fullmatch(part)
    if not found:
        raise UserError(f"{place} is not a letter, x, [ABC] or {{ABC}} with (n) or (n,m) after it")
    what, low, high = found.groups()
    named = set(what.strip("[]{}"))
    if what not in ("x", "X") and not named <= LEGAL_RESIDUES:
        wrong = ", ".join(sorted(named - LEGAL_RESIDUES))
        raise UserError(f"{place}: {wrong} is not the letter of a residue")
    if what in ("x", "X"):
        named = set(LETTERS)
    elif what[0] == "{":
        named = set(LETTERS) - named
    n_low = int(low) if low else 1
    n_high = int(high) if high else n_low
    if not n_low <= n_high <= MAX_REPEAT or n_high == 0:
        raise UserError(f"{place}: repeats are (n) or (n,m) with 0 ≤ n ≤ m ≤ {MAX_REPEAT}, m > 0")
    return Element("".join(sorted(named)), n_low, n_high)


def _written(elements: tuple[Element, ...], at_start: bool, at_end: bool) -> str:
    parts = []
    for letters, low, high in elements:
        times = "" if low == high == 1 else f"({low})" if low == high else f"({low},{high})"
        parts.append(_set_of(letters, "x", "{", "}") + times)
    return "<" * at_start + "-".join(parts) + ">" * at_end


def _regex_of(element: Element) -> str:
    letters, low, high = element
    times = "" if low == high == 1 else f"{{{low}}}" if low == high else f"{{{low},{high}}}"
    return _set_of(letters, ".", "[^", "]") + times


def _set_of(letters: str, anything: str, but: str, end: str) -> str:
    if letters == LETTERS:
        return anything
    if len(letters) == 1:
        return letters
    others = "".join(sorted(set(LETTERS) - set(letters)))
    return f"{but}{others}{end}" if len(others) < len(letters) else f"[{letters}]"
