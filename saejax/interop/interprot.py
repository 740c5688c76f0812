"""InterProt: TopK SAEs of ESM2-650M, ``esm2_plm1280_l24_sae4096.safetensors``.

::

    μ = mean(x), s = std(x) of each residue;   n = (x − μ) / (s + 1e-5)
    a = ReLU(TopK_k((n − b_pre) w_enc + b_enc));   x̂ = (a w_dec + b_pre) · s + μ

The file does not say k; its authors' have 64, ``_100k`` 128. Layer N is the residual stream after
block N, N = 33 before the final LayerNorm. Token dropout was off.
"""

from __future__ import annotations

import re
from pathlib import Path

from extract.errors import UserError
from saejax.interop.files import read_arrays, require_keys
from saejax.interop.published import Facts, Given, Published, matrix, vector

TOKEN_ZSCORE = (1e-5, 0.0)
D_MODEL, MODEL = 1280, "esm2_t33_650M_UR50D"


def read(path: Path, given: Given) -> Published:
    """Read a file.

    Raises:
        UserError: it is not of this format.
    """
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give one layer's .safetensors file in it")
    arrays = read_arrays(path)
    require_keys(path, arrays, ("w_enc", "w_dec", "b_enc", "b_pre"), ("stats_last_nonzero",))
    W_enc = matrix(arrays, "w_enc", path)
    layer = re.search(r"_l(\d+)_", path.name)
    facts = Facts(
        model=MODEL if len(W_enc) == D_MODEL else None,
        site=f"block{int(layer[1])}" if layer else None,
        token_dropout=False,
        special_tokens="were among the training tokens",
    )
    return Published(
        path, W_enc, vector(arrays, "b_enc", path), matrix(arrays, "w_dec", path),
        vector(arrays, "b_pre", path), facts, k=given.k, token_zscore=TOKEN_ZSCORE,
        notes={"k_published": 128 if "_100k" in path.stem else 64},
    )  # fmt: skip
