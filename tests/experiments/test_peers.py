"""The comparison of trainers at tiny size, with the one that is here: this project's."""

import json
from dataclasses import replace

import numpy as np
import pytest

from experiments.benchmarks import peer_rows, peers
from extract.errors import UserError
from saejax.data import held_out_rows

TINY = {
    "tokens": 2048, "search_tokens": 1024, "batch_size_tokens": 128, "d_sae": 64, "k": 4,
    "threads": 1, "holdout_fraction": 0.1, "learning_rates": (1e-2,), "max_extensions": 1,
    "variations": False, "trainers": ("ours",),
}  # fmt: skip


@pytest.fixture
def config(tiny_store, tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")  # the emulated devices of the tests are not for it
    return peers.PeersConfig(activations=tiny_store.folder, out=tmp_path, **TINY)


def test_the_figures_by_hand():
    sae = {"W_enc": np.eye(2), "b_enc": np.array([0.0, 0.0]), "W_dec": np.eye(2),
           "b_dec": np.array([1.0, 0.0])}  # fmt: skip
    x = np.array([[4.0, 1.0], [2.0, -1.0], [0.0, -3.0]])
    # k = 1: x − b_dec is (3, 1), (1, −1), (−1, −3); z is (3, 0), (1, 0), (0, 0)
    # x̂ is (4, 0), (2, 0), (1, 0): errors 1, 1, 1 + 9; deviations from (2, −1): 8, 0, 8
    assert peer_rows.score(sae, x, 1, block=2) == pytest.approx((12 / 16, 2 / 3, 1 / 2))


def test_rows_are_normalised_and_of_the_right_proteins(config, tiny_store):
    peer_rows.prepare(config)
    train, validation, test = (
        np.load(config.out / f"{name}.npy") for name in ("train", "validation", "test")
    )
    held = held_out_rows(tiny_store, config.holdout_fraction)
    x = (tiny_store.read(0, tiny_store.n_rows) - tiny_store.mean) * tiny_store.scale
    assert {row.tobytes() for row in train} <= {row.tobytes() for row in x[~held]}
    found = {row.tobytes() for row in np.concatenate([validation, test])}
    assert found == {row.tobytes() for row in x[held]}
    assert len(validation) + len(test) == held.sum()
    assert (x**2).sum(axis=1).mean() == pytest.approx(tiny_store.d_model, rel=1e-3)


def test_ours_is_searched_trained_and_taken_up_again(config, monkeypatch):
    comparison = peers.Comparison(config, peer_rows.prepare(config))
    searched = comparison.search("ours")
    assert {r["settings"]["learning_rate"] for r in searched} == {1e-2, 2e-2}
    final = comparison.final("ours", searched[0])
    assert [r["stage"] for r in final] == ["best", "defaults"]
    assert final[0]["test"]["fvu"] < min(final[1]["test"]["fvu"], searched[0]["test"]["fvu"], 1)
    assert final[0]["tokens"] == 2048
    assert 0 < final[0]["test"]["l0"] <= 4
    json.dumps(final)
    assert peers.table(final, "test").count("\n") == 4
    monkeypatch.setattr(peers.Comparison, "_train", None)
    assert comparison.search("ours") == searched  # nothing is trained twice


def test_more_tokens_go_on_with_the_same_rows(config):
    identity = peer_rows.prepare(config)
    before = np.load(config.out / "train.npy")
    assert peer_rows.prepare(replace(config, tokens=4096)) == identity
    assert (np.load(config.out / "train.npy")[:2048] == before).all()


def test_a_trainer_that_reconstructs_otherwise_does_not_count(config, monkeypatch):
    comparison = peers.Comparison(config, peer_rows.prepare(config))
    rng = np.random.default_rng(0)
    d, n = comparison.identity["d_model"], config.d_sae
    sae = {"W_enc": rng.normal(size=(d, n)), "b_enc": np.zeros(n), "b_dec": np.zeros(d),
           "W_dec": rng.normal(size=(n, d))}  # fmt: skip
    x_hat = peer_rows.reconstruct(sae, np.load(config.out / "check.npy"), config.k)[0]
    facts = {"tokens_per_second": 1.0}
    monkeypatch.setattr(comparison, "_train", lambda _: (facts, sae | {"x_hat": x_hat * 1.01}))
    with pytest.raises(UserError, match="nothing is compared"):
        comparison.run("sae_lens", 1024, "best", {})
    monkeypatch.setattr(comparison, "_train", lambda _: (facts, sae | {"x_hat": x_hat}))
    assert comparison.run("sae_lens", 1024, "best", {})["tokens"] == 1024


def test_too_few_held_out_proteins(config):
    with pytest.raises(UserError, match="raise --holdout-fraction"):
        peer_rows.prepare(replace(config, holdout_fraction=1e-6))
