"""Our own plain form: ``config.json``, ``sae.safetensors`` and a model card; nothing is folded.

::

    n = activation, or its z-score (μ, σ of each residue) with token_zscore (ε, ε′)
    x = scale · (n − mean);   h = (x − b_dec) W_enc + b_enc
    z = ReLU(TopK_k(h)),  or with threshold  z = h · 1[h > θ]
    x̂ = (z W_dec + b_dec) / scale + mean,  and with token_zscore  · (σ + ε′) + μ
"""

from __future__ import annotations

import json
from pathlib import Path

from extract.errors import UserError
from extract.files import write_atomically
from saejax.interop.exported import Exported
from saejax.interop.files import (
    read_arrays,
    read_config,
    real_number,
    require_keys,
    whole_number,
)
from saejax.interop.published import Facts, Given, Published, matrix, vector

CONFIG, WEIGHTS, KIND = "config.json", "sae.safetensors", "saejax sparse autoencoder"
ARRAYS = ("W_enc", "b_enc", "W_dec", "b_dec", "mean", "scale")


def read(path: Path, given: Given) -> Published:
    """Read a folder.

    Raises:
        UserError: it is not of this format.
    """
    del given
    folder = path if path.is_dir() else path.parent
    config_path, path = folder / CONFIG, folder / WEIGHTS
    config = read_config(config_path, "a plain SAE")
    if config.get("kind") != KIND:
        raise UserError(f"{config_path}: kind is {config.get('kind')!r:.40}, not {KIND!r}; it is "
                        "of another format")  # fmt: skip
    if config.get("selection") not in ("topk", "threshold"):
        raise UserError(f"{config_path}: selection is {config.get('selection')!r:.40}, neither "
                        "'topk' nor 'threshold'; it is of a newer version")  # fmt: skip
    top_k = config["selection"] == "topk"
    arrays = read_arrays(path)
    require_keys(path, arrays, ARRAYS if top_k else (*ARRAYS, "threshold"))
    zscore = config.get("token_zscore")
    if zscore is not None and not (isinstance(zscore, list) and len(zscore) == 2):
        raise UserError(f"{config_path}: token_zscore ({zscore!r:.40}) must be two numbers")
    return Published(
        path,
        matrix(arrays, "W_enc", path),
        vector(arrays, "b_enc", path),
        matrix(arrays, "W_dec", path),
        vector(arrays, "b_dec", path),
        Facts.told(config.get("facts"), config_path),
        k=whole_number(config.get("k"), config_path, "k") if top_k else None,
        threshold=None if top_k else vector(arrays, "threshold", path),
        token_zscore=None
        if zscore is None
        else (
            real_number(zscore[0], config_path, "token_zscore"),
            real_number(zscore[1], config_path, "token_zscore"),
        ),
        mean=vector(arrays, "mean", path),
        scale=real_number(arrays["scale"], path, "scale"),
    )


def write(exported: Exported, folder: Path) -> None:
    """Write a folder with arrays as they are."""
    e = exported
    arrays = {name: e.arrays[name] for name in ARRAYS}
    if e.threshold is not None:
        arrays["threshold"] = e.threshold
    e.save_safetensors(folder / WEIGHTS, arrays)
    config = {
        "kind": KIND,
        "d_model": e.W_enc.shape[0],
        "d_sae": e.W_enc.shape[1],
        "selection": "topk" if e.threshold is None else "threshold",
        "k": e.k,
        "token_zscore": e.token_zscore,
        "facts": vars(e.facts),
        "results": e.results,
    }
    text = json.dumps(config, indent=1)
    write_atomically(folder / CONFIG, lambda f: f.write(text.encode()))
