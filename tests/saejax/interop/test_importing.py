"""An imported SAE is a run like any other, and one that does not fit is refused with the cause."""

import json
import sys
import types

import numpy as np
import pytest
import torch

from extract.errors import UserError, run_cli
from extract.store import ActivationStore
from saejax import convert, load_sae
from saejax.gate import measured_fvu, sample_rows
from saejax.interop import Facts, Given, find_k, read_published
from saejax.interop.hub import local_path
from saejax.interop.importing import Request, import_sae
from saejax.latent_store import LatentStore
from saejax.latents import encode_array
from steering.changes import change_of
from steering.edits import Edit, Residues, Where
from steering.torch_sae import TorchSAE
from tests.helpers import tiny_esm2
from tests.saejax.interop import references
from tests.saejax.interop.conftest import K, fitted, write_saelens
from tests.saejax.interop.writing import write_safetensors

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def run(published, tiny_store, tmp_path_factory):
    out = tmp_path_factory.mktemp("imported") / "run"
    import_sae(Request(str(published), "saelens", out), tiny_store)
    return out


@pytest.fixture(scope="module")
def zscored_run(tiny_store, tmp_path_factory):
    """InterProt's form, fitted to the z-scored residues of the tiny store."""
    folder = tmp_path_factory.mktemp("zscored")
    x = tiny_store.read(0, tiny_store.n_rows)
    n = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True, ddof=1)
    _, _, axes = np.linalg.svd(n - n.mean(0), full_matrices=False)
    w_dec = np.concatenate([axes, -axes]).astype(np.float32)
    write_safetensors(folder / "a_l1_.safetensors", {
        "w_enc": w_dec.T, "w_dec": w_dec, "b_enc": np.zeros(32, np.float32),
        "b_pre": n.mean(0).astype(np.float32), "stats_last_nonzero": np.zeros(32),
    })  # fmt: skip
    claims = Facts(token_dropout=True)  # which the format has off
    request = Request(str(folder / "a_l1_.safetensors"), "interprot", folder / "run",
                      Given(k=K), claims)  # fmt: skip
    return import_sae(request, tiny_store)


def test_a_run_like_any_other(run, tiny_store, tmp_path):
    loaded = load_sae(run, check=tiny_store)
    assert (loaded.config.k, loaded.config.d_sae, loaded.site) == (K, 32, "block1")
    x = sample_rows(tiny_store, 16384)
    assert loaded.run["results"]["fvu"] == pytest.approx(measured_fvu(loaded.sae, x), rel=1e-5)
    latents = encode_array(loaded.sae, x)
    assert loaded.latent_max.max() == pytest.approx(latents.values.max(), rel=1e-6)
    store = LatentStore.build(loaded, [tiny_store], tmp_path / "latents")
    assert store.n_entries == pytest.approx((latents.values > 0).sum(), rel=0.05)
    sae = TorchSAE.from_run(run)
    np.testing.assert_allclose(sae(torch.from_numpy(x)), loaded.sae(x), atol=1e-5)
    sae.require_parent(tiny_esm2())


def test_provenance(run, published):
    said = load_sae(run).run["imported"]
    assert (said["format"], said["source"], said["k_from"]) == ("saelens", str(published), "file")
    assert said["said_by"] == {"model": "file", "site": "file", "token_dropout": "store",
                               "weights_sha256": "store"}  # fmt: skip


def test_a_z_score_is_applied_everywhere(zscored_run, tiny_store):
    loaded, x = zscored_run, sample_rows(tiny_store)[:200]
    assert loaded.config.token_zscore == (1e-5, 0.0)
    assert loaded.run["results"]["fvu"] < 0.5
    assert loaded.run["imported"]["said_by"]["token_dropout"] == "given"
    mu, s = x.mean(1, keepdims=True), x.std(1, keepdims=True, ddof=1)
    a = loaded.arrays()
    z = np.asarray(loaded.sae.encode_dense(x))
    x_hat = (z @ a["W_dec"] + a["b_dec"]) * s + mu
    np.testing.assert_allclose(loaded.sae(x), x_hat, atol=1e-5)
    with pytest.raises(ValueError, match="beside the raw activations"):
        loaded.sae.decode(loaded.sae.encode(x))
    scaled = np.asarray(loaded.sae(3 * x + 1))
    np.testing.assert_allclose(scaled, 3 * x_hat + 1, atol=1e-4)


def test_steering_moves_a_z_scored_residue_by_its_own_spread(zscored_run, tiny_store):
    sae, model = TorchSAE.from_run(zscored_run), tiny_esm2()
    tokens = model.tokenize(["MKTAYIAKQR"])
    x = model.residual(tokens, "block1")[tokens.residue_rows()]
    at = Residues(tokens, model.mask_token)
    delta = change_of(sae, [Edit(3, "add", 2.0, Where())], x, at).delta_RD
    expected = 2.0 * sae.W_dec[3] * x.std(dim=1, keepdim=True)
    torch.testing.assert_close(delta, expected, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(sae.activation_mean, tiny_store.mean, atol=1e-6)


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        (Facts(site="block2"), "the site is 'block2' for this SAE and 'block1' in"),
        (Facts(model="esm2_t6_8M_UR50D"), "the parent is 'esm2_t6_8M_UR50D'"),
        (Facts(token_dropout=False), "token dropout is False for this SAE and True in"),
    ],
)
def test_another_parent_or_site_is_named(claims, words, published, tiny_store, tmp_path):
    with pytest.raises(UserError, match=words):
        import_sae(Request(str(published), "saelens", tmp_path / "run", claims=claims), tiny_store)
    assert not list(tmp_path.iterdir())


def test_a_wrong_site_is_refused(run, other_site, tiny_store):
    with pytest.raises(UserError, match="site is 'block1' in the first and 'final'"):
        load_sae(run, check=other_site)
    load_sae(run, check=sample_rows(tiny_store))


def test_a_lost_scale_is_refused(run, published, tiny_store, tmp_path):
    x = sample_rows(tiny_store)
    with pytest.raises(UserError, match=r"scale that was lost .* spread 0.01 times"):
        load_sae(run, check=0.01 * x)
    W_enc, b_enc, W_dec, b_dec = fitted(tiny_store)  # trained on 20 x, which the file forgot
    write_saelens(tmp_path / "scaled", (W_enc, b_enc, W_dec, 20 * b_dec))
    request = Request(str(tmp_path / "scaled"), "saelens", tmp_path / "run")
    with pytest.raises(UserError, match=r"likely cause: a lost scale: activations times \d+"):
        import_sae(request, tiny_store)
    given = Request(request.source, "saelens", tmp_path / "run", Given(input_scale=20.0))
    loaded = import_sae(given, tiny_store)
    assert loaded.run["results"]["fvu"] == pytest.approx(load_sae(run).run["results"]["fvu"], 1e-4)


def test_a_transposed_decoder_is_refused(tiny_store, tmp_path):
    W_enc, b_enc, W_dec, b_dec = fitted(tiny_store)
    write_saelens(tmp_path / "wide", (W_enc, b_enc, W_dec.T.copy(), b_dec))
    request = Request(str(tmp_path / "wide"), "saelens", tmp_path / "run")
    with pytest.raises(UserError, match="the decoder is transposed"):
        import_sae(request, tiny_store)
    half = (W_enc[:, :16], b_enc[:16], W_dec[:16].T.copy(), b_dec)  # square: no shape tells
    write_saelens(tmp_path / "square", half, k=16)
    request = Request(str(tmp_path / "square"), "saelens", tmp_path / "run")
    with pytest.raises(UserError, match="likely cause: the decoder is transposed"):
        import_sae(request, tiny_store)
    assert not (tmp_path / "run").exists()


def test_a_truncated_file_is_refused(published, tiny_store, tmp_path):
    for part in published.iterdir():
        (tmp_path / part.name).write_bytes(part.read_bytes())
    weights = tmp_path / "sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"is truncated: its header tells of [\d,]+ bytes"):
        import_sae(Request(str(tmp_path), "saelens", tmp_path / "run"), tiny_store)


def test_the_factor_by_hand():
    rng = np.random.default_rng(0)
    W = rng.normal(size=(64, 32)).astype(np.float32)
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    z = np.zeros((400, 64), np.float32)
    for row in z:
        row[rng.choice(64, 8, replace=False)] = rng.uniform(1, 3, 8)
    x = z @ W
    scan = find_k.scan_k(x, W.T.copy(), np.zeros(64, np.float32), W, np.zeros(32, np.float32))
    assert scan.k[:3] == [4, 8, 12]
    z_8 = np.where(x @ W.T >= np.sort(x @ W.T, 1)[:, -8:-7], np.maximum(x @ W.T, 0), 0)
    p = z_8 @ W
    assert scan.factor[1] == pytest.approx((p * x).sum() / (p * p).sum(), rel=1e-5)
    deviation = ((x - x.mean(0)) ** 2).sum()
    assert scan.fvu[1] == pytest.approx(((p - x) ** 2).sum() / deviation, rel=1e-5)
    made = find_k.Scan([16, 32, 64], [0.3, 0.2, 0.1], [1.1, 1.01, 0.9])
    assert (made.found("x"), round(made.crossing or 0)) == (32, 34)
    with pytest.raises(UserError, match="k can't be found"):
        find_k.Scan([4, 8], [1, 1], [0.5, 0.4]).found("x")


def test_k_that_nobody_says(zscored_run, tiny_store, tmp_path):
    source = zscored_run.run["imported"]["source"]
    request = Request(source, "interprot", tmp_path / "r", claims=Facts(token_dropout=True))
    with pytest.raises(UserError, match="give --k .* .its authors' has 64., or --find-k"):
        import_sae(request, tiny_store)


def call(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["convert", *map(str, words)])
    run_cli(convert.main)


def test_command_lines(published, tiny_store, tmp_path, monkeypatch, capsys):
    call(monkeypatch, "import", "--source", published, "--format", "saelens", "--activations",
         tiny_store.folder, "--out", tmp_path / "run", "--residues", 1000)  # fmt: skip
    assert "32 latents at block1 of tiny, k 4 (file), FVU 0." in capsys.readouterr().out
    call(monkeypatch, "export", "--run", tmp_path / "run", "--format", "plain", "--out",
         tmp_path / "plain", "--check", tiny_store.folder)  # fmt: skip
    assert "tiny at block1" in (tmp_path / "plain" / "README.md").read_text()
    for words, said in {
        ("explode",): "unknown command 'explode'",
        ("export", "--run", str(tmp_path / "run"), "--format", "plain", "--out",
         str(tmp_path / "plain")): "is there already",
    }.items():  # fmt: skip
        with pytest.raises(SystemExit, match="2"):
            call(monkeypatch, *words)
        assert said in capsys.readouterr().err


def test_info_shows_an_import(run, monkeypatch, capsys):
    from saejax import info

    monkeypatch.setattr(sys, "argv", ["info", str(run)])
    run_cli(info.main)
    shown = capsys.readouterr().out
    assert "saelens, " in shown
    assert "site: file, token dropout: store" in shown


def test_latents_command_refuses_what_does_not_reconstruct(run, tiny_store, tmp_path, monkeypatch):
    from saejax import latents

    record = json.loads((run / "run.json").read_text())
    for part in ("checkpoints", "latent_stats.parquet"):
        (tmp_path / "bad").mkdir(exist_ok=True)
        (tmp_path / "bad" / part).symlink_to(run / part)
    record["results"]["fvu"] = 0.01
    (tmp_path / "bad" / "run.json").write_text(json.dumps(record))
    words = ["latents", "--run", str(tmp_path / "bad"), "--activations", str(tiny_store.folder)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(UserError, match=r"recorded 0.010, at most 0.110 passes"):
        latents.main()
    monkeypatch.setattr(sys, "argv", [*words, "--no-check"])
    latents.main()
    assert ActivationStore.open(tiny_store.folder).n_rows == tiny_store.n_rows


def test_the_hub_needs_its_package_and_an_address(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as where it is not installed
    with pytest.raises(UserError, match="needs huggingface_hub .pip install huggingface_hub"):
        local_path("hf://owner/name/layer_4/ae_normalized.pt")
    with pytest.raises(UserError, match="give hf://owner/name, then @revision and /path"):
        local_path("hf://owner")
    assert str(local_path("some/folder")) == "some/folder"


def test_what_is_asked_of_the_hub(monkeypatch, tmp_path):
    """And a cache of links, as the package keeps it: a layer is still told by its folder."""
    asked = []

    def snapshot_download(repository, *, revision, allow_patterns):
        asked.append((repository, revision, allow_patterns))
        return str(tmp_path)

    case = references.interplm(tmp_path / "blobs")
    (tmp_path / "layer_4").mkdir()
    (tmp_path / "layer_4" / "ae_normalized.pt").symlink_to(case.path.rename(tmp_path / "a1b2"))
    hub, errors = types.ModuleType("huggingface_hub"), types.ModuleType("huggingface_hub.errors")
    vars(hub).update(snapshot_download=snapshot_download, errors=errors)
    vars(errors).update(HfHubHTTPError=OSError)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    with pytest.raises(UserError, match="InterPLM-esm2-8m has no layer_5; check the path in it"):
        local_path("hf://Elana/InterPLM-esm2-8m/layer_5")
    path = local_path("hf://Elana/InterPLM-esm2-8m@main/layer_4/ae_normalized.pt")
    assert asked[-1] == ("Elana/InterPLM-esm2-8m", "main", [
        "layer_4/ae_normalized.pt", "layer_4/ae_normalized.pt/*", "layer_4/config.json",
        "layer_4/cfg.json"])  # fmt: skip
    assert path.is_symlink()
    facts = read_published("interplm", path).facts
    assert facts == Facts("esm2_t6_8M_UR50D", "block4", True, "were left out of training")


def test_few_residues_are_enough_to_look_at(tiny_store):
    assert len(sample_rows(tiny_store, 50)) == 128
