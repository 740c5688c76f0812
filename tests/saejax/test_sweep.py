"""Runs trained side by side are the runs trained alone."""

import json

import jax
import numpy as np
import pytest

import saejax.train
from extract.errors import UserError
from saejax.checkpoint import Checkpoints, checkpoint_steps, load_sae
from saejax.run_record import previous_run
from saejax.sweep import common_step, members, seed_stability
from saejax.train import train
from tests.saejax.resuming import (
    Killed,
    assert_same_state,
    compiled_once,
    config_of,
    metrics_of,
    results_of,
)

TWENTY = {"batch_size_tokens": 184, "eval_every_steps": 10}


@pytest.fixture(scope="module", autouse=True)
def _two_devices(tmp_path_factory):
    """And a cache of compiled steps."""
    with pytest.MonkeyPatch.context() as patch, compiled_once(tmp_path_factory.mktemp("cache")):
        patch.setattr(saejax.train, "sae_devices", lambda parent: jax.devices()[:2])
        yield


def kill_in_save(monkeypatch, name, step):
    """Die when one run of a sweep begins to write a checkpoint; all before are on the disk."""
    save = Checkpoints.save

    def deadly(self, training, state):
        if self.run.name == name and int(state.step) == step:
            raise Killed
        save(self, training, state)
        self.wait()

    monkeypatch.setattr(Checkpoints, "save", deadly)


@pytest.fixture(scope="module")
def sweep(tiny_store, tmp_path_factory):
    """Two seeds and two k over 20 steps, killed between the writes of two members on the way."""
    out = tmp_path_factory.mktemp("runs") / "sweep"
    config = config_of(tiny_store, out, sweep=("seed=0,1", "k=3,6"), keep_checkpoints=1, **TWENTY)
    with pytest.MonkeyPatch.context() as patch:
        kill_in_save(patch, "seed=1_k=3", 10)
        with pytest.raises(Killed):
            train(config)
    steps = {p.parent.name: checkpoint_steps(p.parent) for p in out.glob("*/run.json")}
    assert steps == {
        "seed=0_k=3": [5, 10], "seed=0_k=6": [5, 10], "seed=1_k=3": [5], "seed=1_k=6": [5]
    }  # fmt: skip
    train(config)
    return config


def test_a_run_is_the_one_trained_alone(sweep, tmp_path):
    """With Adam, AuxK, k by masking, after 20 steps and a kill."""
    member = next(c for c in members(sweep) if c.out.name == "seed=1_k=3")
    alone = train(member.replace(out=tmp_path / "alone"))
    assert_same_state(member.out, alone, rtol=1e-5, atol=1e-5)
    ours, theirs = metrics_of(member.out), metrics_of(alone)
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    assert ours[-1]["step"] == 20
    assert max(line.get("auxk", 0) for line in ours) > 0
    for a, b in zip(ours, theirs):
        assert a.keys() == b.keys()
        for key in ("loss", "fvu", "l0", "held_out_fvu", "held_out_l0"):
            assert a.get(key, 0) == pytest.approx(b.get(key, 0), rel=1e-4), (key, a["step"])
    assert results_of(member.out)["fvu"] == pytest.approx(results_of(alone)["fvu"], rel=1e-4)


def test_each_run_can_be_used_and_stands_by_itself(sweep):
    for member in members(sweep):
        loaded = load_sae(member.out)
        assert loaded.config.k == member.dictionary.k
        assert loaded.run["results"]["l0"] <= member.dictionary.k
        record = previous_run(member)  # accepted with its own settings
        assert record is not None
        assert record["state"] == "complete"
    found = json.loads((sweep.out / "sweep.json").read_text())
    assert found["runs"] == ["seed=0_k=3", "seed=0_k=6", "seed=1_k=3", "seed=1_k=6"]
    pairs = [(p["first"], p["second"]) for p in found["seed_stability"]]
    assert pairs == [("seed=0_k=3", "seed=1_k=3"), ("seed=0_k=6", "seed=1_k=6")]
    assert all(0 < p["mean_cosine"] < 1 for p in found["seed_stability"])


def test_a_finished_sweep_is_left_alone_and_a_longer_one_trains_the_rest(sweep):
    record = sweep.out / "seed=0_k=3" / "run.json"
    before = record.stat().st_mtime_ns
    (sweep.out / "sweep.json").unlink()
    train(sweep)
    assert (sweep.out / "sweep.json").exists()
    train(sweep.replace(sweep=("seed=0,1,2,3", "k=3,6")))
    assert record.stat().st_mtime_ns == before
    assert load_sae(sweep.out / "seed=3_k=6").config.k == 6
    assert len(json.loads((sweep.out / "sweep.json").read_text())["seed_stability"]) == 12


def test_rates_and_penalties_too(tiny_store, tmp_path):
    entries = ("sparsity=0.1,2", "learning_rate=0.001,0.003")
    settings = {"architecture": "jumprelu", "sweep": entries, "learning_rate": None}
    config = config_of(tiny_store, tmp_path / "s", **settings)
    train(config)
    member = members(config)[-1]
    assert (member.sparsity(), member.peak_learning_rate()) == (2, 0.003)
    alone = train(member.replace(out=tmp_path / "alone"))
    assert_same_state(member.out, alone, rtol=1e-5, atol=1e-5)
    others = [load_sae(c.out).arrays()["W_dec"] for c in members(config)]
    assert all(np.abs(a - others[0]).max() > 1e-4 for a in others[1:])


def test_all_see_the_data_in_the_order_of_the_sweeps_seed(tiny_store, tmp_path):
    config = config_of(tiny_store, tmp_path, seed=5, sweep=("seed=0,1",))
    assert [c.data_order_seed for c in members(config)] == [5, 5]
    assert [c.seed for c in members(config)] == [0, 1]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (("d_sae=1,2",), "must be one of seed, k, learning_rate, sparsity"),
        (("seed",), "must be one of"),
        (("seed=0,0",), "the same value twice"),
        (("seed=0", "seed=1"), "seed is given twice"),
        (("k=a",), "'a' is no int"),
        (("k=0,1",), r"k \(0\) must be at least 1"),
        (("sparsity=1,2",), "topk has no sparsity"),
    ],
)
def test_what_can_not_be_swept_is_refused(entries, message, tiny_store, tmp_path):
    with pytest.raises(UserError, match=message):
        train(config_of(tiny_store, tmp_path / "s", sweep=entries))
    assert not (tmp_path / "s").exists()


def test_the_step_to_go_on_from(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    assert common_step([a, b], [[], []]) == 0
    assert common_step([a, b], [[5], []]) == 0
    assert common_step([a, b], [[5, 10], [5]]) == 5
    for apart in ([[20], [5]], [[15, 20], []]):
        with pytest.raises(UserError, match="a: is at step 20, from which other runs"):
            common_step([a, b], apart)


def test_stability_by_hand():
    ours = np.eye(4)[:2]
    theirs = np.array([[0, 2.0, 0, 0], [0, 0, 3.0, 0]])
    assert seed_stability(ours, theirs) == {"mean_cosine": 0.5, "shared": 0.5}
    assert seed_stability(ours, 2 * ours[::-1])["shared"] == 1
