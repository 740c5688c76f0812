"""Shuffled batches of activations; the order depends only on (source, seed, epoch)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from hashlib import sha256
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from extract.errors import UserError
from extract.fasta import Protein
from extract.prefetch import prefetch
from extract.store import CHUNK_ROWS, ActivationStore
from saejax.paired import PairedStore

POOL_CHUNKS = 64
"""Chunks of 1,024 rows that are shuffled together in memory."""

Rows: TypeAlias = Float[Any, "_ d_model"]
"""Raw activations: a NumPy array from a store, a Torch tensor from a stream."""


@runtime_checkable
class RowStore(Protocol):
    """What is read from a store of activations, or from two side by side."""

    n_rows: int
    """Residues."""

    def read(self, start: int, stop: int) -> Float[np.ndarray, "rows d_model"]:
        """Raw activations of rows ``[start, stop)``."""
        ...


@runtime_checkable
class Batches(Protocol):
    """What the training loop asks of a source of activations."""

    n_rows: int
    """Rows of an epoch."""
    batches_per_epoch: int
    """Whole batches of an epoch."""

    def iterate(self, start_step: int, stop_step: int) -> Generator[Rows, None, None]:
        """Batches of steps ``[start_step, stop_step)``; closing it stops what it has started.

        Batch ``step`` is a function of (source, seed, step) alone, so the step is the cursor.
        """
        ...


def batch_on_host(batches: Batches, step: int) -> Float[np.ndarray, "batch d_model"]:
    """The batch of one step (from 0), as a NumPy array whatever the source."""
    with closing(batches.iterate(step, step + 1)) as one:
        rows = next(one)
    return rows if isinstance(rows, np.ndarray) else rows.cpu().numpy()


class Pool(NamedTuple):
    """Which rows are shuffled together: the ``index``-th such set of an epoch."""

    epoch: int
    index: int


class PooledBatches(ABC):
    """Batches cut from pools of rows that are permuted in memory, one pool after another.

    The rows of a pool are permuted by the generator of (seed, epoch, pool), batches are cut from
    the pools laid end to end, and a last partial batch is dropped. A subclass says which pools an
    epoch has, and reads them.
    """

    def __init__(self, name: str, n_rows: int, batch_size: int, seed: int) -> None:
        """Count the batches.

        Args:
            name: of the source, in messages.
            n_rows: rows of an epoch.
            batch_size: rows per batch.
            seed: of the order.

        Raises:
            UserError: fewer rows than one batch.
        """
        self.n_rows, self.batch_size, self.seed = n_rows, batch_size, seed
        self.batches_per_epoch = n_rows // batch_size
        if not self.batches_per_epoch:
            raise UserError(
                f"{name}: {n_rows} rows to train on are fewer than one batch of "
                f"batch_size_tokens ({batch_size}); lower it or extract more proteins"
            )

    @abstractmethod
    def pool_rows(self, epoch: int) -> Sequence[int]:
        """Rows of every pool of an epoch, in order."""

    @abstractmethod
    def read(self, pools: Iterable[Pool]) -> Generator[Rows, None, None]:
        """The rows of pools, not yet permuted; the next ones are made ready meanwhile."""

    @abstractmethod
    def join(self, parts: list[Rows]) -> Rows:
        """Parts of one batch, concatenated."""

    def iterate(self, start_step: int, stop_step: int) -> Generator[Rows, None, None]:
        """Batches of steps ``[start_step, stop_step)``, from the pool that the first is in on."""
        with closing(self.read(self._pools(start_step, stop_step))) as pools:
            for epoch, first, last in self._spans(start_step, stop_step):
                yield from self._epoch(epoch, first, last, pools)

    def _spans(self, start_step: int, stop_step: int) -> Iterator[tuple[int, int, int]]:
        """Epochs, and the batches ``[first, last)`` of each."""
        step = start_step
        while step < stop_step:
            epoch, first = divmod(step, self.batches_per_epoch)
            last = min(self.batches_per_epoch, first + stop_step - step)
            yield epoch, first, last
            step += last - first

    def _pools(self, start_step: int, stop_step: int) -> Iterator[Pool]:
        """The pools that these steps need, as :meth:`_epoch` takes them."""
        for epoch, first, last in self._spans(start_step, stop_step):
            ends = np.cumsum(self.pool_rows(epoch))
            begin = int(np.searchsorted(ends, first * self.batch_size, side="right"))
            end = int(np.searchsorted(ends, last * self.batch_size, side="left"))
            yield from (Pool(epoch, index) for index in range(begin, end + 1))

    def _epoch(self, epoch: int, first: int, last: int, pools: Iterator[Rows]) -> Iterator[Rows]:
        ends = np.cumsum([0, *self.pool_rows(epoch)])
        index = int(np.searchsorted(ends[1:], first * self.batch_size, side="right"))
        skip = first * self.batch_size - int(ends[index])
        rows: Any = None
        order = np.empty(0, np.int64)
        for _ in range(first, last):
            parts, missing = [], self.batch_size
            while missing:
                if not len(order):
                    rows = None  # makes room for the next
                    rows = next(pools)
                    rng = np.random.default_rng((self.seed, epoch, index))
                    order, skip, index = rng.permutation(len(rows))[skip:], 0, index + 1
                    continue
                parts.append(rows[order[:missing]])
                order, missing = order[missing:], missing - len(parts[-1])
            yield parts[0] if len(parts) == 1 else self.join(parts)


class ActivationBatches(PooledBatches):
    """Batches from a store.

    In each epoch the chunks of the store are permuted and read in pools of ``POOL_CHUNKS``; with
    ``consecutive_rows`` they keep their order, as the shards of a stream do.
    """

    def __init__(
        self,
        store: ActivationStore | PairedStore,
        *,
        batch_size: int,
        seed: int,
        keep_rows: Bool[np.ndarray, " n_rows"] | None = None,
        consecutive_rows: int | None = None,
    ) -> None:
        """Plan the batches.

        Args:
            store: where activations come from.
            batch_size: rows per batch.
            seed: of the order.
            keep_rows: which rows to use; all by default.
            consecutive_rows: make pools of this many neighbouring rows, a multiple of 1,024, for a
                store whose proteins are in random order.

        Raises:
            UserError: fewer rows than one batch.
        """
        assert not (consecutive_rows or 0) % CHUNK_ROWS, "pools are made of whole chunks"
        self.store, self._keep = store, keep_rows
        self._permute = consecutive_rows is None
        self._pool_chunks = (consecutive_rows or 0) // CHUNK_ROWS or POOL_CHUNKS
        starts = np.arange(0, store.n_rows, CHUNK_ROWS)
        if keep_rows is None:
            self._chunk_rows = np.minimum(CHUNK_ROWS, store.n_rows - starts)
        else:
            self._chunk_rows = np.add.reduceat(keep_rows.astype(np.int64), starts)
        super().__init__(str(store.folder), int(self._chunk_rows.sum()), batch_size, seed)

    def _pool_members(self, epoch: int) -> list[np.ndarray]:
        """Chunks of every pool of an epoch."""
        n = len(self._chunk_rows)
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(n) if self._permute else np.arange(n)
        return np.split(order, range(self._pool_chunks, n, self._pool_chunks))

    def pool_rows(self, epoch: int) -> Sequence[int]:
        """Rows of every pool of an epoch, in order."""
        return [int(self._chunk_rows[chunks].sum()) for chunks in self._pool_members(epoch)]

    def read(self, pools: Iterable[Pool]) -> Generator[Rows, None, None]:
        """The rows of pools, the next one read ahead."""
        return prefetch(self._read_pool, pools, buffer=2)

    def join(self, parts: list[Rows]) -> Rows:
        """Parts of one batch, concatenated."""
        return np.concatenate(parts)

    def _read_pool(self, pool: Pool) -> np.ndarray:
        chunks = self._pool_members(pool.epoch)[pool.index]
        return np.concatenate([self._read_chunk(int(c)) for c in chunks])

    def _read_chunk(self, chunk: int) -> np.ndarray:
        start = chunk * CHUNK_ROWS
        stop = min(start + CHUNK_ROWS, self.store.n_rows)
        rows = self.store.read(start, stop)
        return rows if self._keep is None else rows[self._keep[start:stop]]


def held_out(proteins: Sequence[Protein], fraction: float) -> Bool[np.ndarray, " proteins"]:
    """Which proteins are held out of training.

    A protein is held out when its :func:`hold_out_position` is below ``fraction``, or is the
    lowest, so at least one is: the same proteins in every store and stream, on every machine.
    """
    position = hold_out_position(proteins)
    return position < max(fraction, position.min() + 1e-12)


def hold_out_position(proteins: Sequence[Protein]) -> Float[np.ndarray, " proteins"]:
    """SHA-256 of "held out:" and the sequence, as a fraction of its range.

    The prefix keeps the choice apart from data that were themselves selected by hash.
    """
    digests = [sha256(f"held out:{p.sequence}".encode()).digest()[:8] for p in proteins]
    return np.array([int.from_bytes(d, "big") / 2**64 for d in digests])


def held_out_rows(store: ActivationStore, fraction: float) -> Bool[np.ndarray, " n_rows"]:
    """Rows of a store's proteins that are :func:`held_out`."""
    return np.repeat(held_out(store.proteins, fraction), np.diff(store.offsets))
