"""Presets: defaults that give way to flags, say why, and reach the run."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.demo import DemoConfig
from experiments.demo import train_step as demo_step
from extract.errors import UserError
from saejax.command_line import last_value, train_config
from saejax.config import TrainConfig
from saejax.presets import PRESETS, preset_settings
from saejax.train import train

ROOT = Path(__file__).parents[2]
STORE = ["--activations", "acts", "--out", "run"]


def test_an_unknown_preset_is_refused_in_one_line_before_anything_else():
    words = [sys.executable, "-m", "saejax.train", "--preset", "gpu"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: --preset gpu: there is none; there are demo, laptop, esm2-650m"
    ]
    with pytest.raises(UserError, match="there are demo, laptop"):
        TrainConfig.of(Path("acts"), Path("run"), preset="gpu")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_run_and_differs_from_the_defaults(name):
    config = train_config(["--preset", name, *STORE])
    settings, plain = config.settings(), TrainConfig.of(Path("acts"), Path("run")).settings()
    for key, (value, why) in preset_settings(name).items():
        assert settings[key] == value
        assert why
    others = settings.keys() - preset_settings(name).keys() - {"preset"}
    assert {key: settings[key] for key in others} == {key: plain[key] for key in others}
    assert any(settings[key] != plain[key] for key in preset_settings(name))


def test_flags_win_over_the_preset_also_before_it_and_also_with_a_default_s_value(caplog):
    with caplog.at_level(logging.INFO):
        config = train_config(["--k", "32", *STORE, "--preset=demo", "--seed", "3"])
    assert (config.dictionary.k, config.dictionary.d_sae, config.seed) == (32, 2048, 3)
    assert config.recipe.learning_rate == 1.5e-3
    lines = caplog.messages
    assert lines[0].startswith("preset demo: what `make demo` trains")
    assert "  --k 32: yours, instead of 40" in lines
    assert any(line.startswith("  --learning-rate 0.0015: ") for line in lines)
    assert len(lines) == 1 + len(PRESETS["demo"].settings)


def test_without_a_preset_nothing_is_said_or_changed(caplog):
    with caplog.at_level(logging.INFO):
        config = train_config(STORE)
    assert config == TrainConfig.of(Path("acts"), Path("run"))
    assert not caplog.messages


def test_the_parent_is_part_of_a_preset_only_for_a_stream():
    words = ["--preset", "esm2-650m", "--source", "stream", "--fasta", "x.fasta", "--out", "run"]
    config = train_config([*words, "--site", "block30"])
    assert config.stream.model == "esm2_t33_650M_UR50D"
    assert config.stream.site == "block30"
    assert not train_config(["--preset", "esm2-650m", *STORE]).stream.given()


def test_what_is_required_stays_required_and_what_is_wrong_stays_wrong(capsys):
    with pytest.raises(SystemExit):
        train_config(["--preset", "demo", "--activations", "acts"])
    assert "--out" in capsys.readouterr().err
    with pytest.raises(UserError, match="--activations is required"):
        train_config(["--preset", "demo", "--out", "run"])
    with pytest.raises(UserError, match="k"):
        train_config(["--preset", "demo", *STORE, "--k", "0"])


def test_the_last_of_two_flags_counts():
    assert last_value(["--a", "1", "--b=2", "--a=3"], "--a") == "3"
    assert last_value(["--a", "1", "--a"], "--a") is None
    assert last_value(["x"], "--a") is None


def test_from_python_a_preset_fills_in_too_and_the_run_records_it(tiny_store, tmp_path):
    config = TrainConfig.of(
        tiny_store.folder, tmp_path / "run", preset="esm2-650m", d_sae=64, k=4,
        batch_size_tokens=256, holdout_fraction=0.1,
    )  # fmt: skip
    assert (config.epochs, config.recipe.encode_dtype) == (1, "bfloat16")
    assert config.replace(k=5).recipe.encode_dtype == "bfloat16"
    recorded = json.loads((train(config) / "run.json").read_text())["config"]
    assert recorded["preset"] == "esm2-650m"
    assert (recorded["d_sae"], recorded["encode_dtype"]) == (64, "bfloat16")


def test_the_demo_trains_with_its_preset_and_nothing_else():
    words = list(demo_step(DemoConfig()).arguments)[1:]
    config = train_config(words)
    changed = {k for k, v in config.settings().items() if v != TrainConfig.of(
        config.activations, config.out).settings()[k]}  # fmt: skip
    assert changed == {"preset", "eval_activations", "k", "epochs", "learning_rate"}
    assert config.dictionary.k == 40
    shorter = list(demo_step(DemoConfig(k=8)).arguments)[1:]
    assert train_config(shorter).dictionary.k == 8


def test_help_is_grouped_in_words_and_shows_flags_not_fields(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        train_config(["--preset", "esm2-650m", "--help"])
    text = capsys.readouterr().out
    assert max(len(line) for line in text.splitlines()) <= 80
    for title in ("dictionary", "training recipe", "reporting", "devices and processes", "stream"):
        assert f"{title} options" in text
    assert "16384" in text.split("--d-sae INT")[1].split("--k INT")[0], "the preset's defaults"
    for bad in ("None", "``", "k_start", "k_anneal", "eval_activations", "learning_rate:"):
        assert bad not in text
    assert "--k-start" in text
