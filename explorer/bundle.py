"""Opening a finished bundle: mapped arrays, one SQLite connection per thread, the latents' table.

Nothing here loads torch, jax or pandas, so that a server of bundles stays small. A bundle that is
not whole is refused by name: nothing is guessed or repaired.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from explorer import layout
from explorer.bundle_checks import REMEDY, check_arrays, check_tables
from extract.errors import UserError
from extract.files import file_sha256, read_json

BUILDING = "building"
"""Folder of a bundle that is being made."""
_WHAT = "a bundle"
_NEEDED = frozenset(
    {"id", "name", "d_sae", "d_model", "n_proteins", "n_residues", "n_tracked", "letters", "has",
     "files", "hash"}
)  # fmt: skip


def manifest_hash(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest without its own ``hash``: of all facts and of all files' hashes."""
    facts = {key: value for key, value in manifest.items() if key != "hash"}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class Bundle:
    """A finished bundle, open for reading by any number of threads. ``Bundle.open("bundle/")``.

    ``bundle["by_latent/max"]`` is a memory-mapped array of :data:`explorer.layout.ARRAYS`.
    """

    def __init__(self, folder: Path, manifest: layout.Manifest) -> None:
        """Use :meth:`open`."""
        self.folder, self.manifest = folder, manifest
        self.id: str = manifest["id"]
        self.name: str = manifest["name"]
        self.hash: str = manifest["hash"]
        self.has: dict[str, bool] = manifest["has"]
        self.d_sae: int = manifest["d_sae"]
        self.d_model: int = manifest["d_model"]
        self.n_proteins: int = manifest["n_proteins"]
        self.n_residues: int = manifest["n_residues"]
        self.n_tracked: int = manifest["n_tracked"]
        self._arrays = {name: _map(folder, name) for name in _stored_arrays(manifest)}
        self._threads = threading.local()
        self._connections: list[sqlite3.Connection] = []

    @classmethod
    def open(cls, folder: str | Path, verify: bool = True) -> Bundle:
        """Open a bundle and check it.

        Args:
            folder: of ``python -m explorer build``.
            verify: also read every byte once and compare it with the checksums.

        Raises:
            UserError: none there, unfinished, of another format, truncated, changed, or with
                arrays that do not fit each other; naming the file.
        """
        folder = Path(folder)
        manifest = _read_manifest(folder)
        _check_sizes(folder, manifest)
        if verify:
            _check_hashes(folder, manifest)
        bundle = cls(folder, manifest)
        check_arrays(bundle)
        check_tables(bundle)
        return bundle

    def __getitem__(self, name: str) -> np.ndarray:
        """An array, mapped read-only."""
        return self._arrays[name]

    def __contains__(self, name: str) -> bool:
        """Whether the bundle has an array; some are optional."""
        return name in self._arrays

    def get(self, name: str) -> np.ndarray | None:
        """An array, or None where the bundle lacks it."""
        return self._arrays.get(name)

    @cached_property
    def latents(self) -> pa.Table:
        """``latents.parquet``, in memory: some 200 bytes per latent."""
        # pq.read_table would import pyarrow.dataset, and that pandas
        with pq.ParquetFile(self.folder / "latents.parquet") as parquet:
            return parquet.read()

    @property
    def index(self) -> sqlite3.Connection:
        """``index.sqlite``, read-only, for the thread that asks."""
        connection = getattr(self._threads, "connection", None)
        if connection is None:
            connection = open_index(self.folder / "index.sqlite")
            self._threads.connection = connection
            self._connections.append(connection)
        return connection

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """All rows of a query with ``?`` for values; columns by name or number."""
        return self.index.execute(query, values).fetchall()

    def first(self, query: str, *values: Any) -> sqlite3.Row | None:
        """The first row of a query, or None."""
        return self.index.execute(query, values).fetchone()

    def sequence(self, start: int, length: int) -> str:
        """Letters of a protein by its ``start`` and ``length`` in the table of proteins."""
        return self["sequences"][start : start + length].tobytes().decode("ascii")

    def close(self) -> None:
        """Close every thread's connection; the arrays are unmapped when the last view is gone."""
        while self._connections:
            self._connections.pop().close()
        self._threads = threading.local()


def open_index(path: Path) -> sqlite3.Connection:
    """A finished ``index.sqlite``, read-only and without locks, its rows by name or number."""
    uri = path.absolute().as_uri() + "?mode=ro&immutable=1"
    connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    return connection


def _read_manifest(folder: Path) -> layout.Manifest:
    if not (folder / layout.MANIFEST).exists() and (folder / BUILDING).is_dir():
        raise UserError(
            f"{folder}: is not finished; run the same `python -m explorer build` command again, "
            "it resumes"
        )
    manifest = read_json(folder / layout.MANIFEST, _WHAT)
    version = manifest.get("format_version")
    if version is None or not manifest.get("files"):
        raise UserError(f"{folder}: is not a bundle of the explorer; check the path")
    if version != layout.FORMAT_VERSION:
        raise UserError(
            f"{folder}: bundle format {version}, this version reads {layout.FORMAT_VERSION}; "
            "update the software or build the bundle again"
        )
    missing = _NEEDED - manifest.keys()
    if missing:
        raise UserError(
            f"{folder}/{layout.MANIFEST}: damaged ({min(missing)!r} is missing); {REMEDY}"
        )
    return manifest


def _check_sizes(folder: Path, manifest: layout.Manifest) -> None:
    needed = {"latents.parquet", "index.sqlite"}
    needed |= {f"{name}.npy" for name in layout.ARRAYS if name not in layout.OPTIONAL_ARRAYS}
    if left_out := sorted(needed - manifest["files"].keys()):
        raise UserError(f"{folder}/{layout.MANIFEST}: does not list {left_out[0]}; {REMEDY}")
    for name, facts in manifest["files"].items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts or not path.is_file():
            raise UserError(f"{path}: the bundle lacks this file; {REMEDY}")
        if path.stat().st_size != facts["bytes"]:
            raise UserError(
                f"{path}: {facts['bytes']:,} bytes were written, {path.stat().st_size:,} are "
                f"there; {REMEDY}"
            )


def _check_hashes(folder: Path, manifest: layout.Manifest) -> None:
    if manifest_hash(manifest) != manifest["hash"]:
        raise UserError(f"{folder}/{layout.MANIFEST}: checksum mismatch: it was changed; {REMEDY}")
    for name, facts in manifest["files"].items():
        if file_sha256(folder / name) != facts["sha256"]:
            raise UserError(f"{folder / name}: checksum mismatch: it was changed; {REMEDY}")


def _stored_arrays(manifest: layout.Manifest) -> Iterator[str]:
    return (name for name in layout.ARRAYS if f"{name}.npy" in manifest["files"])


def _map(folder: Path, name: str) -> np.ndarray:
    path = layout.array_path(folder, name)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path}: can't be read ({str(error)[:200]}); {REMEDY}") from error
    if array.dtype != layout.ARRAYS[name]:
        raise UserError(
            f"{path}: holds {array.dtype}, a bundle has {layout.ARRAYS[name]} there; {REMEDY}"
        )
    return array
