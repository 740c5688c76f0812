"""How the arrays of a latent store lie on the disk, and the log of what of them is written.

One-dimensional zarr3 arrays, uncompressed, with a CRC-32C per chunk that every read checks. An
unwritten shard would read as zeros, so a writer trusts the log alone, and a reader the manifest.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from extract.errors import UserError

SHARD_ENTRIES = 1 << 22
"""Entries of a shard, the unit of writing and of resuming: one file of 8 to 32 MB."""
CHUNK_ENTRIES = 1 << 14
"""Entries of an inner chunk, the unit of a read."""
POINTERS_PER_FILE = 1 << 17
"""Of ``rows/indptr``, which is written in pieces: files of 1 MB."""

ROW_ARRAYS = ("rows/indptr", "rows/indices", "rows/values")
COLUMN_ARRAYS = ("columns/indptr", "columns/max_value", "columns/rows", "columns/values")
ARRAYS = (*ROW_ARRAYS, *COLUMN_ARRAYS)


def index_dtype(d_sae: int) -> np.dtype:
    """Of ``rows/indices``."""
    return np.dtype(np.uint16 if d_sae <= 1 << 16 else np.uint32)


def row_dtype(n_rows: int) -> np.dtype:
    """Of ``columns/rows``; signed, so that differences of rows are what they seem."""
    return np.dtype(np.int32 if n_rows < 1 << 31 else np.int64)


def sharded(folder: Path, name: str, dtype: Any, n: int) -> ts.TensorStore:
    """An array of entries for writing: the one that is there, or a new one of ``n``."""
    inner = {"chunk_shape": [CHUNK_ENTRIES], "codecs": _codecs(np.dtype(dtype))}
    codec = {"name": "sharding_indexed", "configuration": inner}
    return _for_writing(folder, name, np.dtype(dtype), n, SHARD_ENTRIES, [codec])


def plain(folder: Path, name: str, dtype: Any, n: int, per_file: int) -> ts.TensorStore:
    """The same with ``per_file`` items in each file, which may be written in pieces."""
    return _for_writing(folder, name, np.dtype(dtype), n, per_file, _codecs(np.dtype(dtype)))


def open_array(folder: Path, name: str) -> ts.TensorStore:
    """An array for reading, of the size it was given last; a missing file is an error."""
    spec = _spec(folder, name) | {"fill_missing_data_reads": False}
    return ts.open(spec, open=True, read=True).result()


def read(folder: Path, array: ts.TensorStore, start: int, stop: int) -> np.ndarray:
    """Items ``[start, stop)`` of an array.

    Raises:
        UserError: the file they are in is damaged or missing.
    """
    try:
        return np.asarray(array[start:stop].read().result())
    except ValueError as error:
        raise UserError(
            f"{folder}: a file can't be read, it is damaged or missing ({str(error)[:200]}); "
            "remove the folder and run `python -m saejax.latents` again"
        ) from error


def shrink(array: ts.TensorStore, n: int) -> ts.TensorStore:
    """The array with ``n`` items, all others unwritten."""
    return array.resize(exclusive_max=[n], resize_metadata_only=True).result()


def array_bytes(folder: Path) -> dict[str, int]:
    """Size on disk of every array."""
    return {
        name: sum(p.stat().st_size for p in (folder / name).rglob("*") if p.is_file())
        for name in ARRAYS
    }


def remove_locks(folder: Path) -> None:
    """Lock files that killed writes left."""
    for lock in folder.rglob("*.__lock"):
        lock.unlink(missing_ok=True)


def _codecs(dtype: np.dtype) -> list[dict[str, Any]]:
    assert dtype.itemsize > 1
    return [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]


def _spec(folder: Path, name: str) -> dict[str, Any]:
    path = f"{(folder / name).absolute()}/"
    return {"driver": "zarr3", "kvstore": {"driver": "file", "path": path}}


def _for_writing(
    folder: Path, name: str, dtype: np.dtype, n: int, per_file: int, codecs: list
) -> ts.TensorStore:
    spec = _spec(folder, name) | {"store_data_equal_to_fill_value": True}
    if not (folder / name / "zarr.json").exists():  # else its size may have changed since
        grid = {"name": "regular", "configuration": {"chunk_shape": [per_file]}}
        spec["metadata"] = {
            "shape": [n], "data_type": dtype.name, "chunk_grid": grid, "codecs": codecs,
        }  # fmt: skip
    return ts.open(spec, open=True, create="metadata" in spec, read=True, write=True).result()


class ShardLog:
    """A file of JSON lines, each written when the shard it tells of is on the disk."""

    def __init__(self, path: Path) -> None:
        """Read what is there; a line that a kill tore is dropped."""
        self.path = path
        found = path.read_bytes() if path.exists() else b""
        whole = found[: found.rfind(b"\n") + 1]
        self.lines: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]
        if whole != found:
            os.truncate(path, len(whole))

    def append(self, **line: Any) -> None:
        """Write a line, durably."""
        with self.path.open("ab") as f:
            f.write((json.dumps(line) + "\n").encode())
            f.flush()
            os.fsync(f.fileno())
        self.lines.append(line)

    @property
    def finished(self) -> bool:
        """Whether the last line was written."""
        return bool(self.lines) and self.lines[-1].get("last", False)
