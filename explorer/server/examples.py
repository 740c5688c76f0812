"""Rows of the example tabs: a latent along the sequences of proteins."""

from __future__ import annotations

from sqlite3 import Row
from typing import NamedTuple

import numpy as np

from explorer.layout import GROUPS
from explorer.schema import Example, Examples, Feature, Group, Outcome, Track
from explorer.server.errors import NotFound
from explorer.server.source import Concept, Source, flat_ranges, significant

MAX_CANDIDATES = 512
"""Proteins that are looked at for the examples of a concept: enough for any page of them, and few
enough for a quick answer when their pages come from the disk. ``total`` counts among these."""


class Raw(NamedTuple):
    """An example before its protein is looked up."""

    protein: int
    position: np.ndarray
    """From 0."""
    value: np.ndarray
    focus: int | None = None
    """The residue to look at, from 0, where it is not that of the maximum."""


def group_examples(source: Source, latent: int, group: Group, n: int) -> Examples:
    """Exemplars that the bundle keeps."""
    source.check_latent(latent)
    raw = kept_examples(source, "examples", latent * len(GROUPS) + GROUPS.index(group), n)
    total = int(source["examples/total"][latent, GROUPS.index(group)])
    return _page(source, latent, group, total, raw)


def kept_examples(source: Source, folder: str, row: int, n: int) -> list[Raw]:
    """The first ``n`` examples of a list of ``examples/`` or ``neurons/``."""
    start, stop = source[f"{folder}/indptr"][row : row + 2]
    proteins = source[f"{folder}/protein"][start : min(stop, start + n)]
    edges = source[f"{folder}/entries"][start : start + len(proteins) + 1]
    position, value = source[f"{folder}/position"], source[f"{folder}/value"]
    return [Raw(int(p), position[a:b], value[a:b]) for p, a, b in zip(proteins, edges, edges[1:])]


def example_in(source: Source, latent: int, accession: str) -> Example:
    """A latent along one protein, silent or not.

    Raises:
        NotFound: no such protein, or one whose activations the bundle does not keep.
    """
    source.check_latent(latent)
    row = source.protein(accession)
    number = row["protein"]
    if number >= source.n_tracked:
        raise NotFound(f"{source.id} keeps only the maxima of {accession}, not its activations")
    pair = int(source.pairs(latent, np.array([number]))[0])
    return example(source, row, source.features([number])[number], *source.track(pair))


def example(
    source: Source, row: Row, features: list[Feature], position: np.ndarray, value: np.ndarray,
    focus: int | None = None,
) -> Example:  # fmt: skip
    """An example of one protein; positions from 0."""
    value = significant(value)
    best = int(value.argmax()) if len(value) else None
    argmax = None if best is None else int(position[best])
    focus = argmax if focus is None else focus
    return Example(
        accession=row["accession"],
        description=row["description"],
        sequence=source.sequence(row),
        structure=row["structure"] is not None,
        max=0.0 if best is None else float(value[best]),
        argmax=None if argmax is None else argmax + 1,
        focus=None if focus is None else focus + 1,
        track=Track(positions=(position.astype(np.int64) + 1).tolist(), values=value.tolist()),
        features=features,
        part=row["part"],
    )


def examples_of(source: Source, raw: list[Raw]) -> list[Example]:
    """Examples with their proteins and annotations."""
    numbers = [r.protein for r in raw]
    rows, features = source.proteins(numbers), source.features(numbers)
    return [
        example(source, rows[r.protein], features[r.protein], r.position, r.value, r.focus)
        for r in raw
    ]


def _page(source: Source, latent: int, group: str, total: int, raw: list[Raw]) -> Examples:
    return Examples(
        sae=source.id, latent=latent, group=group, total=total, examples=examples_of(source, raw)
    )


def concept_examples(source: Source, latent: int, name: str, outcome: Outcome, n: int) -> Examples:
    """Proteins where a latent hits or misses a concept, by the probes' threshold.

    true_positive: it fires inside the concept, the highest such value first. false_positive: it
    fires outside, where the concept's answer is known, the highest such value first. near_miss:
    the concept is there and no residue of it fires; those where the latent comes nearest first.

    The first two look at the :data:`MAX_CANDIDATES` proteins with the latent's highest maxima, the
    third at as many proteins with the concept; only those whose activations the bundle keeps.

    Raises:
        NotFound: no such latent or concept.
    """
    source.check_latent(latent)
    concept = source.concept(name)
    if concept is None:
        raise NotFound(f"{source.id} has no concept {name[:60]!r}; /concepts lists them")
    scored = source.bundle.first(
        "SELECT threshold FROM associations WHERE latent = ? AND concept = ?",
        latent, concept.concept,
    )  # fmt: skip
    threshold = 0.0 if scored is None else float(scored[0])
    spans = None
    if outcome == "near_miss":
        proteins = _with_concept(source, concept)
        if concept.letters is None:
            spans = source.with_concept(concept, MAX_CANDIDATES)[1]
    else:
        proteins = _with_latent(source, latent, threshold)
    proteins = proteins[source.is_defined(concept, proteins)]
    inside, outside, best = _maxima(source, latent, concept, proteins, spans)
    if outcome == "true_positive":
        belongs, key = inside > threshold, inside
    elif outcome == "false_positive":
        belongs, key = outside > threshold, outside
    else:
        belongs, key = inside <= threshold, best
    chosen = np.flatnonzero(belongs)
    chosen = proteins[chosen[np.argsort(-key[chosen], kind="stable")[:n]]]
    raw = [
        _focused(source, concept, outcome, Raw(int(p), *source.track(int(pair))))
        for p, pair in zip(chosen, source.pairs(latent, chosen))
    ]
    return _page(source, latent, outcome, int(belongs.sum()), raw)


def _focused(source: Source, concept: Concept, outcome: Outcome, raw: Raw) -> Raw:
    """An example with the residue that makes it one."""
    first = source.corpus.offsets[raw.protein]
    if outcome == "near_miss":
        length = source.corpus.offsets[raw.protein + 1] - first
        here = covered(source, concept, np.array([raw.protein]), first + np.arange(length))
        return raw._replace(focus=int(here.argmax()))
    here = covered(source, concept, np.array([raw.protein]), first + raw.position)
    wanted = here if outcome == "true_positive" else ~here
    best = np.where(wanted, raw.value, -1).argmax()
    return raw._replace(focus=int(raw.position[best]))


def _with_latent(source: Source, latent: int, threshold: float) -> np.ndarray:
    start, stop = source["by_latent/indptr"][latent : latent + 2]
    maxima = source["by_latent/max"][start:stop]
    stop = start + np.searchsorted(-maxima, -threshold, side="left")
    proteins = source["by_latent/protein"][start:stop].astype(np.int64)
    return proteins[proteins < source.n_tracked][:MAX_CANDIDATES]


def _with_concept(source: Source, concept: Concept) -> np.ndarray:
    if concept.letters is not None:
        # nearly every protein has the letter: evenly spaced ones
        step = max(1, source.n_tracked // MAX_CANDIDATES)
        proteins = np.arange(0, source.n_tracked, step)[:MAX_CANDIDATES]
        has = [_letters_inside(source, concept, p).any() for p in proteins.tolist()]
        return proteins[np.array(has, dtype=bool)]
    return source.with_concept(concept, MAX_CANDIDATES)[0]


def _letters_inside(source: Source, concept: Concept, protein: int) -> np.ndarray:
    letters, offsets = source.corpus
    wanted = np.frombuffer((concept.letters or "").encode(), dtype=np.uint8)
    return np.isin(letters[offsets[protein] : offsets[protein + 1]], wanted)


def _maxima(
    source: Source, latent: int, concept: Concept, proteins: np.ndarray, spans: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Highest value of a latent inside a concept, outside it, and anywhere, for each protein."""
    pairs = source.pairs(latent, proteins)
    edges = source["tracks/indptr"]
    starts = np.where(pairs < 0, 0, edges[pairs])
    stops = np.where(pairs < 0, 0, edges[pairs + 1])
    entries, owner = flat_ranges(starts, stops)
    values = source["tracks/value"][entries].astype(np.float32)
    place = source.corpus.offsets[proteins[owner]] + source["tracks/position"][entries]
    is_inside = covered(source, concept, proteins, place, spans)
    inside, outside = (np.zeros(len(proteins), dtype=np.float32) for _ in range(2))
    np.maximum.at(inside, owner[is_inside], values[is_inside])
    np.maximum.at(outside, owner[~is_inside], values[~is_inside])
    return inside, outside, np.maximum(inside, outside)


def covered(
    source: Source, concept: Concept, proteins: np.ndarray, place: np.ndarray,
    spans: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Whether residues (numbered through all sequences) of some proteins lie in a concept.

    ``spans``: those of the concept in (at least) these proteins, where they are known already.
    """
    if concept.letters is not None:
        wanted = np.frombuffer(concept.letters.encode(), dtype=np.uint8)
        return np.isin(source["sequences"][place], wanted)
    if not len(proteins) or not len(place):
        return np.zeros(len(place), dtype=bool)
    rows = source.spans_of(concept, proteins) if spans is None else spans
    starts = source.corpus.offsets[rows[:, 0]] + rows[:, 1]
    stops = source.corpus.offsets[rows[:, 0]] + rows[:, 2]
    # how many spans have started, less those that have ended, at each place
    started = np.searchsorted(np.sort(starts), place, side="right")
    ended = np.searchsorted(np.sort(stops), place, side="right")
    return started > ended
