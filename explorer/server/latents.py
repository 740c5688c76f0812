"""Answers about latents: the columns of all, and everything about one."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

import numpy as np

from explorer.layout import LATENT_COLUMNS, LOGO_FLANK
from explorer.schema import (
    ConceptScore,
    Histogram,
    LatentColumns,
    LatentDetail,
    LatentName,
    Logo,
    Neighbour,
    NeighbourKind,
    Precise,
    ProteinHit,
    ProteinHits,
    Score,
)
from explorer.server.errors import Unprocessable
from explorer.server.source import Source, significant
from extract.alphabet import AMINO_ACIDS

_TEXTS = ("label", "label_source", "kind")
_NUMBERS = ("frequency", "protein_frequency", "max", "p99")
_PERHAPS = ("span", "f1", "precision")


def columns(source: Source) -> LatentColumns:
    """Every latent, column by column, numbers to five digits."""
    found: dict[str, Any] = {name: [v or "" for v in source.column(name)] for name in _TEXTS}
    for name in _NUMBERS:
        found[name] = [v or 0.0 for v in _numbers(source, name)]
    for name in _PERHAPS:
        found[name] = _numbers(source, name)
    x, y = _numbers(source, "x"), _numbers(source, "y")
    mapped = None not in x and None not in y
    return LatentColumns(
        **found,
        x=x if mapped else None,  # type: ignore[arg-type]
        y=y if mapped else None,  # type: ignore[arg-type]
        concept=source.column("concept"),
        confirmed=[bool(v) for v in source.column("confirmed")],
    )


def _numbers(source: Source, name: str) -> list[float | None]:
    values = np.array(source.column(name), dtype=np.float64)
    return [None if v != v else v for v in significant(values).tolist()]


def columns_csv(source: Source) -> str:
    """The table of latents for a spreadsheet; a text that it would run as a formula is quoted."""
    table = source.bundle.latents.select([c for c in LATENT_COLUMNS])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.column_names)
    for row in zip(*(column.to_pylist() for column in table.columns)):
        writer.writerow([_cell(value) for value in row])
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.7g}" if value == value else ""
    return "'" + value if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


def detail(source: Source, latent: int, others: Iterable[Source]) -> LatentDetail:
    """Everything about a latent but its examples. ``others``: where its concept may be."""
    row = source.latent_row(source.check_latent(latent))
    before, after = _beside(source, latent)
    texts: dict[str, Any] = {name: row[name] or "" for name in _TEXTS}
    numbers: dict[str, Any] = {
        name: _number(row[name]) or 0.0 for name in (*_NUMBERS, "decoder_norm")
    }
    return LatentDetail(
        sae=source.id,
        latent=latent,
        **texts,
        flags=[flag for flag in (row["flags"] or "").split(", ") if flag],
        **numbers,
        n_active=row["n_active"] or 0,
        n_proteins=row["n_proteins"] or 0,
        span=_number(row["span"]),
        consensus=row["consensus"],
        enriched=row["enriched"],
        histogram=Histogram(
            edges=significant(source["histogram/edges"][latent]).tolist(),
            counts=source["histogram/counts"][latent].tolist(),
            quantiles=significant(source["histogram/quantiles"][latent]).tolist(),
        ),
        logo=_logo(source, latent),
        effects=_effects(source, latent),
        precise=_precise(row),
        concepts=concept_scores(source, latent) if source.bundle.has["probes"] else None,
        elsewhere=_elsewhere(row["concept"], others),
        previous=before,
        next=after,
    )


def _number(value: float | None) -> float | None:
    if value is None or value != value:
        return None
    return float(significant(np.array(value), 6))


def _beside(source: Source, latent: int) -> tuple[int | None, int | None]:
    alive = source.alive
    at = int(np.searchsorted(alive, latent))
    after = int(np.searchsorted(alive, latent, side="right"))
    return (
        int(alive[at - 1]) if at else None,
        int(alive[after]) if after < len(alive) else None,
    )


def _logo(source: Source, latent: int) -> Logo | None:
    if not source.has("logos/frequencies"):
        return None
    frequencies = np.asarray(source["logos/frequencies"][latent], dtype=np.float64)
    if np.isnan(frequencies).any():
        return None
    return Logo(
        first=-LOGO_FLANK,
        letters=source.bundle.manifest["letters"],
        frequencies=significant(frequencies, 4).tolist(),
        bits=significant(source["logos/bits"][latent], 4).tolist(),
    )


def _effects(source: Source, latent: int) -> list[float] | None:
    """In the order of a logo's letters."""
    if not source.has("logit_effect"):
        return None
    values = source["logit_effect"][latent]
    assert sorted(source.bundle.manifest["letters"]) == sorted(AMINO_ACIDS)
    return None if np.isnan(values).any() else significant(values).tolist()


def _precise(row: dict[str, Any]) -> Precise | None:
    if row["named"] is None or row["precision"] is None:
        return None
    return Precise(
        concept=row["named"],
        precision=row["precision"],
        precision_low=_number(row["precision_low"]),
        precision_high=_number(row["precision_high"]),
        expected=_number(row["expected"]) or 0.0,
        recall=_number(row["named_recall"]) or 0.0,
        base_rate=_number(row["named_base_rate"]) or 0.0,
        n_residues=row["named_residues"] or 0,
        n_clusters=row["named_clusters"] or 0,
        q=_number(row["named_q"]),
        confirmed=bool(row["confirmed"]),
    )


def concept_scores(source: Source, latent: int) -> list[ConceptScore]:
    """Concepts that a latent predicts, best F1 on validation first."""
    rows = source.bundle.rows(
        "SELECT * FROM associations WHERE latent = ? ORDER BY f1_validation DESC, concept", latent
    )
    baselines = source.bundle.rows(
        "SELECT * FROM scores WHERE features IN ('latent', 'neuron', 'shuffled_labels') "
        "AND concept IN (SELECT concept FROM associations WHERE latent = ?)",
        latent,
    )
    measured = {(r["concept"], r["features"]): r for r in baselines}
    return [_concept_score(source, latent, row, measured) for row in rows]


def _concept_score(
    source: Source, latent: int, row: Any, measured: dict[tuple[int, str], Any]
) -> ConceptScore:
    c = source.concepts[row["concept"]]
    chosen = measured.get((c.concept, "latent")) if c.best == latent else None
    return ConceptScore(
        concept=c.name,
        kind=c.kind,
        threshold=row["threshold"],
        score=score(row, chosen),
        n_called=row["n_called"] or 0,
        n_positive=c.n_positive,
        n_clusters=c.n_clusters,
        base_rate=c.base_rate,
        q=row["q"],
        is_best=c.best == latent,
        neuron=_baseline(measured.get((c.concept, "neuron"))),
        shuffled_labels=_baseline(measured.get((c.concept, "shuffled_labels"))),
    )


def score(row: Any, interval: Any = None) -> Score:
    """Columns of a row as a score; the interval may be of another row."""
    return Score(
        f1=row["f1"],
        f1_low=interval["f1_low"] if interval is not None else None,
        f1_high=interval["f1_high"] if interval is not None else None,
        precision=row["precision"],
        recall=row["recall"],
        auroc=row["auroc"],
    )


def _baseline(row: Any) -> Score | None:
    return None if row is None else score(row, row)


def _elsewhere(concept: str | None, others: Iterable[Source]) -> list[LatentName]:
    if concept is None:
        return []
    found = ((other, other.concept(concept)) for other in others)
    return [o.name_of(c.best) for o, c in found if c is not None and c.best is not None]


def neighbours(source: Source, latent: int, kind: NeighbourKind) -> list[Neighbour]:
    """Latents beside one, the nearest first."""
    source.check_latent(latent)
    rows = source.bundle.rows(
        "SELECT other, value FROM neighbours WHERE latent = ? AND kind = ? ORDER BY rank",
        latent, kind,
    )  # fmt: skip
    return [
        Neighbour(latent=j, label=source.labels[j], kind=source.kinds[j], value=_number(v) or 0.0)
        for j, v in rows
    ]


def protein_hits(source: Source, latent: int, cursor: str | None, n: int) -> ProteinHits:
    """A page of the proteins in which a latent is active.

    Raises:
        Unprocessable: a cursor that no page gave.
    """
    source.check_latent(latent)
    start, stop = (int(i) for i in source["by_latent/indptr"][latent : latent + 2])
    first = 0
    if cursor is not None:
        if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 12):
            raise Unprocessable("cursor is none that a page gave; leave it out for the first page")
        first = min(int(cursor), stop - start)
    page = slice(start + first, min(start + first + n, stop))
    numbers = source["by_latent/protein"][page].tolist()
    rows = source.proteins(numbers)
    values = significant(source["by_latent/max"][page], 6).tolist()
    places = source["by_latent/argmax"][page].tolist()
    hits = [
        ProteinHit(
            accession=rows[p]["accession"], description=rows[p]["description"],
            length=rows[p]["length"], max=value, argmax=place + 1,
        )
        for p, value, place in zip(numbers, values, places)
    ]  # fmt: skip
    following = str(first + len(hits)) if page.stop < stop else None
    return ProteinHits(total=stop - start, next=following, proteins=hits)
