"""Two processes train what one does; a signal to both stops them at one step."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import saejax.train
from extract.errors import UserError
from saejax import processes
from saejax.checkpoint import checkpoint_steps
from saejax.config import TrainConfig
from saejax.settings import Layout
from saejax.train import train
from tests.saejax.resuming import assert_same_state, config_of, flags_of, metrics_of, results_of

ROOT = Path(__file__).parents[2]
SLOWLY = (
    "import saejax.data, time\n"
    "iterate = saejax.data.ActivationBatches.iterate\n"
    "def slow(self, *steps):\n"  # so that the signal comes before the end
    "    for batch in iterate(self, *steps):\n"
    "        time.sleep(0.3)\n"
    "        yield batch\n"
    "saejax.data.ActivationBatches.iterate = slow\n"
)
CODE = "from extract.errors import run_cli\nfrom saejax.train import main\nrun_cli(main)\n"


def free_port():
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def start_two(config, cache, code=CODE):
    """The run in two processes of one device each."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
    }
    port = free_port()
    started = []
    for i in range(2):
        flags = [f"--coordinator=localhost:{port}", "--num-processes=2", f"--process-id={i}"]
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", code, *flags_of(config), *flags],
                env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
    return started


def finish(started, seconds=120):
    try:
        said = [process.communicate(timeout=seconds)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    return [process.returncode for process in started], said


def test_two_processes_train_what_one_does(tiny_store, tmp_path, monkeypatch):
    """With SIGTERM to both after a checkpoint, and both started again."""
    config = config_of(tiny_store, tmp_path / "two", checkpoint_every_steps=2)
    started = start_two(config, tmp_path / "cache", SLOWLY + CODE)
    while not checkpoint_steps(config.out) and all(p.poll() is None for p in started):
        time.sleep(0.01)
    for process in started:
        process.send_signal(signal.SIGTERM)
    codes, said = finish(started)
    assert codes == [0, 0], said
    saved = checkpoint_steps(config.out)[-1]
    assert 2 <= saved < 10
    for words in said:
        assert f"saved after step {saved} of 10; the same command goes on" in words
    codes, said = finish(start_two(config, tmp_path / "cache"))
    assert codes == [0, 0], said
    monkeypatch.setattr(saejax.train, "sae_devices", lambda parent: jax.devices()[:2])
    one = train(config.replace(out=tmp_path / "one"))
    assert_same_state(one, config.out, rtol=1e-6, atol=1e-6)
    ours, theirs = metrics_of(config.out), metrics_of(one)
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]  # written once
    np.testing.assert_allclose(
        [line["loss"] for line in ours], [line["loss"] for line in theirs], rtol=1e-5
    )
    assert results_of(config.out)["fvu"] == pytest.approx(results_of(one)["fvu"], rel=1e-4)


@pytest.fixture
def initialized(monkeypatch):
    """What ``jax.distributed.initialize`` is given."""
    given = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args: given.append(args))
    return given


def test_one_process_looks_for_no_others(initialized):
    processes.join(Layout())
    assert initialized == []
    assert processes.primary()


def test_addresses_are_passed_on(initialized):
    processes.join(Layout(coordinator="h:1", num_processes=3, process_id=2))
    processes.join(Layout(coordinator="auto"))
    assert initialized == [("h:1", 3, 2), ()]


def test_processes_that_do_not_meet_are_told_in_one_line(monkeypatch):
    def fail():
        raise RuntimeError("DEADLINE_EXCEEDED\nmore")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(UserError, match=r"coordinator auto: .*\(DEADLINE_EXCEEDED\); start all"):
        processes.join(Layout(coordinator="auto"))


def test_another_process_that_is_gone_is_told_in_one_line(monkeypatch):
    error = jax.errors.JaxRuntimeError("UNKNOWN: Gloo all-reduce failed\nmore")
    with pytest.raises(jax.errors.JaxRuntimeError), processes.losses_told():
        raise error
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with (
        pytest.raises(UserError, match=r"with 2 processes failed.*\(UNKNOWN: Gloo all-reduce fail"),
        processes.losses_told(),
    ):
        raise error


def test_slurm_is_recognised(tmp_path):
    """One task of a job that looks like SLURM's, with the real ``jax.distributed``."""
    slurm = {
        "SLURM_JOB_ID": str(free_port()), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "1",
        "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_NUM_NODES": "1",
    }  # fmt: skip
    code = (
        "import jax; from saejax import processes; from saejax.settings import Layout\n"
        "processes.join(Layout(coordinator='auto'))\n"
        "assert jax.distributed.is_initialized() and jax.process_count() == 1\n"
    )
    environment = os.environ | slurm | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_processes": 2}, "need --coordinator host:port"),
        ({"coordinator": "auto", "process_id": 0}, "need --coordinator host:port"),
        ({"coordinator": "h:1"}, "--coordinator h:1 needs --num-processes and --process-id too"),
    ],
)
def test_half_an_address_is_refused(settings, message, tiny_store, tmp_path):
    with pytest.raises(UserError, match=message):
        config_of(tiny_store, tmp_path, **settings)


def test_a_stream_in_several_processes_is_refused(tmp_path):
    with pytest.raises(UserError, match="--coordinator does not go with --source stream"):
        TrainConfig.of(
            None, tmp_path, source="stream", fasta=tmp_path / "f.fasta", coordinator="auto"
        )


def test_states_come_to_the_host_whole():
    mesh = Mesh(np.array(jax.devices()), ("data",))
    rows = np.arange(16.0, dtype=np.float32).reshape(8, 2)
    for spec in (PartitionSpec("data"), PartitionSpec()):
        placed = jax.device_put(rows, NamedSharding(mesh, spec))
        found = processes.to_host({"a": placed}, mesh)["a"]
        np.testing.assert_array_equal(found, rows)
        found[0] = 1  # its own memory
