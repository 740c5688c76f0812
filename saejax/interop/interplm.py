"""InterPLM: ReLU SAEs of ESM2-8M and 650M, ``layer_N/ae_normalized.pt`` and ``ae_unnormalized.pt``.

::

    f = ReLU((x − bias) Wᵀ + b);   x̂ = f Dᵀ + bias

``normalized`` has latents scaled to a maximum of 1 in the weights themselves, so both are read the
same way. Newer files have ``activation_rescale_factor``, which changes neither f nor x̂, and say
``normalize_to_sqrt_d``. Layer N is after block N; the last is after the final LayerNorm. Token
dropout was on, BOS and EOS were left out.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from extract.errors import UserError
from saejax.interop.files import read_arrays, require_keys
from saejax.interop.published import Facts, Given, Published, matrix, same_threshold, vector

PARENTS = {320: ("esm2_t6_8M_UR50D", 6), 1280: ("esm2_t33_650M_UR50D", 33)}
"""By d_model: name, blocks."""
NEWER = ("activation_rescale_factor", "normalize_to_sqrt_d")


def read(path: Path, given: Given) -> Published:
    """Read a file.

    Raises:
        UserError: it is not of this format.
    """
    del given
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give ae_normalized.pt or ae_unnormalized.pt in it")
    arrays = read_arrays(path)
    require_keys(path, arrays, ("bias", "encoder.weight", "encoder.bias", "decoder.weight"), NEWER)
    if np.any(arrays.get("normalize_to_sqrt_d", False)):
        raise UserError(f"{path}: scales every residue to the norm √d (normalize_to_sqrt_d), which "
                        "can't be carried; choose one without it")  # fmt: skip
    W_enc = matrix(arrays, "encoder.weight", path, turn=True)
    name, n_blocks = PARENTS.get(len(W_enc), (None, None))
    layer = re.fullmatch(r"layer_(\d+)", path.absolute().parent.name)
    site = None
    if layer is not None:
        site = "final" if int(layer[1]) == n_blocks else f"block{int(layer[1])}"
    return Published(
        path, W_enc, vector(arrays, "encoder.bias", path),
        matrix(arrays, "decoder.weight", path, turn=True), vector(arrays, "bias", path),
        Facts(name, site, token_dropout=True, special_tokens="were left out of training"),
        threshold=same_threshold(0.0, W_enc), notes={"variant": path.stem},
    )  # fmt: skip
