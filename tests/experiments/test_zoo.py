"""The grid end to end on a tiny parent; commands run as they do for anyone."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from experiments.zoo import member as members_module
from experiments.zoo.__main__ import zoo
from experiments.zoo.config import PRESETS, Member, ZooConfig
from experiments.zoo.table import markdown
from extract.errors import UserError
from saejax import load_sae
from saejax import train as training
from saejax.command_line import train_config
from saejax.interop.formats import read_published
from tests.helpers import make_store, random_proteins


@pytest.fixture
def config(tmp_path) -> ZooConfig:
    """Two SAEs of one site of a random parent, without probes."""
    make_store(tmp_path / "acts" / "block1", random_proteins(60, 30, 120))
    return ZooConfig(tmp_path / "acts", tmp_path / "zoo", sites=("block1",), widths=(32,),
                     ks=(2, 4), evaluate=False)  # fmt: skip


@pytest.fixture
def in_process(monkeypatch):
    """Commands in this process (one start of Python costs seconds); returns those that ran."""
    ran = []

    def step(done, *arguments):
        if not done:
            words = [str(word) for word in arguments]
            assert words[0] == "saejax.train"
            ran.append(words)
            training.train(train_config(words[1:]))

    monkeypatch.setattr(members_module, "step", step)
    return ran


def test_grid_is_trained_packed_and_tabulated_and_a_kill_goes_on(config, in_process, monkeypatch):
    """A kill between training and packing redoes neither the training nor what was packed."""
    pack, killed = members_module.pack, []

    def kill_at_the_second(run, out, *more):
        if out.name.endswith("k4") and not killed:
            killed.append(out)
            raise KeyboardInterrupt
        pack(run, out, *more)

    monkeypatch.setattr(members_module, "pack", kill_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        zoo(config)
    first = config.out / "packed" / "esm2_8m_block1_32_k2"
    before = (first / "run.json").stat().st_mtime_ns
    assert len(in_process) == 2
    assert len(pd.read_csv(config.out / "zoo.csv")) == 1
    zoo(config)
    assert len(in_process) == 2, "nothing was trained again"
    assert (first / "run.json").stat().st_mtime_ns == before
    table = pd.read_csv(config.out / "zoo.csv")
    assert table["k"].tolist() == [2, 4]
    assert table["fvu"].is_monotonic_decreasing
    assert (config.out / "zoo.png").stat().st_size > 1000
    run = load_sae(config.run(config.members()[0]))
    packed = read_published("plain", first)
    assert np.array_equal(packed.W_enc, run.arrays()["W_enc"])
    assert "residues trained on" in (first / "README.md").read_text()
    assert str(config.out) not in (first / "run.json").read_text()


def test_upload_lists_and_refuses_in_one_line(config, in_process, capsys):
    """Without packed SAEs, without huggingface_hub, and dry."""
    with pytest.raises(UserError, match="has no SAE of this grid"):
        zoo(replace(config, upload="someone/zoo", dry_run=True))
    zoo(replace(config, ks=(2,)))
    capsys.readouterr()
    zoo(replace(config, upload="someone/zoo", dry_run=True))
    said = capsys.readouterr().out
    assert "esm2_8m_block1_32_k2/sae.safetensors → someone/zoo" in said
    assert "k4" not in said
    if importlib.util.find_spec("huggingface_hub") is None:
        with pytest.raises(UserError, match="needs huggingface_hub"):
            zoo(replace(config, upload="someone/zoo"))


def test_mistakes_are_told(config):
    for change, message in (
        ({"sites": ("block9",)}, "has no store block9"),
        ({"ks": (64,)}, "is above --widths 32"),
        ({"dry_run": True}, "goes with --upload"),
    ):
        with pytest.raises(UserError, match=message):
            zoo(replace(config, **change))


def test_submitit_runs_the_members(config):
    """On this machine, in its own processes; a SLURM array was never submitted."""
    if importlib.util.find_spec("submitit") is None:
        with pytest.raises(UserError, match="needs submitit"):
            zoo(replace(config, launcher="submitit-local"))
        return
    command = [sys.executable, "-m", "experiments.zoo", "--activations", config.activations,
               "--out", config.out, "--sites", "block1", "--widths", "32", "--ks", "2",
               "--no-evaluate", "--launcher", "submitit-local"]  # fmt: skip
    subprocess.run([str(word) for word in command], check=True)
    assert len(pd.read_csv(config.out / "zoo.csv")) == 1
    assert list((config.out / "jobs").glob("*_result.pkl"))


def test_row_reads_every_step(config):
    """Figures of the files that the commands write, in the table's columns."""
    one = Member("esm2_8m", "block1", 32, 2)
    run, probes = config.run(one), config.out / "probes" / one.name
    for folder in (run, probes, config.out / "fidelity"):
        folder.mkdir(parents=True)
    record = {"n_steps": 3, "config": {"batch_size_tokens": 100},
              "results": {"fvu": 0.25, "l0": 2.0, "frac_dead": 0.125}}  # fmt: skip
    (run / "run.json").write_text(json.dumps(record))
    figures = {"loss_recovered_zero": {"mean": 0.75}}
    spliced = {"inputs": {"masked": {"figures": figures}}}
    (config.out / "fidelity" / f"{one.name}.json").write_text(json.dumps(spliced))
    (probes / "found.csv").write_text(
        "protocol,features,concepts_tested,concepts_found\nfrozen,neurons,9,3\nfrozen,latents,9,7\n"
    )
    line = markdown([members_module.row(config, one)]).splitlines()[2]
    assert line == "| esm2_8m_block1_32_k2 | 300 | 0.2500 | 2.0 | 12.5 % | 75.0 % | 7 of 9 |"


def test_the_zoo_of_esm2_8m_is_the_issues_grid():
    preset = PRESETS["esm2-8m"]
    assert len(preset.sites) * len(preset.widths) * len(preset.ks) == 36
