"""OpenAI's sparse_autoencoder, a ``.pt`` state dict, and what NVIDIA BioNeMo made of it.

::

    TopK:  n = (x − μ) / (s + 1e-5) of each row;   z = ReLU(TopK_k((n − pre_bias) Wᵀ + latent_bias))
           x̂ = (z Dᵀ + pre_bias) · s + μ
    ReLU:  z = ReLU((x − pre_bias) Wᵀ + latent_bias);   x̂ = z Dᵀ + pre_bias

OpenAI's file names the activation, and the z-score goes with TopK, as in its loader. BioNeMo's
``checkpoint_final.pt`` (``model_state_dict``) names neither the activation nor k nor whether it
normalises: they must be given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from extract.errors import UserError
from saejax.interop.files import read_arrays, require_keys, weights_file, whole_number
from saejax.interop.published import Facts, Given, Published, matrix, same_threshold, vector

TOKEN_ZSCORE = (1e-5, 0.0)
NEEDED = ("pre_bias", "latent_bias", "encoder.weight", "decoder.weight")
STATISTICS = ("stats_last_nonzero", "latents_activation_frequency", "latents_mean_square")
"""Of training; they take no part in it."""


def read(path: Path, given: Given) -> Published:
    """Read OpenAI's file.

    Raises:
        UserError: it is not of this format, or has an activation that lets negative values pass.
    """
    arrays = read_arrays(path)
    tied = arrays.pop("decoder.linear.weight", None)
    if tied is not None:
        arrays["decoder.weight"] = np.asarray(tied).T
    require_keys(path, arrays, NEEDED, (*STATISTICS, "activation", "activation_state_dict"))
    if tied is not None and not np.array_equal(tied, arrays["encoder.weight"]):
        raise UserError(f"{path}: its decoder is tied to its encoder, but their weights differ: it "
                        "is damaged")  # fmt: skip
    kind, state = arrays.get("activation", "ReLU"), arrays.get("activation_state_dict", {})
    if isinstance(kind, str) and kind == "ReLU":
        return _published(path, arrays, None, normalized=False)
    after = state.get("postact_fn") if isinstance(state, dict) else None
    if not (isinstance(kind, str) and kind == "TopK" and after == "ReLU"):
        raise UserError(
            f"{path}: its activation is {kind!r:.40} with {after!r:.40}; only TopK with ReLU, and "
            "ReLU, have non-negative latents that can be carried"
        )
    k = whole_number(state.get("k", given.k), path, "k")
    return _published(path, arrays, k, normalized=True)


def read_bionemo(path: Path, given: Given) -> Published:
    """Read BioNeMo's checkpoint.

    Raises:
        UserError: it is not of this format, or ``given`` leaves open what it does not say.
    """
    path = weights_file(path, "checkpoint_final.pt")
    checkpoint = read_arrays(path)
    if not isinstance(checkpoint.get("model_state_dict"), dict):
        raise UserError(f"{path}: has no model_state_dict; it is no BioNeMo checkpoint")
    arrays = checkpoint["model_state_dict"]
    require_keys(path, arrays, NEEDED, STATISTICS)
    if given.variant not in ("topk", "relu") or given.token_zscore is None:
        raise UserError(
            f"{path}: does not say what its activation and normalisation are; give --variant topk "
            "or relu, and --token-zscore or --no-token-zscore, as its training was configured"
        )
    return _published(path, arrays, given.k, given.token_zscore, given.variant == "relu")


def _published(
    path: Path,
    arrays: dict[str, Any],
    k: int | None,
    normalized: bool,
    relu: bool | None = None,
) -> Published:
    W_enc = matrix(arrays, "encoder.weight", path, turn=True)
    relu = k is None if relu is None else relu
    return Published(
        path, W_enc, vector(arrays, "latent_bias", path),
        matrix(arrays, "decoder.weight", path, turn=True), vector(arrays, "pre_bias", path),
        Facts(), k=None if relu else k,
        threshold=same_threshold(0.0, W_enc) if relu else None,
        token_zscore=TOKEN_ZSCORE if normalized else None,
    )  # fmt: skip
