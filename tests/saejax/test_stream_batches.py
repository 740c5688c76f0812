"""Batches from a stream, and which proteins it leaves out."""

import numpy as np
import pytest

import extract
import saejax.streamed as streamed
from extract.fasta import Protein
from extract.selection import FastaReport
from saejax.data import ActivationBatches, held_out
from saejax.streamed import StreamBatches, split
from tests.helpers import make_store, random_proteins


@pytest.mark.parametrize("batch_size", [100, 1000, 3000])
@pytest.mark.parametrize("buffer", [None, 0])
def test_batches_are_a_stores_and_any_step_is_a_cursor(tiny_model, tmp_path, batch_size, buffer):
    proteins = random_proteins(60, 30, 120)
    report = FastaReport("a.fasta", "0" * 64)
    stream = extract.stream(tiny_model, proteins, report, "block1", batch_residues=300,
                         shard_rows=1024)  # fmt: skip
    store = make_store(tmp_path / "s", stream.proteins)
    ours = StreamBatches(stream, name="x", batch_size=batch_size, seed=2, pool_shards=3,
                         buffer=buffer)  # fmt: skip
    theirs = ActivationBatches(store, batch_size=batch_size, seed=2, consecutive_rows=3072)
    n = 2 * ours.batches_per_epoch
    assert (ours.n_rows, n) == (theirs.n_rows, 2 * theirs.batches_per_epoch)
    whole = list(theirs.iterate(0, n))
    for start in {0, 1, n // 2, n - 1}:
        for a, b in zip(ours.iterate(start, n), whole[start:], strict=True):
            np.testing.assert_array_equal(a.numpy(), b)


def test_held_out_proteins_are_capped(monkeypatch):
    proteins = random_proteins(300, 20, 30)
    proteins += [Protein(f"copy{p.id}", p.sequence) for p in proteins]
    kept, held = split(proteins, 0.2)
    chosen = {p.sequence for p, out in zip(proteins, held_out(proteins, 0.2)) if out}
    assert {p.sequence for p in held} == chosen
    assert len(held) == len(chosen)
    assert not chosen & {p.sequence for p in kept}
    monkeypatch.setattr(streamed, "MAX_HELD_OUT", 7)
    fewer = split(proteins, 0.2)
    assert fewer == (kept, held[:7])
    assert {p.sequence for p in split(proteins, 1e-9)[1]} == {held[0].sequence}
