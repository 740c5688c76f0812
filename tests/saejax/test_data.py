import hashlib
import threading
from pathlib import Path

import numpy as np
import pytest

import saejax.data as data
from extract.errors import UserError
from extract.store import ActivationStore
from saejax.data import ActivationBatches, held_out_rows
from tests.helpers import make_store, random_proteins


@pytest.fixture(params=[1, 2, 64])
def pool_chunks(request, monkeypatch):
    monkeypatch.setattr(data, "POOL_CHUNKS", request.param)


def collect(batches, start, stop):
    return list(batches.iterate(start, stop))


def keys_of(rows):
    return {row.tobytes() for row in rows}


@pytest.mark.parametrize("batch_size", [100, 1000, 1999])
def test_an_epoch_is_a_permutation(tiny_store, pool_chunks, batch_size):
    batches = ActivationBatches(tiny_store, batch_size=batch_size, seed=0)
    epoch = np.concatenate(collect(batches, 0, batches.batches_per_epoch))
    assert len(epoch) == tiny_store.n_rows // batch_size * batch_size
    assert len(keys_of(epoch)) == len(epoch)
    assert keys_of(epoch) <= keys_of(tiny_store.read(0, tiny_store.n_rows))
    assert not np.array_equal(epoch[:50], tiny_store.read(0, 50))


def test_any_step_is_a_cursor(tiny_store, pool_chunks):
    """Starting anywhere gives the very batches of an uninterrupted run."""
    batches = ActivationBatches(tiny_store, batch_size=700, seed=5)
    n = batches.batches_per_epoch * 3
    whole = collect(batches, 0, n)
    for start in range(0, n, 2):
        again = ActivationBatches(tiny_store, batch_size=700, seed=5)
        for a, b in zip(whole[start:], collect(again, start, n), strict=True):
            np.testing.assert_array_equal(a, b)


def test_seed_and_epoch_change_the_order(tiny_store):
    batches = ActivationBatches(tiny_store, batch_size=1000, seed=0)
    n = batches.batches_per_epoch
    first, second = collect(batches, 0, 1)[0], collect(batches, n, n + 1)[0]
    other = collect(ActivationBatches(tiny_store, batch_size=1000, seed=1), 0, 1)[0]
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_kept_rows_only(tiny_store, pool_chunks):
    keep = np.arange(tiny_store.n_rows) % 3 == 0
    batches = ActivationBatches(tiny_store, batch_size=50, seed=0, keep_rows=keep)
    epoch = np.concatenate(collect(batches, 0, batches.batches_per_epoch))
    assert batches.n_rows == keep.sum()
    assert keys_of(epoch) <= keys_of(tiny_store.read(0, tiny_store.n_rows)[keep])


def test_fewer_rows_than_a_batch(tiny_store):
    with pytest.raises(UserError, match="fewer than one batch"):
        ActivationBatches(tiny_store, batch_size=10**6, seed=0)


def test_held_out_rows_are_whole_proteins_chosen_by_sequence(tmp_path, tiny_store):
    rows = held_out_rows(tiny_store, 0.2)
    per_protein = [rows[a:b] for a, b in zip(tiny_store.offsets, tiny_store.offsets[1:])]
    assert all(part.all() or not part.any() for part in per_protein)
    assert 0 < rows.mean() < 0.5
    chosen = {p.sequence for p, part in zip(tiny_store.proteins, per_protein) if part.all()}
    shuffled = make_store(tmp_path / "s", list(reversed(tiny_store.proteins)))
    again = held_out_rows(shuffled, 0.2)
    parts = zip(shuffled.proteins, shuffled.offsets, shuffled.offsets[1:])
    assert {p.sequence for p, a, b in parts if again[a:b].all()} == chosen


def test_hold_out_is_independent_of_selection_by_hash(tmp_path):
    """Data selected by the plain SHA-256 of the sequence must not all be held out."""
    proteins = random_proteins(400, 20, 30)
    first = sorted(proteins, key=lambda p: hashlib.sha256(p.sequence.encode()).digest())[:40]
    store = make_store(tmp_path / "s", first)
    assert held_out_rows(store, 0.1).mean() < 0.3


def test_at_least_one_protein_is_held_out(tmp_path):
    store = make_store(tmp_path / "s", random_proteins(3, 20, 30))
    assert held_out_rows(store, 1e-9).any()


def test_consecutive_pools_keep_rows_near_their_place(tiny_store):
    """Pools of 2,048 rows in the store's order, each permuted by (seed, epoch, pool)."""
    batches = ActivationBatches(tiny_store, batch_size=100, seed=4, consecutive_rows=2048)
    rows = tiny_store.read(0, tiny_store.n_rows)
    for epoch in (0, 1):
        pools = np.split(rows, range(2048, len(rows), 2048))
        by_hand = [
            pool[np.random.default_rng((4, epoch, i)).permutation(len(pool))]
            for i, pool in enumerate(pools)
        ]
        n = batches.batches_per_epoch
        found = np.concatenate(collect(batches, epoch * n, (epoch + 1) * n))
        np.testing.assert_array_equal(found, np.concatenate(by_hand)[: n * 100])


class Numbered(ActivationStore):
    """A store whose rows are their numbers."""

    def __init__(self):
        self.folder, self.n_rows, self.d_model = Path("numbered"), 150_000, 1

    def read(self, start, stop):
        return np.arange(start, stop, dtype=np.float32)[:, None]


def test_order_of_a_store_is_what_it_was():
    """Runs that were interrupted before an update must go on with the same batches.

    The digest is of 30 batches of row numbers; change it only with a new run format.
    """
    numbered = Numbered()
    keep = np.arange(150_000) % 5 != 0
    batches = ActivationBatches(numbered, batch_size=7000, seed=3, keep_rows=keep)
    digest = hashlib.sha256(np.concatenate(collect(batches, 4, 34)).astype("<f4").tobytes())
    assert digest.hexdigest() == "753debb64434b64eda704ca7acd9897f77337af2e84f1cf22fbe3cb151d1ba2e"


def test_only_the_pools_of_the_steps_are_read(tiny_store, monkeypatch):
    batches = ActivationBatches(tiny_store, batch_size=512, seed=0, consecutive_rows=1024)
    read, starts = ActivationBatches._read_pool, []
    monkeypatch.setattr(
        ActivationBatches, "_read_pool", lambda self, p: (starts.append(p), read(self, p))[1]
    )
    assert len(collect(batches, 4, 6)) == 2
    assert starts == [(0, 2)]
    assert len(collect(batches, 4, 7)) == 3
    assert starts == [(0, 2), (0, 2), (0, 3)]


def test_leaving_early_stops_the_reader(tiny_store):
    batches = ActivationBatches(tiny_store, batch_size=100, seed=0, consecutive_rows=1024)
    steps = batches.iterate(0, 1000)
    next(steps)
    steps.close()
    assert not [t for t in threading.enumerate() if t.name == "prefetch"]
