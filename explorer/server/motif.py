"""Where a motif occurs, and which latents fire there."""

from __future__ import annotations

import numpy as np

from explorer.schema import MotifHit, MotifLatent, MotifResults
from explorer.server.cache import BoundedCache
from explorer.server.library import Library
from explorer.server.pattern import Motif, parse
from explorer.server.proteins import residues_active
from explorer.server.scan import Matches, find_motif
from explorer.server.source import Source, significant

MAX_RANKED_PROTEINS = 100
"""Proteins with matches whose latents are counted, evenly spaced among all that have some."""
MAX_SHOWN_MATCHES = 100
"""Of one protein."""
MAX_COUNTED_MATCHES = 200
"""Of one protein, for recall; a pattern such as A(2) has thousands in a long repeat."""
MAX_LATENTS = 20
CACHE_BYTES = 64 << 20


class MotifSearch:
    """Scans for motifs, with the last ones kept."""

    def __init__(self, library: Library) -> None:
        """Over the bundles of a library."""
        self.library = library
        self._cache: BoundedCache[Matches] = BoundedCache(CACHE_BYTES, _size)
        self._ranked: BoundedCache[list[MotifLatent]] = BoundedCache(
            1 << 20, lambda ranked: 500 * len(ranked) + 200
        )

    def matches(self, source: Source, motif: Motif) -> Matches:
        """All matches; bundles of the same sequences share one scan."""
        corpus = source.bundle.manifest["files"]["sequences.npy"]["sha256"]
        return self._cache.get((corpus, motif.pattern), lambda: find_motif(source.corpus, motif))

    def _rank(self, source: Source, motif: Motif) -> list[MotifLatent]:
        key = (source.bundle.hash, motif.pattern)
        return self._ranked.get(key, lambda: rank_latents(source, self.matches(source, motif)))

    def answer(self, pattern: str, sae: str | None, n: int) -> MotifResults:
        """Proteins with the most matches, and the latents that fire on matches by F1.

        Without ``sae`` the proteins are those of the first bundle, the latents of all.

        Raises:
            UserError: a pattern that is none, or that matches nearly everywhere.
            NotFound: no such dictionary.
        """
        motif = parse(pattern)
        sources = self.library.some(sae)
        if not sources:
            return MotifResults(
                pattern=motif.pattern, regex=motif.regex, n_matches=0, n_proteins=0, hits=[],
                latents=[],
            )  # fmt: skip
        found = self.matches(sources[0], motif)
        ranked = [x for s in sources for x in self._rank(s, motif)]
        ranked.sort(key=lambda x: -x.f1)
        return MotifResults(
            pattern=motif.pattern,
            regex=motif.regex,
            n_matches=len(found.protein),
            n_proteins=len(np.unique(found.protein)),
            hits=_hits(sources[0], found, n),
            latents=ranked[:MAX_LATENTS],
        )


def _size(matches: Matches) -> int:
    return sum(column.nbytes for column in matches) + 200


def _hits(source: Source, found: Matches, n: int) -> list[MotifHit]:
    proteins, first, counts = np.unique(found.protein, return_index=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:n]
    rows = source.proteins(proteins[order].tolist())
    hits = []
    for i in order.tolist():
        row, at = (
            rows[int(proteins[i])],
            slice(first[i], first[i] + min(counts[i], MAX_SHOWN_MATCHES)),
        )
        matches = zip((found.start[at] + 1).tolist(), found.stop[at].tolist())
        hits.append(
            MotifHit(
                accession=row["accession"], description=row["description"], length=row["length"],
                matches=list(matches),
            )
        )  # fmt: skip
    return hits


def rank_latents(source: Source, found: Matches) -> list[MotifLatent]:
    """Latents by how well being active tells the residues of matches.

    precision = active residues in matches / active residues; recall = matches with an active
    residue / matches; F1 = their harmonic mean. Counted in at most :data:`MAX_RANKED_PROTEINS` of
    the proteins with matches, and scaled to all of them; the active residues of a latent are those
    of all proteins, scaled to the proteins whose activations the bundle keeps.
    """
    keep = found.protein < source.n_tracked
    protein, start, stop = (column[keep] for column in found)
    having = np.unique(protein)
    if not len(having):
        return []
    spaced = np.linspace(0, len(having) - 1, min(len(having), MAX_RANKED_PROTEINS)).astype(int)
    inside = np.zeros(source.d_sae)
    hit = np.zeros(source.d_sae)
    n_matches = 0
    for p in having[spaced].tolist():
        rows = slice(*np.searchsorted(protein, [p, p + 1]).tolist())
        latents, residues, matched = _count(source, p, start[rows], stop[rows])
        inside[latents] += residues
        hit[latents] += matched
        n_matches += min(rows.stop - rows.start, MAX_COUNTED_MATCHES)
    active = source.n_active * source.tracked_share
    fired = np.flatnonzero(hit)
    scale = len(having) / len(spaced)
    precision = np.minimum(inside[fired] * scale / np.maximum(active[fired], 1), 1)
    recall = hit[fired] / n_matches
    f1 = 2 * precision * recall / (precision + recall)
    best = np.argsort(-f1, kind="stable")[:MAX_LATENTS]
    columns = (significant(c[best], 4).tolist() for c in (precision, recall, f1))
    return [
        MotifLatent(**source.name_of(int(fired[i])).model_dump(), precision=p, recall=r, f1=f)
        for i, p, r, f in zip(best, *columns)
    ]


def _count(
    source: Source, protein: int, start: np.ndarray, stop: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latents that fire in matches of one protein: residues of each in matches, matches hit."""
    latents, position, owner = residues_active(source, protein)
    offsets = source.corpus.offsets
    length = int(offsets[protein + 1] - offsets[protein])
    edges = np.zeros(length + 1, dtype=np.int64)
    np.add.at(edges, start, 1)
    np.add.at(edges, stop, -1)
    is_inside = np.cumsum(edges)[position] > 0
    position, owner = position[is_inside].astype(np.int64), owner[is_inside]
    residues = np.bincount(owner, minlength=len(latents))
    start, stop = start[:MAX_COUNTED_MATCHES], stop[:MAX_COUNTED_MATCHES]
    # entries are ordered by latent and position: a match is hit when its first entry at or after
    # its start, of the same latent, lies before its stop
    key = owner * (length + 1) + position
    firing = np.unique(owner)
    wanted = firing[:, None] * (length + 1) + start
    after = np.append(key, np.iinfo(np.int64).max)[np.searchsorted(key, wanted)]
    matched = np.zeros(len(latents), dtype=np.int64)
    matched[firing] = (after < firing[:, None] * (length + 1) + stop).sum(axis=1)
    return latents, residues, matched
