"""The loop: learning, resuming bit for bit, refusing what does not fit."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from extract.errors import UserError
from extract.fasta import Protein
from saejax.checkpoint import checkpoint_steps, load_sae
from saejax.config import TrainConfig
from saejax.data import held_out_rows
from saejax.metrics_log import likely_cause
from saejax.train import train
from tests.helpers import make_store, random_proteins, tiny_esm2

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "d_sae": 64,
    "k": 4,
    "epochs": 3,
    "batch_size_tokens": 256,
    "holdout_fraction": 0.1,
    "log_every_steps": 5,
    "checkpoint_every_steps": 10,
    "dead_after_tokens": 2000,
}


def config_of(store, out, **changes):
    return TrainConfig.of(store.folder, out, **{**SETTINGS, **changes})


def metrics_of(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timings = ("tokens_per_sec", "data_wait")
    return [{k: v for k, v in line.items() if k not in timings} for line in lines]


def arrays_equal(a, b):
    first, second = load_sae(a).arrays(), load_sae(b).arrays()
    return all(np.array_equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def run(tiny_store, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    return train(config_of(tiny_store, out))


def test_a_run_learns_and_knows_itself(run, tiny_store):
    loaded = load_sae(run)
    metrics = metrics_of(run)
    assert set(metrics[0]) >= {
        "step", "tokens_seen", "fvu", "auxk", "l0", "frac_dead", "loss"
    }  # fmt: skip
    assert metrics[-1]["fvu"] < 0.5 * metrics[0]["fvu"]
    assert metrics[0]["tokens_seen"] == metrics[0]["step"] * 256
    assert loaded.store_manifest == tiny_store.manifest
    assert loaded.site == "block1"
    assert loaded.run["config"]["k"] == 4
    assert 0 < loaded.run["results"]["fvu"] < 0.6
    assert loaded.run["results"]["l0"] <= 4


def test_held_out_fvu_is_what_it_says(run, tiny_store):
    """Recomputed in plain NumPy from the loaded arrays, on the held-out proteins."""
    loaded = load_sae(run)
    a = loaded.arrays()
    rows = held_out_rows(tiny_store, 0.1)
    activations = tiny_store.read(0, tiny_store.n_rows)[rows].astype(np.float64)
    x = (activations - a["mean"]) * a["scale"]
    h = (x - a["b_dec"]) @ a["W_enc"] + a["b_enc"]
    z = np.where(h >= np.sort(h, axis=1)[:, [-4]], np.maximum(h, 0), 0)
    x_hat = z @ a["W_dec"] + a["b_dec"]
    fvu = ((x - x_hat) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum()
    results = loaded.run["results"]
    assert results["n_tokens"] == rows.sum()
    assert results["fvu"] == pytest.approx(fvu, rel=1e-4)
    assert results["l0"] == pytest.approx((z > 0).sum(axis=1).mean(), rel=1e-6)
    assert results["frac_dead"] == pytest.approx((z.max(axis=0) == 0).mean())
    np.testing.assert_allclose(loaded.latent_frequency, (z > 0).mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(loaded.latent_max, z.max(axis=0), rtol=1e-4, atol=1e-5)
    decoded = loaded.sae(jnp.asarray(activations, jnp.float32))
    np.testing.assert_allclose(decoded, x_hat / a["scale"] + a["mean"], rtol=1e-3, atol=1e-4)


def test_resumed_run_is_bit_identical(run, tiny_store, tmp_path):
    config = config_of(tiny_store, tmp_path / "b")
    train(config, stop_after_step=13)
    with pytest.raises(UserError, match="has not finished"):
        load_sae(tmp_path / "b")
    train(config, stop_after_step=20)
    train(config)
    assert arrays_equal(run, tmp_path / "b")
    by_step = {line["step"]: line for line in metrics_of(tmp_path / "b")}
    for line in metrics_of(run):
        assert by_step[line["step"]] == line
    assert load_sae(run).run["results"] == load_sae(tmp_path / "b").run["results"]


def test_metrics_of_unsaved_steps_are_forgotten(run, tiny_store, tmp_path):
    shutil.copytree(run, tmp_path / "c")
    record = json.loads((tmp_path / "c" / "run.json").read_text())
    record = {**record, "state": "training"}
    del record["results"]
    (tmp_path / "c" / "run.json").write_text(json.dumps(record))
    steps = checkpoint_steps(tmp_path / "c")
    shutil.rmtree(tmp_path / "c" / "checkpoints" / f"{steps[-1]:09d}")
    with (tmp_path / "c" / "metrics.jsonl").open("a") as f:
        f.write('{"step": 9')  # torn by a kill
    train(config_of(tiny_store, tmp_path / "c"))
    assert metrics_of(tmp_path / "c") == metrics_of(run)
    assert arrays_equal(run, tmp_path / "c")


def test_kill_9_while_training(run, tiny_store, tmp_path):
    out = tmp_path / "killed"
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in SETTINGS.items()]
    command = [sys.executable, "-m", "saejax.train", "--activations", str(tiny_store.folder)]
    command += ["--out", str(out), *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not checkpoint_steps(out) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert arrays_equal(run, out)


def test_one_device_and_eight_train_alike(run, tiny_store, tmp_path):
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in SETTINGS.items()]
    command = [sys.executable, "-m", "saejax.train", "--activations", str(tiny_store.folder)]
    command += ["--out", str(tmp_path / "one"), *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one, eight = metrics_of(tmp_path / "one"), metrics_of(run)
    np.testing.assert_allclose(
        [line["loss"] for line in one], [line["loss"] for line in eight], rtol=1e-3
    )


def test_finished_run_is_left_alone(run, tiny_store, caplog):
    before = (run / "run.json").read_bytes()
    train(config_of(tiny_store, run))
    assert (run / "run.json").read_bytes() == before


def test_a_run_older_than_a_setting_goes_on(run, tiny_store, tmp_path):
    shutil.copytree(run, tmp_path / "old")
    record = json.loads((tmp_path / "old" / "run.json").read_text())
    for younger in ("source", "pool_shards"):
        del record["config"][younger]
    (tmp_path / "old" / "run.json").write_text(json.dumps(record))
    train(config_of(tiny_store, tmp_path / "old"))
    with pytest.raises(UserError, match="holds a run with pool_shards None, now 4"):
        train(config_of(tiny_store, tmp_path / "old", pool_shards=4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 5}, "holds a run with k 4, now 5"),
        ({"seed": 1}, "holds a run with seed 0, now 1"),
        (
            {"batch_size_tokens": 100},
            r"\(100\) must be divisible by the device count \(8\); try 96",
        ),
        ({"d_sae": 3}, r"k \(4\) must be at most d_sae \(3\)"),
    ],
)
def test_other_settings_are_refused(run, tiny_store, change, message):
    with pytest.raises(UserError, match=message):
        train(config_of(tiny_store, run, **change))


def test_another_store_is_refused(run, tmp_path):
    other = make_store(tmp_path / "other", random_proteins(60, 30, 120, seed=7))
    with pytest.raises(UserError, match="trained on another activation store"):
        train(config_of(other, run))


def test_eval_store_of_another_site_is_refused(tiny_store, tmp_path):
    other = make_store(tmp_path / "other", random_proteins(5, 30, 120), site="block2")
    with pytest.raises(UserError, match="site is 'block1' in the first and 'block2'"):
        train(config_of(tiny_store, tmp_path / "r", eval_activations=other.folder))
    assert not (tmp_path / "r").exists()


def test_eval_store_of_other_proteins_is_used(tiny_store, tmp_path):
    other = make_store(tmp_path / "other", random_proteins(9, 30, 120, seed=3))
    out = train(config_of(tiny_store, tmp_path / "r", eval_activations=other.folder, epochs=1))
    assert load_sae(out).run["results"]["n_tokens"] == other.n_rows


def test_proteins_trained_on_are_left_out_of_the_held_out_figures(tiny_store, tmp_path, caplog):
    mixed = [*tiny_store.proteins[:4], *random_proteins(5, 30, 120, seed=3)]
    renamed = [Protein(f"q{i}", p.sequence) for i, p in enumerate(mixed)]
    other = make_store(tmp_path / "other", renamed)
    config = config_of(tiny_store, tmp_path / "r", eval_activations=other.folder, epochs=1)
    results = load_sae(train(config)).run["results"]
    assert results["n_tokens"] == sum(len(p.sequence) for p in mixed[4:])
    assert "4 of 9 proteins are also trained on" in caplog.text
    with pytest.raises(UserError, match="none is held out"):
        train(config_of(tiny_store, tmp_path / "s", eval_activations=tiny_store.folder))


def test_store_of_other_weights_is_refused_by_a_loaded_sae(run, tmp_path):
    store = make_store(tmp_path / "other", random_proteins(5, 30, 60), tiny_esm2(seed=1))
    with pytest.raises(UserError, match="weights sha256 is 'seed0' in the first and 'seed1'"):
        load_sae(run).require_store(store)


def test_non_finite_loss_stops_and_names_the_last_good_checkpoint(
    tiny_store, tmp_path, monkeypatch
):
    from extract.store import ActivationStore

    config = config_of(tiny_store, tmp_path / "r")
    train(config, stop_after_step=10)
    read = ActivationStore.read
    monkeypatch.setattr(ActivationStore, "read", lambda self, a, b: read(self, a, b) * np.nan)
    with pytest.raises(
        UserError,
        match=r"not finite at step 11; last good checkpoint: step 10; "
        r"likely cause: 256 of the batch's 256 residues",
    ):
        train(config)
    assert checkpoint_steps(tmp_path / "r") == [10]


def test_a_huge_sparsity_is_a_likelier_cause_than_the_learning_rate(tiny_store):
    settings = {"architecture": "relu", "d_sae": 64}
    rows = np.ones((4, 16), np.float32)
    huge = TrainConfig.of(tiny_store.folder, Path("r"), sparsity=1e30, **settings)
    assert "a sparsity of 1e+30 is too high; try --sparsity 5" in likely_cause(huge, rows)
    usual = TrainConfig.of(tiny_store.folder, Path("r"), sparsity=50.0, **settings)
    assert "a learning rate of" in likely_cause(usual, rows)


def test_loading_what_is_no_run(tmp_path, run):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "file", tmp_path / "nowhere"):
        with pytest.raises(UserError, match="is not a training run"):
            load_sae(path)
    shutil.copytree(run, tmp_path / "r")
    with pytest.raises(UserError, match="latent 64 is out of range.*0 to 63"):
        load_sae(tmp_path / "r").check_latent(64)
    step = checkpoint_steps(tmp_path / "r")[-1]
    folder = tmp_path / "r" / "checkpoints" / f"{step:09d}"
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    (tmp_path / "r" / "run.json").write_text(
        json.dumps({**record, "sae": {**record["sae"], "d_sae": 65}})
    )
    with pytest.raises(UserError, match=r"W_dec should be \(65, 16\), found \(64, 16\)"):
        load_sae(tmp_path / "r")
    (tmp_path / "r" / "run.json").write_text(json.dumps(record))
    for path in folder.rglob("*"):
        if path.is_file() and "sae" in str(path.relative_to(folder)):
            path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(UserError, match="damaged checkpoint"):
        load_sae(tmp_path / "r")
    shutil.rmtree(folder.parent)
    with pytest.raises(UserError, match="has no checkpoint"):
        load_sae(tmp_path / "r")


def test_command_line_errors_are_one_line(tmp_path):
    command = [sys.executable, "-m", "saejax.train", "--activations", "nowhere", "--out", "r"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 2
    assert done.stderr.startswith("error: nowhere: is not an activation store")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_full_disk_stops_with_one_line_and_resumes(run, tiny_store, tmp_path, monkeypatch):
    config = config_of(tiny_store, tmp_path / "r")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1000))
        with pytest.raises(UserError, match="are needed but the disk has 0 MB free"):
            train(config)
    assert checkpoint_steps(tmp_path / "r") == []
    leftover = tmp_path / "r" / "checkpoints" / "000000010.orbax-checkpoint-tmp"
    leftover.mkdir(parents=True)
    train(config)
    assert not leftover.exists()
    assert arrays_equal(run, tmp_path / "r")
