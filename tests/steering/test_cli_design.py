from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from extract.selection import read_fasta
from extract.weights import load_esm2
from saejax import load_sae
from steering.concept_probe import ConceptProbe
from tests.steering.conftest import SEQUENCE, Workspace

DESIGN = ["--variants", "4", "--control-variants", "2", "--random-latents", "1", "--copies", "4"]


@pytest.fixture
def probe(workspace: Workspace, tmp_path: Path) -> Path:
    """A concept's probe of the workspace's parent, with random weights."""
    model = load_esm2(weights=workspace.weights, device="cpu")
    weights = np.random.default_rng(0).normal(size=model.d_model).astype(np.float32)
    manifest = model.describe_site("block2")
    path = tmp_path / "aromatic.npz"
    ConceptProbe("aromatic", weights, 0.1, 0.5, manifest, {}).save(path)
    return path


def test_a_design_writes_variants_beside_controls(steer, workspace, capsys) -> None:
    latent = int(load_sae(workspace.run).latent_max.argmax())
    out = steer(*DESIGN, "--edit", f"{latent}:set:2xmax", "--positions", "3-12", "--fixed", "5",
                command="design")  # fmt: skip
    record = json.loads((out / "steering.json").read_text())
    arms = {a["arm"]: a["n_variants"] for a in record["arms"]}
    assert list(arms.values()) == [4, 2, 2]
    assert list(arms)[:2] == ["steered", "no edit"]
    rows = list(csv.DictReader((out / "variants.csv").read_text().splitlines()))
    assert len(rows) == 8
    for row in rows:
        differ = [i + 1 for i, (a, b) in enumerate(zip(SEQUENCE, row["sequence"])) if a != b]
        assert set(differ) <= set(range(3, 13)) - {5}
        assert row["identity"] == f"{1 - len(differ) / len(SEQUENCE):.6g}"
    proteins, _ = read_fasta(out / "variants.fasta")
    assert [p.sequence for p in proteins] == [r["sequence"] for r in rows]
    rise = np.mean([float(r[f"latent_{latent}_rise"]) for r in rows[:4]])
    assert record["arms"][0][f"latent {latent}"]["mean"] == pytest.approx(rise, abs=1e-5)
    assert f"latent {latent} {rise:+.3f}" in capsys.readouterr().out
    assert "Can they be believed?" in (out / "page.html").read_text()


def test_a_design_without_edits_has_no_controls(steer) -> None:
    out = steer(*DESIGN, command="design")
    record = json.loads((out / "steering.json").read_text())
    assert [a["arm"] for a in record["arms"]] == ["steered"]
    assert record["readings"] == []


def test_a_design_is_read_by_probes(steer, probe: Path) -> None:
    out = steer(*DESIGN, "--edit", "5:set:4", command="design", probe=probe)
    record = json.loads((out / "steering.json").read_text())
    assert record["config"]["probe"] == [str(probe)]
    assert record["readings"] == ["latent 5", "aromatic"]
    rows = list(csv.DictReader((out / "variants.csv").read_text().splitlines()))
    rise = np.mean([float(r["probe_aromatic_rise"]) for r in rows[:4]])
    assert record["arms"][0]["aromatic"]["mean"] == pytest.approx(rise, abs=1e-5)


def test_bad_designs(refused, tmp_path: Path) -> None:
    given = {"command": "design"}
    refused("temperature", **given, temperature=-1)
    refused("must be at least 1", **given, variants=0)
    refused("outside the sequence", **given, positions="20-30")
    refused("no residue may change", **given, positions="3", fixed="3")
    refused("must be ranges", **given, positions="active")
    refused("belongs to the method single", "--method", "gibbs", "--mask-fraction", "0.5", **given)
    refused("must be at least 2", **given, copies=1)
    refused("no such file", **given, probe=tmp_path / "none.npz")


def test_a_benchmark_of_a_concept(steer, workspace, tmp_path: Path, probe: Path) -> None:
    latent = int(load_sae(workspace.run).latent_max.argmax())
    targets = tmp_path / "targets.csv"
    targets.write_text(f"target,kind,latent\naromatic,own,{latent}\n")
    out = steer(command="benchmark", sequence=None, fasta=workspace.fasta, sample=2,
                targets=targets, probe=probe,
                **{"random-latents": 1, "random-directions": 1})  # fmt: skip
    record = json.loads((out / "steering.json").read_text())
    assert record["config"]["probe"] == [str(probe)]
    (row,) = csv.DictReader((out / "benchmark.csv").read_text().splitlines())
    assert (row["target"], row["n_proteins"]) == ("aromatic", "2")
    assert record["targets"][0]["effect"] == pytest.approx(float(row["effect"]))


def test_a_benchmark_of_targets(steer, workspace, tmp_path: Path, refused, capsys) -> None:
    latents = np.argsort(-load_sae(workspace.run).latent_max)[:2]
    targets = tmp_path / "targets.csv"
    lines = [f"{a},amino acid,{j}" for a, j in zip("AW", latents)]
    targets.write_text("\n".join(["target,kind,latent", *lines]))
    given = {"command": "benchmark", "sequence": None, "fasta": workspace.fasta, "sample": 4,
             "targets": targets, "random-latents": 2, "random-directions": 2}  # fmt: skip
    out = steer(**given)
    record = json.loads((out / "steering.json").read_text())
    rows = list(csv.DictReader((out / "benchmark.csv").read_text().splitlines()))
    assert [r["target"] for r in rows] == ["A", "W"]
    assert record["classes"][0]["n_targets"] == 2
    mean = np.mean([float(r["success"]) for r in rows])
    assert record["classes"][0]["success"] == pytest.approx(mean)
    assert "2 targets, mean success rate" in capsys.readouterr().out
    assert "the failures too" in (out / "page.html").read_text()
    shutil.rmtree(out)
    targets.write_text("target,kind,latent\nhelix,dssp,3\n")
    refused("'helix' has no probe", **given)
    targets.write_text("target,kind,latent\nA,amino acid,48\n")
    refused("latent 48 is out of range", **given)
