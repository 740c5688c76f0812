"""The gate and the search for k on what ESM2-8M really computes."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from extract.errors import UserError, run_cli
from extract.fasta import Protein, read_records
from extract.weights import load_esm2
from probes.config import ProbeConfig
from probes.inputs import Inputs
from saejax import convert, load_sae
from saejax.gate import sample_rows
from saejax.interop import Facts, Given
from saejax.interop.importing import Request, import_sae
from steering.__main__ import main as steer
from tests.helpers import make_stores
from tests.saejax.interop.conftest import write_saelens
from tests.saejax.interop.references import relu, top_k, zscore
from tests.saejax.interop.writing import write_safetensors

pytestmark = [pytest.mark.weights, pytest.mark.usefixtures("quick_compilation")]
MODEL, K, D_SAE = "esm2_t6_8M_UR50D", 16, 512
PDB = Path(__file__).parents[3] / "data" / "pdb.fasta.gz"


def extracted(folder, *sites, token_dropout=True):
    """14 chains, 3,434 residues; the store of each site."""
    chains = itertools.islice(read_records(PDB), 14)
    model = load_esm2(MODEL, device="cpu", token_dropout=token_dropout)
    stores = make_stores(folder, [Protein(r.id, r.sequence) for r in chains], model, site=sites,
                         batch_residues=2000, token_dropout=token_dropout)  # fmt: skip
    return {store.site: store for store in stores}


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    return extracted(tmp_path_factory.mktemp("on"), "block4", "block5", "block6", "final")


@pytest.fixture(scope="module")
def without_dropout(tmp_path_factory):
    return extracted(tmp_path_factory.mktemp("off"), "block4", token_dropout=False)["block4"]


def fitted(x):
    """W_enc, b_enc, W_dec, b_dec: residues as encoder, the decoder that is best for it at K."""
    mean = x.mean(axis=0)
    centred = x - mean
    W_enc = centred[np.random.default_rng(0).permutation(len(x))[:D_SAE]].T
    W_enc = W_enc / np.linalg.norm(W_enc, axis=0)
    z = relu(top_k(centred @ W_enc, K))
    W_dec = np.linalg.solve(z.T @ z + 0.1 * np.eye(D_SAE), z.T @ centred)
    return W_enc, np.zeros(D_SAE, np.float32), W_dec.astype(np.float32), mean


def imported(store, folder):
    """The run folder of an SAE that was made for a store."""
    hook = "blocks.3.hook_resid_post" if store.site == "block4" else None
    metadata = {"sae_lens_version": "6.54.12", "model_name": MODEL, "hook_name": hook}
    write_saelens(folder / "sae", fitted(sample_rows(store)), k=K, metadata=metadata)
    import_sae(Request(str(folder / "sae"), "saelens", folder / "run"), store)
    return folder / "run"


@pytest.fixture(scope="module")
def run(sites, tmp_path_factory):
    return imported(sites["block4"], tmp_path_factory.mktemp("block4"))


def test_its_own_site_passes(run, sites):
    assert load_sae(run, check=sites["block4"]).run["results"]["fvu"] < 0.35
    load_sae(run, check=sample_rows(sites["block4"]))


@pytest.mark.parametrize("site", ["block5", "block6", "final"])
def test_another_site_is_refused(site, run, sites):
    with pytest.raises(UserError, match=f"site is 'block4' in the first and '{site}'"):
        load_sae(run, check=sites[site])
    others = "token dropout .it should be on.*mean or scale that was lost"
    if site == "block6":  # a scale could be why, too
        others = "or a scale that was lost or applied twice, .* spread 3.03 times"
    causes = f"another layer than block4, before or after the final LayerNorm, {others}"
    with pytest.raises(UserError, match=rf"FVU is .*; likely causes: {causes}"):
        load_sae(run, check=sample_rows(sites[site]))  # bare arrays know no site


def test_a_lost_scale_and_mean_are_named(run, sites):
    x = sample_rows(sites["block4"])
    lost = r"likely cause: a scale that was lost or applied twice, .* 0.05\d* times"
    with pytest.raises(UserError, match=lost):
        load_sae(run, check=0.05 * x)
    store = sites["block4"]
    normalised = ((x - store.mean) * store.scale).astype(np.float32)
    with pytest.raises(UserError, match="mean and scale applied twice, since these activations"):
        load_sae(run, check=normalised)
    with pytest.raises(UserError, match="a mean that is subtracted twice"):
        load_sae(run, check=x - x.mean(axis=0, keepdims=True))


def test_the_final_norm_is_named(sites, tmp_path):
    run = imported(sites["final"], tmp_path)
    load_sae(run, check=sites["final"])
    with pytest.raises(UserError, match="before or after the final LayerNorm|spread"):
        load_sae(run, check=sample_rows(sites["block6"]))


def test_token_dropout_is_known_to_stores_alone(run, without_dropout):
    with pytest.raises(UserError, match="token dropout is True in the first and False"):
        load_sae(run, check=without_dropout)
    load_sae(run, check=sample_rows(without_dropout))  # at this site FVU is hardly another


def interprot(folder, store):
    mu, s = zscore(sample_rows(store))
    w_enc, b_enc, w_dec, b_pre = fitted((sample_rows(store) - mu) / (s + 1e-5))
    path = folder / "esm2_plm320_l4_sae512.safetensors"
    arrays = {"w_enc": w_enc, "b_enc": b_enc, "w_dec": w_dec, "b_pre": b_pre,
              "stats_last_nonzero": np.zeros(D_SAE)}  # fmt: skip
    write_safetensors(path, arrays)
    return Request(str(path), "interprot", folder / "run", find_k=True)


def test_k_is_found_where_the_file_does_not_say_it(without_dropout, tmp_path):
    found = import_sae(interprot(tmp_path, without_dropout), without_dropout)
    assert found.config.k == K
    assert found.run["imported"]["k_from"].startswith("found by a scan: the best factor of latents")
    assert found.run["results"]["fvu"] < 0.35


def test_a_k_that_does_not_fit_is_warned_of(without_dropout, tmp_path, caplog):
    request = interprot(tmp_path, without_dropout)
    given = Request(request.source, "interprot", tmp_path / "given", Given(k=40))
    import_sae(given, without_dropout)
    assert "k is 40, but on these activations it looks like one that was trained with 16" in (
        caplog.text
    )


def test_k_is_not_found_on_another_site(without_dropout, sites, tmp_path):
    request = interprot(tmp_path, without_dropout)
    claims = Facts(site="final", token_dropout=True)
    wrong = Request(request.source, "interprot", tmp_path / "no", claims=claims, find_k=True)
    with pytest.raises(UserError, match="k can't be found|FVU is"):
        import_sae(wrong, sites["final"])
    assert not (tmp_path / "no").exists()


def test_the_command_line_refuses_another_site(sites, tmp_path, monkeypatch, capsys):
    write_saelens(tmp_path / "sae", fitted(sample_rows(sites["block4"])), k=K, metadata={
        "sae_lens_version": "6.54.12", "model_name": MODEL, "hook_name": None})  # fmt: skip
    words = ["convert", "import", "--format", "saelens", "--source", tmp_path / "sae",
             "--out", tmp_path / "run", "--activations", sites["block6"].folder]  # fmt: skip
    monkeypatch.setattr("sys.argv", list(map(str, words)))
    with pytest.raises(SystemExit, match="2"):
        run_cli(convert.main)
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(error) == 1
    assert "FVU is" in error[0]
    assert "another layer than block6" in error[0]
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def bad_run(run, tmp_path_factory):
    """One that records a better FVU than it has."""
    bad = tmp_path_factory.mktemp("bad") / "run"
    shutil.copytree(run, bad)
    record = json.loads((bad / "run.json").read_text())
    record["results"]["fvu"] = 0.02
    (bad / "run.json").write_text(json.dumps(record))
    return bad


def test_probes_refuse_what_does_not_reconstruct(bad_run, sites, tmp_path):
    stores = (sites["block4"].folder,)
    config = ProbeConfig(bad_run, stores, out=tmp_path / "probes", allow_random_split=True)
    with pytest.raises(UserError, match=r"FVU is 0.257 on .*recorded 0.020, at most 0.120 passes"):
        Inputs.of(config)


@pytest.mark.parametrize("command", ["edit", "sweep"])
def test_steering_refuses_what_does_not_reconstruct(
    command, bad_run, tmp_path, monkeypatch, capsys
):
    sequence = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQ"
    given = {
        "edit": ["--sequence", sequence, "--edit", "3:add:1"],
        "sweep": ["--fasta", PDB, "--sample", 8, "--latent", 3, "--too-long", "crop"],
    }[command]
    words = ["steering", command, "--run", bad_run, "--out", tmp_path / "out", *given]
    monkeypatch.setattr("sys.argv", list(map(str, words)))
    with pytest.raises(SystemExit, match="2"):
        run_cli(steer)
    assert "recorded 0.020, at most 0.120 passes" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
