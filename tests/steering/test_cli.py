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

from extract.alphabet import AMINO_ACIDS
from extract.errors import run_cli
from extract.weights import load_esm2
from saejax import load_sae
from steering.__main__ import main
from steering.edits import Edit, Where
from steering.effects import sequence_effect
from steering.torch_sae import TorchSAE
from tests.steering.conftest import SEQUENCE


def test_writes_what_was_measured(steer, workspace, capsys) -> None:
    out = steer("--edit", "5:set:4.0@2-4,10", "--edit", "7:zero@2-4,10")
    loaded = load_sae(workspace.run)
    model = load_esm2(weights=workspace.weights, device="cpu")
    where = Where("ranges", ((1, 4), (9, 10)))
    edits = [Edit(5, "set", 4.0, where), Edit(7, "zero", where=where)]
    sae = TorchSAE.from_run(loaded)
    expected = sequence_effect(model, sae, SEQUENCE, edits)
    assert sorted(p.name for p in out.iterdir()) == [
        "delta_log_p.csv", "delta_log_p.png", "page.html", "steering.json",
    ]  # fmt: skip
    header, *rows = csv.reader((out / "delta_log_p.csv").read_text().splitlines())
    assert header == ["position", "residue", *AMINO_ACIDS]
    assert [r[:2] for r in rows] == [[str(i), a] for i, a in enumerate(SEQUENCE, start=1)]
    table = np.array([r[2:] for r in rows], float)
    np.testing.assert_allclose(table, expected.delta_log_p, atol=1e-5)
    assert np.abs(table).max() > 1e-3
    record = json.loads((out / "steering.json").read_text())
    assert record["edited_positions"] == [2, 3, 4, 10]
    assert [e["edit"] for e in record["edits"]] == ["5:set:4@2-4,10", "7:zero@2-4,10"]
    assert [e["n_edited"] for e in record["edits"]] == [4, 4]
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
    assert "5:set:4@2-4,10: latent 5 fires on" in printed
    assert "Top 15 changes" in printed


def test_multiples_of_the_maximum(steer, workspace) -> None:
    maximum = load_sae(workspace.run).latent_max
    latent = int(maximum.argmax())
    out = steer("--edit", f"{latent}:set:1.5xmax")
    record = json.loads((out / "steering.json").read_text())
    assert record["edits"][0]["strength"] == pytest.approx(1.5 * maximum[latent])


def test_fasta_takes_the_first_record_or_the_named_one(steer, workspace) -> None:
    for flags, which in (({}, 0), ({"record": "p2"}, 2)):
        out = steer(sequence=None, fasta=workspace.fasta, **flags)
        record = json.loads((out / "steering.json").read_text())
        assert record["protein"] == {"id": f"p{which}", "sequence": workspace.sequences[which]}


def test_no_edit_is_a_table_of_zeros(steer) -> None:
    out = steer()
    rows = list(csv.reader((out / "delta_log_p.csv").read_text().splitlines()))[1:]
    assert {value for row in rows for value in row[2:]} == {"0.000000"}


def test_as_a_program(workspace, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    command = [sys.executable, "-m", "steering", "edit", "--run", workspace.run,
               "--sequence", "mktay*", "--edit", "5:set:4.0",
               "--weights", workspace.weights, "--out", out]  # fmt: skip
    root = Path(__file__).parents[2]
    env = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert "written:" in done.stdout
    assert json.loads((out / "steering.json").read_text())["protein"]["sequence"] == "MKTAY"


def test_bad_edits(refused) -> None:
    refused("must be LATENT:OPERATION", "--edit", "5=2x")
    refused("the strength must be a finite number", "--edit", "5:set:nan")
    refused("latent 48 is out of range", "--edit", "48:set:1")
    refused("latent 5 is edited twice", "--edit", "5:set:1", "--edit", "5:add:2xmax")
    refused("residues 20-23 are outside the sequence", "--edit", "5:set:1@20-23")
    refused("not finite", "--edit", "5:set:1e38")


def test_masked_residues(steer, refused) -> None:
    out = steer("--edit", "5:set:4@masked", "--mask", "3,10-12")
    record = json.loads((out / "steering.json").read_text())
    assert record["masked_positions"] == record["edited_positions"] == [3, 10, 11, 12]
    shutil.rmtree(out)
    refused("must be all, or ranges", mask="active")
    refused("outside the sequence", mask="20-23")


def test_multiple_of_a_maximum_of_zero(refused, workspace, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(workspace.run, run)
    stats = pq.read_table(run / "latent_stats.parquet").to_pydict()
    stats["maximum"][5] = 0.0
    pq.write_table(pa.table(stats), run / "latent_stats.parquet")
    refused("latent 5 never fired", "--edit", "5:set:2xmax", run=run)


def test_bad_sequences(refused, workspace, tmp_path: Path) -> None:
    refused("illegal character '1' at position 3", sequence="MK1A")
    refused("no sequence", sequence="")
    refused("1023 residues, the limit is 1022", sequence="A" * 1023)
    refused("neither was given", sequence=None)
    refused("both was given", fasta=workspace.fasta)
    refused("no record 'q'", sequence=None, fasta=workspace.fasta, record="q")
    refused("--record names a record of --fasta", record="q")
    refused("no such file", sequence=None, fasta=tmp_path / "none.fasta")


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


SWEEP = {"sequence": None, "latent": 5, "command": "sweep"}


def test_a_sweep_writes_tables_figure_and_verdict(steer, workspace, capsys) -> None:
    loaded = load_sae(workspace.run)
    latent = int(loaded.latent_max.argmax())
    flags = SWEEP | {"latent": latent, "fasta": workspace.fasta, "sample": 6, "seed": 3}
    extra = ["--strengths", "2", "0", "1", "--random-latents", "3", "--random-directions", "2"]
    out = steer(*extra, **flags)
    record = json.loads((out / "steering.json").read_text())
    assert record["kind"] == "sweep"
    assert [s["multiple"] for s in record["strengths"]] == [0, 1, 2]
    assert record["strengths"][2]["strength"] == pytest.approx(2 * loaded.latent_max[latent])
    assert (record["n_proteins"], len(record["proteins"])) == (3, 6)  # half of them chose
    assert record["amino_acid"] in AMINO_ACIDS
    assert len(record["control_latents"]) == 3
    assert record["verdict"]["words"] in capsys.readouterr().out
    assert record["verdict"]["words"] in (out / "page.html").read_text()
    rows = list(csv.DictReader((out / "sweep.csv").read_text().splitlines()))
    assert len(rows) == 3 + 5 * (3 + 3)  # the latent's strengths; controls' too, and extra norms
    of_latent = [r for r in rows if r["arm"] == "latent"]
    shown = float(of_latent[1][f"delta_log_p_{record['amino_acid']}"])
    assert shown == pytest.approx(record["strengths"][1]["effect"]["mean"], abs=1e-5)
    proteins = list(csv.DictReader((out / "proteins.csv").read_text().splitlines()))
    assert sum(int(r["reported"]) for r in proteins) == 3 * 3
    reported = [float(r["delta_log_p"]) for r in proteins
                if r["reported"] == "1" and float(r["multiple"]) == 1]  # fmt: skip
    assert np.mean(reported) == pytest.approx(shown, abs=1e-5)


@pytest.mark.parametrize("flags", [["--operation", "scale", "--strengths", "0", "3"],
                                   ["--operation", "add", "--where", "all"],
                                   ["--error-term", "drop", "--amino-acid", "W"]])  # fmt: skip
def test_sweeps_of_other_kinds(steer, workspace, flags) -> None:
    latent = int(load_sae(workspace.run).latent_max.argmax())
    extra = [*flags, "--random-latents", "2", "--random-directions", "0"]
    out = steer(*extra, **SWEEP | {"fasta": workspace.fasta, "sample": 4, "latent": latent})
    record = json.loads((out / "steering.json").read_text())
    assert record["n_proteins"] == (4 if "--amino-acid" in flags else 2)
    assert all(np.isfinite(s["effect"]["mean"]) for s in record["strengths"])


def test_bad_sweeps(refused, workspace, tmp_path: Path) -> None:
    given = SWEEP | {"fasta": workspace.fasta}
    refused("latent 48 is out of range", **given | {"latent": 48})
    refused("finite numbers", "--strengths", "1", "nan", **given)
    refused("given twice", "--strengths", "1", "1", **given)
    refused("has no strength", "--operation", "zero", **given)
    refused("must be one of", **given | {"amino-acid": "B"})
    refused("must be between 0 and 1", **given | {"mask-fraction": 1.5})
    refused("must not be negative", **given | {"random-latents": -1})
    refused("controls asked for", **given | {"random-latents": 48})
    refused("no such file", **given | {"fasta": tmp_path / "none.fasta"})


def test_unknown_command(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["steering", "steer"])
    with pytest.raises(SystemExit) as caught:
        run_cli(main)
    assert caught.value.code == 2
    assert "unknown command 'steer'" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["steering"])
    run_cli(main)
    assert "sweep" in capsys.readouterr().out
