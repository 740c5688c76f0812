"""The tables of the synthetic bundle of ``explorer_data``: proteins, concepts, spans, searches."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from explorer import layout

N_CONCEPTS, SPANS_PER_PROTEIN, N_NEIGHBOURS, N_ASSOCIATIONS = 600, 20, 16, 10
STEMS = ("kinase", "zinc", "helix", "transferase", "binding", "membrane", "heme", "signal",
         "synthase", "receptor", "ribosomal", "factor", "protease", "domain")  # fmt: skip


@dataclass(frozen=True)
class Size:
    """Of a synthetic bundle."""

    d_sae: int
    n_proteins: int
    k: int
    d_model: int = 1280
    mean_length: int = 350


def made_up_name(random: np.random.Generator) -> str:
    """Two words of biology and a number."""
    return " ".join(random.choice(STEMS, 2)) + f" {random.integers(1_000)}"


def write_index(folder: Path, size: Size, lengths: np.ndarray, random: np.random.Generator) -> None:
    """Write ``index.sqlite`` for proteins of some lengths."""
    path = folder / "index.sqlite"
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path)
    connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + layout.SCHEMA)
    names = [f"concept {i}" if i > 40 else made_up_name(random) for i in range(N_CONCEPTS)]
    names[0] = "helix"
    for table, rows in _tables(size, lengths, names, random):
        first = next(rows)
        marks = ",".join("?" * len(first))
        connection.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", first)
        connection.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", rows)
    connection.commit()
    connection.close()


def _tables(
    size: Size, lengths: np.ndarray, names: list[str], random: np.random.Generator
) -> Iterator[tuple[str, Iterator[tuple]]]:
    starts = np.cumsum(lengths) - lengths
    texts = [made_up_name(random) + " (Homo sapiens)" for _ in range(1_000)]
    accessions = [f"P{p:05d}" for p in range(size.n_proteins)]
    yield "proteins", (
        (p, accessions[p], texts[p % 1_000], int(starts[p]), int(lengths[p]),
         hashlib.sha256(accessions[p].encode()).hexdigest(), None, "test", None)
        for p in range(size.n_proteins)
    )  # fmt: skip
    yield (
        "protein_search (rowid, accession, description)",
        ((p, accessions[p], texts[p % 1_000]) for p in range(size.n_proteins)),
    )
    yield (
        "concepts",
        (
            (c, name, "uniprot", "residue", None, 1_000, 500, 20, 0.01, c, True)
            for c, name in enumerate(names)
        ),
    )
    yield (
        "concept_search (rowid, name, kind)",
        ((c, name, "uniprot") for c, name in enumerate(names)),
    )
    n_spans = size.n_proteins * SPANS_PER_PROTEIN
    # half of the spans are helices, as in a bundle with DSSP
    concept = np.where(random.random(n_spans) < 0.5, 0, random.integers(0, N_CONCEPTS, n_spans))
    protein = np.repeat(np.arange(size.n_proteins), SPANS_PER_PROTEIN)
    start = (random.random(n_spans) * (lengths[protein] - 12)).astype(np.int64)
    yield "spans", zip(concept.tolist(), protein.tolist(), start.tolist(), (start + 12).tolist())
    yield (
        "scores",
        (
            (c, kind, 0.5, 0.4, 0.6, 0.5, 0.5, 0.7)
            for c in range(N_CONCEPTS)
            for kind in ("latent", "neuron", "shuffled_labels")
        ),
    )
    yield (
        "associations",
        (
            (j, (j + 7 * i) % N_CONCEPTS, 0.5, 0.5 / (i + 1), 0.4, 0.5, 0.5, 0.6, 100, 0.01)
            for j in range(size.d_sae)
            for i in range(N_ASSOCIATIONS)
        ),
    )
    yield (
        "neighbours",
        (
            (j, kind, rank, (j + rank + 1) % size.d_sae, 0.5)
            for j in range(size.d_sae)
            for kind in ("cosine", "coactivation")
            for rank in range(N_NEIGHBOURS)
        ),
    )
    yield (
        "latent_search (rowid, label, concepts, consensus)",
        ((j, made_up_name(random), names[j % N_CONCEPTS], "") for j in range(size.d_sae)),
    )
