"""``index.sqlite``: proteins, concepts and what latents have to do with them, for queries."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from explorer import layout
from explorer.build.arrays import write_pieces
from explorer.build.inputs import BuildInputs
from explorer.build.neighbours import Neighbours
from explorer.build.order import ProteinOrder
from explorer.build.probe_tables import ProbeTables
from explorer.build.proteins import protein_rows
from probes.data.amino_acid_classes import PUBLISHED
from probes.data.concepts import Concept
from probes.data.frames import where

PER_LATENT, PER_CONCEPT = 24, 100
"""Associations kept: the best of each latent by F1 on validation, and of each concept."""
SEARCHED_F1 = 0.3
"""A latent is found by the name of a concept that it has at least this F1 with."""
FEATURES = ("latent", "neuron", "component", "random", "shuffled_labels", "shuffled_parent")


class ConceptRow(NamedTuple):
    """A concept of the annotations, of the probes, or of both."""

    name: str
    kind: str
    level: str
    letters: str | None
    concept: Concept | None
    """Its spans; None where the probes' annotations were not given."""


def concepts_of(inputs: BuildInputs) -> list[ConceptRow]:
    """Concepts of the annotations in their order, then others of the probes by name."""
    found = [
        ConceptRow(c.name, c.kind, c.level, letters_of(c.name, c.kind), c)
        for c in inputs.annotations.concepts
    ]
    if inputs.probes is None:
        return found
    known = {row.name for row in found}
    table = inputs.probes.concepts
    others = sorted({*zip(table["concept"].astype(str), table["kind"], table["latent_pooling"])})
    return found + [
        ConceptRow(name, kind, "protein" if pooling else "residue", letters_of(name, kind), None)
        for name, kind, pooling in others
        if name not in known
    ]


def letters_of(name: str, kind: str) -> str | None:
    """Letters of an amino acid or of a class of them."""
    if kind == "amino acid":
        return name
    return PUBLISHED[name] if kind == "amino-acid class" else None


def write_defined(folder: Path, concepts: Sequence[ConceptRow], order: ProteinOrder) -> None:
    """``defined.npy``."""
    n = len(order.stored)

    def known(row: ConceptRow) -> np.ndarray:
        if row.concept is not None:
            return row.concept.defined[order.stored]
        return np.full(n, row.letters is not None)

    pieces = (np.packbits(known(row))[None] for row in concepts)
    write_pieces(folder, "defined", (len(concepts), -(-n // 8)), pieces)


def write_index(
    folder: Path,
    inputs: BuildInputs,
    order: ProteinOrder,
    concepts: Sequence[ConceptRow],
    latents: pd.DataFrame,
    neighbours: Mapping[str, Neighbours],
) -> None:
    """The whole of ``index.sqlite``."""
    path = folder / "index.sqlite.tmp"
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        for setting in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE"):
            connection.execute(f"PRAGMA {setting}")
        connection.executescript(layout.SCHEMA)
        connection.execute("BEGIN")
        _fill_proteins(connection, inputs, order)
        _fill_concepts(connection, inputs, order, concepts)
        pairs = associations(inputs.probes, {row.name: i for i, row in enumerate(concepts)})
        _insert(connection, "associations", _plain(pairs))
        _insert(connection, "neighbours", _neighbour_rows(neighbours))
        _fill_latent_search(connection, latents, pairs, concepts)
        connection.execute("COMMIT")
        for table in ("latent_search", "concept_search", "protein_search"):
            connection.execute(f"INSERT INTO {table} ({table}) VALUES ('optimize')")
        connection.execute("VACUUM")
        connection.execute("PRAGMA optimize")
    finally:
        connection.close()
    with path.open("rb+") as f:
        os.fsync(f.fileno())
    path.replace(folder / "index.sqlite")


def _fill_proteins(
    connection: sqlite3.Connection, inputs: BuildInputs, order: ProteinOrder
) -> None:
    for row in protein_rows(inputs, order):
        _insert(connection, "proteins", [row])
        connection.execute(
            "INSERT INTO protein_search (rowid, accession, description) VALUES (?, ?, ?)", row[:3]
        )


def _fill_concepts(
    connection: sqlite3.Connection,
    inputs: BuildInputs,
    order: ProteinOrder,
    concepts: Sequence[ConceptRow],
) -> None:
    probed = {} if inputs.probes is None else {
        str(row["concept"]): row for row in inputs.probes.concepts.to_dict("records")
    }  # fmt: skip
    for number, row in enumerate(concepts):
        found: Mapping[Any, Any] = probed.get(row.name, {})
        n_spans = 0 if row.concept is None or row.letters else len(row.concept.spans)
        best = [_value(found.get(key)) for key in ("latent", "latent_found")]
        counts = [_value(found.get(k)) for k in ("n_positive_test", "n_clusters_test", "base_rate")]
        n_positive, n_clusters, latent, is_found = (
            None if v is None else int(v) for v in (*counts[:2], *best)
        )
        values = (number, row.name, row.kind, row.level, row.letters, n_spans, n_positive,
                  n_clusters, counts[2], latent, is_found)  # fmt: skip
        _insert(connection, "concepts", [values])
        connection.execute(
            "INSERT INTO concept_search (rowid, name, kind) VALUES (?, ?, ?)",
            (number, row.name, row.kind),
        )
        if n_spans:
            _insert(connection, "spans", _span_rows(number, row, inputs, order))
        if found:
            _insert(connection, "scores", _score_rows(number, found))


def _span_rows(
    number: int, row: ConceptRow, inputs: BuildInputs, order: ProteinOrder
) -> Iterator[tuple[int, int, int, int]]:
    assert row.concept is not None
    spans = row.concept.spans
    stored = inputs.rows.protein_of(spans[:, 0])
    protein = order.rank[stored]
    within = spans - inputs.rows.offsets[stored][:, None]
    for at in np.lexsort((within[:, 1], within[:, 0], protein)).tolist():
        yield number, int(protein[at]), int(within[at, 0]), int(within[at, 1])


def _score_rows(number: int, found: Mapping[Any, Any]) -> Iterator[tuple[Any, ...]]:
    names = ("f1", "f1_low", "f1_high", "precision", "recall", "auroc")
    for features in FEATURES:
        if _value(found.get(features)) is not None:
            yield number, features, *(_value(found.get(f"{features}_{name}")) for name in names)
    base_rate = _value(found["base_rate"])
    f1 = _value(found["f1_all_positive"])
    yield number, "all_positive", f1, None, None, base_rate, 1.0, 0.5


def associations(probes: ProbeTables | None, number: Mapping[str, int]) -> pd.DataFrame:
    """The best pairs, in the columns of the table, by latent and concept."""
    columns = ["latent", "concept", "threshold", "f1_validation", "f1", "precision", "recall",
               "auroc", "n_called", "q"]  # fmt: skip
    if probes is None:
        return pd.DataFrame(columns=pd.Index(columns))
    table = probes.associations.copy()
    table["concept"] = [number[name] for name in table["concept"].astype(str)]
    table = table.rename(columns={
        "f1_test": "f1", "precision_test": "precision", "recall_test": "recall",
        "auroc_test": "auroc", "n_called_test": "n_called", "q_all_pairs": "q",
    })  # fmt: skip
    table = table.sort_values(["f1_validation", "latent", "concept"], ascending=[False, True, True])
    of_latent = table.groupby("latent").cumcount() < PER_LATENT
    of_concept = table.groupby("concept").cumcount() < PER_CONCEPT
    best = probes.concepts[["latent", "concept"]].astype({"concept": str})
    chosen = {(j, number[c]) for j, c in best.dropna().itertuples(index=False)}
    is_chosen = [pair in chosen for pair in zip(table["latent"], table["concept"], strict=True)]
    kept = where(table, of_latent | of_concept | np.array(is_chosen, bool))
    return pd.DataFrame(kept.sort_values(["latent", "concept"])[columns])


def _neighbour_rows(neighbours: Mapping[str, Neighbours]) -> Iterator[tuple[Any, ...]]:
    for kind, found in neighbours.items():
        for j, (others, values) in enumerate(zip(found.other.tolist(), found.value.tolist())):
            for rank, (other, value) in enumerate(zip(others, values)):
                if other >= 0:
                    yield j, kind, rank, other, value


def _fill_latent_search(
    connection: sqlite3.Connection,
    latents: pd.DataFrame,
    pairs: pd.DataFrame,
    concepts: Sequence[ConceptRow],
) -> None:
    """Labels, consensus, and names of concepts: of the confirmed annotation, and of good F1."""
    names: dict[int, list[str]] = {}
    named = where(latents, latents["confirmed"])
    for j, concept in zip(named["latent"], named["named"], strict=True):
        names.setdefault(int(j), []).append(str(concept))
    good = where(pairs, pairs["f1"] >= SEARCHED_F1).sort_values("f1", ascending=False)
    for j, concept in zip(good["latent"], good["concept"], strict=True):
        mine = names.setdefault(int(j), [])
        if concepts[int(concept)].name not in mine:
            mine.append(concepts[int(concept)].name)
    for j, label, consensus in zip(latents["latent"], latents["label"], latents["consensus"]):
        connection.execute(
            "INSERT INTO latent_search (rowid, label, concepts, consensus) VALUES (?, ?, ?, ?)",
            (int(j), label, "; ".join(names.get(int(j), [])), consensus or ""),
        )


def _insert(connection: sqlite3.Connection, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
    n = len(connection.execute(f"PRAGMA table_info({table})").fetchall())
    connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * n)})", rows)


def _plain(table: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    """Rows as SQLite takes them, missing values None."""
    for row in table.itertuples(index=False):
        yield tuple(_value(value) for value in row)


def _value(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return None if value is None or value is pd.NA or value != value else value
