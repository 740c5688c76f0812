"""A bundle with probes: concepts, scores, associations, names and what is found by them."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from explorer.build.command import build
from explorer.bundle import Bundle
from extract.alphabet import AMINO_ACIDS
from extract.errors import UserError
from probes.config import ProbeConfig
from probes.data.frames import where
from probes.evaluate import probe_run
from probes.report.tables import write_results
from saejax.latent_store import LatentStore
from tests.explorer.build_inputs import again, config, known, run, run_of

__all__ = ["config", "known", "run"]


@pytest.fixture(scope="module")
def probes(run, tiny_store, known, tmp_path_factory):
    folder = tmp_path_factory.mktemp("probes") / "out"
    settings = ProbeConfig(
        run, (tiny_store.folder,), folder, **known, min_positives=10, min_fires=20,
        min_proteins=3, baselines=("neurons", "shuffled labels"), protocols=(), bootstrap=20,
        check=False,  # weights are random and the FVU in their record is made up
    )  # fmt: skip
    write_results(probe_run(settings), folder)
    return folder


@pytest.fixture(scope="module")
def bundle(config, probes, tmp_path_factory):
    out = tmp_path_factory.mktemp("probed") / "b"
    return Bundle.open(build(again(config, out, probes=probes, clusters=None)))


def test_proteins_have_parts(bundle, probes):
    split = pd.read_csv(probes / "split.csv").set_index("id")
    for row in bundle.rows("SELECT * FROM proteins"):
        assert row["part"] == split.loc[row["accession"], "part"]
        assert row["cluster"] == split.loc[row["accession"], "cluster"]


def test_concepts_and_scores(bundle, probes):
    table = pd.read_parquet(probes / "probes.parquet").set_index("concept")
    listed = {r["name"]: r for r in bundle.rows("SELECT * FROM concepts")}
    assert set(table.index) <= set(listed)
    for name, row in table.iterrows():
        found = listed[str(name)]
        assert found["n_positive"] == row["n_positive_test"]
        assert found["n_clusters"] == row["n_clusters_test"]
        assert found["base_rate"] == row["base_rate"]
        assert (found["best"], found["found"]) == (row["latent"], row["latent_found"])
        scores = {
            r["features"]: r
            for r in bundle.rows("SELECT * FROM scores WHERE concept = ?", found["concept"])
        }
        assert set(scores) >= {"latent", "neuron", "all_positive"}
        for features in ("latent", "neuron"):
            for score in ("f1", "f1_low", "precision", "recall", "auroc"):
                value, wanted = scores[features][score], row[f"{features}_{score}"]
                assert value == wanted or (value is None and np.isnan(wanted))
        assert scores["all_positive"]["f1"] == row["f1_all_positive"]
    assert bundle.manifest["n_found"] == sum(
        value is True for value in table["latent_found"].tolist()
    )
    assert bundle.manifest["n_f1_half"] == sum(f1 > 0.5 for f1 in table["latent_f1"]) > 0


def test_associations(bundle, probes):
    table = pd.read_parquet(probes / "associations.parquet").astype({"concept": str})
    names = {r["concept"]: r["name"] for r in bundle.rows("SELECT * FROM concepts")}
    found = pd.DataFrame([dict(r) for r in bundle.rows("SELECT * FROM associations")])
    found["name"] = [names[concept] for concept in found["concept"]]
    wanted = table[table["coef"] > 0].set_index(["feature", "concept"])
    for row in found.to_dict("records"):
        pair = wanted.loc[(row["latent"], row["name"])]
        assert row["threshold"] == pair["threshold"]
        assert row["n_called"] == pair["n_called_test"]
        assert np.isnan(pair["f1_test"]) or row["f1"] == pair["f1_test"]
    for j in range(0, bundle.d_sae, 7):
        mine = where(table, (table["feature"] == j) & (table["coef"] > 0))
        mine = mine.sort_values("f1_validation", ascending=False)["concept"].tolist()[:24]
        assert set(mine) <= set(found.loc[found["latent"] == j, "name"])


def test_columns_and_search(bundle, probes):
    pairs = pd.read_parquet(probes / "associations.parquet").astype({"concept": str})
    pairs = pairs[pairs["coef"] > 0]
    table = bundle.latents.to_pylist()
    kinds = pd.read_parquet(probes / "latents.parquet").sort_values("latent")
    for row, kind in zip(table, kinds.to_dict("records"), strict=True):
        mine = pairs[pairs["feature"] == row["latent"]]
        if len(mine):
            best = mine["f1_validation"].max()
            at = mine[(mine["concept"] == row["concept"])]
            assert at["f1_validation"].item() == best
            assert row["f1"] == pytest.approx(at["f1_test"].item())
        assert row["named"] == (kind["concept"] if isinstance(kind["concept"], str) else None)
        assert row["confirmed"] == bool(kind["confirmed"])
        assert row["kind"] == kind["kind"]
        others = {k[3:].replace("_", "-") for k in kind if k.startswith("is_") and kind[k]}
        flags = {f.replace(" ", "-") for f in row["flags"].split(", ") if f}
        assert flags == others - {row["kind"].replace(" ", "-")}
    [(best,)] = bundle.rows("SELECT best FROM concepts WHERE name = 'W'")
    words = "SELECT rowid FROM latent_search WHERE latent_search MATCH ?"
    assert best in {r[0] for r in bundle.rows(words, "concepts: W")}


def test_latents_of_the_probes_are_used(bundle, config, probes, monkeypatch, tmp_path):
    def fail(*_, **__):
        raise AssertionError("latents were made again")

    monkeypatch.setattr(LatentStore, "build", fail)
    again_ = build(again(config, tmp_path / "b", probes=probes, clusters=None))
    assert Bundle.open(again_).hash == bundle.hash


def test_probes_without_annotations(config, probes, tmp_path):
    """Concepts and scores are there; where they are is not known."""
    bare = replace(config, dssp=None, swissprot=None, structures=None, neurons=False)
    bundle = Bundle.open(build(again(bare, tmp_path / "b", probes=probes)))
    [row] = bundle.rows("SELECT * FROM concepts WHERE name = 'helix'")
    assert (row["kind"], row["level"], row["n_spans"]) == ("dssp", "residue", 0)
    assert not bundle["defined"][row["concept"]].any()
    assert row["n_positive"] > 0
    assert bundle.get("structures") is None
    assert "neurons/indptr" not in bundle
    assert bundle.manifest["has"]["neurons"] is False


def test_probes_of_something_else(config, probes, run, tiny_store, tmp_path):
    other = run_of(tmp_path / "sae", tiny_store, d_sae=40)
    with pytest.raises(UserError, match="holds probes of another SAE"):
        build(again(config, tmp_path / "b", probes=probes, run=other))
    summary = json.loads((probes / "summary.json").read_text())
    for name in ("split.csv", "latents.parquet", "probes.parquet", "associations.parquet"):
        (tmp_path / name).write_bytes((probes / name).read_bytes())
    summary["stores"][0]["n_rows"] += 1
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(UserError, match="holds probes of the activations acts, not of"):
        build(again(config, tmp_path / "b", probes=tmp_path))
    (tmp_path / "split.csv").unlink()
    with pytest.raises(UserError, match=r"split.csv: the probes lack this table"):
        build(again(config, tmp_path / "b", probes=tmp_path))


def test_amino_acids_are_concepts(bundle):
    letters = bundle.rows("SELECT name, letters FROM concepts WHERE kind = 'amino acid'")
    assert [(r["name"], r["letters"]) for r in letters] == [(a, a) for a in AMINO_ACIDS]
