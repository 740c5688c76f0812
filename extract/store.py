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

import hashlib
import importlib.metadata
import json
import os
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

FORMAT_VERSION = 1
CHUNK_ROWS = 1024
"""Rows of an inner chunk, the unit of a read."""

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
_SIDE_ARRAYS = {"protein_idx": "uint32", "pos": "uint16", "token_id": "uint8"}


def write_json_atomically(path: Path, value: Any) -> None:
    """Write JSON so that a reader finds the old file or the whole new one, also after a crash."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w") as f:
        json.dump(value, f, indent=1)
        f.write("\n")
        f.flush()
        os.fsync(f.fileno())
    temporary.replace(path)


def read_json(path: Path, what: str) -> dict:
    """Read a JSON object, or raise a :class:`UserError` that names the file and ``what`` it is."""
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path.parent}: is not {what} (no {path.name}); check the path") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: damaged ({error}); make {what} again") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: damaged (not a JSON object); make {what} again")
    return value


def versions(*packages: str) -> dict[str, str]:
    """Versions of installed packages, for a manifest."""
    return {name: importlib.metadata.version(name) for name in packages}


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


def _spec(folder: Path, dtype: str, shape: list[int], shard_rows: int) -> dict:
    tail = shape[1:]
    inner = [{"name": "bytes", "configuration": {"endian": "little"}}]
    if DTYPES.get(dtype, np.dtype(dtype)).itemsize == 1:
        inner = [{"name": "bytes"}]
    sharding = {"chunk_shape": [CHUNK_ROWS, *tail], "codecs": inner}
    return {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": f"{folder.resolve()}/"},
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


def _open_array(folder: Path, name: str, **options: Any) -> ts.TensorStore:
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
        self._activations = _open_array(folder, "activations", read=True)

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
        if name not in _SIDE_ARRAYS:
            raise ValueError(f"no side array {name!r}; there are {', '.join(_SIDE_ARRAYS)}")
        return np.asarray(_open_array(self.folder, name, read=True).read().result())

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


class StoreWriter:
    """Creates a store or resumes one; shards may be written in any order, each once."""

    def __init__(self, folder: Path, manifest: dict) -> None:
        """Use :meth:`create_or_resume`."""
        self.folder, self.manifest = folder, manifest
        self.shards = shard_specs(manifest["n_rows"], manifest["shard_rows"])
        self.done = {line["shard"] for line in read_shard_log(folder)}
        self._dtype = DTYPES[manifest["dtype"]]
        names = ("activations", *_SIDE_ARRAYS)
        self._arrays = {name: _open_array(folder, name, write=True) for name in names}

    @classmethod
    def create_or_resume(cls, folder: Path, manifest: dict, proteins: list[Protein]) -> StoreWriter:
        """Start a store, or go on with an interrupted one that has the very same manifest.

        Args:
            folder: where; it must be new, empty, or a store of this manifest.
            manifest: everything but ``state`` and the statistics.
            proteins: in row order.

        Raises:
            UserError: the folder holds something else; the first difference is named.
        """
        if (folder / "manifest.json").exists():
            _check_resumable(folder, manifest)
        elif folder.is_dir() and any(folder.iterdir()) and not (folder / ".creating").exists():
            raise UserError(f"{folder}: is not empty and not a store; give a new --out folder")
        elif folder.exists() and not folder.is_dir():
            raise UserError(f"{folder}: is a file; give a folder with --out")
        else:
            _create(folder, manifest, proteins)
        for lock in folder.rglob("*.__lock"):
            lock.unlink()
        _drop_torn_line(folder / "shards.jsonl")
        return cls(folder, read_json(folder / "manifest.json", "an activation store"))

    @property
    def complete(self) -> bool:
        """Whether the store is finished."""
        return self.manifest["state"] == "complete"

    def write_shard(
        self, shard: ShardSpec, activations: np.ndarray, side: Mapping[str, np.ndarray]
    ) -> None:
        """Commit one shard: arrays, then its statistics, then its line in ``shards.jsonl``.

        Args:
            shard: which rows.
            activations: float32 ``[rows, d_model]``, cast to the store's dtype here.
            side: ``protein_idx``, ``pos`` and ``token_id``, each ``[rows]``.
        """
        stored = activations.astype(self._dtype)
        rows = slice(shard.start, shard.stop)
        writes = [self._arrays["activations"][rows].write(stored)]
        writes += [self._arrays[name][rows].write(side[name]) for name in _SIDE_ARRAYS]
        for write in writes:
            write.result()
        wide = stored.astype(np.float64)
        mean = wide.mean(axis=0)
        stats = np.stack([mean, ((wide - mean) ** 2).sum(axis=0)])
        _save_atomically(self.folder / "stats" / f"{shard.index:06d}.npy", stats)
        digest = hashlib.sha256(np.ascontiguousarray(stored).view(np.uint8).data).hexdigest()
        line = {"shard": shard.index, "start": shard.start, "stop": shard.stop, "sha256": digest}
        with (self.folder / "shards.jsonl").open("a") as f:
            f.write(json.dumps(line) + "\n")
            f.flush()
            os.fsync(f.fileno())
        self.done.add(shard.index)

    def finish(self) -> dict:
        """Combine the statistics in shard order, sort the log, and mark the store complete."""
        assert len(self.done) == len(self.shards), "finish() before every shard was written"
        mean, scale, gamma = self._combine_stats()
        lines = sorted(read_shard_log(self.folder), key=lambda line: line["shard"])
        _write_lines_atomically(self.folder / "shards.jsonl", lines)
        self.manifest |= {
            "state": "complete",
            "scale": scale,
            "gamma": gamma,
            "mean": [float(m) for m in mean.astype(np.float32)],
        }
        write_json_atomically(self.folder / "manifest.json", self.manifest)
        return self.manifest

    def _combine_stats(self) -> tuple[np.ndarray, float, float]:
        """Mean ``[d_model]``, scale s, γ = ‖mean‖/‖std‖; Chan et al. 1979's pairwise update."""
        n, mean, m2 = 0, np.zeros(self.manifest["d_model"]), np.zeros(self.manifest["d_model"])
        for shard in self.shards:
            shard_mean, shard_m2 = np.load(self.folder / "stats" / f"{shard.index:06d}.npy")
            n_new = shard.stop - shard.start
            delta = shard_mean - mean
            total = n + n_new
            mean = mean + delta * (n_new / total)
            m2 = m2 + shard_m2 + delta**2 * (n * n_new / total)
            n = total
        variance = float((m2 / n).sum())
        scale = float(np.sqrt(len(mean) / variance)) if variance > 0 else 1.0
        gamma = float(np.linalg.norm(mean) / np.sqrt(variance)) if variance > 0 else float("inf")
        return mean, scale, gamma


def _check_resumable(folder: Path, manifest: dict) -> None:
    old = read_json(folder / "manifest.json", "an activation store")
    for key, value in json.loads(json.dumps(manifest)).items():
        if old.get(key) != value and key != "versions":
            raise UserError(
                f"{folder}: holds a store with another {key} ({_short(old.get(key))}, now "
                f"{_short(value)}); give a new --out folder, or remove this one"
            )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 160 else text[:157] + "..."


def _create(folder: Path, manifest: dict, proteins: list[Protein]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".creating").touch()
    (folder / "stats").mkdir(exist_ok=True)
    n, shard_rows = manifest["n_rows"], manifest["shard_rows"]
    shapes = {"activations": (manifest["dtype"], [n, manifest["d_model"]])}
    shapes |= {name: (dtype, [n]) for name, dtype in _SIDE_ARRAYS.items()}
    for name, (dtype, shape) in shapes.items():
        spec = _spec(folder / name, dtype, shape, shard_rows)
        ts.open(spec, create=True, delete_existing=True).result()
    lengths = np.array([len(p.sequence) for p in proteins], dtype=np.int64)
    columns = {
        "id": [p.id for p in proteins],
        "sequence": [p.sequence for p in proteins],
        "offset": np.cumsum(lengths) - lengths,
        "length": lengths,
    }
    pq.write_table(pa.table(columns), folder / "proteins.parquet")
    write_json_atomically(folder / "manifest.json", manifest | {"state": "incomplete"})
    (folder / ".creating").unlink()


def _drop_torn_line(path: Path) -> None:
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        _write_lines_atomically(path, read_shard_log(path.parent))


def _write_lines_atomically(path: Path, lines: list[dict]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w") as f:
        f.writelines(json.dumps(line) + "\n" for line in lines)
        f.flush()
        os.fsync(f.fileno())
    temporary.replace(path)


def _save_atomically(path: Path, array: np.ndarray) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as f:
        np.save(f, array)
        f.flush()
        os.fsync(f.fileno())
    temporary.replace(path)
