"""All matches of a PROSITE pattern, or all places of a substring, in the proteins of a bundle.

The matcher is a dynamic programme over arrays: for a pattern of m elements with repeats of at most
r it takes O(m log r) passes over the residues, whatever the pattern and whatever the proteins. It
cannot backtrack, and NumPy's passes leave other threads running.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from explorer.server.pattern import LETTERS, Element, Motif
from extract.errors import UserError

MAX_MATCHES = 1_000_000
CHUNK_RESIDUES = 1 << 16
"""Arrays of this many bytes stay in a core's cache."""
SUBSTRING_RESIDUES = 1 << 20


class Matches(NamedTuple):
    """Places in proteins, by protein and by start; half-open, from 0."""

    protein: np.ndarray
    start: np.ndarray
    stop: np.ndarray


class Corpus(NamedTuple):
    """Sequences end to end."""

    letters: np.ndarray
    """uint8 ``[residues]``, such as a memory-mapped file."""
    offsets: np.ndarray
    """int64 ``[proteins + 1]``."""


class _Text(NamedTuple):
    """Some proteins with a zero byte before, between and after them."""

    text: np.ndarray
    first: int
    """Protein that comes first."""
    starts: np.ndarray
    """Where each protein starts in ``text``."""


def find_motif(corpus: Corpus, motif: Motif) -> Matches:
    """Where a pattern matches: from each start the longest match, and none inside another.

    That is how ScanProsite counts: matches may overlap, but a match that lies wholly inside an
    earlier one is not counted (de Castro et al. 2006, doi:10.1093/nar/gkl124).

    Raises:
        UserError: more than :data:`MAX_MATCHES` matches.
    """
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    n_found = 0
    for chunk in _texts(corpus):
        starts, stops = _match_text(chunk.text, motif)
        n_found += len(starts)
        if n_found > MAX_MATCHES:
            raise UserError(
                f"{motif.pattern} matches more than {MAX_MATCHES:,} places; make it more specific"
            )
        if len(starts):
            index = np.searchsorted(chunk.starts, starts, side="right") - 1
            first = chunk.starts[index]
            found.append((chunk.first + index, starts - first, stops - first))
    if not found:
        nothing = np.zeros(0, dtype=np.int64)
        return Matches(nothing, nothing, nothing)
    return Matches(*(np.concatenate(column) for column in zip(*found)))


def find_substring(corpus: Corpus, needle: str, most: int) -> list[tuple[int, int]]:
    """The first ``most`` places (protein, start) where ``needle`` occurs, one for each protein."""
    sought, offsets = needle.encode("ascii"), corpus.offsets
    found: list[tuple[int, int]] = []
    end, first = len(corpus.letters), 0
    while first < end:
        # a copy of this many residues, and of what a place that begins in them may need beyond
        text = corpus.letters[first : first + SUBSTRING_RESIDUES + len(sought) - 1].tobytes()
        at = text.find(sought)
        while 0 <= at < SUBSTRING_RESIDUES:
            place = first + at
            protein = int(np.searchsorted(offsets, place, side="right")) - 1
            following = int(offsets[protein + 1])
            if place + len(sought) > following:  # its end is in the next protein
                at = text.find(sought, at + 1)
                continue
            if not (found and found[-1][0] == protein):
                found.append((protein, place - int(offsets[protein])))
            if len(found) == most:
                return found
            at = text.find(sought, following - first)
        first += SUBSTRING_RESIDUES
    return found


def _texts(corpus: Corpus) -> Iterator[_Text]:
    """Whole proteins, about :data:`CHUNK_RESIDUES` at a time."""
    view, offsets = memoryview(corpus.letters.data), corpus.offsets
    first, n_proteins = 0, len(offsets) - 1
    while first < n_proteins:
        enough = np.searchsorted(offsets, offsets[first] + CHUNK_RESIDUES, side="left")
        last = min(max(int(enough), first + 1), n_proteins)
        bounds = offsets[first : last + 1]
        edges = bounds.tolist()
        parts = [view[a:b] for a, b in pairwise(edges)]
        text = np.frombuffer(b"\0".join([b"", *parts, b""]), dtype=np.uint8)
        starts = bounds[:-1] - bounds[0] + np.arange(1, last - first + 1)
        yield _Text(text, first, starts)
        first = last


def _match_text(text: np.ndarray, motif: Motif) -> tuple[np.ndarray, np.ndarray]:
    """Starts and stops of the matches in one text."""
    ends = text == 0 if motif.at_end else np.ones(len(text), dtype=bool)
    can_start = _run(text, motif, ends, np.logical_and, np.logical_or, False)
    if motif.at_start:
        can_start[1:] &= text[:-1] == 0
    starts = np.flatnonzero(can_start)
    if not len(starts):
        return starts, starts
    if motif.shortest == motif.longest:
        return starts, starts + motif.shortest
    places = np.where(ends, np.arange(len(text), dtype=np.int32), np.int32(-1))
    stops = _run(text, motif, places, _where, np.maximum, -1)[starts].astype(np.int64)
    reached = np.maximum.accumulate(stops)
    kept = np.append(True, stops[1:] > reached[:-1])
    return starts[kept], stops[kept]


def _where(yes: np.ndarray, value: np.ndarray, out: np.ndarray) -> None:
    np.copyto(out, value, where=yes)


def _run(
    text: np.ndarray, motif: Motif, state: np.ndarray, keep: Callable, join: Callable, no: int
) -> np.ndarray:
    """What ``state`` says of the residue after a match, carried back to where the match starts.

    With booleans: whether a match starts at a residue. With the residue's own place: the end of
    the longest match that starts there, −1 without one.
    """
    masks: dict[str, np.ndarray] = {}

    def step(run: np.ndarray, by: int, state: np.ndarray) -> np.ndarray:
        moved = np.full_like(state, no)
        if by < len(state):
            keep(run[: len(run) - by], state[by:], out=moved[: len(moved) - by])
        return moved

    for element in reversed(motif.elements):
        if element.letters not in masks:
            masks[element.letters] = _is_member(text, element)
        mask = masks[element.letters]
        if element.low:
            state = step(_runs(mask, element.low), element.low, state)
        done, wanted = 0, element.high - element.low
        while done < wanted:
            # ``state`` allows 0 … done more residues; a run of `more` ≤ done + 1 extends that
            more = min(done + 1, wanted - done)
            state = join(state, step(_runs(mask, more), more, state))
            done += more
    return state


def _runs(mask: np.ndarray, length: int) -> np.ndarray:
    """Where a run of ``length`` true values starts, by doubling."""
    run, done = mask, 1
    while done < length:
        more = min(done, length - done)
        longer = np.zeros_like(run)
        if more < len(run):
            np.logical_and(run[: len(run) - more], run[more:], out=longer[: len(run) - more])
        run, done = longer, done + more
    return run


def _is_member(text: np.ndarray, element: Element) -> np.ndarray:
    """Whether each byte is one of the element's letters; comparisons are quicker than look-ups."""
    letters = element.letters
    others = sorted(set(LETTERS) - set(letters))
    if len(letters) <= 4:
        found = text == ord(letters[0])
        for letter in letters[1:]:
            found |= text == ord(letter)
    elif len(others) <= 4:
        found = text != 0
        for letter in others:
            found &= text != ord(letter)
    else:
        table = np.zeros(256, dtype=bool)
        table[np.frombuffer(letters.encode(), dtype=np.uint8)] = True
        found = np.take(table, text)
    return found
