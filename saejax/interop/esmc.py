"""Biohub's SAEs of ESMC: ``config.json`` (d_model, codebook_dim, k) and ``layer_i.safetensors``.

::

    n = (x − μ) / (s + 1e-5) of each residue;   f = TopK_k(ReLU((n − b_dec) W_enc))
    x̂ = (f W_dec + b_dec) (s + 1e-5) + μ

Layer i is the input of block i counted from 0: what follows block i counted from 1. ``idf`` and
``max`` (of each latent on the authors' data) take no part in it.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from extract.errors import UserError
from saejax.interop.files import read_arrays, read_config, require_keys, whole_number
from saejax.interop.published import Facts, Given, Published, matrix, vector

TOKEN_ZSCORE = (1e-5, 1e-5)


def read(path: Path, given: Given) -> Published:
    """Read a layer's file, with ``config.json`` beside it.

    Raises:
        UserError: it is not of this format, or config and file disagree.
    """
    del given
    if path.is_dir():
        layers = sorted(p.name for p in path.glob("layer_*.safetensors"))
        raise UserError(f"{path}: is a folder; give one of {', '.join(layers) or 'its layers'}")
    config_path = path.parent / "config.json"
    config = read_config(config_path, "an ESMC SAE")
    arrays = read_arrays(path)
    require_keys(path, arrays, ("W_enc", "W_dec", "b_dec"), ("idf", "max"))
    require_keys(config_path, config, ("d_model", "codebook_dim", "k"), config)
    W_enc = matrix(arrays, "W_enc", path)
    sizes = (whole_number(config["d_model"], config_path, "d_model"),
             whole_number(config["codebook_dim"], config_path, "codebook_dim"))  # fmt: skip
    if W_enc.shape != sizes:
        raise UserError(f"{path}: W_enc is {list(W_enc.shape)}, config.json says {list(sizes)}: it "
                        "is transposed, or one of the files is another SAE's")  # fmt: skip
    layer = re.fullmatch(r"layer_(\d+)", path.stem)
    site = f"block{int(layer[1])}" if layer else None
    return Published(
        path, W_enc, np.zeros(W_enc.shape[1], np.float32), matrix(arrays, "W_dec", path),
        vector(arrays, "b_dec", path), Facts(site=site, token_dropout=False),
        k=whole_number(config["k"], config_path, "k"), token_zscore=TOKEN_ZSCORE,
    )  # fmt: skip
