from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.alphabet import AMINO_ACIDS
from extract.errors import UserError, run_cli
from extract.weights import load_esm2
from saejax import load_sae
from steering.__main__ import main
from steering.config import parse_clamp, parse_positions
from steering.effects import sequence_effect
from steering.hooks import Clamp
from steering.torch_sae import TorchSAE

SEQUENCE = "MKTAYIAKQRQISFVKSHFSRQ"


@pytest.fixture
def steer(workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run the command line in this process; flags given as None are left out."""

    def run(*extra: str, **flags: object) -> Path:
        out = tmp_path / "out"
        given = {"run": workspace.run, "weights": workspace.weights, "out": out,
                 "sequence": SEQUENCE} | flags  # fmt: skip
        words = [w for k, v in given.items() if v is not None for w in (f"--{k}", str(v))]
        monkeypatch.setattr(sys, "argv", ["steering", *words, *extra])
        run_cli(main)
        return out

    return run


@pytest.fixture
def refused(steer, tmp_path: Path, capsys: pytest.CaptureFixture):
    """Run, expecting exit status 2, one line on standard error, and nothing written."""

    def run(words: str, *extra: str, **flags: object) -> None:
        with pytest.raises(SystemExit) as caught:
            steer(*extra, **flags)
        assert caught.value.code == 2
        *log, error = capsys.readouterr().err.strip().splitlines()
        assert error.startswith("error: ")
        assert not [line for line in log if line.startswith(("error", "Traceback"))]
        assert words in error
        assert not (tmp_path / "out").exists()

    return run


def test_writes_what_was_measured(steer, workspace, capsys) -> None:
    out = steer("--clamp", "5=4.0", "--clamp", "7=0", "--positions", "2-4,10")
    loaded = load_sae(workspace.run)
    model = load_esm2(weights=workspace.weights, device="cpu")
    clamps = [Clamp(5, 4.0), Clamp(7, 0.0)]
    sae = TorchSAE.from_run(loaded)
    expected = sequence_effect(model, sae, SEQUENCE, clamps, [1, 2, 3, 9])
    assert sorted(p.name for p in out.iterdir()) == [
        "delta_log_p.csv", "delta_log_p.png", "steering.json",
    ]  # fmt: skip
    header, *rows = csv.reader((out / "delta_log_p.csv").read_text().splitlines())
    assert header == ["position", "residue", *AMINO_ACIDS]
    assert [r[:2] for r in rows] == [[str(i), a] for i, a in enumerate(SEQUENCE, start=1)]
    table = np.array([r[2:] for r in rows], float)
    np.testing.assert_allclose(table, expected.delta_log_p, atol=1e-5)
    assert np.abs(table).max() > 1e-3
    record = json.loads((out / "steering.json").read_text())
    assert record["edited_positions"] == [2, 3, 4, 10]
    assert [c["clamp"] for c in record["clamps"]] == [
        {"latent": 5, "value": 4.0}, {"latent": 7, "value": 0.0},
    ]  # fmt: skip
    assert [la["latent"] for la in record["latents"]] == [5, 7]
    assert record["latents"][0]["maximum"] == pytest.approx(float(loaded.latent_max[5]))
    assert record["parent"]["weights"]["encoder_sha256"] == model.weights.encoder_sha256
    assert record["site"] == "block3"
    np.testing.assert_allclose(record["kl"], expected.kl, atol=1e-5)
    top = record["top_changes"][0]
    assert abs(top["delta_log_p"]) == pytest.approx(np.abs(table).max(), abs=1e-5)
    assert top["wild_type"] == SEQUENCE[top["position"] - 1]
    assert (out / "delta_log_p.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "file random.safetensors" in printed
    assert "latent 5 = 4:" in printed
    assert "Top 15 changes" in printed


def test_multiples_of_the_maximum(steer, workspace) -> None:
    maximum = load_sae(workspace.run).latent_max
    latent = int(maximum.argmax())
    out = steer("--clamp", f"{latent}=1.5x")
    record = json.loads((out / "steering.json").read_text())
    assert record["clamps"][0]["clamp"]["value"] == pytest.approx(1.5 * maximum[latent])


def test_fasta_takes_the_first_record_or_the_named_one(steer, workspace) -> None:
    for flags, which in (({}, 0), ({"record": "p2"}, 2)):
        out = steer(sequence=None, fasta=workspace.fasta, **flags)
        record = json.loads((out / "steering.json").read_text())
        assert record["protein"] == {"id": f"p{which}", "sequence": workspace.sequences[which]}


def test_no_clamp_is_a_table_of_zeros(steer) -> None:
    out = steer()
    rows = list(csv.reader((out / "delta_log_p.csv").read_text().splitlines()))[1:]
    assert {value for row in rows for value in row[2:]} == {"0.000000"}


def test_as_a_program(workspace, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    command = [sys.executable, "-m", "steering", "--run", workspace.run, "--sequence", "mktay*",
               "--clamp", "5=4.0", "--weights", workspace.weights, "--out", out]  # fmt: skip
    root = Path(__file__).parents[2]
    env = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert "written:" in done.stdout
    assert json.loads((out / "steering.json").read_text())["protein"]["sequence"] == "MKTAY"


@pytest.mark.parametrize("text", ["5", "5:2", "a=2", "-1=2", "5=", "5=two", "5=1x2", "5=1xx"])
def test_malformed_clamp(refused, text: str) -> None:
    refused("must be LATENT=VALUE", f"--clamp={text}")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "infx", "1e999"])
def test_strength_that_is_not_finite(refused, value: str) -> None:
    refused("the strength must be a finite number", "--clamp", f"5={value}")


def test_bad_latents(refused) -> None:
    refused("latent 48 is out of range", "--clamp", "48=1")
    refused("latent 5 is clamped twice", "--clamp", "5=1", "--clamp", "5=2x")


def test_multiple_of_a_maximum_of_zero(refused, workspace, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(workspace.run, run)
    stats = pq.read_table(run / "latent_stats.parquet").to_pydict()
    stats["maximum"][5] = 0.0
    pq.write_table(pa.table(stats), run / "latent_stats.parquet")
    refused("latent 5 never fired", "--clamp", "5=2x", run=run)


def test_bad_sequences(refused, workspace, tmp_path: Path) -> None:
    refused("illegal character '1' at position 3", sequence="MK1A")
    refused("no sequence", sequence="")
    refused("1023 residues, the limit is 1022", sequence="A" * 1023)
    refused("neither was given", sequence=None)
    refused("both was given", fasta=workspace.fasta)
    refused("no record 'q'", sequence=None, fasta=workspace.fasta, record="q")
    refused("--record names a record of --fasta", record="q")
    refused("no such file", sequence=None, fasta=tmp_path / "none.fasta")


@pytest.mark.parametrize("text", ["0-3", "20-23", "5-2", "23"])
def test_positions_outside(refused, text: str) -> None:
    refused("residues are 1 to 22", positions=text)


@pytest.mark.parametrize("text", ["x", "1-2-3", "1,,2", "1.5", ""])
def test_positions_malformed(refused, text: str) -> None:
    refused("must be all, or ranges", positions=text)


def test_bad_runs(refused, workspace, tmp_path: Path) -> None:
    refused("is not a training run", run=tmp_path)
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    record = json.loads((workspace.run / "run.json").read_text())
    (unfinished / "run.json").write_text(json.dumps(record | {"state": "training"}))
    refused("training has not finished", run=unfinished)


def test_bad_weights(refused, workspace, tmp_path: Path) -> None:
    refused("weights sha256 is", weights=workspace.other_weights)
    refused("without a masked-LM head", weights=workspace.headless)
    refused("no such weights file", weights=tmp_path / "none.pt")


def test_out_that_is_something_else(steer, workspace, tmp_path: Path, capsys) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for out, words in ((tmp_path, "not a steering result"), (workspace.fasta, "is a file")):
        with pytest.raises(SystemExit) as caught:
            steer(out=out)
        assert caught.value.code == 2
        assert words in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


@given(st.integers(0, 10**6), st.floats(allow_nan=False, allow_infinity=False), st.booleans())
def test_clamp_text_round_trips(latent: int, value: float, multiple: bool) -> None:
    request = parse_clamp(f"{latent}={value!r}{'x' if multiple else ''}")
    assert (request.latent, request.strength, request.of_maximum) == (latent, value, multiple)


def test_positions_by_hand() -> None:
    assert parse_positions("all", 3) == [0, 1, 2]
    assert parse_positions("1-3, 7,2-4", 9) == [0, 1, 2, 3, 6]
    with pytest.raises(UserError):
        parse_positions("10", 9)
