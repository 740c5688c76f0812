"""An SAE that does reconstruct the tiny store, in several published formats."""

import numpy as np
import pytest

from tests.helpers import make_store, random_proteins
from tests.saejax.interop.writing import write_safetensors


@pytest.fixture(scope="session")
def other_site(tmp_path_factory):
    """The proteins of ``tiny_store`` at another site of the same parent."""
    proteins = random_proteins(60, 30, 120)
    return make_store(tmp_path_factory.mktemp("sites") / "final", proteins, site="final")


def fitted(store):
    """W_enc, b_enc, W_dec, b_dec: ± the principal directions of a store, orthonormal."""
    x = store.read(0, store.n_rows)
    mean = x.mean(axis=0)
    _, _, directions = np.linalg.svd(x - mean, full_matrices=False)
    W_dec = np.concatenate([directions, -directions]).astype(np.float32)
    return W_dec.T.copy(), np.zeros(len(W_dec), np.float32), W_dec, mean


K = 4
"""Of the store's 16 dimensions."""


@pytest.fixture(scope="session")
def published(tiny_store, tmp_path_factory):
    """Folder of a SAELens SAE of the tiny store."""
    folder = tmp_path_factory.mktemp("published") / "saelens"
    write_saelens(folder, fitted(tiny_store))
    return folder


def write_saelens(folder, arrays, **changes):
    """A SAELens top-k SAE."""
    W_enc, b_enc, W_dec, b_dec = arrays
    config = {
        "architecture": "topk", "d_in": W_enc.shape[0], "d_sae": W_enc.shape[1], "k": K,
        "dtype": "float32", "device": "cpu", "apply_b_dec_to_input": True,
        "normalize_activations": "none", "reshape_activations": "none",
        "rescale_acts_by_decoder_norm": False,
        "metadata": {"sae_lens_version": "6.54.12", "model_name": "tiny",
                     "hook_name": "blocks.0.hook_resid_post"},
    } | changes  # fmt: skip
    write_safetensors(folder / "sae_weights.safetensors", {
        "W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, "b_dec": b_dec,
    }, config, "cfg.json")  # fmt: skip
