"""``python -m saejax.train --source stream`` as a person runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from extract.errors import run_cli
from extract.esm import ESM2, ESM2_SHAPES
from saejax.checkpoint import load_sae
from saejax.train import main
from tests.helpers import fair_esm_names, random_proteins

ROOT = Path(__file__).parents[2]
PARENT = "esm2_t6_8M_UR50D"
SMALL = ["--d-sae=48", "--k=4", "--epochs=2", "--batch-size-tokens=128", "--holdout-fraction=0.2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Random weights of ESM2-8M's shape, and 24 proteins."""
    folder = tmp_path_factory.mktemp("stream")
    torch.manual_seed(3)
    save_file(fair_esm_names(ESM2(PARENT, ESM2_SHAPES[PARENT])), folder / "random.safetensors")
    proteins = random_proteins(24, 40, 64)
    (folder / "a.fasta").write_text("".join(f">{p.id}\n{p.sequence}\n" for p in proteins))
    return folder


def run(*flags, cwd):
    command = [sys.executable, "-m", "saejax.train", *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)


def test_fasta_to_sae_without_a_store(folder):
    """On one device; the other tests have eight."""
    flags = ["--source", "stream", "--fasta", "a.fasta", "--model", PARENT, "--site", "block2"]
    flags += ["--weights", "random.safetensors", "--out", "runs/x", "--shard-rows", "1024", *SMALL]
    done = run(*flags, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "held-out FVU" in done.stderr
    loaded = load_sae(folder / "runs" / "x")
    assert (loaded.site, loaded.config.d_model) == ("block2", 320)
    assert loaded.store_manifest["parent"]["weights"]["source"] == "file random.safetensors"
    assert sorted(p.name for p in (folder / "runs" / "x").iterdir()) == [
        "checkpoints", "held_out", "latent_stats.parquet", "metrics.jsonl", "run.json",
    ]  # fmt: skip
    again = run(*flags, "--parent-device", "cpu", cwd=folder)
    assert again.returncode == 0, again.stderr
    assert "already complete" in again.stderr


STREAM = ["--source", "stream", "--fasta", "a.fasta", "--weights", "random.safetensors"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--activations is required: give a store"),
        (["--source", "stream"], "--source stream needs --fasta"),
        ([*STREAM, "--activations", "acts"], "--activations does not go with --source stream"),
        (["--activations", "acts", "--fasta", "a.fasta"], "--fasta: only with --source stream"),
        (["--activations", "acts", "--site", "final", "--no-token-dropout"],
         "--site, --token-dropout: only with --source stream"),
        (["--activations", "acts", "--pool-shards", "0"], "--pool-shards (0) must be at least 1"),
        ([*STREAM, "--shard-rows", "1000"], "--shard-rows (1000) must be a multiple of 1024"),
        ([*STREAM, "--batch-residues", "0"], "--batch-residues (0) must be at least 1"),
        ([*STREAM, "--normalizer-rows", "0"], "--normalizer-rows (0) must be at least 1"),
        ([*STREAM, "--parent-device", "gpu7"], "--parent-device 'gpu7' is no device for it"),
        ([*STREAM, "--parent-device", "meta"], "--parent-device 'meta' is no device for it"),
        ([*STREAM, "--parent-device", "cuda:9"], "--parent-device cuda:9: Torch sees 0 GPUs here"),
        ([*STREAM, "--k", "4000"], "k (4000) must be at most d_sae (2048)"),
        ([*STREAM, "--fasta", "no.fasta"], "no.fasta: no such file"),
        ([*STREAM, "--model", "esm9"], "unknown model 'esm9'"),
        ([*STREAM, "--site", "block9"], "unknown site 'block9'"),
        ([*STREAM, "--weights", "no.pt"], "no.pt: no such weights file; check --weights"),
        ([*STREAM, "--max-residues", "1"], "all 24 sequences are longer than 1 residues"),
        ([*STREAM, "--eval-activations", "acts", *SMALL], "acts: is not an activation store"),
        ([*STREAM, "--batch-size-tokens", "100"], "must be divisible by the device count (8)"),
    ],
)  # fmt: skip
def test_bad_flags_are_one_line_and_status_2(folder, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(sys, "argv", ["train", "--out", "bad", *flags])
    with pytest.raises(SystemExit) as exit:
        run_cli(main)
    assert exit.value.code == 2
    errors = [s for s in capsys.readouterr().err.splitlines() if s.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert not (folder / "bad").exists()


def test_a_wrong_flag_in_a_process_of_its_own(tmp_path):
    done = run("--source", "stream", "--out", "bad", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: --source stream needs --fasta: give a FASTA file of proteins\n"


def test_out_is_required(tmp_path):
    done = run("--activations", "acts", cwd=tmp_path)
    assert done.returncode == 2
    assert "--out" in done.stderr


def test_help_names_the_streams_flags(tmp_path):
    done = run("--help", cwd=tmp_path)
    assert done.returncode == 0
    for name in ("--source", "--fasta", "--parent-device", "--pool-shards", "--normalizer-rows"):
        assert name in done.stdout
    assert "--stream." not in done.stdout
