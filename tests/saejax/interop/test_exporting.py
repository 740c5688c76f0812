"""What is exported is the same SAE, in each format that can say it; the others are refused."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from extract.errors import UserError
from saejax.interop import EXPORT_FORMATS, Facts, read_published, write_published
from saejax.interop.importing import sae_of
from tests.saejax.interop.exports import KINDS, REFUSED, run_of
from tests.saejax.interop.references import relu, rows, top_k, zscore

pytestmark = pytest.mark.usefixtures("quick_compilation")
X = rows(16)


def definition(format_name, folder, x):
    """x̂ by the format's equations, from its files alone."""
    if format_name == "dictionary_learning":
        state = torch.load(folder / "ae.pt", weights_only=True)
        a = {name: tensor.double().numpy() for name, tensor in state.items()}
        if "encoder.weight" in a:
            z = top_k(relu((x - a["b_dec"]) @ a["encoder.weight"].T + a["encoder.bias"]),
                      int(a["k"]))  # fmt: skip
            return z @ a["decoder.weight"].T + a["b_dec"]
        h = x @ a["W_enc"] + a["b_enc"]
        return relu(h * (h > a["threshold"])) @ a["W_dec"] + a["b_dec"]
    name, config_name = {"saelens": ("sae_weights", "cfg"), "sparsify": ("sae", "cfg"),
                         "plain": ("sae", "config")}[format_name]  # fmt: skip
    a = {k: v.astype(float) for k, v in load_file(folder / f"{name}.safetensors").items()}
    config = json.loads((folder / f"{config_name}.json").read_text())
    mu, s = zscore(x)
    if format_name == "sparsify":
        z = top_k(relu((x - a["b_dec"]) @ a["encoder.weight"].T + a["encoder.bias"]), config["k"])
        return z @ a["W_dec"] + a["b_dec"]
    zscored = config.get("token_zscore") or config.get("normalize_activations") == "layer_norm"
    seen = (x - mu) / (s + 1e-5) if zscored else x
    mean, scale = a.get("mean", 0), a.get("scale", 1)
    h = (scale * (seen - mean) - a["b_dec"]) @ a["W_enc"] + a["b_enc"]
    z = relu(h) * (h > a["threshold"]) if "threshold" in a else relu(top_k(h, config["k"]))
    x_hat = (z @ a["W_dec"] + a["b_dec"]) / scale + mean
    return x_hat * s + mu if zscored else x_hat


@pytest.mark.parametrize(
    ("kind", "format_name"),
    [(k, f) for k in KINDS for f in EXPORT_FORMATS if (k, f) not in REFUSED],
)
def test_an_export_is_the_same_sae(kind, format_name, tiny_store, tmp_path):
    loaded = run_of(tiny_store, kind)
    assert abs(loaded.arrays()["mean"]).min() > 0
    assert loaded.arrays()["scale"] != 1
    folder = tmp_path / "out"
    write_published(format_name, loaded, folder)
    ours = np.asarray(loaded.sae(X))
    np.testing.assert_allclose(definition(format_name, folder, X.astype(float)), ours, atol=1e-5)
    published = read_published(format_name, folder)
    again = sae_of(published)
    np.testing.assert_allclose(again(X), ours, atol=1e-5)
    active = np.asarray(loaded.sae.encode_dense(X)) > 0
    np.testing.assert_array_equal(np.asarray(again.encode_dense(X)) > 0, active)
    sha = tiny_store.manifest["parent"]["weights"]["encoder_sha256"]
    assert published.facts == Facts("tiny", "block1", True, "were left out of training", sha)
    card = (folder / "README.md").read_text()
    assert "tiny at block1" in card
    assert "FVU: 0.25" in card


@pytest.mark.parametrize(("kind", "format_name"), sorted(REFUSED))
def test_what_a_format_cannot_say_is_refused(kind, format_name, tiny_store, tmp_path):
    words = "z-scores every residue" if kind == "zscored" else "fire above thresholds"
    with pytest.raises(UserError, match=words):
        write_published(format_name, run_of(tiny_store, kind), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_other_refusals(tiny_store, tmp_path):
    loaded = run_of(tiny_store, "topk")
    config = dataclasses.replace(loaded.config, d_out=16)
    with pytest.raises(UserError, match="is a transcoder"):
        write_published("plain", dataclasses.replace(loaded, config=config), tmp_path / "out")
    config = dataclasses.replace(loaded.config, token_zscore=(1e-5, 1e-5))
    with pytest.raises(UserError, match="undoes its z-score with ε = 1e-05"):
        write_published("saelens", dataclasses.replace(loaded, config=config), tmp_path / "out")
    with pytest.raises(UserError, match="unknown format 'gguf'; known: saelens"):
        write_published("gguf", loaded, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_saelens_metadata_says_where_it_belongs(tiny_store, tmp_path):
    write_published("saelens", run_of(tiny_store, "topk"), tmp_path / "out")
    config = json.loads((tmp_path / "out" / "cfg.json").read_text())
    metadata = config.pop("metadata")
    assert config == {
        "d_in": 16, "d_sae": 40, "dtype": "float32", "device": "cpu", "apply_b_dec_to_input": True,
        "normalize_activations": "none", "reshape_activations": "none", "architecture": "topk",
        "k": 5, "rescale_acts_by_decoder_norm": False,
    }  # fmt: skip
    assert (metadata["model_name"], metadata["hook_name"]) == ("tiny", "blocks.0.hook_resid_post")
    assert int(metadata["sae_lens_version"].split(".")[0]) >= 6
