"""Answers about concepts, dictionary by dictionary."""

from __future__ import annotations

from typing import Any

from explorer.schema import (
    ConceptDetail,
    ConceptInSAE,
    ConceptSummary,
    LatentScore,
)
from explorer.server.errors import NotFound
from explorer.server.latents import score
from explorer.server.library import Library
from explorer.server.source import Concept, Source

MAX_LATENTS = 50
"""Latents listed for a concept, of each dictionary."""


def concept_summaries(library: Library) -> list[ConceptSummary]:
    """Every concept; its counts are of the dictionary with the most labels of it."""
    found: dict[str, tuple[Concept, dict[str, LatentScore]]] = {}
    for source in library:
        best = _best(source)
        for concept in source.concepts:
            first, scores = found.setdefault(concept.name, (concept, {}))
            if concept.n_positive > first.n_positive:
                found[concept.name] = (concept, scores)
            if concept.concept in best:
                scores[source.id] = best[concept.concept]
    return [
        ConceptSummary(
            concept=c.name, kind=c.kind, level=c.level,  # type: ignore[arg-type]
            n_positive=c.n_positive, n_clusters=c.n_clusters, base_rate=c.base_rate, best=scores,
        )
        for c, scores in found.values()
    ]  # fmt: skip


def _best(source: Source) -> dict[int, LatentScore]:
    """The latent that training chose for each concept, with its interval."""
    rows = source.bundle.rows(
        "SELECT s.*, c.best FROM scores s JOIN concepts c USING (concept) "
        "WHERE s.features = 'latent' AND c.best IS NOT NULL"
    )
    return {
        row["concept"]: _latent_score(
            source, source.concepts[row["concept"]], row["best"], row, row
        )
        for row in rows
    }


def _latent_score(
    source: Source, concept: Concept, latent: int, row: Any, interval: Any
) -> LatentScore:
    """``row`` has the scores, ``interval`` (or None) the ends of F1's."""
    is_best = concept.best == latent
    return LatentScore(
        sae=source.id,
        latent=latent,
        label=source.labels[latent],
        kind=source.kinds[latent],
        score=score(row, interval),
        is_best=is_best,
        found=concept.found if is_best else None,
    )


def concept_detail(library: Library, name: str) -> ConceptDetail:
    """A concept and the best latents of each dictionary.

    Raises:
        NotFound: no dictionary has it.
    """
    found = [(s, c) for s in library if (c := s.concept(name)) is not None]
    if not found:
        raise NotFound(f"no concept {name[:60]!r}; /concepts lists them")
    first = found[0][1]
    return ConceptDetail(
        concept=first.name,
        kind=first.kind,
        level=first.level,  # type: ignore[arg-type]
        saes=[_in_sae(source, concept) for source, concept in found],
    )


def _in_sae(source: Source, concept: Concept) -> ConceptInSAE:
    scores = {
        row["features"]: row
        for row in source.bundle.rows("SELECT * FROM scores WHERE concept = ?", concept.concept)
    }
    rows = source.bundle.rows(
        "SELECT * FROM associations WHERE concept = ? ORDER BY f1_validation DESC LIMIT ?",
        concept.concept, MAX_LATENTS,
    )  # fmt: skip
    chosen = scores.get("latent")
    latents = [
        # only the chosen latent's score has an interval
        _latent_score(
            source, concept, row["latent"], row, chosen if concept.best == row["latent"] else None
        )
        for row in rows
    ]
    if chosen is not None and concept.best is not None and not any(x.is_best for x in latents):
        latents.insert(0, _latent_score(source, concept, concept.best, chosen, chosen))
    return ConceptInSAE(
        sae=source.id,
        n_positive=concept.n_positive,
        n_clusters=concept.n_clusters,
        base_rate=concept.base_rate,
        latents=latents,
        baselines={
            features: score(row, row) for features, row in scores.items() if features != "latent"
        },
    )
