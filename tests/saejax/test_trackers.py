"""Trackers: the numbers of metrics.jsonl elsewhere, by packages that load only when asked for."""

import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extract.errors import UserError
from saejax.config import TrainConfig
from saejax.sweep import members
from saejax.trackers import LOG_FREQUENCY_EDGES, lasting_id, open_trackers, require_trackers
from saejax.train import train

ROOT = Path(__file__).parents[2]
SETTINGS = {"d_sae": 32, "k": 4, "epochs": 2, "batch_size_tokens": 256, "holdout_fraction": 0.1,
            "log_every_steps": 5, "checkpoint_every_steps": 10}  # fmt: skip


def config_of(store, out, **changes):
    return TrainConfig.of(store.folder, out, **{**SETTINGS, **changes})


def lines_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def events_of(run):
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = loader.EventAccumulator(str(run / "tensorboard"), size_guidance={"histograms": 0})
    return events.Reload()


def test_an_uninstalled_tracker_is_refused_in_one_line_before_any_work(tiny_store, tmp_path):
    words = [sys.executable, "-c", "import sys; sys.modules['wandb'] = None\n"
             "import importlib.util as u; found = u.find_spec\n"
             "u.find_spec = lambda name, *a: None if name == 'wandb' else found(name, *a)\n"
             "from extract.errors import run_cli; from saejax.train import main; run_cli(main)",
             "--activations", str(tiny_store.folder), "--out", str(tmp_path / "run"),
             "--trackers", "wandb"]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "pip install wandb" in done.stderr
    assert not (tmp_path / "run").exists()


def test_what_is_not_asked_for_is_not_loaded():
    code = ("import sys, saejax.train, saejax.info; from pathlib import Path\n"
            "from saejax.trackers import open_trackers; from saejax.config import TrainConfig\n"
            "open_trackers(TrainConfig.of(Path('a'), Path('r')), 0)\n"
            "print({'tensorboard', 'wandb', 'trackio', 'torch'} & set(sys.modules))")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1:] == ["set()"], done.stderr


def test_tensorboard_brings_no_torch(tmp_path):
    pytest.importorskip("tensorboard")
    code = ("import sys; from pathlib import Path\n"
            "from saejax.trackers import open_trackers; from saejax.config import TrainConfig\n"
            f"config = TrainConfig.of(Path('a'), Path({str(tmp_path)!r}), "
            "trackers=('tensorboard',))\n"
            "open_trackers(config, 0)[0].log(1, {'fvu': 1.0, 'frequency_histogram': [1] * 7})\n"
            "print({'tensorboard', 'tensorflow', 'torch'} & set(sys.modules))")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1:] == ["{'tensorboard'}"], done.stderr


class FakeRuns:
    """Stands in for wandb and trackio: remembers the calls."""

    def __init__(self, name):
        self.module: Any = types.ModuleType(name)
        self.module.__spec__ = importlib.util.spec_from_loader(name, loader=None)
        self.calls, self.lines, self.finished = [], [], 0
        self.module.init = self.init
        self.module.Histogram = lambda np_histogram: np_histogram
        self.module.errors = types.SimpleNamespace(Error=RuntimeError)

    def init(self, **settings):
        self.calls.append(settings)
        return self

    def log(self, line, step):
        self.lines.append((step, line))

    def finish(self):
        self.finished += 1


@pytest.fixture(params=["wandb", "trackio"])
def fake(request, monkeypatch):
    fake = FakeRuns(request.param)
    monkeypatch.setitem(sys.modules, request.param, fake.module)
    return fake


@pytest.fixture(scope="module")
def tracked(tiny_store, tmp_path_factory):
    """A run with all three trackers, in two parts; and what two of them were told."""
    pytest.importorskip("tensorboard")
    out = tmp_path_factory.mktemp("tracked") / "run"
    names = ("tensorboard", "wandb", "trackio")
    fakes = {name: FakeRuns(name) for name in names[1:]}
    with pytest.MonkeyPatch.context() as patch:
        for name, fake in fakes.items():
            patch.setitem(sys.modules, name, fake.module)
        config = config_of(tiny_store, out, trackers=names)
        train(config, stop_after_step=10)
        assert [fake.finished for fake in fakes.values()] == [1, 1], "closed before it is done"
        train(config)
    return out, fakes


def test_tensorboard_shows_what_the_lines_say(tracked):
    run, _ = tracked
    events, lines = events_of(run), lines_of(run)
    for name in ("fvu", "l0", "frac_dead", "learning_rate", "tokens_per_sec", "data_wait"):
        shown = [(e.step, e.value) for e in events.Scalars(name)]
        assert [step for step, _ in shown] == [line["step"] for line in lines]
        np.testing.assert_allclose([v for _, v in shown], [line[name] for line in lines], rtol=1e-6)
    results = json.loads((run / "run.json").read_text())["results"]
    (final,) = events.Scalars("held_out_fvu")
    assert final.value == pytest.approx(results["fvu"], rel=1e-6)
    assert final.step == lines[-1]["step"]


def test_tensorboard_has_the_frequency_histogram(tracked):
    run, _ = tracked
    events, lines = events_of(run), lines_of(run)
    shown = events.Histograms("log10_frequency")
    assert [e.step for e in shown] == [line["step"] for line in lines]
    for event, line in zip(shown, lines, strict=True):
        value = event.histogram_value
        assert value.num == sum(line["frequency_histogram"]) == 32
        assert list(value.bucket)[1:] == line["frequency_histogram"]
        np.testing.assert_allclose(value.bucket_limit, LOG_FREQUENCY_EDGES)


def test_what_a_killed_run_logged_beyond_its_checkpoint_is_taken_back(tiny_store, tmp_path):
    pytest.importorskip("tensorboard")
    config = config_of(tiny_store, tmp_path, trackers=("tensorboard",))
    (killed,) = open_trackers(config, 0)
    for step in (5, 10, 15):
        killed.log(step, {"fvu": float(step)})
    killed.close()
    (resumed,) = open_trackers(config, 10)
    resumed.log(15, {"fvu": 1.0})
    resumed.close()
    assert [(e.step, e.value) for e in events_of(tmp_path).Scalars("fvu")] == [
        (5, 5.0), (10, 10.0), (15, 1.0)
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_wandb_and_trackio_get_the_lines_and_the_results(tracked, name):
    out, fakes = tracked
    fake, lines = fakes[name], lines_of(out)
    steps = [line["step"] for line in lines]
    assert [step for step, _ in fake.lines] == [*steps, steps[-1]]
    logged = dict(fake.lines[0][1])
    counts, edges = logged.pop("log10_frequency")
    assert list(counts) == lines[0].pop("frequency_histogram")
    assert len(edges) == len(counts) + 1
    assert logged == {k: v for k, v in lines[0].items() if k != "step"}
    assert "held_out_fvu" in fake.lines[-1][1]
    assert fake.calls[0]["config"]["d_sae"] == 32
    assert fake.finished == 2


def test_a_resumed_run_keeps_its_id_and_another_has_another(fake, tracked, tiny_store, tmp_path):
    _, fakes = tracked
    before = [call.get("id", call["name"]) for call in fakes[fake.module.__name__].calls]
    assert before[0] == before[1]
    open_trackers(config_of(tiny_store, tmp_path, trackers=(fake.module.__name__,)), 0)
    (call,) = fake.calls
    assert call.get("id", call["name"]) != before[0]
    assert call["resume"] == "allow"


def test_the_runs_of_a_sweep_are_a_group(fake, tiny_store, tmp_path):
    name = fake.module.__name__
    config = config_of(tiny_store, tmp_path / "s", trackers=(name,))
    for run in [config, *members(config.replace(sweep=("k=2,4",)))]:
        run.out.mkdir(parents=True, exist_ok=True)
        open_trackers(run, 0)
    assert [call["group"] for call in fake.calls] == [None, "s", "s"]


def test_a_wandb_that_does_not_start_is_told_in_one_line(tiny_store, tmp_path, monkeypatch):
    fake = FakeRuns("wandb")

    def fails(**_):
        raise RuntimeError("api_key not configured")

    fake.module.init = fails
    monkeypatch.setitem(sys.modules, "wandb", fake.module)
    with pytest.raises(UserError, match="wandb login"):
        open_trackers(config_of(tiny_store, tmp_path, trackers=("wandb",)), 0)


def test_require_names_the_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install trackio"):
        require_trackers(["trackio"])
    require_trackers([])


def test_an_id_lasts(tmp_path):
    assert lasting_id(tmp_path / "a") == lasting_id(tmp_path / "a") != lasting_id(tmp_path / "b")


def test_wandb_itself_writes_a_run_without_a_network(tiny_store, tmp_path):
    if importlib.util.find_spec("wandb") is None:
        pytest.skip("wandb is not installed")
    code = ("from saejax.train import train; from saejax.config import TrainConfig\n"
            "from pathlib import Path; import sys\n"
            f"train(TrainConfig.of(Path({str(tiny_store.folder)!r}), Path({str(tmp_path / 'r')!r}),"
            " d_sae=32, k=4, epochs=1, batch_size_tokens=256, trackers=('wandb',),"
            " sweep=('k=2,4',)))\n"
            "print('torch' in sys.modules)")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT,
                          env=os.environ | {"WANDB_MODE": "offline"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "False" in done.stdout.splitlines()
    files = list((tmp_path / "r").glob("*/wandb/offline-run-*/run-*.wandb"))
    assert len(files) == 2
    assert all(f.stat().st_size > 1000 for f in files)


def test_trackio_itself_keeps_a_run_on_this_machine(tiny_store, tmp_path):
    if importlib.util.find_spec("trackio") is None:
        pytest.skip("trackio is not installed")
    code = ("from saejax.train import train; from saejax.config import TrainConfig\n"
            "from pathlib import Path; import sys\n"
            f"train(TrainConfig.of(Path({str(tiny_store.folder)!r}), Path({str(tmp_path / 'r')!r}),"
            " d_sae=32, k=4, epochs=1, batch_size_tokens=256, log_every_steps=5,"
            " trackers=('trackio',), sweep=('k=2,4',)))\n"
            "print('torch' in sys.modules)")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT,
                          env=os.environ | {"TRACKIO_DIR": str(tmp_path / "kept")})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "False" in done.stdout.splitlines()
    (database,) = (tmp_path / "kept").glob("protein-latents*.db")
    rows = sqlite3.connect(database).execute("select run_name, metrics from metrics").fetchall()
    assert len({name for name, _ in rows}) == 2
    assert sum(b"log10_frequency" in metrics for _, metrics in rows) == len(rows) - 2
