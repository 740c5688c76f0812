"""EleutherAI sparsify: a folder, named after its hookpoint, with ``cfg.json`` and ``sae.safetensors``.

::

    z = TopK_k(ReLU((x − b_dec) Wᵀ + b));   x̂ = z W_dec + b_dec

``W_dec`` is [num_latents, d_in]. Transcoders, skip connections and groupmax have no place here.
"""  # noqa: E501

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from extract.errors import UserError
from extract.files import write_atomically
from saejax.interop.exported import Exported
from saejax.interop.files import read_arrays, read_config, require_keys, whole_number
from saejax.interop.published import Facts, Given, Published, matrix, site_of, vector

CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"
MODULE = re.compile(r"\b(layers?|h|blocks)\.\d+")
"""In a folder's name that is a hookpoint, and not one of a user's own."""


def read(path: Path, given: Given) -> Published:
    """Read a folder.

    Raises:
        UserError: it is not of this format, or does what can't be carried.
    """
    del given
    folder = path if path.is_dir() else path.parent
    config_path, path = folder / CONFIG, folder / WEIGHTS
    config = read_config(config_path, "a sparsify SAE")
    for name, value in {"transcode": False, "skip_connection": False, "activation": "topk"}.items():
        if config.get(name, value) != value:
            raise UserError(f"{config_path}: {name} is {config[name]!r:.40}; only autoencoders "
                            "with topk and no skip connection can be imported")  # fmt: skip
    arrays = read_arrays(path)
    require_keys(path, arrays, ("encoder.weight", "encoder.bias", "W_dec", "b_dec"))
    W_enc = matrix(arrays, "encoder.weight", path, turn=True)
    if len(W_enc) != config.get("d_in"):
        raise UserError(f"{config_path}: d_in is {config.get('d_in')!r:.40}, the encoder takes "
                        f"{len(W_enc)}: it is transposed, or another SAE's file")  # fmt: skip
    return Published(
        path, W_enc, vector(arrays, "encoder.bias", path), matrix(arrays, "W_dec", path),
        vector(arrays, "b_dec", path), _facts(config, folder),
        k=whole_number(config.get("k"), config_path, "k"),
    )  # fmt: skip


def _facts(config: dict[str, Any], folder: Path) -> Facts:
    if "saejax" in config:
        return Facts.told(config["saejax"], folder / CONFIG)
    hookpoint = folder.absolute().name
    return Facts(site=site_of(hookpoint) if MODULE.search(hookpoint) else None)


def write(exported: Exported, folder: Path) -> None:
    """Write a folder that ``SparseCoder.load_from_disk`` reads.

    Raises:
        UserError: latents above a threshold or a z-score, which it has not.
    """
    e = exported
    e.refuse_zscore("sparsify")
    if e.threshold is not None:
        raise UserError(f"{e.name}: its latents fire above thresholds; sparsify has top-k alone, "
                        "so nothing equal can be written: export to saelens or plain")  # fmt: skip
    e.save_safetensors(folder / WEIGHTS, {"encoder.weight": e.W_enc.T, "encoder.bias": e.b_enc,
                                          "W_dec": e.W_dec, "b_dec": e.b_dec})  # fmt: skip
    config = {
        "activation": "topk",
        "expansion_factor": max(1, e.W_enc.shape[1] // e.W_enc.shape[0]),
        "normalize_decoder": False,
        "num_latents": e.W_enc.shape[1],
        "k": e.k,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": False,
        "d_in": e.W_enc.shape[0],
        "saejax": vars(e.facts),
    }
    text = json.dumps(config, indent=1)
    write_atomically(folder / CONFIG, lambda f: f.write(text.encode()))
