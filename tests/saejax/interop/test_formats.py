"""Every published format against its own definition: latents, reconstructions, facts."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from extract.errors import UserError
from saejax.interop import Facts, Given, read_published
from saejax.interop.importing import sae_of
from saejax.interop.published import site_of
from steering.torch_sae import TorchSAE
from tests.saejax.interop import references

pytestmark = pytest.mark.usefixtures("quick_compilation")
MANIFEST = {"parent": {}, "site": "block4", "d_model": 0}


@pytest.mark.parametrize("name", references.CASES)
def test_equals_its_definition(name, tmp_path):
    case = references.CASES[name](tmp_path)
    published = read_published(case.format_name, case.path, case.given)
    facts = published.facts
    assert (facts.model, facts.site, facts.token_dropout) == case.facts
    sae = sae_of(published)
    x = jnp.asarray(case.x)
    latents = np.asarray(sae.encode_dense(x))
    active = case.latents > 0
    assert 0 < active.mean() < 1
    np.testing.assert_array_equal(latents > 0, active)
    np.testing.assert_allclose(latents, case.latents, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(sae(x), case.x_hat, atol=1e-5, rtol=1e-5)
    names = ("W_enc", "b_enc", "W_dec", "b_dec", "mean", "scale", "threshold")
    arrays = {n: np.asarray(getattr(sae, n)[...]) for n in names if hasattr(sae, n)}
    torch_sae = TorchSAE(arrays, sae.config.k, MANIFEST, name=name,
                         token_zscore=sae.config.token_zscore)  # fmt: skip
    found = torch_sae(torch.from_numpy(case.x))
    np.testing.assert_allclose(found, case.x_hat, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("bionemo topk", Given(), "give --variant topk or relu, and --token-zscore"),
        ("esmc", Given(), "no such file"),
    ],
)
def test_what_a_file_leaves_open_is_demanded(name, given, words, tmp_path):
    case = references.CASES[name](tmp_path)
    path = case.path if name != "esmc" else tmp_path / "layer_31.safetensors"
    with pytest.raises(UserError, match=words):
        read_published(case.format_name, path, given)


def test_a_format_is_never_guessed(tmp_path):
    case = references.CASES["esmc"](tmp_path)
    with pytest.raises(UserError, match=r"has no 'w_enc' .* give that one's name with --format"):
        read_published("interprot", case.path)
    with pytest.raises(UserError, match="unknown format 'gguf'"):
        read_published("gguf", case.path)


def test_an_unknown_array_is_not_dropped_in_silence(tmp_path):
    case = references.interplm(tmp_path)
    arrays = torch.load(case.path, weights_only=True) | {"W_skip": torch.zeros(2, 2)}
    torch.save(arrays, case.path)
    with pytest.raises(UserError, match="has 'W_skip', which this format does not know"):
        read_published("interplm", case.path)


def test_interplm_of_newer_versions(tmp_path):
    case = references.interplm(tmp_path)
    arrays = torch.load(case.path, weights_only=True)
    arrays |= {"activation_rescale_factor": torch.ones(10240)}
    torch.save(arrays | {"normalize_to_sqrt_d": torch.tensor(False)}, case.path)
    np.testing.assert_allclose(sae_of(read_published("interplm", case.path))(case.x), case.x_hat,
                               atol=1e-5, rtol=1e-5)  # fmt: skip
    torch.save(arrays | {"normalize_to_sqrt_d": torch.tensor(True)}, case.path)
    with pytest.raises(UserError, match="scales every residue to the norm √d"):
        read_published("interplm", case.path)


def saelens_with(folder, **changes):
    references.saelens(folder, "topk")
    path = folder / "cfg.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "temporal"}, "architecture 'temporal' can't be imported"),
        ({"normalize_activations": "expected_average_only_in"}, "give it with --input-scale"),
        ({"normalize_activations": "constant_norm_rescale"}, "can't be carried"),
        ({"reshape_activations": "hook_z"}, "attention heads"),
        ({"d_in": 512, "d_sae": 96}, "the encoder is transposed"),
        ({"k": "many"}, "k .'many'. must be a whole number"),
        ({"k": 1000}, r"k \(1000\) must be 1 to d_sae \(512\)"),
    ],
)
def test_saelens_that_cannot_be_carried(changes, words, tmp_path):
    with pytest.raises(UserError, match=words):
        read_published("saelens", saelens_with(tmp_path, **changes))


def test_a_lost_scale_can_be_given(tmp_path):
    folder = saelens_with(tmp_path, normalize_activations="expected_average_only_in")
    published = read_published("saelens", folder, Given(input_scale=2.0))
    assert published.facts == Facts("esm2_t6_8M_UR50D", "block4")


@pytest.mark.parametrize("change", [{"transcode": True}, {"skip_connection": True},
                                    {"activation": "groupmax"}])  # fmt: skip
def test_sparsify_that_cannot_be_carried(change, tmp_path):
    path = references.sparsify(tmp_path).path / "cfg.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match="only autoencoders with topk and no skip connection"):
        read_published("sparsify", path.parent)


def test_openai_with_negative_latents_is_refused(tmp_path):
    path = references.openai(tmp_path).path
    state = torch.load(path, weights_only=True)
    state["activation_state_dict"]["postact_fn"] = "Identity"
    torch.save(state, path)
    with pytest.raises(UserError, match="'TopK' with 'Identity'"):
        read_published("openai", path)


def test_an_unfinished_threshold_is_refused(tmp_path):
    folder = references.dictionary_learning(tmp_path, "BatchTopKSAE").path
    state = torch.load(folder / "ae.pt", weights_only=True)
    torch.save(state | {"threshold": torch.tensor(-1.0)}, folder / "ae.pt")
    with pytest.raises(UserError, match="threshold is -1"):
        read_published("dictionary_learning", folder)


def old_saelens(folder, **changes):
    """A file from before 6.0.0: no metadata apart, other names."""
    case = references.saelens(folder, "topk")
    path = folder / "cfg.json"
    new = json.loads(path.read_text())
    metadata, k = new.pop("metadata"), new.pop("k")
    del new["architecture"], new["reshape_activations"]
    old = new | {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": k},
                 "hook_point": metadata["hook_name"], "model_name": metadata["model_name"],
                 "normalize_activations": False, "prepend_bos": True}  # fmt: skip
    path.write_text(json.dumps(old | changes))
    return case


def test_saelens_of_before_6(tmp_path):
    case = old_saelens(tmp_path)
    published = read_published("saelens", tmp_path)
    assert published.k == 16  # and not the ReLU that "no architecture" would be
    assert published.facts == Facts("esm2_t6_8M_UR50D", "block4", None,
                                    "were among the training tokens")  # fmt: skip
    np.testing.assert_allclose(sae_of(published)(case.x), case.x_hat, atol=1e-5)
    for changes, words in {
        ("activation_fn_str", "tanh-relu"): "activation_fn 'tanh-relu' can't be imported",
        ("normalize_activations", True): "give it with --input-scale",
        ("hook_point", "blocks.3.attn.hook_z"): "is for attention heads",
    }.items():
        old_saelens(tmp_path, **dict([changes]))
        with pytest.raises(UserError, match=words):
            read_published("saelens", tmp_path)


def test_saelens_log_threshold(tmp_path):
    case = references.saelens(tmp_path, "jumprelu")
    arrays = load_file(tmp_path / "sae_weights.safetensors")
    arrays["log_threshold"] = np.log(arrays.pop("threshold"))
    save_file(arrays, tmp_path / "sae_weights.safetensors")
    np.testing.assert_allclose(sae_of(read_published("saelens", tmp_path))(case.x), case.x_hat,
                               atol=1e-4)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("blocks.3.hook_resid_post", "block4"), ("blocks.3.hook_resid_pre", "block3"),
        ("esm.encoder.layer.3", "block4"), ("encoder.layer.3.output", "block4"),
        ("layers.0", "block1"), ("resid_post_layer_3", "block4"), (None, None), ("", None),
        ("blocks.3.hook_mlp_out", "blocks.3.hook_mlp_out"), ("layers.3.mlp", "layers.3.mlp"),
        ("blocks.3.hook_resid_mid", "blocks.3.hook_resid_mid"), (7, None),
    ],
)  # fmt: skip
def test_sites_that_others_name(name, site):
    assert site_of(name) == site


def test_a_sparsify_folder_of_the_users_own_names_no_site(tmp_path):
    folder = references.sparsify(tmp_path).path
    assert read_published("sparsify", folder.rename(tmp_path / "mine_v1.2")).facts.site is None
    other = (tmp_path / "mine_v1.2").rename(tmp_path / "layers.3.mlp")
    assert read_published("sparsify", other).facts.site == "layers.3.mlp"
