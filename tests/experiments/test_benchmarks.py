"""The benchmarks at tiny size: do all programs run and agree? Nothing is timed."""

import gzip
import json

import esm
import numpy as np
import pytest

from experiments.benchmarks import accuracy, contestants, extraction
from extract.errors import UserError
from extract.esm import ESM2_SHAPES, ESM2Shape
from extract.weights import build_esm2, random_tensors
from tests.helpers import random_proteins

SHAPE = ESM2Shape(2, 32, 2)


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(ESM2_SHAPES, "tiny", SHAPE)


@pytest.fixture
def fasta(tmp_path):
    path = tmp_path / "a.fasta.gz"
    with gzip.open(path, "wt") as f:
        f.writelines(f">{p.id}\n{p.sequence}\n" for p in random_proteins(9, 5, 60))
    return path


@pytest.mark.parametrize("contestant", extraction.CONTESTANTS)
def test_contestants_agree_in_the_callers_order(tiny, contestant, monkeypatch):
    if contestant == "transformers":
        pytest.importorskip("transformers")
    monkeypatch.setattr(contestants, "TOKENS_PER_BATCH", 100)
    sequences = [p.sequence for p in random_proteins(9, 5, 60)]
    run, source = contestants.build(contestant, "tiny", "random")
    expected = contestants.build("fair-esm", "tiny", "random")[0](sequences, 1)
    assert source == "random"
    limit = extraction.AGREEMENT.get(contestant, 0)
    for found, theirs in zip(run(sequences, 1), expected, strict=True):
        assert found.shape == theirs.shape
        assert abs(found - theirs).max() <= limit * abs(theirs).max()


def test_the_whole_benchmark_on_the_smallest_model(fasta):
    setting = extraction.Setting("esm2_t6_8M_UR50D", 1, "random", n_batches=1, rounds=2)
    config = extraction.ExtractionConfig(
        fasta=fasta, threads=1, contestants=("fair-esm", "ours float32")
    )
    result = extraction.measure(setting, config)
    assert {len(times) for times in result["seconds"].values()} == {2}
    assert all(gb > 0.05 for gb in result["peak_gb"].values())
    assert result["n_residues"] == sum(len(p.sequence) for p in random_proteins(9, 5, 60))
    assert "| ours float32 |" in extraction.table([result])
    json.dumps(result)


def test_a_contestant_that_differs_does_not_count(fasta, monkeypatch):
    setting = extraction.Setting("esm2_t6_8M_UR50D", 1, "random", n_batches=1, rounds=1)
    config = extraction.ExtractionConfig(
        fasta=fasta, threads=1, contestants=("fair-esm", "ours bfloat16")
    )
    monkeypatch.setitem(extraction.AGREEMENT, "ours bfloat16", 1e-6)
    with pytest.raises(UserError, match="does not count"):
        extraction.measure(setting, config)


def test_batches_are_those_of_fair_esm_spread_over_the_lengths(tmp_path):
    path, proteins = tmp_path / "b.fasta", random_proteins(300, 20, 300)
    path.write_text("".join(f">{p.id}\n{p.sequence}\n" for p in proteins))
    dataset = esm.FastaBatchedDataset([p.id for p in proteins], [p.sequence for p in proteins])
    lengths = [
        sorted(len(proteins[i].sequence) for i in batch)
        for batch in dataset.get_batch_indices(4096, extra_toks_per_seq=1)
    ]
    n = len(lengths)
    chosen = [lengths[int(0.25 * n)], lengths[int(0.75 * n)]]
    found = extraction.spread_batches(path, 2)
    assert sorted(map(len, found)) == sorted(chosen[0] + chosen[1])
    with pytest.raises(UserError, match=f"has {n} batches, 1000 are asked for"):
        extraction.spread_batches(path, 1000)


def test_differences_by_hand():
    expected = np.array([[3.0, 4.0], [0.0, 10.0]])
    found = np.array([[3.0, 4.5], [1.0, 10.0]])
    result = accuracy.difference(found, expected)
    assert result.largest == pytest.approx(0.1)
    assert (result.mean, result.worst) == (pytest.approx(0.1), pytest.approx(0.1))
    assert result.cosine == pytest.approx(100 / (10 * np.hypot(1, 10)))
    with pytest.raises(UserError, match="at block1"):
        accuracy.require_float32([("block0", result._replace(largest=0)), ("block1", result)])


def test_every_site_is_compared():
    tensors = random_tensors(SHAPE)
    models = {
        dtype: build_esm2("tiny", SHAPE, dict(tensors), source="x", dtype=dtype)
        for dtype in ("float32", "bfloat16")
    }
    sites = accuracy.compare_sites(models, tensors, ["MKTAYIAKQR", "MM"])
    assert list(sites["float32"]) == models["float32"].sites
    accuracy.require_float32(sites["float32"].items())
    assert all(1e-4 < d.mean < 2e-2 for d in sites["bfloat16"].values())
    assert accuracy.table(sites).count("\n") == 2 + len(models["float32"].sites)
