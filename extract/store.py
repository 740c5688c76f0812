"""Activations on disk: TensorStore arrays, the proteins they come from, and a manifest.

Layout of a store folder::

    manifest.json      what this is: parent, weights, site, source, statistics, completion state
    proteins.parquet   id, sequence, offset (its first row), length (its rows)
    activations/       zarr3 [rows, d_model], float32 or bfloat16
    protein_idx/ pos/ token_id/    zarr3 [rows]: which protein, 0-based residue, ESM token
    shards.jsonl       one line per committed shard: rows and checksum (the only proof of a write)
    stats/             per-shard mean and sum of squared deviations, float64 [2, d_model]

Unwritten shards of a zarr array read as zeros, so a reader trusts ``shards.jsonl`` and the
manifest's ``state`` alone. This module never imports torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorstore as ts
from jaxtyping import Float

from extract.errors import UserError
from extract.fasta import Protein
from extract.files import read_json

FORMAT_VERSION = 1
CHUNK_ROWS = 1024
"""Rows of an inner chunk, the unit of a read."""

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
SIDE_ARRAYS = {"protein_idx": "uint32", "pos": "uint16", "token_id": "uint8"}
"""Arrays on the same rows as the activations, with their types."""


def parent_of(manifest: Mapping) -> dict[str, Any]:
    """The facts that decide whether an SAE fits an activation: parent, weights, site, size."""
    parent = manifest["parent"]
    return {
        "model": parent["name"],
        "weights sha256": parent["weights"]["encoder_sha256"],
        "token dropout": parent["token_dropout"],
        "site": manifest["site"],
        "d_model": manifest["d_model"],
    }


def require_same_parent(expected: Mapping, found: Mapping, *, what: str) -> None:
    """Refuse activations of another parent, weights, token dropout or site.

    Args:
        expected: the manifest an SAE was trained on.
        found: the manifest of what it is applied to.
        what: names both in the message, such as ``"run runs/x and store acts/y"``.

    Raises:
        UserError: the first difference, with both values.
    """
    ours, theirs = parent_of(expected), parent_of(found)
    for key, value in ours.items():
        if theirs[key] != value:
            raise UserError(
                f"{what} do not fit: {key} is {value!r} in the first and {theirs[key]!r} in the "
                "second; extract again with the same model, weights and site"
            )


@dataclass(frozen=True)
class ShardSpec:
    """Rows ``[start, stop)`` of a store: the unit of writing and of resuming."""

    index: int
    start: int
    stop: int


def shard_specs(n_rows: int, shard_rows: int) -> list[ShardSpec]:
    """Cut ``n_rows`` into shards of ``shard_rows`` (the last may be shorter)."""
    starts = range(0, n_rows, shard_rows)
    return [ShardSpec(i, s, min(s + shard_rows, n_rows)) for i, s in enumerate(starts)]


def open_array(folder: Path, name: str, **options: Any) -> ts.TensorStore:
    """Open one array of a store, with TensorStore's ``read`` or ``write`` option."""
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": f"{(folder / name).resolve()}/"},
    }
    return ts.open(spec, open=True, **options).result()


class ActivationStore:
    """A finished store, open for reading. ``ActivationStore.open("acts/")``."""

    def __init__(self, folder: Path, manifest: dict) -> None:
        self.folder = folder
        self.manifest = manifest
        self.site: str = manifest["site"]
        self.d_model: int = manifest["d_model"]
        self.n_rows: int = manifest["n_rows"]
        self._activations = open_array(folder, "activations", read=True)

    @classmethod
    def open(cls, folder: str | Path) -> ActivationStore:
        """Open a finished store.

        Raises:
            UserError: no store there, unfinished, damaged, or of a newer format.
        """
        folder = Path(folder)
        manifest = read_json(folder / "manifest.json", "an activation store")
        if manifest.get("format_version") != FORMAT_VERSION:
            raise UserError(
                f"{folder}: store format {manifest.get('format_version')}, this version reads "
                f"{FORMAT_VERSION}; update the software or extract again"
            )
        shards = shard_specs(manifest["n_rows"], manifest["shard_rows"])
        done = {line["shard"] for line in read_shard_log(folder)}
        if manifest["state"] != "complete" or len(done) != len(shards):
            raise UserError(
                f"{folder}: the store is incomplete ({len(done)} of {len(shards)} shards written); "
                "run the same `python -m extract` command again, it resumes"
            )
        try:
            return cls(folder, manifest)
        except ValueError as error:
            raise UserError(f"{folder}: damaged ({str(error)[:200]}); extract again") from error

    @cached_property
    def proteins(self) -> list[Protein]:
        """The proteins, in row order."""
        table = self._table
        ids, sequences = table["id"].to_pylist(), table["sequence"].to_pylist()
        return [Protein(i, s) for i, s in zip(ids, sequences, strict=True)]

    @cached_property
    def offsets(self) -> np.ndarray:
        """First row of every protein, and the number of rows at the end: int64 ``[proteins+1]``."""
        return np.append(self._table["offset"].to_numpy(), self.n_rows)

    @cached_property
    def _table(self) -> pa.Table:
        return pq.read_table(self.folder / "proteins.parquet")

    def read(self, start: int, stop: int) -> Float[np.ndarray, "rows d_model"]:
        """Rows ``[start, stop)`` as float32."""
        return np.asarray(self._activations[start:stop].read().result(), dtype=np.float32)

    def side_array(self, name: str) -> np.ndarray:
        """All of ``protein_idx`` (uint32), ``pos`` (uint16) or ``token_id`` (uint8): ``[rows]``."""
        if name not in SIDE_ARRAYS:
            raise ValueError(f"no side array {name!r}; there are {', '.join(SIDE_ARRAYS)}")
        return np.asarray(open_array(self.folder, name, read=True).read().result())

    @property
    def mean(self) -> Float[np.ndarray, " d_model"]:
        """Mean of every dimension over all rows, float32."""
        return np.array(self.manifest["mean"], dtype=np.float32)

    @property
    def scale(self) -> float:
        """The number s with E‖s(x − mean)‖² = d_model over all rows."""
        return self.manifest["scale"]


def read_shard_log(folder: Path) -> list[dict]:
    """Committed shards; a line torn by a crash is no commit."""
    path = folder / "shards.jsonl"
    lines = []
    if path.exists():
        for line in path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                lines.append(json.loads(line))
    return lines
