"""The latents of whole activation stores, written once and read row by row or latent by latent.

Layout of a latent store::

    manifest.json    which run, which activation stores, sizes, versions; written last
    rows/            by residue: indptr [n_rows + 1], indices and values [n_entries]
    columns/         by latent: indptr [d_sae + 1], rows and values [n_entries], max_value [d_sae]
    building/        while it is made: what it will be, and which shards are written

The entries of row i are ``indptr[i]`` to ``indptr[i + 1]``, largest value first; those of a latent
likewise, rows ascending. Values are above 0 and as ``SAE.encode`` gives them: whatever the
architecture, nothing is cut and no empty slot is kept.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from extract.claims import Claims
from extract.errors import UserError, require_free_space
from extract.files import read_json, versions, write_json_atomically
from extract.location import Location
from extract.store import ActivationStore
from saejax import latent_arrays as arrays
from saejax.checkpoint import LoadedSAE
from saejax.latent_arrays import ShardLog
from saejax.latent_identity import (
    REMEDY,
    require_run,
    require_stores,
    run_identity,
    store_identity,
)
from saejax.latent_writer import write_columns, write_rows
from saejax.latents import LatentColumns

FORMAT_VERSION = 1
MANIFEST, BUILDING = "manifest.json", "building"
_WHAT = "a latent store"


class LatentRows(NamedTuple):
    """A sparse matrix [rows, d_sae] by row (CSR)."""

    indptr: Int[np.ndarray, " rows_and_end"]
    """Where each row's entries start, and the number of entries at the end."""
    indices: Int[np.ndarray, " entries"]
    """Latent of each entry."""
    values: Float[np.ndarray, " entries"]
    """Value of each entry, > 0, descending within a row."""


class LatentStore:
    """A finished latent store, open for reading. ``LatentStore.open("runs/x/latents")``."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        """Use :meth:`open` or :meth:`build`."""
        self.folder, self.manifest = folder, manifest
        self.n_rows: int = manifest["n_rows"]
        self.d_sae: int = manifest["d_sae"]
        self.n_entries: int = manifest["n_entries"]
        self._arrays = {name: arrays.open_array(folder, name) for name in arrays.ARRAYS}

    @classmethod
    def open(cls, folder: str | Path) -> LatentStore:
        """Open a finished latent store.

        Raises:
            UserError: none there, unfinished, damaged, or of another format.
        """
        folder = Path(folder)
        if not (folder / MANIFEST).exists() and (folder / BUILDING).is_dir():
            raise UserError(
                f"{folder}: is not finished; run the same `python -m saejax.latents` command "
                "again, it resumes"
            )
        manifest = read_json(folder / MANIFEST, _WHAT)
        if manifest.get("format_version") != FORMAT_VERSION or "n_entries" not in manifest:
            raise UserError(
                f"{folder}: is not a latent store of format {FORMAT_VERSION}; check the path, or "
                "run `python -m saejax.latents` again with another --out"
            )
        found = arrays.array_bytes(folder)
        for name, expected in manifest["bytes"].items():
            if found[name] != expected:
                raise UserError(
                    f"{folder}/{name}: {expected:,} bytes were written, {found[name]:,} are there; "
                    "remove the folder and run `python -m saejax.latents` again"
                )
        return cls(folder, manifest)

    @classmethod
    def build(
        cls,
        loaded: LoadedSAE,
        stores: Sequence[ActivationStore],
        folder: str | Path,
        *,
        memory_gb: float = 1.0,
    ) -> LatentStore:
        """Encode every residue of activation stores, laid end to end, and sort the latents.

        Goes on where an interrupted call stopped, and leaves a finished store of the same run and
        activations as it is. Two progress bars.

        Args:
            loaded: the run.
            stores: of its parent and site; rows are numbered in their order.
            folder: new, or of an interrupted or finished call.
            memory_gb: how much the second pass may hold, in 10⁹ bytes: it goes through the entries
                once for every ``memory_gb`` of 8 bytes each.

        Raises:
            UserError: stores that do not fit the run, a folder that holds something else, no room
                on the disk.
        """
        folder = Path(folder)
        if not stores:
            raise UserError("no activation store given; give at least one")
        for store in stores:
            loaded.require_store(store)
        if (folder / MANIFEST).exists():
            found = cls.open(folder)
            require_run(folder, found.manifest, loaded)
            require_stores(folder, found.manifest, stores)
            shutil.rmtree(folder / BUILDING, ignore_errors=True)
            return found
        with _building(folder, loaded, stores) as plan:
            _write(folder, plan, loaded, stores, memory_gb)
        return cls.open(folder)

    def require_run(self, loaded: LoadedSAE) -> None:
        """Refuse another run than the one whose latents these are with a :class:`UserError`."""
        require_run(self.folder, self.manifest, loaded)

    def require_stores(self, stores: Sequence[ActivationStore]) -> None:
        """Refuse other activation stores, or another order of them, with a :class:`UserError`."""
        require_stores(self.folder, self.manifest, stores)

    @cached_property
    def indptr(self) -> Int[np.ndarray, " latents_and_end"]:
        """Where each latent's entries start in ``columns/``, and their number at the end: int64."""
        return self._read("columns/indptr", 0, self.d_sae + 1)

    @property
    def n_fires(self) -> Int[np.ndarray, " d_sae"]:
        """Residues on which each latent fires: int64."""
        return np.diff(self.indptr)

    @cached_property
    def max_value(self) -> Float[np.ndarray, " d_sae"]:
        """Largest value of each latent, 0 if it never fires: float32."""
        return self._read("columns/max_value", 0, self.d_sae)

    def columns(self, first: int = 0, last: int | None = None) -> LatentColumns:
        """The latents ``first`` to ``last - 1`` (all of them by default), numbered from 0."""
        last = self.d_sae if last is None else last
        if not 0 <= first <= last <= self.d_sae:
            raise UserError(
                f"latents {first} to {last} are out of range: {self.folder} has {self.d_sae}"
            )
        indptr = self.indptr[first : last + 1]
        span = int(indptr[0]), int(indptr[-1])
        rows, values = self._read("columns/rows", *span), self._read("columns/values", *span)
        return LatentColumns(indptr - span[0], rows, values, self.n_rows)

    def column(self, latent: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows, values) where a latent fires, rows ascending."""
        return self.columns(latent, latent + 1).column(0)

    def row_pointers(self, start: int, stop: int) -> Int[np.ndarray, " rows"]:
        """Entries before each of the rows ``[start, stop)``; row ``n_rows`` is the end: int64."""
        if not 0 <= start <= stop <= self.n_rows + 1:
            raise UserError(
                f"pointers {start} to {stop} are out of range: {self.folder} has {self.n_rows} rows"
            )
        return self._read("rows/indptr", start, stop)

    def row_block(self, start: int, stop: int) -> LatentRows:
        """The entries of rows ``[start, stop)``; their ``indptr`` starts at 0."""
        if not 0 <= start <= stop <= self.n_rows:
            raise UserError(
                f"rows {start} to {stop} are out of range: {self.folder} has {self.n_rows}"
            )
        indptr = self._read("rows/indptr", start, stop + 1)
        span = int(indptr[0]), int(indptr[-1])
        # signed and wide: 16 bits overflow in the first product
        indices = self._read("rows/indices", *span).astype(np.int32)
        return LatentRows(indptr - span[0], indices, self._read("rows/values", *span))

    def _read(self, name: str, start: int, stop: int) -> np.ndarray:
        return arrays.read(self.folder, self._arrays[name], start, stop)


def _write(
    folder: Path,
    plan: Mapping[str, Any],
    loaded: LoadedSAE,
    stores: Sequence[ActivationStore],
    memory_gb: float,
) -> None:
    rows_log = ShardLog(folder / BUILDING / "rows.jsonl")
    columns_log = ShardLog(folder / BUILDING / "columns.jsonl")
    if not rows_log.finished:
        _require_room(folder, _expected_entries(loaded, plan["n_rows"]), plan)
        write_rows(folder, rows_log, loaded.sae, stores)
    n_entries = rows_log.lines[-1]["entries"]
    if not columns_log.finished:
        _require_room(folder, n_entries, plan)
        write_columns(folder, rows_log, columns_log, plan["n_rows"], memory_gb)
    sizes = {"n_entries": n_entries, "bytes": arrays.array_bytes(folder)}
    write_json_atomically(folder / MANIFEST, {**plan, **sizes, "state": "complete"})
    shutil.rmtree(folder / BUILDING)


@contextmanager
def _building(
    folder: Path, loaded: LoadedSAE, stores: Sequence[ActivationStore]
) -> Iterator[dict[str, Any]]:
    """The folder for this process alone; what will be in it, as the first call said.

    Raises:
        UserError: it holds something else, or another process is at it.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give a folder")
    begun = folder / BUILDING / "plan.json"
    if not begun.exists() and folder.exists() and {p.name for p in folder.iterdir()} - {BUILDING}:
        raise UserError(f"{folder}: is not empty and not {_WHAT}; give a new folder")
    plan = json.loads(json.dumps(_plan(loaded, stores)))
    if begun.exists():
        before = read_json(begun, _WHAT)
        require_run(folder, before, loaded)
        require_stores(folder, before, stores)
        if before["format_version"] != FORMAT_VERSION or before["shard"] != plan["shard"]:
            raise UserError(f"{folder}: was begun by another version of this software; {REMEDY}")
        plan = before
    else:
        _require_room(folder, _expected_entries(loaded, plan["n_rows"]), plan)
    (folder / BUILDING).mkdir(parents=True, exist_ok=True)
    claims = Claims(Location.of(folder / BUILDING))
    try:
        if not claims.take(0):
            raise UserError(f"{folder}: another process is writing it; wait until it is done")
        arrays.remove_locks(folder)
        if not begun.exists():
            write_json_atomically(begun, plan)
        yield plan
    finally:
        claims.close()


def _plan(loaded: LoadedSAE, stores: Sequence[ActivationStore]) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "run": run_identity(loaded),
        "stores": [store_identity(store) for store in stores],
        "d_sae": loaded.config.d_sae,
        "n_rows": sum(store.n_rows for store in stores),
        "shard": [arrays.SHARD_ENTRIES, arrays.CHUNK_ENTRIES, arrays.POINTERS_PER_FILE],
        "versions": versions("jax", "numpy", "tensorstore"),
    }


def _expected_entries(loaded: LoadedSAE, n_rows: int) -> int:
    """k per row, or a tenth more than held-out residues had."""
    config = loaded.config
    l0 = loaded.run.get("results", {}).get("l0", config.k)
    return int(n_rows * (config.k if config.architecture == "topk" else 1.1 * l0))


def _require_room(folder: Path, n_entries: int, plan: Mapping[str, Any]) -> None:
    """Refuse to go on without room for what is not written yet."""
    index, row = arrays.index_dtype(plan["d_sae"]), arrays.row_dtype(plan["n_rows"])
    whole = n_entries * (index.itemsize + row.itemsize + 8) + 8 * plan["n_rows"]
    require_free_space(folder, max(0, whole - sum(arrays.array_bytes(folder).values())))
