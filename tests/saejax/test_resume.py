"""A run that is killed goes on to the identical end: every array, every metric, every batch."""

import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

import saejax.train
from saejax.checkpoint import Checkpoints, checkpoint_steps, load_sae
from saejax.metrics_log import MetricsLog
from saejax.train import train
from tests.saejax.resuming import (
    N_STEPS,
    Killed,
    assert_same_state,
    compiled_once,
    config_of,
    flags_of,
    metrics_of,
    results_of,
)

ROOT = Path(__file__).parents[2]
KINDS = {
    "topk, annealed and averaged": {"k_start": 8, "k_anneal_fraction": 0.8, "ema_decay": 0.9},
    "batchtopk in parts": {"architecture": "batchtopk", "accumulate_steps": 2, "ema_decay": 0.9},
    "jumprelu": {"architecture": "jumprelu"},
}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    with compiled_once(folder):
        yield folder


@pytest.fixture
def kill_at(monkeypatch):
    """``kill_at(step)``: die when the metrics of a step were written, its checkpoint not begun."""
    write, save = MetricsLog.write, Checkpoints.save

    @contextmanager
    def arm(step):
        def deadly(self, now, *args):
            line = write(self, now, *args)
            if now == step:
                raise Killed
            return line

        def whole(self, training, state):
            save(self, training, state)
            self.wait()

        with monkeypatch.context() as patch:
            patch.setattr(MetricsLog, "write", deadly)
            patch.setattr(Checkpoints, "save", whole)
            yield

    return arm


@pytest.fixture
def devices(monkeypatch):
    """``devices(n)``: train on so many."""
    return lambda n: monkeypatch.setattr(
        saejax.train, "sae_devices", lambda parent: jax.devices()[:n]
    )


@pytest.fixture(scope="module")
def whole(tiny_store, tmp_path_factory):
    """The undisturbed run of plain TopK."""
    return train(config_of(tiny_store, tmp_path_factory.mktemp("runs") / "whole"))


@pytest.mark.parametrize("kind", KINDS)
def test_ten_steps_are_five_and_a_kill_and_five(kind, tiny_store, tmp_path, kill_at):
    config = config_of(tiny_store, tmp_path / "whole", **KINDS[kind])
    train(config)
    config = config.replace(out=tmp_path / "killed")
    with kill_at(8), pytest.raises(Killed):
        train(config)
    assert checkpoint_steps(tmp_path / "killed") == [5]
    assert [line["step"] for line in metrics_of(tmp_path / "killed")] == list(range(1, 9))
    train(config)
    assert_same_state(tmp_path / "whole", tmp_path / "killed")
    assert metrics_of(tmp_path / "whole") == metrics_of(tmp_path / "killed")
    assert len(metrics_of(tmp_path / "whole")) == N_STEPS
    assert results_of(tmp_path / "whole") == results_of(tmp_path / "killed")


def test_killed_during_the_write_of_a_checkpoint(whole, tiny_store, tmp_path, cache):
    """The real signal, at the moment Orbax has begun to write: the one before stays in use."""
    config = config_of(tiny_store, tmp_path / "killed")
    code = (
        "import os, signal, sys\n"
        "from saejax.checkpoint import Checkpoints\n"
        "save = Checkpoints.save\n"
        "def deadly(self, training, state):\n"
        "    save(self, training, state)\n"
        "    if int(state.step) == 10:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "Checkpoints.save = deadly\n"
        "from saejax.train import main\n"
        "main()\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_COMPILATION_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", code, *flags_of(config)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert checkpoint_steps(config.out) == [5]
    train(config)
    assert not list((config.out / "checkpoints").glob("*tmp*"))
    assert_same_state(whole, config.out)
    assert metrics_of(whole) == metrics_of(config.out)


def test_other_devices_go_on_to_the_same_end(whole, tiny_store, tmp_path, devices):
    config = config_of(tiny_store, tmp_path / "moved")
    train(config, stop_after_step=3)
    devices(2)
    train(config, stop_after_step=6)
    devices(1)
    train(config)
    assert_same_state(whole, config.out, rtol=1e-6, atol=1e-6)


def test_a_split_dictionary_goes_on_whole(whole, tiny_store, tmp_path):
    config = config_of(tiny_store, tmp_path / "split", latent_devices=2)
    train(config, stop_after_step=5)
    train(config.replace(latent_devices=1))
    assert_same_state(whole, config.out, rtol=1e-6, atol=1e-6)


def test_as_many_checkpoints_as_told_are_kept(tiny_store, tmp_path):
    settings = {"checkpoint_every_steps": 2, "keep_checkpoints": 3}
    out = train(config_of(tiny_store, tmp_path / "r", **settings), stop_after_step=7)
    assert checkpoint_steps(out) == [4, 6, 7]


def test_loading_reads_parameters_only_onto_a_device_in_a_second(whole, tmp_path, monkeypatch):
    shutil.copytree(whole, tmp_path / "r")
    step = checkpoint_steps(whole)[-1]
    shutil.rmtree(tmp_path / "r" / "checkpoints" / f"{step:09d}" / "train")
    asked = []
    load = ocp.load_checkpointables
    monkeypatch.setattr(
        ocp, "load_checkpointables", lambda path, what: asked.append(set(what)) or load(path, what)
    )
    load_sae(whole)  # imports
    asked.clear()
    start = time.perf_counter()
    loaded = load_sae(tmp_path / "r", device=jax.devices()[3])
    assert time.perf_counter() - start < 1
    assert asked == [{"sae"}]
    assert loaded.sae.W_dec[...].devices() == {jax.devices()[3]}
    np.testing.assert_array_equal(loaded.arrays()["W_dec"], load_sae(whole).arrays()["W_dec"])
