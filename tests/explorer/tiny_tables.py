"""The tables of the small bundle: ``latents.parquet`` and ``index.sqlite``."""

from __future__ import annotations

import hashlib
import sqlite3
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from explorer import layout

if TYPE_CHECKING:
    from tests.explorer.tiny_bundle import Tiny

D_SAE, D_MODEL, DEAD = 12, 6, 4
HOSTILE_PROTEIN = '<img src=x onerror="alert(1)"> protein; DROP TABLE proteins'


def write_latents(tiny: Tiny) -> None:
    all_values = np.concatenate(tiny.activations)
    labels = ["cysteine", "N-glycosylation motif N-x-[ST]", "basic residue", "helix of globins",
              "dead", "dense", "", "", "", "", "", "=1+1 <b>bold</b>"]  # fmt: skip
    named = {3: ("helix", 0.7), 0: ("C", 0.99)}
    columns: dict[str, list] = {name: [] for name in layout.LATENT_COLUMNS}
    for j in range(D_SAE):
        values = all_values[:, j]
        active = values[values > 0]
        concept, precision = named.get(j, (None, None))
        row = {
            "latent": j, "label": labels[j], "label_source": "rule",
            "kind": "dead" if j == DEAD else "dense" if j == 5 else "motif-like",
            "flags": "dense, periodic" if j == 5 else "",
            "frequency": float((values > 0).mean()),
            "protein_frequency": float((tiny.maxima()[:, j] > 0).mean()),
            "n_active": len(active), "n_proteins": int((tiny.maxima()[:, j] > 0).sum()),
            "max": float(values.max()),
            "p99": float(np.quantile(active, 0.99)) if len(active) else 0.0,
            "span": None if j == DEAD else 1.0 + j, "decoder_norm": 1.0,
            "x": np.cos(j), "y": np.sin(j), "consensus": "C-x(2)-C" if j == 0 else None,
            "enriched": "C" if j == 0 else None, "concept": concept,
            "f1": None if concept is None else 0.5, "named": concept, "precision": precision,
            "precision_low": 0.4 if concept else None, "precision_high": 1.0 if concept else None,
            "expected": 0.2 if concept else None, "named_recall": 0.6 if concept else None,
            "named_base_rate": 0.1 if concept else None, "named_residues": 30 if concept else None,
            "named_clusters": 7 if concept else None, "named_q": 0.001 if concept else None,
            "confirmed": j == 3 if concept else None,
        }  # fmt: skip
        for name, value in row.items():
            columns[name].append(value)
    arrow = {"string": pa.string(), "bool": pa.bool_(), "int32": pa.int32(), "int64": pa.int64(),
             "float32": pa.float32(), "float64": pa.float64()}  # fmt: skip
    fields = [pa.field(name, arrow[kind]) for name, kind in layout.LATENT_COLUMNS.items()]
    table = pa.Table.from_pydict(columns, schema=pa.schema(fields))
    pq.write_table(table, tiny.folder / "latents.parquet")


def write_index(tiny: Tiny) -> None:
    path = tiny.folder / "index.sqlite"
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path)
    connection.executescript(layout.SCHEMA)
    start = atoms = 0
    for p, (accession, sequence) in enumerate(zip(tiny.accessions, tiny.sequences)):
        structure = atoms if p in tiny.structures else None
        atoms += len(sequence) if p in tiny.structures else 0
        text = HOSTILE_PROTEIN if p == 7 else f"Protein number {p} of Somewhere"
        part = ("train", "validation", "test")[p % 3]
        digest = hashlib.sha256(sequence.encode()).hexdigest()
        row = (p, accession, text, start, len(sequence), digest, structure, part, f"c{p}")
        connection.execute("INSERT INTO proteins VALUES (?,?,?,?,?,?,?,?,?)", row)
        values = (p, accession, text)
        connection.execute(
            "INSERT INTO protein_search (rowid, accession, description) VALUES (?,?,?)", values
        )
        start += len(sequence)
    best = {0: 0, 1: 3, 2: 3, 3: 5}
    for c, (name, kind, level, letters) in enumerate(tiny.concepts):
        n_spans = sum(1 for span in tiny.spans if span[0] == c)
        row = (c, name, kind, level, letters, n_spans, 100 + c, 9, 0.1, best[c], c == 1)
        connection.execute("INSERT INTO concepts VALUES (?,?,?,?,?,?,?,?,?,?,?)", row)
        values = (c, name, kind)
        connection.execute("INSERT INTO concept_search (rowid, name, kind) VALUES (?,?,?)", values)
        for i, features in enumerate(("latent", "neuron", "shuffled_labels", "all_positive")):
            scores = (c, features, 0.9 - 0.2 * i, 0.8 - 0.2 * i, 1 - 0.2 * i, 0.9, 0.9, 0.95)
            connection.execute("INSERT INTO scores VALUES (?,?,?,?,?,?,?,?)", scores)
    connection.executemany("INSERT INTO spans VALUES (?,?,?,?)", tiny.spans)
    for (latent, concept), threshold in tiny.thresholds.items():
        f1 = 0.9 - 0.1 * latent
        row = (latent, concept, threshold, f1, f1 - 0.05, 0.8, 0.7, 0.9, 40, 1e-5)
        connection.execute("INSERT INTO associations VALUES (?,?,?,?,?,?,?,?,?,?)", row)
    labels = pq.read_table(tiny.folder / "latents.parquet").column("label").to_pylist()
    for j, label in enumerate(labels):
        known = ", ".join(tiny.concepts[c][0] for k, c in tiny.thresholds if k == j)
        connection.execute(
            "INSERT INTO latent_search (rowid, label, concepts, consensus) VALUES (?,?,?,?)",
            (j, label, known, ""),
        )
        for kind in ("cosine", "coactivation"):
            for rank in range(3):
                row = (j, kind, rank, (j + rank + 1) % D_SAE, 0.9 - 0.1 * rank)
                connection.execute("INSERT INTO neighbours VALUES (?,?,?,?,?)", row)
    connection.commit()
    connection.close()
