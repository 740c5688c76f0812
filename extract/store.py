"""Activations on disk: TensorStore arrays, the proteins they come from, and a manifest.

Layout of a store, in a folder or on an object store::

    manifest.json      what this is: parent, weights, site, source, statistics, completion state
    proteins/          parquet, 65,536 proteins a file: id, sequence, offset (first row), length
    activations/       zarr3 [rows, d_model], float32 or bfloat16
    protein_idx/ pos/ token_id/    zarr3 [rows]: which protein, 0-based residue, ESM token
    shards/            one JSON for every committed shard: rows, checksums, mean, squared deviations

Unwritten shards of a zarr array read as zeros, so a reader trusts ``shards/`` and the manifest's
``state`` alone. This module never imports torch.
"""

from __future__ import annotations

import io
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
from extract.location import Location

FORMAT_VERSION = 2
CHUNK_ROWS = 1024
"""Rows of an inner chunk, the unit of a read."""

PART_PROTEINS = 65536
"""Proteins in a file of ``proteins/``."""

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

    @property
    def key(self) -> str:
        """Its record in ``shards/``."""
        return f"{self.index:06d}.json"


def shard_specs(n_rows: int, shard_rows: int) -> list[ShardSpec]:
    """Cut ``n_rows`` into shards of ``shard_rows`` (the last may be shorter)."""
    starts = range(0, n_rows, shard_rows)
    return [ShardSpec(i, s, min(s + shard_rows, n_rows)) for i, s in enumerate(starts)]


def open_array(place: Location, name: str, **options: Any) -> ts.TensorStore:
    """Open one array of a store, with TensorStore's ``read`` or ``write`` option.

    A file or chunk that is missing is an error, not zeros; so zeros are written out.
    """
    spec = {
        "driver": "zarr3",
        "kvstore": (place / name).spec(),
        "fill_missing_data_reads": False,
        "store_data_equal_to_fill_value": True,
    }
    return ts.open(spec, open=True, **options).result()


def read_rows(place: Location, array: ts.TensorStore, rows: slice) -> np.ndarray:
    """Rows of one array of a store.

    Raises:
        UserError: the file they are in is damaged or missing.
    """
    try:
        return np.asarray(array[rows].read().result())
    except ValueError as error:
        raise UserError(
            f"{place}: rows {rows.start} to {rows.stop} can't be read, the store is damaged; "
            f"`python -m extract verify {place}` names the shard and how to repair it"
        ) from error


def read_manifest(place: Location) -> dict[str, Any]:
    """A store's manifest, whatever its state.

    Raises:
        UserError: no store there, a damaged manifest, or one of another format.
    """
    if place.is_local and place.path.is_file():
        raise UserError(f"{place}: is a file, not an activation store; check the path")
    data = place.read("manifest.json")
    if data is None:
        below = place.path.glob("*/manifest.json") if place.is_local else ()
        stores = ", ".join(sorted(path.parent.name for path in below))
        raise UserError(
            f"{place}: is not an activation store (no manifest.json); "
            + (f"it holds the stores {stores}: give one of them" if stores else "check the path")
        )
    try:
        manifest = json.loads(data)
        version = manifest["format_version"]
    except (ValueError, TypeError, KeyError) as error:
        what = error if isinstance(error, ValueError) else "no format_version"
        raise UserError(
            f"{place}/manifest.json: damaged ({what}); extract the store again"
        ) from error
    if version != FORMAT_VERSION:
        raise UserError(
            f"{place}: store format {version}, this version reads {FORMAT_VERSION}; "
            "update the software or extract again"
        )
    return manifest


def committed_shards(place: Location) -> set[int]:
    """Indices of the shards that were written completely."""
    names = place.names("shards")
    return {int(n[:6]) for n in names if len(n) == 11 and n[:6].isdigit() and n.endswith(".json")}


class ActivationStore:
    """A finished store, open for reading. ``ActivationStore.open("acts/")``."""

    def __init__(self, place: Location, manifest: dict) -> None:
        """Use :meth:`open`."""
        self.place = place
        self.folder: Path = place.path
        self.manifest = manifest
        self.site: str = manifest["site"]
        self.d_model: int = manifest["d_model"]
        self.n_rows: int = manifest["n_rows"]
        self.shards = shard_specs(self.n_rows, manifest["shard_rows"])
        self._activations = open_array(place, "activations", read=True)

    @classmethod
    def open(cls, folder: str | Path | Location) -> ActivationStore:
        """Open a finished store: a folder, ``s3://`` or ``gs://``.

        Raises:
            UserError: no store there, unfinished, damaged, or of a newer format.
        """
        place = Location.of(folder)
        manifest = read_manifest(place)
        try:
            n_shards = len(shard_specs(manifest["n_rows"], manifest["shard_rows"]))
            n_done = len(committed_shards(place))
            if manifest["state"] == "complete" and n_done == n_shards:
                return cls(place, manifest)
        except (ValueError, KeyError) as error:
            raise UserError(f"{place}: damaged ({str(error)[:200]}); extract again") from error
        raise UserError(
            f"{place}: the store is incomplete ({n_done} of {n_shards} shards written); "
            "run the same `python -m extract` command again, it resumes"
        )

    @cached_property
    def proteins(self) -> list[Protein]:
        """The proteins, in row order."""
        _, table = read_proteins(self.place, self.manifest, 0, self.n_rows)
        ids, sequences = table["id"].to_pylist(), table["sequence"].to_pylist()
        return [Protein(i, s) for i, s in zip(ids, sequences, strict=True)]

    @cached_property
    def offsets(self) -> np.ndarray:
        """First row of every protein, and the number of rows at the end: int64 ``[proteins+1]``."""
        _, table = read_proteins(self.place, self.manifest, 0, self.n_rows, columns=["offset"])
        return np.append(table["offset"].to_numpy(), self.n_rows)

    def read(self, start: int, stop: int) -> Float[np.ndarray, "rows d_model"]:
        """Rows ``[start, stop)`` as float32."""
        return np.asarray(self.read_stored(start, stop), dtype=np.float32)

    def read_stored(self, start: int, stop: int) -> np.ndarray:
        """Rows ``[start, stop)`` in the type they are stored in."""
        return read_rows(self.place, self._activations, slice(start, stop))

    def side_array(self, name: str) -> np.ndarray:
        """All of ``protein_idx`` (uint32), ``pos`` (uint16) or ``token_id`` (uint8): ``[rows]``."""
        if name not in SIDE_ARRAYS:
            raise ValueError(f"no side array {name!r}; there are {', '.join(SIDE_ARRAYS)}")
        array = open_array(self.place, name, read=True)
        return read_rows(self.place, array, slice(0, self.n_rows))

    @property
    def mean(self) -> Float[np.ndarray, " d_model"]:
        """Mean of every dimension over all rows, float32."""
        return np.array(self.manifest["mean"], dtype=np.float32)

    @property
    def scale(self) -> float:
        """The number s with E‖s(x − mean)‖² = d_model over all rows."""
        return self.manifest["scale"]


def read_proteins(
    place: Location, manifest: Mapping, start: int, stop: int, columns: list[str] | None = None
) -> tuple[int, pa.Table]:
    """The proteins of every part that holds some of the rows ``[start, stop)``.

    Returns:
        The index of the first, and a table: id, sequence, offset (first row in the store), length.
    """
    first_rows = manifest["part_rows"]
    first = int(np.searchsorted(first_rows, start, side="right")) - 1
    last = int(np.searchsorted(first_rows, stop, side="left"))
    tables = []
    for part in range(first, last):
        data = place.read(part_key(part))
        try:
            tables.append(pq.read_table(io.BytesIO(data or b""), columns=columns))
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(
                f"{place}: {part_key(part)} is missing or damaged; extract the store again"
            ) from error
    return first * PART_PROTEINS, pa.concat_tables(tables)


def part_key(part: int) -> str:
    """Where the proteins of a part are."""
    return f"proteins/{part:06d}.parquet"
