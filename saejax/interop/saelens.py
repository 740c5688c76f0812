"""SAELens (6.x): a folder with ``cfg.json`` and ``sae_weights.safetensors``.

::

    h = (x − b_dec) W_enc + b_enc     (b_dec is left away with apply_b_dec_to_input false)
    standard  z = ReLU(h)             topk  z = ReLU(TopK_k(h))       jumprelu  z = h · 1[h > θ]
    gated     u = (x − b_dec) W_enc;  z = 1[u + b_gate > 0] ReLU(e^r_mag u + b_mag)
    x̂ = z W_dec + b_dec

With ``rescale_acts_by_decoder_norm`` h is first multiplied by ‖w_i‖, and z divided by it for x̂.
BatchTopK and Matryoshka SAEs are saved as ``jumprelu``; a checkpoint of their training has one θ,
``topk_threshold``. ``normalize_activations: layer_norm`` is a z-score of every residue,
(x − μ) / (s + 1e-5), undone by · s + μ. Files from before 6.0.0 say some of it in other words.
"""

from __future__ import annotations

import json
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

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
LAYER_NORM = (1e-5, 0.0)
VERSION = "6.54.12"
"""That the export was tested with; from 6.0.0 on the fields are these."""
KEYS = {
    "standard": ("W_enc", "b_enc", "W_dec", "b_dec"),
    "topk": ("W_enc", "b_enc", "W_dec", "b_dec"),
    "jumprelu": ("W_enc", "b_enc", "W_dec", "b_dec", "threshold"),
    "gated": ("W_enc", "b_gate", "r_mag", "b_mag", "W_dec", "b_dec"),
    "batchtopk": ("W_enc", "b_enc", "W_dec", "b_dec", "topk_threshold"),
    "matryoshka_batchtopk": ("W_enc", "b_enc", "W_dec", "b_dec", "topk_threshold"),
}
RESCALED = ("topk", "batchtopk", "matryoshka_batchtopk")
"""That can have ``rescale_acts_by_decoder_norm``."""


def read(path: Path, given: Given) -> Published:
    """Read a folder.

    Raises:
        UserError: it is not of this format, or does what can't be carried.
    """
    folder = path if path.is_dir() else path.parent
    config_path, path = folder / CONFIG, folder / WEIGHTS
    config = _as_of_6(config_path, read_config(config_path, "a SAELens SAE"))
    kind = config.get("architecture", "standard")
    if not isinstance(kind, str) or kind not in KEYS:
        raise UserError(f"{config_path}: architecture {kind!r:.40} can't be imported; "
                        f"{', '.join(KEYS)} can")  # fmt: skip
    arrays = read_arrays(path)
    if kind == "jumprelu" and "log_threshold" in arrays:  # of training, in old versions
        with np.errstate(over="ignore"):
            arrays["threshold"] = np.exp(vector(arrays, "log_threshold", path))
        del arrays["log_threshold"]
    require_keys(path, arrays, KEYS[kind])
    W_enc, b_dec = matrix(arrays, "W_enc", path), vector(arrays, "b_dec", path)
    W_dec = matrix(arrays, "W_dec", path)
    _require_sizes(config_path, config, W_enc)
    require_shapes(path, W_enc, W_dec, b_dec)
    k = whole_number(config.get("k"), config_path, "k") if kind == "topk" else None
    if kind == "gated":
        names = ("b_gate", "r_mag", "b_mag")
        W_enc, b_enc, threshold = gated_as_threshold(
            W_enc, *(vector(arrays, name, path, of=W_enc) for name in names)
        )
    else:
        b_enc = vector(arrays, "b_enc", path, of=W_enc)
        threshold = _threshold(path, kind, arrays, W_enc)
    if not config.get("apply_b_dec_to_input", True):
        b_enc = unbiased(W_enc, b_enc, b_dec)  # θ stays: a gated SAE's is about u alone
    if kind in RESCALED and config.get("rescale_acts_by_decoder_norm"):
        W_enc, b_enc, W_dec = _norms_folded(W_enc, b_enc, W_dec)
    return Published(
        path, W_enc, b_enc, W_dec, b_dec, _facts(config_path, config), k=k, threshold=threshold,
        token_zscore=_normalization(config_path, config, given),
        notes={"architecture": kind, "sae_lens_version": _metadata(config).get("sae_lens_version")},
    )  # fmt: skip


def _threshold(
    path: Path, kind: str, arrays: dict[str, Any], W_enc: np.ndarray
) -> np.ndarray | None:
    """θ of latents that fire above one; None for topk."""
    if kind == "topk":
        return None
    if kind == "jumprelu":
        return np.maximum(vector(arrays, "threshold", path, of=W_enc), 0.0)
    theta = 0.0
    if kind != "standard":
        theta = real_number(arrays["topk_threshold"], path, "topk_threshold")
    return same_threshold(max(theta, 0.0), W_enc)


def _as_of_6(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """A configuration in the words of 6.0.0, as ``handle_config_defaulting`` of SAELens has it.

    Raises:
        UserError: an activation function that can't be carried.
    """
    version = _metadata(config).get("sae_lens_version")
    if isinstance(version, str) and version.split(".")[0].isdecimal() and int(
        version.split(".")[0]
    ) >= 6:  # fmt: skip
        return config
    renamed = {"hook_point": "hook_name", "activation_fn_str": "activation_fn"}
    config = {renamed.get(name, name): value for name, value in config.items()}
    function, details = config.get("activation_fn", "relu"), config.get("activation_fn_kwargs")
    k = details.get("k") if isinstance(details, dict) else None
    if function == "topk":
        config |= {"architecture": "topk", "k": config.get("k", k)}
    elif function != "relu":
        raise UserError(f"{path}: activation_fn {function!r:.40} can't be imported; relu and topk "
                        "can")  # fmt: skip
    if "hook_z" in str(config.get("hook_name")):
        config.setdefault("reshape_activations", "hook_z")
    how = config.get("normalize_activations")
    if how is None or isinstance(how, bool):
        config["normalize_activations"] = "expected_average_only_in" if how else "none"
    return config


def _require_sizes(path: Path, config: dict[str, Any], W_enc: np.ndarray) -> None:
    sizes = (config.get("d_in"), config.get("d_sae"))
    if W_enc.shape != sizes:
        turned = "the encoder is transposed" if W_enc.shape == sizes[::-1] else "another SAE's file"
        raise UserError(f"{path}: d_in and d_sae are {list(sizes)}, W_enc is {list(W_enc.shape)}: "
                        f"{turned}")  # fmt: skip


def _norms_folded(
    W_enc: np.ndarray, b_enc: np.ndarray, W_dec: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pre-activations times ‖w_i‖, decoder rows of norm 1: what rescale_acts_by_decoder_norm is."""
    norms = np.linalg.norm(W_dec.astype(np.float64), axis=1)
    rows = np.divide(W_dec, norms[:, None], out=np.zeros(W_dec.shape), where=norms[:, None] > 0)
    return (
        (W_enc * norms).astype(np.float32),
        (b_enc * norms).astype(np.float32),
        rows.astype(np.float32),
    )


def _normalization(path: Path, config: dict[str, Any], given: Given) -> tuple[float, float] | None:
    if config.get("reshape_activations", "none") != "none":
        raise UserError(f"{path}: reshape_activations {config['reshape_activations']!r:.40} is for "
                        "attention heads, which can't be imported")  # fmt: skip
    how = config.get("normalize_activations", "none")
    if how == "layer_norm":
        return LAYER_NORM
    if how == "expected_average_only_in" and given.input_scale is None:
        raise UserError(
            f"{path}: normalize_activations is {how!r}, whose factor the file does not have; give "
            "it with --input-scale, or fold it with SAELens (fold_activation_norm_scaling_factor)"
        )
    if how not in ("none", "expected_average_only_in"):
        raise UserError(f"{path}: normalize_activations {how!r:.40} can't be carried; fold it with "
                        "SAELens, or use another SAE")  # fmt: skip
    return None


def _metadata(config: dict[str, Any]) -> dict[str, Any]:
    found = config.get("metadata")
    return found if isinstance(found, dict) else config  # before 6.0.0 it was not apart


def _facts(path: Path, config: dict[str, Any]) -> Facts:
    metadata = _metadata(config)
    if "saejax" in metadata:
        return Facts.told(metadata["saejax"], path)
    left_out = metadata.get("exclude_special_tokens")
    tokens = None
    if left_out is not None or metadata.get("prepend_bos") is not None:
        tokens = "were left out of training" if left_out else "were among the training tokens"
    return Facts(model_of(metadata.get("model_name")), site_of(metadata.get("hook_name")),
                 special_tokens=tokens)  # fmt: skip


def write(exported: Exported, folder: Path) -> None:
    """Write a folder that ``SAE.load_from_disk`` reads; mean and scale are folded.

    Raises:
        UserError: a z-score with another ε than SAELens has.
    """
    e = exported
    if e.token_zscore not in (None, LAYER_NORM):
        raise UserError(f"{e.name}: undoes its z-score with ε = {e.token_zscore[1]:g}, which "
                        "SAELens does not; export it as plain")  # fmt: skip
    arrays = {"W_enc": e.W_enc, "b_enc": e.b_enc, "W_dec": e.W_dec, "b_dec": e.b_dec}
    hook = f"blocks.{e.block - 1}.hook_resid_post" if e.block else e.facts.site
    config: dict[str, Any] = {
        "d_in": e.W_enc.shape[0],
        "d_sae": e.W_enc.shape[1],
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none" if e.token_zscore is None else "layer_norm",
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": VERSION,
            "sae_lens_training_version": None,
            "model_name": e.facts.model,
            "hook_name": hook,
            "saejax": vars(e.facts),
        },
    }
    if e.threshold is None:
        config |= {"architecture": "topk", "k": e.k, "rescale_acts_by_decoder_norm": False}
    else:
        arrays["threshold"] = e.threshold
        config["architecture"] = "jumprelu"
    e.save_safetensors(folder / WEIGHTS, arrays)
    text = json.dumps(config, indent=1)
    write_atomically(folder / CONFIG, lambda f: f.write(text.encode()))
