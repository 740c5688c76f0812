"""SIGTERM and Ctrl-C: the step is finished and saved, and the same command goes on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from saejax.checkpoint import checkpoint_steps
from saejax.interrupt import Interruption
from saejax.metrics_log import MetricsLog
from saejax.train import train
from tests.saejax.resuming import assert_same_state, config_of, flags_of, metrics_of, results_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole(tiny_store, tmp_path_factory):
    return train(config_of(tiny_store, tmp_path_factory.mktemp("runs") / "whole"))


def raise_in(monkeypatch, step, number):
    """Send this process a signal when the metrics of a step are written."""
    write = MetricsLog.write

    def signalling(self, now, *args):
        if now == step:
            signal.raise_signal(number)
        return write(self, now, *args)

    monkeypatch.setattr(MetricsLog, "write", signalling)


def test_sigterm_saves_tells_how_to_go_on_and_exits_with_0(whole, tiny_store, tmp_path):
    """A process of its own, which gets the signal when its first checkpoint is on the disk."""
    config = config_of(tiny_store, tmp_path / "r", checkpoint_every_steps=2)
    code = (
        "import saejax.data, time\n"
        "iterate = saejax.data.ActivationBatches.iterate\n"
        "def slow(self, *steps):\n"  # so that the signal comes before the end
        "    for batch in iterate(self, *steps):\n"
        "        time.sleep(0.3)\n"
        "        yield batch\n"
        "saejax.data.ActivationBatches.iterate = slow\n"
        "from extract.errors import run_cli\n"
        "from saejax.train import main\n"
        "run_cli(main)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *flags_of(config)],
        env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not checkpoint_steps(config.out) and process.poll() is None:
        pass
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 0, said
    saved = checkpoint_steps(config.out)[-1]
    assert 2 <= saved < 10
    assert f"saved after step {saved} of 10; the same command goes on" in said
    assert "Traceback" not in said
    train(config)
    assert_same_state(whole, config.out)
    assert metrics_of(whole) == metrics_of(config.out)
    assert results_of(whole) == results_of(config.out)


def test_ctrl_c_saves(whole, tiny_store, tmp_path, monkeypatch, caplog):
    config = config_of(tiny_store, tmp_path / "r", checkpoint_every_steps=1000)
    caplog.set_level("INFO")
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        raise_in(patch, 4, signal.SIGINT)
        train(config)
    assert signal.getsignal(signal.SIGINT) is before
    assert "the same command goes on" in caplog.text
    assert 4 <= checkpoint_steps(config.out)[-1] < 10
    train(config)
    assert_same_state(whole, config.out)


def test_a_second_ctrl_c_does_not_wait():
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.at(1)
        signal.raise_signal(signal.SIGTERM)  # still only a note
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_undisturbed_runs_are_not_stopped():
    with Interruption() as interruption:
        assert not interruption.at(1)
