"""dictionary_learning (0.1.0): a folder with ``ae.pt`` and ``config.json``.

``config.json`` → ``trainer.dict_class`` says which class it is; x is what the class is given::

    AutoEncoder            z = ReLU((x − bias) Wᵀ + b);           x̂ = z Dᵀ + bias
    AutoEncoderNew         z = ReLU(x Wᵀ + b);                    x̂ = z Dᵀ + decoder.bias
    GatedAutoEncoder       u = (x − decoder_bias) Wᵀ;  z = 1[u + gate_bias > 0] ReLU(e^r u + mag_bias)
    JumpReluAutoEncoder    h = x W_enc + b_enc, z = h · 1[h > θ]; x̂ = z W_dec + b_dec
    AutoEncoderTopK        z = TopK_k(ReLU((x − b_dec) Wᵀ + b));  x̂ = z Dᵀ + b_dec
    BatchTopKSAE           z = h · 1[h > θ], one θ;               the same
    MatryoshkaBatchTopKSAE the same, with W_enc and W_dec

The factor that its buffer divides activations by is in no file: give it with --input-scale if
training normalised them and did not scale the biases back.
"""  # noqa: E501

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

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
from saejax.interop.published import (
    Facts,
    Given,
    Published,
    gated_as_threshold,
    matrix,
    model_of,
    require_shapes,
    same_threshold,
    site_of,
    unbiased,
    vector,
)

LINEAR = ("encoder.weight", "encoder.bias", "decoder.weight")
PLAIN = ("W_enc", "b_enc", "W_dec", "b_dec")
KEYS = {
    "AutoEncoder": (*LINEAR, "bias"),
    "AutoEncoderNew": (*LINEAR, "decoder.bias"),
    "GatedAutoEncoder": (
        "encoder.weight", "decoder.weight", "decoder_bias", "r_mag", "gate_bias", "mag_bias",
    ),
    "JumpReluAutoEncoder": (*PLAIN, "threshold"),
    "AutoEncoderTopK": (*LINEAR, "b_dec", "k"),
    "BatchTopKSAE": (*LINEAR, "b_dec", "k", "threshold"),
    "MatryoshkaBatchTopKSAE": (*PLAIN, "k", "threshold", "group_sizes"),
}  # fmt: skip
BIAS = {"AutoEncoder": "bias", "AutoEncoderNew": "decoder.bias", "GatedAutoEncoder": "decoder_bias"}


def read(path: Path, given: Given) -> Published:
    """Read a folder, or its ``ae.pt`` with ``--variant`` for the class.

    Raises:
        UserError: it is not of this format, or was never finished.
    """
    folder = path if path.is_dir() else path.parent
    path = folder / "ae.pt" if path.is_dir() else path
    config_path, trainer = folder / "config.json", {}
    if given.variant is None or config_path.exists():
        trainer = read_config(config_path, "a dictionary_learning SAE").get("trainer")
        trainer = trainer if isinstance(trainer, dict) else {}
    kind = given.variant or trainer.get("dict_class")
    if not isinstance(kind, str) or kind not in KEYS:
        raise UserError(f"{config_path}: dict_class {kind!r:.40} can't be imported; "
                        f"{', '.join(KEYS)} can")  # fmt: skip
    arrays = read_arrays(path)
    require_keys(path, arrays, KEYS[kind], ("threshold",) if kind == "AutoEncoderTopK" else ())
    linear = "encoder.weight" in arrays
    W_enc = matrix(arrays, "encoder.weight" if linear else "W_enc", path, turn=linear)
    W_dec = matrix(arrays, "decoder.weight" if linear else "W_dec", path, turn=linear)
    b_dec = vector(arrays, BIAS.get(kind, "b_dec"), path)
    require_shapes(path, W_enc, W_dec, b_dec)
    threshold = _threshold(path, kind, arrays, W_enc)
    if kind == "GatedAutoEncoder":
        names = ("gate_bias", "r_mag", "mag_bias")
        W_enc, b_enc, threshold = gated_as_threshold(
            W_enc, *(vector(arrays, name, path, of=W_enc) for name in names)
        )
    else:
        b_enc = vector(arrays, "encoder.bias" if linear else "b_enc", path, of=W_enc)
    if kind in ("AutoEncoderNew", "JumpReluAutoEncoder"):
        b_enc = unbiased(W_enc, b_enc, b_dec)
    k = whole_number(arrays["k"], path, "k") if kind == "AutoEncoderTopK" else None
    facts = _facts(trainer, config_path)
    return Published(path, W_enc, b_enc, W_dec, b_dec, facts, k=k, threshold=threshold,
                     notes={"dict_class": kind})  # fmt: skip


def _threshold(
    path: Path, kind: str, arrays: Mapping[str, Any], W_enc: np.ndarray
) -> np.ndarray | None:
    if kind == "AutoEncoderTopK":
        return None
    if kind == "JumpReluAutoEncoder":
        return np.maximum(vector(arrays, "threshold", path, of=W_enc), 0.0)
    if "threshold" not in KEYS[kind]:
        return same_threshold(0.0, W_enc)
    theta = real_number(arrays["threshold"], path, "threshold")
    if theta < 0:
        raise UserError(
            f"{path}: its threshold is {theta:g}: training ended before it was set, so no latent "
            "would ever be silent; train longer than threshold_start_step"
        )
    return same_threshold(theta, W_enc)


def _facts(trainer: Mapping[str, Any], path: Path) -> Facts:
    if "saejax" in trainer:
        return Facts.told(trainer["saejax"], path)
    return Facts(model_of(trainer.get("lm_name")), site_of(trainer.get("submodule_name")))


def write(exported: Exported, folder: Path) -> None:
    """Write a folder that ``AutoEncoderTopK`` or ``JumpReluAutoEncoder.from_pretrained`` reads.

    Raises:
        UserError: a z-score of every residue, which it has not.
    """
    e = exported
    e.refuse_zscore("dictionary_learning")
    from saejax.interop.torch_files import write_pt

    if e.threshold is None:
        kind, trainer = "AutoEncoderTopK", "TopKTrainer"
        arrays = {
            "encoder.weight": e.W_enc.T, "encoder.bias": e.b_enc, "decoder.weight": e.W_dec.T,
            "b_dec": e.b_dec, "k": np.array(e.k, np.int32), "threshold": np.array(-1, np.float32),
        }  # fmt: skip
    else:
        kind, trainer = "JumpReluAutoEncoder", "JumpReluTrainer"
        arrays = {"W_enc": e.W_enc, "b_enc": unbiased(e.W_enc, e.b_enc, -e.b_dec),
                  "W_dec": e.W_dec, "b_dec": e.b_dec, "threshold": e.threshold}  # fmt: skip
    write_pt(folder / "ae.pt", arrays)
    config = {
        "trainer": {
            "trainer_class": trainer,
            "dict_class": kind,
            "activation_dim": e.W_enc.shape[0],
            "dict_size": e.W_enc.shape[1],
            "k": e.k,
            "layer": e.block - 1 if e.block else None,
            "lm_name": e.facts.model,
            "submodule_name": f"resid_post_layer_{e.block - 1}" if e.block else e.facts.site,
            "saejax": vars(e.facts),
        },
        "buffer": {"ctx_len": None},
    }
    text = json.dumps(config, indent=1)
    write_atomically(folder / "config.json", lambda f: f.write(text.encode()))
