"""One bundle as the answers need it: names, proteins, annotations, and tracks found by search.

What is kept in memory grows with latents, concepts and (8 bytes each) proteins, not with pairs or
residues: those stay in mapped files.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from sqlite3 import Row
from typing import Any, NamedTuple

import numpy as np

from explorer.bundle import Bundle
from explorer.schema import Feature, LatentName
from explorer.server.cache import BoundedCache
from explorer.server.errors import NotFound
from explorer.server.scan import Corpus

SPAN_CACHE_BYTES = 16 << 20
"""For the spans of the concepts that were looked at last, of each bundle."""

MIN_PRECISION = 0.5
"""Of a confirmed annotation that is said of a latent, as for its label (``build/labels.py``)."""

_PROTEIN = "SELECT protein, accession, description, start, length, structure, part FROM proteins "


class Concept(NamedTuple):
    """A row of the table of concepts."""

    concept: int
    name: str
    kind: str
    level: str
    letters: str | None
    n_positive: int
    n_clusters: int
    base_rate: float
    best: int | None
    found: bool | None


class Source:
    """A bundle and its name among those that are served."""

    def __init__(self, bundle: Bundle, name: str) -> None:
        """``name`` is the ``id`` in URLs."""
        self.bundle, self.id = bundle, name
        # plain arrays over the same mapped files: slices of a memmap cost microseconds
        self._arrays: dict[str, np.ndarray] = {}
        self.n_proteins, self.n_tracked = bundle.n_proteins, bundle.n_tracked
        self.d_sae = bundle.d_sae
        self._spans: BoundedCache[tuple[np.ndarray, np.ndarray]] = BoundedCache(
            SPAN_CACHE_BYTES, lambda kept: kept[0].nbytes + kept[1].nbytes + 200
        )

    def __getitem__(self, name: str) -> np.ndarray:
        """An array of :data:`explorer.layout.ARRAYS`, mapped."""
        if name not in self._arrays:
            self._arrays[name] = np.asarray(self.bundle[name])
        return self._arrays[name]

    def has(self, name: str) -> bool:
        """Whether the bundle has this optional array."""
        return name in self.bundle

    def column(self, name: str) -> list[Any]:
        """A column of ``latents.parquet``."""
        return self.bundle.latents.column(name).to_pylist()

    def latent_row(self, latent: int) -> dict[str, Any]:
        """A row of ``latents.parquet``."""
        return self.bundle.latents.slice(latent, 1).to_pylist()[0]

    def check_latent(self, latent: int) -> int:
        """The number itself.

        Raises:
            NotFound: the dictionary has no such latent.
        """
        if not 0 <= latent < self.d_sae:
            raise NotFound(f"{self.id} has latents 0 to {self.d_sae - 1}, not {str(latent)[:30]}")
        return latent

    @cached_property
    def labels(self) -> list[str]:
        """Label of every latent."""
        return [label or "" for label in self.column("label")]

    @cached_property
    def kinds(self) -> list[str]:
        """Kind of every latent."""
        return [kind or "" for kind in self.column("kind")]

    @cached_property
    def best_concepts(self) -> list[str | None]:
        """Every latent's concept with the best F1 on validation."""
        return self.column("concept")

    @cached_property
    def latent_max(self) -> np.ndarray:
        """Highest value of every latent: float32 ``[d_sae]``."""
        return np.asarray(self.column("max"), dtype=np.float32)

    @cached_property
    def shown_max(self) -> list[float]:
        """The same, rounded as it is shown."""
        return significant(self.latent_max, 6).tolist()

    @cached_property
    def rarity(self) -> np.ndarray:
        """log(proteins / proteins with it) of every latent: float64 ``[d_sae]``."""
        with_it = np.maximum(np.diff(self["by_latent/indptr"]), 1)
        return np.log(self.n_proteins / with_it)

    @cached_property
    def merit(self) -> np.ndarray:
        """How surely each latent means what names it: float32 ``[d_sae]``, 0 … 2.

        Above 1: an annotation that is confirmed and holds on most of the latent's residues, by how
        much (the lower end of its interval) its precision exceeds what composition alone would
        give. Else the F1 of its best concept.
        """
        names = ("precision", "precision_low", "expected", "f1", "confirmed")
        precision, low, expected, f1, confirmed = (
            np.array(self.column(name), dtype=np.float32) for name in names
        )
        precise = (confirmed == 1) & (precision >= MIN_PRECISION)
        excess = np.where(np.isnan(low), precision, low) - np.nan_to_num(expected)
        return np.where(precise & (excess > 0), 1 + excess, np.nan_to_num(f1))

    @cached_property
    def precise(self) -> dict[str, list[int]]:
        """By concept the latents that are confirmed to mean it, the surest first."""
        found: dict[str, list[int]] = defaultdict(list)
        named = self.column("named")
        for latent in np.argsort(-self.merit, kind="stable").tolist():
            if self.merit[latent] > 1:
                found[named[latent]].append(latent)
        return dict(found)

    @cached_property
    def n_active(self) -> np.ndarray:
        """Residues of the bundle on which every latent is active: int64 ``[d_sae]``."""
        return np.array([n or 0 for n in self.column("n_active")], dtype=np.int64)

    @cached_property
    def tracked_share(self) -> float:
        """Share of the residues whose activations are kept."""
        return float(self.corpus.offsets[self.n_tracked] / max(self.corpus.offsets[-1], 1))

    @cached_property
    def alive(self) -> np.ndarray:
        """Latents that fire in a protein of the bundle, ascending."""
        return np.flatnonzero(np.diff(self["by_latent/indptr"]))

    def name_of(self, latent: int) -> LatentName:
        """A latent as a link."""
        return LatentName(
            sae=self.id, latent=latent, label=self.labels[latent], kind=self.kinds[latent]
        )

    @cached_property
    def concepts(self) -> list[Concept]:
        """All concepts, by number."""
        rows = self.bundle.rows("SELECT * FROM concepts ORDER BY concept")
        return [_concept(row) for row in rows]

    @cached_property
    def _concept_by_name(self) -> dict[str, Concept]:
        return {c.name: c for c in self.concepts}

    def concept(self, name: str) -> Concept | None:
        """The concept of this name."""
        return self._concept_by_name.get(name)

    @cached_property
    def corpus(self) -> Corpus:
        """All sequences, for scanning."""
        offsets = np.zeros(self.n_proteins + 1, dtype=np.int64)
        lengths = self.bundle.index.execute("SELECT length FROM proteins ORDER BY protein")
        lengths.row_factory = None
        np.cumsum(np.fromiter((n for (n,) in lengths), np.int64, self.n_proteins), out=offsets[1:])
        return Corpus(self["sequences"], offsets)

    def find_protein(self, accession: str) -> Row | None:
        """A row of the table of proteins, by its exact accession."""
        return self.bundle.first(_PROTEIN + "WHERE accession = ?", accession)

    def protein(self, accession: str) -> Row:
        """The same.

        Raises:
            NotFound: none of that accession.
        """
        row = self.find_protein(accession)
        if row is None:
            raise NotFound(f"{self.id} has no protein {accession[:60]!r}; try the search box")
        return row

    def proteins(self, numbers: Sequence[int]) -> dict[int, Row]:
        """Rows of the table of proteins by number."""
        query = _PROTEIN + "WHERE protein IN (SELECT value FROM json_each(?))"
        rows = self.bundle.rows(query, json.dumps([int(n) for n in numbers]))
        return {row["protein"]: row for row in rows}

    def sequence(self, row: Row) -> str:
        """Letters of a protein."""
        return self["sequences"][row["start"] : row["start"] + row["length"]].tobytes().decode()

    def features(self, numbers: Sequence[int]) -> dict[int, list[Feature]]:
        """Annotations of some proteins, in order; not the amino acids' own."""
        query = (
            "SELECT protein, concept, start, stop FROM spans "
            "WHERE protein IN (SELECT value FROM json_each(?)) ORDER BY protein, start, stop DESC"
        )
        found: dict[int, list[Feature]] = defaultdict(list)
        for protein, concept, start, stop in self.bundle.rows(
            query, json.dumps([int(n) for n in numbers])
        ):
            c = self.concepts[concept]
            found[protein].append(Feature(concept=c.name, kind=c.kind, start=start + 1, end=stop))
        return found

    def with_concept(self, concept: Concept, most: int) -> tuple[np.ndarray, np.ndarray]:
        """The first ``most`` tracked proteins that have a concept, and its spans in them."""

        def find() -> tuple[np.ndarray, np.ndarray]:
            rows = self.bundle.rows(
                "SELECT DISTINCT protein FROM spans WHERE concept = ? AND protein < ? LIMIT ?",
                concept.concept, self.n_tracked, most,
            )  # fmt: skip
            proteins = np.array([p for (p,) in rows], dtype=np.int64)
            return proteins, self.spans_of(concept, proteins)

        return self._spans.get((concept.concept, most), find)

    def spans_of(self, concept: Concept, proteins: np.ndarray) -> np.ndarray:
        """Protein, start and stop of a concept's spans in some proteins: int64 ``[spans, 3]``."""
        cursor = self.bundle.index.execute(
            "SELECT protein, start, stop FROM spans WHERE concept = ? "
            "AND protein IN (SELECT value FROM json_each(?))",
            (concept.concept, json.dumps(proteins.tolist())),
        )
        cursor.row_factory = None
        return np.array(cursor.fetchall(), dtype=np.int64).reshape(-1, 3)

    def pairs(self, latent: int, proteins: np.ndarray) -> np.ndarray:
        """Rows of ``by_protein`` of one latent in some proteins, −1 where it is silent."""
        indptr, latents = self["by_protein/indptr"], self["by_protein/latent"]
        proteins = np.asarray(proteins, dtype=np.int64)
        low, stop = indptr[proteins], indptr[proteins + 1]
        high = stop.copy()
        last = max(len(latents) - 1, 0)
        while (open_ := low < high).any():
            middle = (low + high) >> 1
            below = (latents[np.minimum(middle, last)] < latent) & open_
            low = np.where(below, middle + 1, low)
            high = np.where(open_ & ~below, middle, high)
        found = low < stop
        found[found] = latents[low[found]] == latent
        return np.where(found, low, -1)

    def track(self, pair: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions (from 0) and values of one pair of a tracked protein; none for −1."""
        if pair < 0:
            return np.zeros(0, dtype=np.uint16), np.zeros(0, dtype=np.float16)
        start, stop = self["tracks/indptr"][pair : pair + 2]
        return self["tracks/position"][start:stop], self["tracks/value"][start:stop]

    def is_defined(self, concept: Concept, proteins: np.ndarray) -> np.ndarray:
        """Whether the concept's answer is known in each of some proteins."""
        if not self.has("defined"):
            return np.ones(len(proteins), dtype=bool)
        proteins = np.asarray(proteins, dtype=np.int64)
        bits = self["defined"][concept.concept, proteins >> 3]
        return (bits >> (7 - (proteins & 7)).astype(np.uint8)) & 1 == 1


def _concept(row: Row) -> Concept:
    found = None if row["found"] is None else bool(row["found"])
    return Concept(
        row["concept"], row["name"], row["kind"], row["level"], row["letters"],
        row["n_positive"] or 0, row["n_clusters"] or 0, row["base_rate"] or 0.0,
        row["best"], found,
    )  # fmt: skip


def flat_ranges(starts: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All integers of some half-open ranges, one after the other, and which range each is of."""
    lengths = stops - starts
    owner = np.repeat(np.arange(len(starts)), lengths)
    shift = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(starts - shift, lengths), owner


def significant(values: np.ndarray, digits: int = 5) -> np.ndarray:
    """Values rounded to some significant digits as float64; 5 keep a float16 exactly."""
    values = np.asarray(values, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        power = digits - 1 - np.floor(np.log10(np.abs(values)))
    power = np.where(np.isfinite(power), power, 0)
    scale = 10.0 ** np.abs(power)
    return np.where(power >= 0, np.rint(values * scale) / scale, np.rint(values / scale) * scale)


def safe_id(name: str) -> str:
    """A name as a path segment that needs no escape."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "sae"
