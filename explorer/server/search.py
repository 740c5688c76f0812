"""The search box: latents, concepts and proteins by what the query is taken for."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator

from explorer.schema import SearchHit, SearchResults
from explorer.server.cache import BoundedCache
from explorer.server.library import Library
from explorer.server.motif import MotifSearch
from explorer.server.proteins import PDB
from explorer.server.query import (
    MIN_PEPTIDE,
    as_sequence,
    concept_expression,
    match_expression,
    read_query,
)
from explorer.server.scan import find_substring
from explorer.server.source import Source

MAX_RANKED = 1_000
"""Matches of a text that are ranked; more are counted, and the first of them shown."""
MAX_CONCEPTS = 5
"""Concepts that match a text, of which the latents come first."""
MIN_SHOWN_F1 = 0.1
MAX_PLACES = 200
"""Proteins with a substring that are counted."""


class Search:
    """Answers of the search box."""

    def __init__(self, library: Library, motifs: MotifSearch) -> None:
        """Over the bundles of a library."""
        self.library, self.motifs = library, motifs
        self._places: BoundedCache[list[tuple[int, int]]] = BoundedCache(
            4 << 20, lambda places: 200 * len(places) + 200
        )

    @staticmethod
    def scans(query: str) -> bool:
        """Whether the answer may take a scan of all sequences."""
        return read_query(query).read_as in ("motif", "sequence") or as_sequence(query) is not None

    def answer(self, query: str, sae: str | None, n: int) -> SearchResults:
        """The best ``n`` hits.

        Raises:
            UserError: a motif that is none.
            NotFound: no such dictionary.
        """
        sources = self.library.some(sae)
        read_as, text = read_query(query)
        hits: list[SearchHit] = []
        total = 0
        if read_as == "latent":
            hits = [_latent_hit(s, int(text)) for s in sources if int(text) < s.d_sae]
        elif read_as == "accession":
            hits = _accessions(sources, text)
        elif read_as == "motif":
            hits, total = self._motif(text, sae, n)
        elif read_as == "sequence":
            hits = self._sequences(sources, text)
        if read_as == "text" or (read_as in ("accession", "latent") and not hits):
            hits, total = self._texts(sources, text, n)
            peptide = as_sequence(query)
            if hits or read_as == "latent":
                read_as = "text" if hits else read_as
            elif peptide is not None and len(peptide) >= MIN_PEPTIDE:
                hits = self._sequences(sources, peptide)
                read_as = "sequence" if hits else read_as
        total = max(total, len(hits))
        return SearchResults(query=query, read_as=read_as, hits=hits[:n], total=total)

    def _motif(self, pattern: str, sae: str | None, n: int) -> tuple[list[SearchHit], int]:
        found = self.motifs.answer(pattern, sae, n)
        latents = [
            SearchHit(
                type="latent", title=f"#{x.latent} {x.label}", sae=x.sae, latent=x.latent,
                subtitle=f"{x.sae} · fires on {x.recall:.0%} of the matches, "
                f"{x.precision:.0%} of its residues lie in one",
            )
            for x in found.latents[: max(1, n // 3)]
        ]  # fmt: skip
        proteins = [
            SearchHit(
                type="protein", title=hit.accession, accession=hit.accession,
                subtitle=f"{hit.description} · {_count(len(hit.matches))}",
                position=hit.matches[0][0],
            )
            for hit in found.hits
        ]  # fmt: skip
        return latents + proteins, len(latents) + found.n_proteins

    def _sequences(self, sources: list[Source], sequence: str) -> list[SearchHit]:
        """Proteins that are the sequence or hold it, each once."""
        hits: dict[str, SearchHit] = {}
        digest = hashlib.sha256(sequence.encode()).hexdigest()
        for source in sources:
            query = "SELECT protein FROM proteins WHERE sha256 = ?"
            equal = [p for (p,) in source.bundle.rows(query, digest)]
            places = [(p, 0) for p in equal] + [
                place for place in self._substrings(source, sequence) if place[0] not in equal
            ]
            rows = source.proteins([p for p, _ in places])
            for protein, start in places:
                row = rows[protein]
                how = "the same sequence" if protein in equal else f"from residue {start + 1}"
                hits.setdefault(
                    row["accession"],
                    SearchHit(
                        type="protein", title=row["accession"], accession=row["accession"],
                        subtitle=f"{row['description']} · {how}", position=start + 1,
                    ),
                )  # fmt: skip
        return list(hits.values())

    def _substrings(self, source: Source, sequence: str) -> list[tuple[int, int]]:
        corpus = source.bundle.manifest["files"]["sequences.npy"]["sha256"]
        return self._places.get(
            (corpus, sequence), lambda: find_substring(source.corpus, sequence, MAX_PLACES)
        )

    def _texts(self, sources: list[Source], text: str, n: int) -> tuple[list[SearchHit], int]:
        """Dictionaries, concepts, latents and proteins; some of each that has any."""
        words = text.casefold().split()
        saes = [
            SearchHit(type="sae", title=s.bundle.name, subtitle=s.id, sae=s.id)
            for s in sources
            if all(w in f"{s.id} {s.bundle.name} {s.bundle.manifest.get('model')}".casefold()
                   for w in words)
        ]  # fmt: skip
        expression = match_expression(text)
        kinds: list[tuple[list[SearchHit], int]] = [(saes, len(saes))]
        if expression is not None:
            wanted = concept_expression(text) or expression
            kinds.append(_merged([_concept_hits(s, wanted, n) for s in sources]))
            kinds.append(_merged([_latent_hits(s, wanted, n) for s in sources]))
            kinds.append(_merged([_protein_hits(s, expression, n) for s in sources]))
        share = max(1, n // 3)
        chosen = [hits[:share] for hits, _ in kinds]
        rest = [hit for hits, _ in kinds for hit in hits[share:]]
        room = n - sum(map(len, chosen))
        for hit in rest[: max(room, 0)]:
            chosen[("sae", "concept", "latent", "protein").index(hit.type)].append(hit)
        return [hit for hits in chosen for hit in hits], sum(total for _, total in kinds)


def _count(n: int) -> str:
    return f"{n} match" + ("es" if n != 1 else "")


def _merged(found: list[tuple[list[SearchHit], int]]) -> tuple[list[SearchHit], int]:
    """Hits of several dictionaries in turns; concepts and proteins that all have count once."""
    longest = max((len(hits) for hits, _ in found), default=0)
    unique: dict[tuple, SearchHit] = {}
    for i in range(longest):
        for hits, _ in found:
            if i < len(hits):
                hit = hits[i]
                name = (hit.sae, hit.latent) if hit.type == "latent" else hit.title
                unique.setdefault((hit.type, name), hit)
    totals = [total for _, total in found]
    latents = any(hit.type == "latent" for hit in unique.values())
    total = sum(totals) if latents else max(totals, default=0)
    return list(unique.values()), max(total, len(unique))


def _match(source: Source, table: str, expression: str, n: int) -> tuple[list[int], int]:
    """Row numbers of the best matches of a text, and how many there are."""
    try:
        (count,) = source.bundle.rows(
            f"SELECT COUNT(*) FROM {table} WHERE {table} MATCH ?", expression
        )[0]
        ranked = "ORDER BY rank" if count <= MAX_RANKED else ""
        rows = source.bundle.rows(
            f"SELECT rowid FROM {table} WHERE {table} MATCH ? {ranked} LIMIT ?", expression, n
        )
    except sqlite3.OperationalError:
        return [], 0  # a word that FTS5's tokenizer leaves nothing of
    return [row for (row,) in rows], count


def _concept_hits(source: Source, expression: str, n: int) -> tuple[list[SearchHit], int]:
    rows, total = _match(source, "concept_search", expression, n)
    hits = []
    for number in rows:
        c = source.concepts[number]
        best = "" if c.best is None else f" · best latent #{c.best} {source.labels[c.best]}"
        hits.append(SearchHit(type="concept", title=c.name, subtitle=c.kind + best, concept=c.name))
    return hits, total


def _latent_hits(source: Source, wanted: str, n: int) -> tuple[list[SearchHit], int]:
    """In this order: latents confirmed to mean a concept that matches, the surest first; those that
    are found to know one; those whose label matches or that training chose all the same, by the
    same measure; the others."""
    numbers, _ = _match(source, "concept_search", wanted, MAX_CONCEPTS)
    concepts = [source.concepts[number] for number in numbers]
    precise = [latent for c in concepts for latent in source.precise.get(c.name, ())]
    precise.sort(key=lambda latent: -source.merit[latent])
    best = [c.best for c in concepts if c.best is not None and c.found]
    tried = [c.best for c in concepts if c.best is not None and not c.found]
    labelled, _ = _match(source, "latent_search", f"label : ({wanted})", MAX_RANKED)
    others, total = _match(source, "latent_search", wanted, MAX_RANKED)
    rest = [*labelled, *tried]
    for found in (rest, others):
        found.sort(key=lambda latent: -source.merit[latent])
    chosen = list(dict.fromkeys([*precise, *best, *rest, *others]))
    return [_latent_hit(source, latent) for latent in chosen[:n]], max(total, len(chosen))


def _latent_hit(source: Source, latent: int) -> SearchHit:
    row, known = source.latent_row(latent), ""
    if source.merit[latent] > 1:
        known = f" · {row['named']} on {row['precision']:.0%} of its residues"
        if row["expected"] is not None:
            known += f", {row['expected']:.0%} by composition"
    elif (row["f1"] or 0) >= MIN_SHOWN_F1:
        known = f" · {row['concept']}: F1 {row['f1']:.2f}"
    return SearchHit(
        type="latent", title=f"#{latent} {source.labels[latent]}".rstrip(),
        subtitle=f"{source.kinds[latent]}{known} · {source.id}", sae=source.id, latent=latent,
    )  # fmt: skip


def _protein_hits(source: Source, expression: str, n: int) -> tuple[list[SearchHit], int]:
    rows, total = _match(source, "protein_search", expression, n)
    found = source.proteins(rows)
    return [_protein_hit(found[p]) for p in rows if p in found], total


def _protein_hit(row: sqlite3.Row) -> SearchHit:
    return SearchHit(
        type="protein", title=row["accession"], subtitle=row["description"],
        accession=row["accession"],
    )  # fmt: skip


def _accessions(sources: list[Source], text: str) -> list[SearchHit]:
    """Proteins of an accession in any case, and the chains of a PDB entry."""
    hits: dict[str, SearchHit] = {}
    for source in sources:
        for candidate in _spellings(text):
            low, high = candidate, candidate
            if PDB.fullmatch(candidate) and len(candidate) == 4:
                high = candidate + "\U0010ffff"
            rows = source.bundle.rows(
                "SELECT accession, description FROM proteins "
                "WHERE accession BETWEEN ? AND ? LIMIT 100", low, high,
            )  # fmt: skip
            for row in rows:
                hits.setdefault(row["accession"], _protein_hit(row))
    return list(hits.values())


def _spellings(text: str) -> Iterator[str]:
    yield text
    if text.upper() != text:
        yield text.upper()
    if found := PDB.fullmatch(text):
        chain = found[2]
        yield found[1].upper()
        if chain:
            yield f"{found[1].upper()}_{chain}"
            yield f"{found[1].lower()}_{chain}"
        else:
            yield found[1].lower()
