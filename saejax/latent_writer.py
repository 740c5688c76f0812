"""Writing a latent store in two passes: row by row as it is encoded, then latent by latent.

Both passes write whole shards and log each when it is durable. What a shard holds does not depend
on when the writer was stopped, nor on the memory it was given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Integer
from tqdm import tqdm

from extract.errors import UserError
from extract.prefetch import prefetch
from extract.store import ActivationStore
from saejax import latent_arrays as arrays
from saejax.calibrate import BLOCK_ROWS
from saejax.latent_arrays import ShardLog
from saejax.latents import encode_array
from saejax.model import SAE
from saejax.sparse import SparseLatents

BLOCK_ENTRIES = 1 << 18
"""Entries that are sorted at a time."""
WORKING_BYTES = 24
"""Per entry of a shard: what the second pass holds beside the entries it collects."""


class _Pointer(NamedTuple):
    """Where the row pass stands, durably."""

    rows: int
    """Rows of which every entry is written."""
    entries: int
    """Entries written; the last of them may belong to the row after those."""


class RowWriter:
    """Entries come in row by row and leave in whole shards."""

    def __init__(self, folder: Path, log: ShardLog, n_rows: int, d_sae: int) -> None:
        """Open the arrays, and count again what is written already.

        Args:
            folder: of the latent store.
            log: of this pass.
            n_rows: of all activation stores.
            d_sae: latents in the dictionary.
        """
        self.folder, self.log, self.n_rows = folder, log, n_rows
        most = n_rows * d_sae  # how many there will be is known at the end
        self._indptr = arrays.plain(
            folder, "rows/indptr", np.int64, n_rows + 1, arrays.POINTERS_PER_FILE
        )
        dtype = arrays.index_dtype(d_sae)
        self._stored_indices = arrays.sharded(folder, "rows/indices", dtype, most)
        self._stored_values = arrays.sharded(folder, "rows/values", np.float32, most)
        self._indices = np.empty(arrays.SHARD_ENTRIES, dtype)
        self._values = np.empty(arrays.SHARD_ENTRIES, np.float32)
        self._filled, self._ends = 0, [np.zeros(0, np.int64)]
        self.count, self.maximum = np.zeros(d_sae, np.int64), np.zeros(d_sae, np.float32)
        self.done = _Pointer(0, 0)
        for line in log.lines:
            before, self.done = self.done, _Pointer(line["rows"], line["entries"])
            shard = before.entries, self.done.entries
            self._tally(
                arrays.read(folder, self._stored_indices, *shard),
                arrays.read(folder, self._stored_values, *shard),
            )
        self._next_end = 0

    def start_at(self, row: int) -> None:
        """The next entries are those of ``row``, all rows before it being written."""
        assert row <= self.done.rows
        self._next_end = int(arrays.read(self.folder, self._indptr, row, row + 1)[0])

    def add(self, first_row: int, latents: SparseLatents) -> None:
        """Take the entries of the rows from ``first_row`` on; what is written is passed over."""
        values = np.asarray(latents.values)
        fires = values > 0
        ends = self._next_end + np.cumsum(fires.sum(axis=1), dtype=np.int64)
        start, self._next_end = self._next_end, int(ends[-1])
        known = max(0, self.done.entries + self._filled - start)
        indices, values = np.asarray(latents.indices)[fires][known:], values[fires][known:]
        self._ends.append(ends[max(0, self.done.rows - first_row) :])
        while len(indices):
            n = min(len(indices), len(self._indices) - self._filled)
            into = slice(self._filled, self._filled + n)
            self._indices[into], self._values[into] = indices[:n], values[:n]
            indices, values = indices[n:], values[n:]
            self._filled += n
            if self._filled == len(self._indices):
                self._write_shard()
                self._log()

    def finish(self) -> None:
        """Write what is left, how often each latent fires and how strongly."""
        n = self.done.entries + self._filled
        self._stored_indices = arrays.shrink(self._stored_indices, n)
        self._stored_values = arrays.shrink(self._stored_values, n)
        self._write_shard()
        d_sae = len(self.count)
        for name, found in (
            ("columns/indptr", np.append(0, np.cumsum(self.count))),
            ("columns/max_value", self.maximum),
        ):
            array = arrays.plain(self.folder, name, found.dtype, len(found), d_sae + 1)
            array.write(found).result()
        self._log(last=True)

    def _write_shard(self) -> None:
        start, stop = self.done.entries, self.done.entries + self._filled
        indices, values = self._indices[: self._filled], self._values[: self._filled]
        ends = np.concatenate(self._ends)
        n = int(np.searchsorted(ends, stop, side="right"))
        rows = slice(self.done.rows + 1, self.done.rows + 1 + n)
        writes = [
            self._stored_indices[start:stop].write(indices),
            self._stored_values[start:stop].write(values),
            self._indptr[rows].write(ends[:n]),
        ]
        self._tally(indices, values)
        for write in writes:
            write.result()
        self._ends, self._filled = [ends[n:]], 0
        self.done = _Pointer(self.done.rows + n, stop)

    def _log(self, **more: bool) -> None:
        self.log.append(rows=self.done.rows, entries=self.done.entries, **more)

    def _tally(
        self, indices: Integer[np.ndarray, " entries"], values: Float[np.ndarray, " entries"]
    ) -> None:
        self.count += np.bincount(indices, minlength=len(self.count))
        np.maximum.at(self.maximum, indices, values)


def write_rows(folder: Path, log: ShardLog, sae: SAE, stores: Sequence[ActivationStore]) -> None:
    """Encode every row that is not written yet, with a progress bar.

    Raises:
        UserError: activations that are not finite.
    """
    n_rows = sum(store.n_rows for store in stores)
    writer = RowWriter(folder, log, n_rows, sae.config.d_sae)
    started = False
    bar = tqdm(total=n_rows, initial=writer.done.rows, desc="encode", unit="res", unit_scale=True,
               disable=None)  # fmt: skip
    with bar:
        for row, block in _blocks_from(stores, writer.done.rows):
            if not started:
                writer.start_at(row)
                started = True
            writer.add(row, encode_array(sae, block))
            bar.update(row + len(block) - max(row, bar.n))
    writer.finish()


def _blocks_from(
    stores: Sequence[ActivationStore], row: int
) -> Iterator[tuple[int, Float[np.ndarray, "rows d_model"]]]:
    """Blocks as ``row_blocks`` cuts each store, from the one that holds ``row``; read ahead."""
    keys, offset = [], 0
    for store in stores:
        if row < offset + store.n_rows:
            first = max(0, row - offset) // BLOCK_ROWS * BLOCK_ROWS
            keys += [(store, offset, s) for s in range(first, store.n_rows, BLOCK_ROWS)]
        offset += store.n_rows

    def read(key: tuple[ActivationStore, int, int]) -> tuple[int, np.ndarray]:
        store, offset, start = key
        block = store.read(start, min(start + BLOCK_ROWS, store.n_rows))
        if not np.isfinite(block).all():
            bad = start + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
            raise UserError(
                f"{store.folder}: row {bad} is not finite; check the store with "
                f"`python -m extract verify {store.folder}`"
            )
        return offset + start, block

    yield from prefetch(read, keys, buffer=3)


class _Entries(NamedTuple):
    """Some entries in the order of rows."""

    rows: Int[np.ndarray, " entries"]
    indices: Integer[np.ndarray, " entries"]
    values: Float[np.ndarray, " entries"]


def write_columns(
    folder: Path, rows_log: ShardLog, log: ShardLog, n_rows: int, memory_gb: float
) -> None:
    """Write the same entries by latent, as many shards at a time as fit in ``memory_gb``.

    The row-major entries are gone through once for each such part, with a progress bar.
    """
    indptr_array = arrays.open_array(folder, "columns/indptr")
    indptr = arrays.read(folder, indptr_array, 0, indptr_array.shape[0])
    n, done = int(indptr[-1]), log.lines[-1]["entries"] if log.lines else 0
    dtype = arrays.row_dtype(n_rows)
    stored_rows = arrays.sharded(folder, "columns/rows", dtype, n)
    stored_values = arrays.sharded(folder, "columns/values", np.float32, n)
    part = entries_at_a_time(memory_gb, dtype)
    n_parts = -(-(n - done) // part)
    bar = tqdm(total=n_parts * n, desc=f"by latent ({n_parts} times through)", unit="entry",
               unit_scale=True, disable=None)  # fmt: skip
    with bar:
        for start in range(done, n, part):
            stop = min(start + part, n)
            rows, values = _collect(folder, rows_log, indptr, start, stop, dtype, bar)
            for at in range(start, stop, arrays.SHARD_ENTRIES):
                end = min(at + arrays.SHARD_ENTRIES, stop)
                write = stored_rows[at:end].write(rows[at - start : end - start])
                stored_values[at:end].write(values[at - start : end - start]).result()
                write.result()
                log.append(entries=end)
            del rows, values  # before the next are made
    log.append(entries=n, last=True)


def entries_at_a_time(memory_gb: float, dtype: np.dtype) -> int:
    """Entries, in whole shards, that may be collected before they are written."""
    shard = arrays.SHARD_ENTRIES
    room = memory_gb * 1e9 - WORKING_BYTES * shard
    return shard * max(1, int(room / (dtype.itemsize + 4) / shard))


def _collect(
    folder: Path,
    rows_log: ShardLog,
    indptr: Int[np.ndarray, " latents_and_end"],
    start: int,
    stop: int,
    dtype: np.dtype,
    bar: tqdm,
) -> tuple[Int[np.ndarray, " entries"], Float[np.ndarray, " entries"]]:
    """Rows and values of the entries ``[start, stop)`` in the order of latents."""
    first = int(np.searchsorted(indptr, start, side="right")) - 1
    last = int(np.searchsorted(indptr, stop, side="left"))
    free = indptr[first:last].copy()  # where the next entry of each latent goes
    rows, values = np.empty(stop - start, dtype), np.empty(stop - start, np.float32)
    narrow = np.uint16 if last - first <= 1 << 16 else np.uint32  # 16 bits are sorted by radix
    for found in _entry_blocks(folder, rows_log, dtype):
        inside = np.flatnonzero((found.indices >= first) & (found.indices < last))
        latents = (found.indices[inside] - first).astype(narrow)
        order = np.argsort(latents, kind="stable")
        count = np.bincount(latents, minlength=last - first)
        to = np.repeat(free - (np.cumsum(count) - count), count) + np.arange(len(order))
        free += count
        kept = (to >= start) & (to < stop)  # the first and the last latent may be cut
        to, taken = to[kept] - start, inside[order[kept]]
        rows[to], values[to] = found.rows[taken], found.values[taken]
        bar.update(len(found.indices))
    return rows, values


def _entry_blocks(folder: Path, rows_log: ShardLog, dtype: np.dtype) -> Iterator[_Entries]:
    """All entries in the order of rows, at most ``BLOCK_ENTRIES`` at a time."""
    indptr, indices, values = (arrays.open_array(folder, name) for name in arrays.ROW_ARRAYS)
    before = _Pointer(0, 0)
    for line in rows_log.lines:
        now = _Pointer(line["rows"], line["entries"])
        stop_row = min(now.rows + 1, indptr.shape[0] - 1)  # the last one may be cut
        ends = arrays.read(folder, indptr, before.rows, stop_row + 1)
        which = np.arange(before.rows, stop_row, dtype=dtype)
        for start in range(before.entries, now.entries, BLOCK_ENTRIES):
            stop = min(start + BLOCK_ENTRIES, now.entries)
            yield _Entries(
                np.repeat(which, np.diff(np.clip(ends, start, stop))),
                arrays.read(folder, indices, start, stop),
                arrays.read(folder, values, start, stop),
            )
        before = now
