"""Training from a stream: the very run that a store gives, without the store."""

import dataclasses
import json
import shutil
import threading

import numpy as np
import pytest

from extract import parents
from extract.errors import UserError
from extract.selection import read_fasta
from extract.store import ActivationStore
from extract.streaming import ActivationStream, shuffled
from saejax.checkpoint import checkpoint_steps, load_sae
from saejax.config import StreamConfig, TrainConfig
from saejax.data import held_out
from saejax.streamed import split
from saejax.train import train
from tests.helpers import make_store, random_proteins, tiny_esm2
from tests.saejax.resuming import TIMINGS

SETTINGS = {
    "d_sae": 64, "k": 4, "epochs": 3, "batch_size_tokens": 256, "holdout_fraction": 0.1,
    "log_every_steps": 5, "checkpoint_every_steps": 10, "dead_after_tokens": 2000,
    "pool_shards": 2,
}  # fmt: skip
STREAM = {"site": "block1", "shard_rows": 1024, "batch_residues": 300}


@pytest.fixture(autouse=True)
def tiny_parent(monkeypatch):
    """The parent of every run here is the tiny one."""
    model = tiny_esm2()
    monkeypatch.setattr(parents, "load_parent", lambda name, **_: model)
    return model


@pytest.fixture(scope="module")
def fasta(tmp_path_factory):
    path = tmp_path_factory.mktemp("fasta") / "a.fasta"
    proteins = random_proteins(60, 30, 120)
    path.write_text("".join(f">{p.id}\n{p.sequence}\n" for p in proteins))
    return path


def config_of(fasta, out, stream=None, **changes):
    stream = StreamConfig(fasta=fasta, **{**STREAM, **(stream or {})})
    return TrainConfig.of(None, out, source="stream", **vars(stream) | {**SETTINGS, **changes})


def record_of(run):
    return json.loads((run / "run.json").read_text())


def metrics_of(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in TIMINGS} for line in lines]


def assert_same_run(a, b):
    first, second = load_sae(a), load_sae(b)
    for name, array in first.arrays().items():
        np.testing.assert_array_equal(array, second.arrays()[name], err_msg=name)
    assert metrics_of(a) == metrics_of(b)
    assert first.run["results"] == second.run["results"]
    np.testing.assert_array_equal(first.latent_max, second.latent_max)


@pytest.fixture(scope="module")
def run(fasta, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parents, "load_parent", lambda name, **_: tiny_esm2())
        return train(config_of(fasta, tmp_path_factory.mktemp("runs") / "whole"))


def test_a_run_knows_its_stream(run, fasta):
    record = record_of(run)
    assert record["state"] == "complete"
    assert record["config"]["source"] == "stream"
    assert record["config"]["site"] == record["store"]["site"] == load_sae(run).site == "block1"
    assert record["store"]["streamed"]
    assert record["store"]["source"]["sha256"] == read_fasta(fasta)[1].sha256
    metrics = metrics_of(run)
    assert metrics[-1]["fvu"] < 0.5 * metrics[0]["fvu"]
    assert not [t for t in threading.enumerate() if t.name == "prefetch"]


def test_held_out_proteins_are_those_of_a_store(run, fasta):
    """Evaluated on, in a store of their own; not trained on."""
    proteins, _ = read_fasta(fasta)
    expected = {p.sequence for p, out in zip(proteins, held_out(proteins, 0.1)) if out}
    store = ActivationStore.open(run / "held_out")
    assert {p.sequence for p in store.proteins} == expected
    record = record_of(run)
    assert record["eval_store"] == store.manifest
    assert record["results"]["n_tokens"] == store.n_rows == sum(map(len, expected))
    assert record["store"]["n_proteins"] == 60 - len(expected)
    assert record["store"]["n_rows"] == sum(len(p.sequence) for p in proteins) - store.n_rows
    load_sae(run).require_store(store)


def test_a_store_in_the_same_order_gives_the_same_run(run, fasta, tmp_path):
    """Parameters and metrics bit for bit, on eight devices, by way of a disk or not."""
    kept, _ = split(read_fasta(fasta)[0], 0.1)
    store = make_store(tmp_path / "acts", shuffled(kept, seed=0))
    assert load_sae(run).arrays()["scale"] == np.float32(store.scale)
    again = train(
        TrainConfig.of(store.folder, tmp_path / "r", eval_activations=run / "held_out", **SETTINGS)
    )
    assert_same_run(run, again)
    permuted = dataclasses.replace(
        TrainConfig.of(store.folder, tmp_path / "s", eval_activations=run / "held_out", **SETTINGS),
        pool_shards=None,
    )
    assert metrics_of(train(permuted)) != metrics_of(run)


def test_resumed_run_is_bit_identical(run, fasta, tmp_path, monkeypatch):
    config = config_of(fasta, tmp_path / "b")
    train(config, stop_after_step=13)
    with pytest.raises(UserError, match="has not finished"):
        load_sae(tmp_path / "b")
    train(config, stop_after_step=20)
    shards, compute = [], ActivationStream._compute

    def noted(self, shard):
        shards.append(shard.index)
        return compute(self, shard)

    monkeypatch.setattr(ActivationStream, "_compute", noted)
    train(config)
    whole = {line["step"]: line for line in metrics_of(run)}
    resumed = {line["step"]: line for line in metrics_of(tmp_path / "b")}
    assert {step: resumed[step] for step in whole} == whole
    shutil.copy(run / "metrics.jsonl", tmp_path / "b" / "metrics.jsonl")
    assert_same_run(run, tmp_path / "b")
    n_rows = load_sae(run).store_manifest["n_rows"]
    in_epoch = (20 - n_rows // 256) * 256  # step 20 is in epoch 1: its pool and on, no normaliser
    n_shards = -(-n_rows // 1024)
    assert 0 <= in_epoch < n_rows - 256
    assert shards == [*range(in_epoch // 2048 * 2, n_shards), *range(n_shards)]


def test_normaliser_of_a_part_is_recorded_and_used_again(fasta, tmp_path, monkeypatch):
    config = config_of(fasta, tmp_path / "r", {"normalizer_rows": 1000}, epochs=1)
    train(config, stop_after_step=3)
    manifest = record_of(tmp_path / "r")["store"]
    assert manifest["normalizer"] == {"n_rows": 1024, "estimated": True}
    monkeypatch.setattr("extract.streaming.moments", None)  # not estimated again
    train(config)
    assert load_sae(tmp_path / "r").arrays()["scale"] == np.float32(manifest["scale"])


@pytest.mark.parametrize(
    ("stream", "changes", "message"),
    [
        ({"site": "block2"}, {}, "holds a run with site 'block1', now 'block2'"),
        ({"batch_residues": 200}, {}, "holds a run with batch_residues 300, now 200"),
        ({"shard_rows": 2048}, {}, "holds a run with shard_rows 1024, now 2048"),
        ({"token_dropout": False}, {}, "holds a run with token_dropout True, now False"),
        ({"normalizer_rows": 5}, {}, "holds a run with normalizer_rows 262144, now 5"),
        ({}, {"pool_shards": 3}, "holds a run with pool_shards 2, now 3"),
        ({}, {"seed": 3}, "holds a run with seed 0, now 3"),
        ({}, {"holdout_fraction": 0.2}, "holds a run with holdout_fraction 0.1, now 0.2"),
    ],
)
def test_other_settings_are_refused(run, fasta, stream, changes, message):
    before = (run / "run.json").read_bytes()
    with pytest.raises(UserError, match=message):
        train(config_of(fasta, run, stream, **changes))
    assert (run / "run.json").read_bytes() == before


def test_a_store_does_not_go_on_with_a_streamed_run(run, tiny_store):
    with pytest.raises(UserError, match="holds a run with source 'stream', now 'store'"):
        train(TrainConfig.of(tiny_store.folder, run, **SETTINGS))


def test_other_proteins_are_refused(run, fasta, tmp_path):
    moved = tmp_path / "moved.fasta"
    shutil.copy(fasta, moved)
    assert train(config_of(moved, run)) == run  # the same file elsewhere is the same run
    with moved.open("a") as f:
        f.write(">more\nMKTAYIAKQR\n")
    before = (run / "held_out" / "manifest.json").read_bytes()
    with pytest.raises(UserError, match="trained on other activations than .* differ in n_rows"):
        train(config_of(moved, run))
    assert (run / "held_out" / "manifest.json").read_bytes() == before


def test_another_parent_is_refused(run, fasta, tmp_path, monkeypatch):
    shutil.copytree(run, tmp_path / "r")
    monkeypatch.setattr(parents, "load_parent", lambda name, **_: tiny_esm2(seed=1))
    with pytest.raises(UserError, match="trained on other activations than .* differ in parent"):
        train(config_of(fasta, tmp_path / "r"))


def test_weights_found_elsewhere_are_the_same_weights(run, fasta, monkeypatch):
    """Once downloaded they come out of a cache."""
    model = tiny_esm2()
    model.weights = dataclasses.replace(model.weights, source="a cache")
    monkeypatch.setattr(parents, "load_parent", lambda name, **_: model)
    assert train(config_of(fasta, run)) == run


def test_held_out_store_that_was_removed_is_made_again(run, fasta, tmp_path):
    config = config_of(fasta, tmp_path / "r")
    train(config, stop_after_step=45)
    shutil.rmtree(tmp_path / "r" / "held_out")
    train(config)
    assert load_sae(run).run["results"] == load_sae(tmp_path / "r").run["results"]


def test_eval_activations_are_used_instead(fasta, tmp_path):
    other = make_store(tmp_path / "other", random_proteins(9, 30, 120, seed=3))
    out = train(config_of(fasta, tmp_path / "r", epochs=1, eval_activations=other.folder))
    assert not (out / "held_out").exists()
    assert record_of(out)["store"]["n_proteins"] == 60
    assert load_sae(out).run["results"]["n_tokens"] == other.n_rows
    elsewhere = make_store(tmp_path / "b2", random_proteins(9, 30, 120, seed=3), site="block2")
    with pytest.raises(UserError, match="site is 'block1' in the first and 'block2'"):
        train(config_of(fasta, tmp_path / "s", eval_activations=elsewhere.folder))
    assert not (tmp_path / "s").exists()


def test_a_start_killed_while_it_holds_out_goes_on(run, fasta, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("extract.writer.StoreWriter.write_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config_of(fasta, tmp_path / "r"))
    assert [p.name for p in (tmp_path / "r").iterdir()] == ["held_out"]
    assert_same_run(run, train(config_of(fasta, tmp_path / "r")))


def test_a_folder_of_something_else_is_left_alone(fasta, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty and not a run"):
        train(config_of(fasta, tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_too_few_proteins(fasta, tmp_path):
    with pytest.raises(UserError, match=r"a\.fasta: \d+ rows to train on are fewer than one batch"):
        train(config_of(fasta, tmp_path / "r", batch_size_tokens=8000))
    (tmp_path / "one.fasta").write_text(">a\nMKTAYIAKQR\n")
    with pytest.raises(UserError, match="all 1 proteins are held out"):
        train(config_of(tmp_path / "one.fasta", tmp_path / "r"))
    assert not (tmp_path / "r").exists()


def test_an_exception_of_the_parent_ends_the_run(fasta, tmp_path, monkeypatch):
    config = config_of(fasta, tmp_path / "r")
    train(config, stop_after_step=10)
    compute = ActivationStream._compute

    def failing(self, shard):
        if shard.index == 2:
            raise RuntimeError("parent failed")
        return compute(self, shard)

    monkeypatch.setattr(ActivationStream, "_compute", failing)
    with pytest.raises(RuntimeError, match="parent failed"):
        train(config)
    assert checkpoint_steps(tmp_path / "r")[-1] == 10


def test_no_thread_is_left_by_a_run_that_stops(fasta, tmp_path, monkeypatch):
    config = config_of(fasta, tmp_path / "r")
    compute = ActivationStream._compute
    train(config, stop_after_step=2)
    monkeypatch.setattr(ActivationStream, "_compute", lambda s, x: compute(s, x) * np.nan)
    with pytest.raises(UserError, match="the loss is not finite") as caught:
        train(config)
    assert caught.tb is not None  # while the frames that it stopped in are alive
    assert not [t for t in threading.enumerate() if t.name == "prefetch"]
