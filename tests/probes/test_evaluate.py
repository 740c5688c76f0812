"""The whole run on a tiny store, and what its tables say."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from Bio.Data.IUPACData import protein_letters_1to3
from scipy.stats import false_discovery_control

from extract.alphabet import AMINO_ACIDS
from probes.config import ProbeConfig
from probes.data.concepts import IDENTITY
from probes.evaluate import ProbeResults, probe_run
from probes.kinds.rules import KINDS
from probes.protocols.found import MAX_Q
from probes.report.headers import HEADERS
from probes.report.latent_table import MIN_CLUSTERS
from probes.report.page import KIND_WORDS
from probes.report.tables import CSV, PARQUET, by_concept
from saejax.latent_store import LatentStore

STRUCTURE = ["helix", "strand", "TRANSMEM"]


def coil(sequence):
    """A PDB file of Cα atoms on a tight coil, so that many residues touch."""
    lines = []
    for i, letter in enumerate(sequence, start=1):
        x, y = 4 * np.cos(i), 4 * np.sin(i)
        name = protein_letters_1to3[letter].upper()
        lines.append(
            f"ATOM  {i:5d}  CA  {name} A{i:4d}    {x:8.3f}{y:8.3f}{i / 2:8.3f}  1.00  0.00"
        )
    return "\n".join([*lines, "END", ""])


@pytest.fixture(scope="module", name="config")
def fixture_config(tiny_run, tiny_store, sources, tmp_path_factory) -> ProbeConfig:
    """Every protocol and baseline, with structures of ten proteins."""
    structures = tmp_path_factory.mktemp("structures")
    for protein in tiny_store.proteins[:10]:
        (structures / f"{protein.id}.pdb").write_text(coil(protein.sequence))
    return ProbeConfig(
        tiny_run, (tiny_store.folder,), **sources, min_positives=10, min_fires=20, min_proteins=3,
        sparse_min_positives=20, seed=1, sparse_k=(1, 4), bootstrap=50,
        out=tmp_path_factory.mktemp("probes") / "out", structures=structures,
    )  # fmt: skip


@pytest.fixture(scope="module", name="results")
def fixture_results(config) -> ProbeResults:
    return probe_run(config)


def test_chunks_of_concepts_change_nothing(config, results, tmp_path):
    """One concept at a time: numbers are the same, fits to what their grouping rounds."""
    config = replace(config, out=tmp_path / "out", label_gb=1e-9, baselines=())
    again = probe_run(config)
    for name in ("best", "interplm", "associations", "calibration", "latents", "precise_latents"):
        whole = getattr(results, name)
        if name in ("best", "interplm"):
            whole = whole[whole["features"] == "latents"].reset_index(drop=True)
        of_fits = name in ("best", "associations", "calibration")
        rtol = 1e-12 if of_fits else 0.0
        pd.testing.assert_frame_equal(getattr(again, name), whole, rtol=rtol, atol=rtol)


def test_every_concept_on_every_set_of_features(results):
    """Letters, classes and structure; latents, neurons, components, and three controls."""
    names = ["latents", "shuffled labels", "neurons", "principal components", "random dictionary"]
    assert list(results.best["features"].unique()) == names
    latents = results.best[results.best["features"] == "latents"]
    assert [c for c in latents["concept"] if c in STRUCTURE] == STRUCTURE
    assert set(latents["concept"]) >= set("ACDEFGHIKLMNPQRSTVWY")
    sizes = results.best.groupby("features").size().to_dict()
    assert sizes.pop("shuffled labels") == len(STRUCTURE)
    assert set(sizes.values()) == {len(latents)}
    assert set(results.precise_latents["concept"]) <= set(STRUCTURE)
    assert set(results.coverage["concept"]) == set(STRUCTURE)
    assert results.sparse_probes.groupby("concept").size().to_dict() == dict.fromkeys(STRUCTURE, 2)


def test_a_random_parent_knows_amino_acids_and_nothing_else(results):
    """Latents beat calling everything positive on letters; labels that were moved are not found."""
    letters = results.best[results.best["kind"].isin(list(IDENTITY))]
    mean = letters.groupby("features")[["f1_test", "f1_all_positive"]].mean()
    assert mean.loc["latents", "f1_test"] > 1.5 * mean.loc["latents", "f1_all_positive"]
    moved = results.found[(results.found["features"] == "shuffled labels")]
    assert moved["concepts_found_beyond_letters"].tolist() == [0]
    dense = results.sparse_probes["dense_auroc"].to_numpy()
    assert np.abs(dense[:2] - 0.5).max() < 0.15


def test_every_set_of_features_pays_for_the_same_tests(results):
    """q is over the concepts of a family, the same for latents, baselines and moved labels."""
    frozen = results.found[results.found["protocol"] == "frozen"]
    assert set(frozen["annotations_tested"]) == {len(STRUCTURE)}
    assert set(frozen.loc[frozen["features"] != "shuffled labels", "letters_tested"]) == {29}
    for _, rows in results.best.groupby("features"):
        others = rows[~rows["kind"].isin(list(IDENTITY))]
        np.testing.assert_allclose(others["q"], false_discovery_control(others["p"]))
    assert (results.best["q"] >= results.best["q_least"]).all()


def test_headers_are_those_of_the_tables(results):
    """What a file without a row begins with; families need annotations that these data lack."""
    for name in set(HEADERS) - {"families"}:
        assert tuple(getattr(results, name).columns) == HEADERS[name], name


DOCUMENTED = Path(__file__).parents[2] / "docs" / "probe_tables.md"
PREFIXES = "(latent|neuron|component|random|shuffled_labels|select|test)_"


def names_of(table: str) -> set[str]:
    """What docs/probe_tables.md says of one table: its section, sentence or line."""
    text = DOCUMENTED.read_text()
    if table in ("latents", "best"):
        text = re.split("^## ", text.split(f"## {table}.csv")[1], flags=re.MULTILINE)[0]
        text = "\n".join(line for line in text.split("\n") if line.startswith("|"))
    elif table in ("probes", "associations"):
        [text] = [s for s in text.split("\n\n") if re.match(rf"`{table}\.\w+` has a row", s)]
    else:
        [text] = [s for s in text.split("\n") if re.match(rf"\| `{table}\.\w+`", s)]
    return set(re.findall(r"`(\w+(?:\.\d+)?)`", text))


def test_every_column_is_documented_and_there(results):
    """Where its table is; names that a part or a set of features begins stand there once."""
    tables = {name: list(getattr(results, name).columns) for name in {*CSV, *PARQUET}}
    tables |= {"probes": list(by_concept(results.best).columns)}
    tables |= {name: list(columns) for name, columns in HEADERS.items()}
    for name, columns in tables.items():
        known = names_of(name)
        short = {c if c in known else re.sub(f"^{PREFIXES}", "", c) for c in columns}
        if name == "logos":
            short -= set(AMINO_ACIDS)
        counts = {"n_positive_train", "n_positive_validation", "n_positive_test", "concept",
                  "n_clusters_test", "n_effective_test", "n_occurrences_test", "kind"}  # fmt: skip
        assert short - known == (counts if name == "probes" else set()), name
        gone = known - short - {"shuffled_parent", *PREFIXES[1:-2].split("|")}
        assert not gone, (name, gone)


def test_every_kind_is_documented():
    text = DOCUMENTED.read_text()
    for kind in KINDS:
        assert re.search(rf"^\| (.*, )?{kind}(, .*)? \|", text, re.MULTILINE), kind
        assert kind in KIND_WORDS


def test_tables_agree(results):
    """The chosen pair has the same figures in the long table, and in the one by concept."""
    latents = results.best[results.best["features"] == "latents"]
    merged = latents.merge(results.associations, on=["feature", "concept"], suffixes=("", "_long"))
    assert len(merged) == len(latents)
    for name in ("f1_test", "f1_validation", "threshold", "q_all_pairs"):
        np.testing.assert_allclose(merged[name], merged[f"{name}_long"])
    wide = by_concept(results.best)
    assert list(wide["concept"]) == list(latents["concept"])
    np.testing.assert_array_equal(wide["latent_f1"], latents["f1_test"])
    np.testing.assert_array_equal(wide["latent"], latents["feature"])


def test_one_row_for_every_latent(results):
    """Its kind, and an annotation with an interval where there is one."""
    table = results.latents
    assert table["latent"].tolist() == list(range(64))
    named = table.dropna(subset="concept")
    assert set(named["concept"]) <= set(STRUCTURE)
    few = named["n_clusters_test"] < 3
    assert (named["precision_low"].isna() == few).all()
    known = named[~few]
    assert (known["precision_low"] <= known["precision"]).all()
    assert (known["precision"] <= known["precision_high"]).all()
    certain = named["q_excess"] < MAX_Q
    assert (named["confirmed"] == certain & (named["n_clusters_test"] >= MIN_CLUSTERS)).all()
    assert not named["confirmed"].any()  # labels that a random parent cannot know
    np.testing.assert_allclose(named["q_excess"], false_discovery_control(named["p_excess"]))
    assert not table.loc[table["concept"].isna(), "confirmed"].any()


def test_structures_say_which_residues_touch(results):
    """Some pairs on a coil do; latents of a random parent prefer none of them."""
    pairs = results.latents["contact_pairs"].to_numpy()
    assert (pairs > 0).sum() > 32
    enough = results.latents[pairs > 200]
    assert ((enough["contact_share"] > 0.05) & (enough["contact_share"] < 0.5)).all()
    assert enough["contact_enrichment"].mean() == pytest.approx(1, abs=0.2)
    assert results.summary["n_structures"] == 10


def test_summary_and_split(results):
    """Nothing is dropped in silence."""
    parts = results.split["part"].value_counts()
    for part in ("train", "validation", "test"):
        assert results.summary["split"][f"n_proteins_{part}"] == parts[part]
    assert results.summary["stores_the_sae_was_trained_on"] == ["acts"]
    assert results.summary["annotations"][1]["left_out"] == {"CHAIN": 20}
    kept = set(results.best["concept"])
    assert not kept & {s["concept"] for s in results.summary["skipped_concepts"]}


def test_protocols_are_counted(results):
    """Every protocol on every set of features, and picking again on test never finds fewer."""
    table = results.found.set_index(["protocol", "features"])["concepts_found"]
    for features in ("latents", "neurons", "random dictionary"):
        assert table["InterPLM, as run", features] >= table["InterPLM, frozen", features]
        assert table["InterProt, as run", features] >= table["InterProt, frozen", features]
    assert isinstance(table, pd.Series)


def test_the_latent_store_is_left_for_the_next(results):
    """In the folder of the probes; the random dictionary's is gone."""
    folder = results.folder
    assert LatentStore.open(folder / "latents").d_sae == 64
    assert not (folder / "random_latents").exists()
