"""Shuffled batches from an activation store; the order depends only on (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import numpy as np
from jaxtyping import Float

from extract.errors import UserError
from extract.store import CHUNK_ROWS, ActivationStore

POOL_CHUNKS = 64
"""Chunks of 1,024 rows that are shuffled together in memory."""


class ActivationBatches:
    """Batches of raw activations for every step of a run.

    In each epoch the chunks of the store are permuted, read in pools of ``POOL_CHUNKS``, and the
    rows of each pool permuted; batches are cut from that stream and a last partial batch is
    dropped. Batch ``step`` is a function of (store, seed, step) alone, so the step is the cursor.
    """

    def __init__(
        self,
        store: ActivationStore,
        *,
        batch_size: int,
        seed: int,
        keep_rows: np.ndarray | None = None,
    ) -> None:
        """Plan the batches.

        Args:
            store: where activations come from.
            batch_size: rows per batch.
            seed: of the order.
            keep_rows: which rows to use, bool ``[n_rows]``; all by default.

        Raises:
            UserError: fewer rows than one batch.
        """
        self.store, self.batch_size, self.seed = store, batch_size, seed
        self._keep = keep_rows
        starts = np.arange(0, store.n_rows, CHUNK_ROWS)
        if keep_rows is None:
            self._chunk_rows = np.minimum(CHUNK_ROWS, store.n_rows - starts)
        else:
            self._chunk_rows = np.add.reduceat(keep_rows.astype(np.int64), starts)
        self.n_rows = int(self._chunk_rows.sum())
        self.batches_per_epoch = self.n_rows // batch_size
        if not self.batches_per_epoch:
            raise UserError(
                f"{store.folder}: {self.n_rows} rows to train on are fewer than one batch of "
                f"batch_size_tokens ({batch_size}); lower it or extract more proteins"
            )

    def iterate(self, start_step: int, stop_step: int) -> Iterator[Float[np.ndarray, "batch d"]]:
        """Batches of steps ``[start_step, stop_step)``; the next pool is read meanwhile."""
        step = start_step
        with ThreadPoolExecutor(1) as reader:
            while step < stop_step:
                epoch, first = divmod(step, self.batches_per_epoch)
                last = min(self.batches_per_epoch, first + stop_step - step)
                yield from self._epoch(epoch, first, last, reader)
                step += last - first

    def _epoch(
        self, epoch: int, first: int, last: int, reader: ThreadPoolExecutor
    ) -> Iterator[np.ndarray]:
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self._chunk_rows))
        pools = np.split(order, range(POOL_CHUNKS, len(order), POOL_CHUNKS))
        ends = np.cumsum([self._chunk_rows[pool].sum() for pool in pools])
        index = int(np.searchsorted(ends, first * self.batch_size, side="right"))
        skip = first * self.batch_size - (int(ends[index - 1]) if index else 0)
        future = reader.submit(self._read_pool, epoch, index, pools[index])
        rest = np.empty((0, self.store.d_model), np.float32)
        for _ in range(first, last):
            while len(rest) < self.batch_size:
                rows = future.result()[skip:]
                skip, index = 0, index + 1
                if index < len(pools):
                    future = reader.submit(self._read_pool, epoch, index, pools[index])
                rest = np.concatenate((rest, rows)) if len(rest) else rows
            yield rest[: self.batch_size]
            rest = rest[self.batch_size :]

    def _read_pool(self, epoch: int, index: int, chunks: np.ndarray) -> np.ndarray:
        rows = np.concatenate([self._read_chunk(int(c)) for c in chunks])
        return rows[np.random.default_rng((self.seed, epoch, index)).permutation(len(rows))]

    def _read_chunk(self, chunk: int) -> np.ndarray:
        start = chunk * CHUNK_ROWS
        stop = min(start + CHUNK_ROWS, self.store.n_rows)
        rows = self.store.read(start, stop)
        return rows if self._keep is None else rows[self._keep[start:stop]]


def held_out_rows(store: ActivationStore, fraction: float) -> np.ndarray:
    """Rows of the proteins held out of training: bool ``[n_rows]``.

    A protein is held out when the SHA-256 of "held out:" and its sequence, as a fraction of its
    range, is below ``fraction``: the same proteins in every store and on every machine, at least
    one. The prefix keeps the choice apart from data that were themselves selected by hash.
    """
    digests = [sha256(f"held out:{p.sequence}".encode()).digest()[:8] for p in store.proteins]
    position = np.array([int.from_bytes(d, "big") / 2**64 for d in digests])
    held_out = position < max(fraction, position.min() + 1e-12)
    return np.repeat(held_out, np.diff(store.offsets))
