"""plm-sae: ReLU SAEs of ESM2-8M after its fourth block, ``.pt`` or ``model.safetensors``.

::

    a = ReLU((x − b_dec) W_enc + b_enc);   x̂ = a W_dec + b_dec

Trained through Hugging Face's ESM2 (token dropout on), with BOS and EOS among the tokens.
"""

from __future__ import annotations

from pathlib import Path

from saejax.interop.files import read_arrays, require_keys, weights_file
from saejax.interop.published import Facts, Given, Published, matrix, same_threshold, vector

FACTS = Facts("esm2_t6_8M_UR50D", "block4", True, "were among the training tokens")


def read(path: Path, given: Given) -> Published:
    """Read a file, or a folder with ``model.safetensors``.

    Raises:
        UserError: it is not of this format.
    """
    del given
    path = weights_file(path, "model.safetensors")
    arrays = read_arrays(path)
    require_keys(path, arrays, ("W_enc", "W_dec", "b_enc", "b_dec"))
    W_enc = matrix(arrays, "W_enc", path)
    return Published(
        path, W_enc, vector(arrays, "b_enc", path), matrix(arrays, "W_dec", path),
        vector(arrays, "b_dec", path), FACTS, threshold=same_threshold(0.0, W_enc),
    )  # fmt: skip
