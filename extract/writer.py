"""Writing an activation store: resumable, one shard at a time, never half-written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorstore as ts

from extract.errors import UserError
from extract.fasta import Protein
from extract.files import (
    read_json,
    save_array_atomically,
    write_json_atomically,
    write_lines_atomically,
)
from extract.store import (
    CHUNK_ROWS,
    DTYPES,
    SIDE_ARRAYS,
    ShardSpec,
    open_array,
    read_shard_log,
    shard_specs,
)


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


class StoreWriter:
    """Creates a store or resumes one; shards may be written in any order, each once."""

    def __init__(self, folder: Path, manifest: dict) -> None:
        """Use :meth:`create_or_resume`."""
        self.folder, self.manifest = folder, manifest
        self.shards = shard_specs(manifest["n_rows"], manifest["shard_rows"])
        self.done = {line["shard"] for line in read_shard_log(folder)}
        self._dtype = DTYPES[manifest["dtype"]]
        names = ("activations", *SIDE_ARRAYS)
        self._arrays = {name: open_array(folder, name, write=True) for name in names}

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
        writes += [self._arrays[name][rows].write(side[name]) for name in SIDE_ARRAYS]
        for write in writes:
            write.result()
        wide = stored.astype(np.float64)
        mean = wide.mean(axis=0)
        stats = np.stack([mean, ((wide - mean) ** 2).sum(axis=0)])
        save_array_atomically(self.folder / "stats" / f"{shard.index:06d}.npy", stats)
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
        write_lines_atomically(self.folder / "shards.jsonl", lines)
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
    shapes |= {name: (dtype, [n]) for name, dtype in SIDE_ARRAYS.items()}
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
        write_lines_atomically(path, read_shard_log(path.parent))
