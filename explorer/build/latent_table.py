"""``latents.parquet``: a row for each latent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from explorer import layout
from explorer.build.kinds import flags_of
from explorer.build.labels import Best, labels_of
from explorer.build.probe_tables import ProbeTables
from extract.files import write_atomically
from probes.data.frames import records

_NAMED = {
    "named": "concept", "precision": "precision", "precision_low": "precision_low",
    "precision_high": "precision_high", "expected": "expected_neighbours",
    "named_recall": "recall", "named_base_rate": "base_rate", "named_residues": "n_fires_test",
    "named_clusters": "n_clusters_test", "named_q": "q_excess", "confirmed": "confirmed",
}  # fmt: skip
"""Columns of the bundle and of the probes' ``latents.parquet``."""
_ARROW = {
    "int32": pa.int32(), "int64": pa.int64(), "float32": pa.float32(), "float64": pa.float64(),
    "string": pa.string(), "bool": pa.bool_(),
}  # fmt: skip


def latent_table(
    kinds: pd.DataFrame,
    found: Mapping[str, np.ndarray],
    probes: ProbeTables | None,
    n_rows: int,
    n_all_proteins: int,
) -> pd.DataFrame:
    """The columns of ``layout.LATENT_COLUMNS``.

    Args:
        kinds: of :func:`explorer.build.kinds.write_kinds`.
        found: of each latent ``n_active``, ``n_proteins``, ``max``, ``p99``, ``decoder_norm``,
            and ``places`` (or none).
        probes: if there are any.
        n_rows: residues in all.
        n_all_proteins: in all.
    """
    best = _best_concepts(probes, len(kinds))
    labels = labels_of(kinds, best)
    places = found.get("places")
    table = pd.DataFrame({
        "latent": np.arange(len(kinds)),
        "label": [label.text for label in labels],
        "label_source": [label.source for label in labels],
        "kind": kinds["kind"],
        "flags": flags_of(kinds),
        "frequency": found["n_active"] / n_rows,
        "protein_frequency": found["n_proteins"] / n_all_proteins,
        "n_active": found["n_active"],
        "n_proteins": found["n_proteins"],
        "max": found["max"],
        "p99": found["p99"],
        "span": kinds["run_length"],
        "decoder_norm": found["decoder_norm"],
        "x": None if places is None else places[:, 0],
        "y": None if places is None else places[:, 1],
        "consensus": kinds["consensus"],
        "enriched": kinds["enriched"],
    })  # fmt: skip
    table["concept"] = [None if b is None else b.concept for b in best]
    table["f1"] = [None if b is None else b.f1 for b in best]
    for name, column in _NAMED.items():
        table[name] = kinds.get(column)
    table["confirmed"] = [bool(c) and c == c for c in table["confirmed"]]
    return pd.DataFrame(table[list(layout.LATENT_COLUMNS)])


def _best_concepts(probes: ProbeTables | None, n: int) -> list[Best | None]:
    """The concept with the best F1 on validation, and its F1 on test; of equals the first name."""
    found: list[Best | None] = [None] * n
    if probes is None:
        return found
    kinds = dict(zip(probes.concepts["concept"].astype(str), probes.concepts["kind"], strict=True))
    pairs = probes.associations.dropna(subset=["f1_validation"]).astype({"concept": str})
    pairs = pairs.sort_values(["f1_validation", "concept"], ascending=[False, True])
    for row in records(pairs.drop_duplicates("latent")):
        found[row["latent"]] = Best(row["concept"], kinds[row["concept"]], row["f1_test"])
    return found


def write_latent_table(folder: Path, table: pd.DataFrame) -> None:
    """``latents.parquet``, its types as in the layout, missing values null."""
    arrays = []
    for name, kind in layout.LATENT_COLUMNS.items():
        values = table[name].tolist()
        plain = [None if v is None or v != v or v is pd.NA else v for v in values]
        plain = [str(v) if kind == "string" and v is not None else v for v in plain]
        if kind.startswith("int"):
            plain = [None if v is None else int(v) for v in plain]
        arrays.append(pa.array(plain, _ARROW[kind]))
    whole = pa.table(dict(zip(layout.LATENT_COLUMNS, arrays, strict=True)))
    write_atomically(folder / "latents.parquet", lambda f: pq.write_table(whole, f))
