"""``python -m extract`` as a person runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments, cwd, **environment):
    command = [sys.executable, "-m", "extract", *map(str, arguments)]
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env)


def test_help_explains_every_flag(tmp_path):
    done = run("--help", cwd=tmp_path)
    assert done.returncode == 0
    for word in ("--fasta", "--site", "--too-long", "block0", "resume"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("fasta", "flags", "message"),
    [
        (None, [], "no such file"),
        (">a\nMK1\n", [], "illegal character '1' at position 3"),
        (">a\nMK\n", ["--model", "esm9"], "unknown model 'esm9'"),
        (">a\nMK\n", ["--site", "block7"], "unknown site 'block7'"),
        (">a\nMK\n", ["--device", "banana"], "--device banana: can't be used here"),
        (">a\nMK\n", ["--min-residues", "-1"], "--min-residues (-1) must be from 1"),
        (">a\nMK\n", ["--shard-rows", "1000"], "--shard-rows (1000) must be a multiple of 1024"),
        (">a\nMK\n", ["--max-residues", "1"], "all 1 sequences are longer than 1"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, fasta, flags, message):
    if fasta is not None:
        (tmp_path / "a.fasta").write_text(fasta)
    done = run("--fasta", "a.fasta", "--out", "acts", *flags, cwd=tmp_path)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "acts").exists()


@pytest.mark.weights
def test_fasta_to_store_with_real_weights(tmp_path):
    (tmp_path / "a.fasta").write_text(">a\nMKTAYIAKQR\n>b\nGGSLEX\n")
    done = run("--fasta", "a.fasta", "--out", "acts", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "weights:" in done.stderr
    from extract.store import ActivationStore

    store = ActivationStore.open(tmp_path / "acts")
    assert (store.n_rows, store.d_model, store.site) == (16, 320, "block4")
    assert store.manifest["parent"]["weights"]["source"]
