"""Writing an activation store: resumable, one shard at a time, never half-written."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorstore as ts

from extract.claims import MARKER, Claims
from extract.errors import UserError
from extract.fasta import Protein
from extract.location import Location
from extract.statistics import moments, normalizer
from extract.store import (
    CHUNK_ROWS,
    DTYPES,
    PART_PROTEINS,
    SIDE_ARRAYS,
    ShardSpec,
    committed_shards,
    open_array,
    part_key,
    read_manifest,
    shard_specs,
)

SPOOL = ".select"
"""Temporary folder in a store that is being created."""


class StoreWriter:
    """A store that exists and may be filled; shards in any order, by any number of processes."""

    def __init__(self, place: Location) -> None:
        """Open what :func:`create_stores` made."""
        self.place = place
        self.manifest = read_manifest(place)
        self.shards = shard_specs(self.manifest["n_rows"], self.manifest["shard_rows"])
        self.claims = Claims(place)
        self._dtype = DTYPES[self.manifest["dtype"]]
        self._arrays = {
            name: open_array(place, name, write=True) for name in ("activations", *SIDE_ARRAYS)
        }

    def committed(self) -> set[int]:
        """Indices of the shards that are written, by whomever."""
        return committed_shards(self.place)

    def is_committed(self, shard: ShardSpec) -> bool:
        """Whether one shard is written."""
        return self.place.read(f"shards/{shard.key}") is not None

    @property
    def complete(self) -> bool:
        """Whether the store was finished when it was opened, and has every shard now."""
        finished = self.manifest["state"] == "complete"
        return finished and len(self.committed()) == len(self.shards)

    def write_shard(
        self, shard: ShardSpec, activations: np.ndarray, side: Mapping[str, np.ndarray]
    ) -> None:
        """Commit one shard: its arrays, and when those are durable its record in ``shards/``.

        Args:
            shard: which rows.
            activations: ``[rows, d_model]`` in the store's dtype (or float32, which is cast).
            side: ``protein_idx``, ``pos`` and ``token_id``, each ``[rows]``.
        """
        stored = activations.astype(self._dtype, copy=False)
        rows = slice(shard.start, shard.stop)
        writes = [self._arrays["activations"][rows].write(stored)]
        writes += [self._arrays[name][rows].write(side[name]) for name in SIDE_ARRAYS]
        mean, squares = moments(stored)
        sums = {"activations": checksum(stored)} | {n: checksum(side[n]) for n in SIDE_ARRAYS}
        for write in writes:
            write.result()
        record = {
            "start": shard.start,
            "stop": shard.stop,
            "sha256": sums,
            "mean": mean.tolist(),
            "squared_deviations": squares.tolist(),
        }
        self.place.write(f"shards/{shard.key}", json.dumps(record).encode())

    def finish(self) -> dict[str, Any]:
        """Combine the statistics in shard order and mark the store complete; returns the manifest.

        Any process may call it, also several: the result is the same.
        """
        assert len(self.committed()) == len(self.shards), "finish() before every shard was written"
        with self.claims.whole():
            self.manifest = read_manifest(self.place)
            if not self.complete:
                self.manifest |= {"state": "complete"} | store_statistics(self.place, self.shards)
                self.place.write("manifest.json", _json(self.manifest))
            _sweep(self.place)
        self.claims.close()
        return self.manifest


def create_stores(
    places: Sequence[Location],
    manifests: Sequence[Mapping],
    proteins: Iterable[Protein],
    describe_source: Callable[[], Mapping],
    check_room: Callable[[int], None],
) -> None:
    """Make empty stores of the same proteins; each appears with its manifest, which comes last.

    Args:
        places: folders that are new, empty, or hold an interrupted creation.
        manifests: one for each, without the counts of rows and proteins.
        proteins: in row order; read once.
        describe_source: called when they are read, gives the manifest's ``source``.
        check_room: called with the number of rows before the arrays are made.
    """
    n_rows, n_proteins, part_rows = 0, 0, []
    for part, members in enumerate(_parts(proteins)):
        part_rows.append(n_rows)
        lengths = np.array([len(p.sequence) for p in members], dtype=np.int64)
        columns = {
            "id": [p.id for p in members],
            "sequence": [p.sequence for p in members],
            "offset": n_rows + np.cumsum(lengths) - lengths,
            "length": lengths,
        }
        buffer = io.BytesIO()
        pq.write_table(pa.table(columns), buffer)
        for place in places:
            place.write(part_key(part), buffer.getvalue())
        n_rows += int(lengths.sum())
        n_proteins += len(members)
    check_room(n_rows)
    counts = {"n_rows": n_rows, "n_proteins": n_proteins, "part_rows": part_rows}
    for place, manifest in zip(places, manifests, strict=True):
        whole = {**manifest, **counts, "source": describe_source(), "state": "incomplete"}
        for name, (dtype, tail) in _array_types(whole).items():
            spec = _array_spec(place / name, dtype, [n_rows, *tail], whole["shard_rows"])
            ts.open(spec, create=True, delete_existing=True).result()
        place.write("manifest.json", _json(whole))


def read_shard_record(place: Location, shard: ShardSpec) -> dict[str, Any]:
    """The record of a committed shard: rows, checksums and statistics.

    Raises:
        UserError: when it is missing or damaged.
    """
    data = place.read(f"shards/{shard.key}")
    try:
        record = json.loads(data or b"")
        if (record["start"], record["stop"]) == (shard.start, shard.stop):
            return record
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(f"{place}/shards/{shard.key}: missing or damaged; extract the store again")


def store_statistics(place: Location, shards: list[ShardSpec]) -> dict[str, Any]:
    """Mean, scale and gamma of all shards, from their records, in order."""

    def parts() -> Iterator[tuple[int, np.ndarray]]:
        for shard in shards:
            record = read_shard_record(place, shard)
            mean_and_squares = np.array([record["mean"], record["squared_deviations"]])
            yield shard.stop - shard.start, mean_and_squares

    return normalizer(parts()).facts()


def checksum(array: np.ndarray) -> str:
    """SHA-256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).view(np.uint8).data).hexdigest()


def _parts(proteins: Iterable[Protein]) -> Iterator[list[Protein]]:
    rest = iter(proteins)
    while members := list(islice(rest, PART_PROTEINS)):
        yield members


def _array_types(manifest: Mapping) -> dict[str, tuple[str, list[int]]]:
    types: dict[str, tuple[str, list[int]]] = {name: (t, []) for name, t in SIDE_ARRAYS.items()}
    return {"activations": (manifest["dtype"], [manifest["d_model"]])} | types


def _array_spec(place: Location, dtype: str, shape: list[int], shard_rows: int) -> dict:
    tail = shape[1:]
    inner = [{"name": "bytes", "configuration": {"endian": "little"}}]
    if DTYPES.get(dtype, np.dtype(dtype)).itemsize == 1:
        inner = [{"name": "bytes"}]
    sharding = {"chunk_shape": [CHUNK_ROWS, *tail], "codecs": inner}
    return {
        "driver": "zarr3",
        "kvstore": place.spec(),
        "metadata": {
            "shape": shape,
            "data_type": dtype,
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [shard_rows, *tail]},
            },
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        },
    }


def clear_creation(place: Location) -> None:
    """Remove what an interrupted creation left, but for the marker."""
    if not place.is_local:
        place.delete(*(f"proteins/{name}" for name in place.names("proteins")))
        return
    for name in ("proteins", "activations", *SIDE_ARRAYS, SPOOL):
        shutil.rmtree(place.path / name, ignore_errors=True)


def discard_creation(place: Location) -> None:
    """Remove a creation that failed, and the folder when nothing else is in it."""
    clear_creation(place)
    place.delete(MARKER)
    if place.is_local:
        for left in place.path.glob(f"{MARKER}*"):
            left.unlink()
        if not any(place.path.iterdir()):
            place.path.rmdir()


def _sweep(place: Location) -> None:
    """Remove lock files that killed processes left, and the marker."""
    for lock in place.path.rglob("*.__lock") if place.is_local else ():
        lock.unlink(missing_ok=True)
    place.delete(MARKER)
    if place.is_local:
        (place.path / f"{MARKER}.__lock").unlink(missing_ok=True)


def _json(value: Mapping) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()
