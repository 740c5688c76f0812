"""A stream is a store that was never written: the same rows, facts and statistics."""

import hashlib
import threading
import time
import weakref

import numpy as np
import pytest
import torch

import extract
from extract.errors import UserError
from extract.fasta import Protein
from extract.selection import FastaReport
from extract.statistics import Normalizer
from extract.store import parent_of, require_same_parent
from extract.streaming import ActivationStream, shuffled
from tests.helpers import make_store, random_proteins, tiny_esm2

REPORT = FastaReport("test.fasta", "0" * 64, n_records=60)
SETTINGS = {"batch_residues": 300, "shard_rows": 1024}


def make_stream(model, proteins, **changes):
    return extract.stream(model, proteins, REPORT, "block1", **{**SETTINGS, **changes})


@pytest.fixture(scope="module")
def stream(tiny_model):
    return make_stream(tiny_model, random_proteins(60, 30, 120))


@pytest.fixture(scope="module")
def store(stream, tmp_path_factory):
    """The store of the proteins as the stream has them."""
    return make_store(tmp_path_factory.mktemp("stores") / "s", stream.proteins)


def threads():
    return [t for t in threading.enumerate() if t.name == "prefetch"]


@pytest.mark.parametrize("buffer", [0, 1, 3])
def test_rows_are_the_stores_bit_for_bit(stream, store, buffer):
    assert len(stream.shards) == 5
    order = [0, 1, 2, 3, 4, 2, 0]  # any order, as often as wanted
    for index, rows in zip(order, stream.rows_of(order, buffer=buffer), strict=True):
        shard = stream.shards[index]
        assert rows.dtype == torch.float32
        np.testing.assert_array_equal(rows.numpy(), store.read(shard.start, shard.stop))


def test_it_knows_what_a_store_knows(stream, store):
    assert set(store.manifest) - {"part_rows"} <= set(stream.manifest)  # files on a disk
    assert stream.manifest["streamed"]
    for key in ("site", "d_model", "n_rows", "n_proteins", "dtype", "shard_rows", "parent"):
        assert stream.manifest[key] == store.manifest[key]
    assert stream.manifest["source"]["n_kept"] == len(stream.proteins) == 60
    assert parent_of(stream.manifest) == parent_of(store.manifest)
    require_same_parent(stream.manifest, store.manifest, what="these")
    assert stream.proteins == store.proteins
    np.testing.assert_array_equal(stream.offsets, store.offsets)


def test_normaliser_of_all_rows_is_the_stores(stream, store):
    """The default estimates from more rows than there are here."""
    np.testing.assert_array_equal(stream.mean, store.mean)
    assert stream.scale == store.scale
    assert stream.manifest["gamma"] == store.manifest["gamma"]
    assert stream.manifest["mean"] == store.manifest["mean"]
    assert stream.manifest["normalizer"] == {"n_rows": store.n_rows, "estimated": False}


@pytest.mark.parametrize(("asked", "used"), [(1, 1024), (1024, 1024), (1025, 2048)])
def test_normaliser_is_estimated_from_the_first_shards(stream, tiny_model, store, asked, used):
    estimate = make_stream(tiny_model, stream.proteins, normalizer_rows=asked)
    rows = store.read(0, used).astype(np.float64)
    np.testing.assert_allclose(estimate.mean, rows.mean(axis=0), rtol=1e-5, atol=1e-7)
    squared = ((rows - rows.mean(axis=0)) ** 2).sum(axis=1).mean()
    assert estimate.scale == pytest.approx(np.sqrt(16 / squared))
    assert estimate.manifest["normalizer"] == {"n_rows": used, "estimated": True}


def test_normaliser_can_be_given(stream, tiny_model, store, monkeypatch):
    given = Normalizer.of_manifest(store.manifest)
    monkeypatch.setattr(ActivationStream, "_compute", None)  # nothing may be computed for it
    other = make_stream(tiny_model, stream.proteins[:20], given=given)
    np.testing.assert_array_equal(other.mean, store.mean)
    assert other.scale == store.scale
    assert other.manifest["normalizer"]["n_rows"] == store.n_rows
    again = Normalizer.of_manifest(other.manifest)
    assert again._replace(mean=None) == given._replace(mean=None)
    with pytest.raises(ValueError, match="3 dimensions, tiny has 16"):
        make_stream(tiny_model, stream.proteins, given=given._replace(mean=given.mean[:3]))


def test_order_is_of_the_sequences_and_the_seed_alone(tiny_model):
    proteins = random_proteins(40, 30, 60)
    copies = [Protein("copy", p.sequence) for p in proteins[:10]]
    first = shuffled(proteins + copies, seed=0)
    assert first == shuffled([*reversed(proteins)], seed=0)
    assert sorted(p.id for p in first) == sorted(p.id for p in proteins)
    other = shuffled(proteins, seed=1)
    assert other != first
    assert set(other) == set(first)
    assert [p.id for p in first] != [p.id for p in proteins]
    by_hand = sorted(proteins, key=lambda p: hashlib.sha256(
        f"0:{p.sequence}".encode()).hexdigest())  # fmt: skip
    assert first == by_hand
    assert make_stream(tiny_model, proteins, seed=1).proteins == other


def test_facts_change_with_the_proteins(stream, tiny_model):
    fewer = make_stream(tiny_model, stream.proteins[1:])
    assert fewer.facts["sequences_sha256"] != stream.facts["sequences_sha256"]


class Watched:
    """Counts the shards that are computed, and those that are alive at a time."""

    def __init__(self, monkeypatch):
        self.alive, self.most, self.computed = weakref.WeakSet(), 0, 0
        compute = ActivationStream._compute

        def watched(stream, shard):
            rows = compute(stream, shard)
            self.alive.add(rows)
            self.computed += 1
            self.most = max(self.most, len(self.alive))
            return rows

        monkeypatch.setattr(ActivationStream, "_compute", watched)


@pytest.mark.parametrize("buffer", [1, 2, 3])
def test_live_shards_are_bounded(stream, monkeypatch, buffer):
    watched = Watched(monkeypatch)
    shards = stream.rows_of([0, 1, 2, 3, 4] * 2, buffer=buffer)
    for i in range(10):  # not enumerate(), which keeps the last shard
        rows = next(shards)
        deadline = time.monotonic() + 20
        while watched.computed < min(i + buffer, 10):  # it does run ahead
            assert time.monotonic() < deadline
            time.sleep(0.001)
        del rows
    assert next(shards, None) is None
    assert watched.most == buffer
    assert not threads()


def test_exceptions_of_the_parent_reach_the_consumer(tiny_model, monkeypatch):
    stream = make_stream(tiny_model, random_proteins(60, 30, 120))
    compute = ActivationStream._compute

    def failing(self, shard):
        if shard.index == 1:
            raise RuntimeError("out of memory")
        return compute(self, shard)

    monkeypatch.setattr(ActivationStream, "_compute", failing)
    shards = stream.rows_of(range(5))
    next(shards)
    with pytest.raises(RuntimeError, match="out of memory"):
        next(shards)
    assert not threads()


def test_early_exit_leaves_no_thread(stream):
    shards = stream.rows_of(range(5))
    next(shards)
    assert threads()
    shards.close()
    assert not threads()


@pytest.mark.parametrize(
    ("site", "changes", "error", "message"),
    [
        ("block9", {}, UserError, "unknown site 'block9'"),
        ("block1", {"shard_rows": 1000}, ValueError, r"\(1000\) must be a multiple of 1024"),
    ],
)
def test_bad_arguments(tiny_model, site, changes, error, message):
    with pytest.raises(error, match=message):
        extract.stream(tiny_model, random_proteins(3, 20, 30), REPORT, site, **changes)


def test_no_proteins(tiny_model):
    with pytest.raises(UserError, match="no proteins to stream"):
        make_stream(tiny_model, [])


def test_another_parent_has_another_stream(stream, store):
    other = make_stream(tiny_esm2(seed=1), stream.proteins)
    with pytest.raises(UserError, match="weights sha256 is 'seed0' in the first and 'seed1'"):
        require_same_parent(store.manifest, other.manifest, what="these")


def test_extract_has_no_other_lazy_names():
    with pytest.raises(AttributeError, match="no attribute 'streams'"):
        extract.streams  # noqa: B018
