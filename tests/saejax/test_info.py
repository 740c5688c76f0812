"""``python -m saejax.info``: a run told to a person, while it trains and after."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from extract.errors import UserError
from saejax.checkpoint import checkpoint_steps
from saejax.command_line import train_config
from saejax.config import TrainConfig
from saejax.info import InfoConfig, RunInfo, info
from saejax.metrics_log import drop_metrics_after
from saejax.plots import curve, short
from saejax.train import train

ROOT = Path(__file__).parents[2]


def printed(capsys, folder, **settings):
    info(InfoConfig(folder, **settings))
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def runs(tiny_store, tmp_path_factory):
    """A run as a kill after step 10 would have left it, and complete; and its configuration."""
    folder = tmp_path_factory.mktemp("runs")
    config = TrainConfig.of(
        tiny_store.folder, folder / "run", preset="demo", d_sae=64, k=32, epochs=2,
        batch_size_tokens=256, holdout_fraction=0.1, log_every_steps=2, eval_every_steps=10,
        checkpoint_every_steps=10, keep_checkpoints=9,
    )  # fmt: skip
    train(config)
    killed = folder / "unfinished"
    shutil.copytree(config.out, killed)
    record = json.loads((killed / "run.json").read_text())
    del record["results"]
    (killed / "run.json").write_text(json.dumps(record | {"state": "training"}))
    drop_metrics_after(killed / "metrics.jsonl", 10)
    for step in checkpoint_steps(killed)[1:]:
        shutil.rmtree(killed / "checkpoints" / f"{step:09d}")
    return config, folder / "unfinished", config.out


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def test_a_finished_run(runs, capsys):
    _, _, run = runs
    text, record = printed(capsys, run), json.loads((run / "run.json").read_text())
    n = record["n_steps"]
    assert f"state        complete, {n} steps" in text
    assert "parent       tiny, token dropout on" in text
    assert "site         block1, 16 dimensions" in text
    source = Path(record["store"]["source"]["file"]).name
    assert f"proteins     60 of {source}, {record['store']['n_rows']:,} residues" in text
    assert "SAE          topk, 64 latents, k 32" in text
    assert "2 passes, preset demo" in text
    for title in ("FVU (training)  ", "L0 (training)  ", "dead latents (share)  "):
        assert f"\n{title}" in text
    assert "FVU (held out)" in text
    assert f"  FVU                       {record['results']['fvu']:.3g}\n" in text
    assert f"checkpoints  10, 20, {n}" in text
    assert "to go on with it" not in text
    plots = text.split("\n\n", 1)[1]
    assert max(len(line) for line in plots.splitlines()) <= 80


def test_only_settings_that_are_not_the_defaults_are_shown(runs, capsys):
    _, _, run = runs
    line = printed(capsys, run).split("\nnot default")[1].split("\ngamma")[0]
    assert "learning_rate 0.0015" in line
    assert "holdout_fraction 0.1" in line
    assert "decay_fraction" not in line
    assert "seed" not in line


def test_an_unfinished_run_says_where_it_is_and_how_to_go_on(runs, capsys):
    config, unfinished, _ = runs
    text = printed(capsys, unfinished)
    n = json.loads((unfinished / "run.json").read_text())["n_steps"]
    assert f"training: 10 of {n} steps, saved after step 10" in text
    command = text.split("to go on with it:\n")[1].strip()
    assert command.startswith("python -m saejax.train --preset demo ")
    assert train_config(shlex.split(command)[3:]) == config, "also k, which the preset has not"


def test_a_run_that_has_logged_nothing_yet_and_one_that_writes_a_line(runs, tmp_path, capsys):
    _, unfinished, _ = runs
    run = tmp_path / "run"
    shutil.copytree(unfinished, run)
    with (run / "metrics.jsonl").open("a") as f:
        f.write('{"step": 12, "fv')
    assert "training: 10 of" in printed(capsys, run)
    (run / "metrics.jsonl").unlink()
    shutil.rmtree(run / "checkpoints")
    text = printed(capsys, run)
    assert "training: 0 of" in text
    assert "nothing saved yet" in text
    assert "nothing logged yet" in text


def test_json_has_everything_and_no_mean(runs, capsys):
    _, unfinished, run = runs
    found = json.loads(printed(capsys, run, json=True))
    assert found["results"] == json.loads((run / "run.json").read_text())["results"]
    assert found["store"]["site"] == "block1"
    assert "mean" not in found["store"]
    assert [line["step"] for line in found["evaluations"]][:2] == [10, 20]
    assert found["metrics"][0]["step"] == 2
    assert found["resume"] is None
    assert json.loads(printed(capsys, unfinished, json=True))["resume"]


def test_a_folder_of_runs_is_a_table_best_first(runs, tmp_path, capsys):
    _, unfinished, run = runs
    for name, source in (("seed=0", run), ("seed=1", run), ("seed=2", unfinished)):
        shutil.copytree(source, tmp_path / name)
    better = tmp_path / "seed=1" / "run.json"
    record = json.loads(better.read_text())
    record["results"]["fvu"] = 0.0123
    better.write_text(json.dumps(record))
    lines = printed(capsys, tmp_path).splitlines()
    assert lines[0].endswith(": 3 runs")
    assert [line.split()[0] for line in lines[3:6]] == ["seed=1", "seed=0", "seed=2"]
    assert "0.0123" in lines[3]
    assert "–" in lines[5]
    pair = {"first": "seed=0", "second": "seed=1", "shared": 0.25, "mean_cosine": 0.5}
    (tmp_path / "sweep.json").write_text(json.dumps({"runs": [], "seed_stability": [pair]}))
    assert "seed=0 and seed=1: 25 % of latents are in both" in printed(capsys, tmp_path)
    assert len(json.loads(printed(capsys, tmp_path, json=True))) == 3


def test_what_is_no_run_is_refused_in_one_line(tiny_store, tmp_path):
    for folder, words in ((tiny_store.folder, "neither a training run"), ("nowhere", "no such")):
        command = [sys.executable, "-m", "saejax.info", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert words in done.stderr
    for text, words in (("{", "damaged"), ("{}", "has no config, sae, state, store")):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(UserError, match=words):
            RunInfo(tmp_path)


def test_a_curve_by_hand():
    assert curve("y", [0, 10, 20, 30], [0.0, 1.0, 2.0, 3.0], width=15, height=2) == [
        "y  0 → 3",
        "        3 ┤  ▃█",
        "        0 ┤▁▆██",
        "           step 0 30",
    ]
    assert curve("y", [1, 2], [5.0, 5.0]) == ["y  5 throughout"]
    assert curve("y", [1], [5.0]) == ["y  5"]
    assert curve("y", [], []) == ["y  nothing logged yet"]


def test_a_long_curve_is_averaged_into_the_width_and_nan_left_out():
    values = [float(i % 2) for i in range(1000)]
    values[5] = float("nan")
    lines = curve("y", list(range(1000)), values, width=60)
    assert max(map(len, lines)) <= 60
    assert lines[0] == "y  0 → 1"
    assert "█" not in "".join(lines[1:3]), "means of zeros and ones are about a half"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.16789, "0.168"), (32.0, "32"), (2e-5, "2.0e-05"), (1234567.0, "1.2e+06"), (0, "0"),
     (12345, "12,345")],
)  # fmt: skip
def test_numbers_are_short(value, text):
    assert short(value) == text
