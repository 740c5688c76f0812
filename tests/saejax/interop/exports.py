"""Runs of every kind that is exported."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

from saejax.architectures import ARCHITECTURES
from saejax.loaded_sae import LoadedSAE
from saejax.model import Constants
from saejax.sae_config import SAEConfig

KINDS = ("topk", "batchtopk", "matryoshka", "jumprelu", "gated", "relu", "zscored")
REFUSED = {("zscored", "dictionary_learning"), ("zscored", "sparsify")} | {
    (kind, "sparsify") for kind in KINDS if kind != "topk"
}
"""Kinds and formats that can't say them."""


def run_of(store, kind, d_sae=40):
    """A run, in memory, of random weights and biases, with the store's mean and scale."""
    architecture = "topk" if kind == "zscored" else kind
    prefixes = (10, d_sae) if kind == "matryoshka" else ()
    zscore = (1e-5, 0.0) if kind == "zscored" else None
    config = SAEConfig(16, d_sae, 5, 8, architecture, prefixes=prefixes, token_zscore=zscore)
    constants = Constants(store.mean, store.scale)
    sae = ARCHITECTURES[architecture](config, constants, rngs=nnx.Rngs(0)).for_inference(0.5)
    rng = np.random.default_rng(3)
    for name, size in {"b_enc": 0.1, "b_dec": 0.3}.items():
        value = getattr(sae, name)[...]
        getattr(sae, name)[...] = jnp.asarray(rng.normal(size=value.shape) * size, jnp.float32)
    record = {"store": store.manifest, "results": {"fvu": 0.25}}
    return LoadedSAE(Path(f"runs/{kind}"), sae, config, record)
