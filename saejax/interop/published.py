"""The one form that every published SAE is read into."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from extract.errors import UserError

LARGEST = 1e12
"""Of a weight; float32 overflows a few products later."""


@dataclass(frozen=True)
class Facts:
    """What a file, or its format's definition, says about where an SAE belongs."""

    model: str | None = None
    """The parent's name, as ``python -m extract`` has it; None where nothing says it."""
    site: str | None = None
    """Where its input lies, in this project's words."""
    token_dropout: bool | None = None
    """Whether the parent ran with ESM2's embedding scale."""
    special_tokens: str | None = None
    """What was done with BOS and EOS in training; here they never reach an SAE."""
    weights_sha256: str | None = None
    """Of the parent's encoder; only our own exports have it."""

    @classmethod
    def told(cls, values: Any, path: Path) -> Facts:
        """Those that one of our own exports tells.

        Raises:
            UserError: they are not of their types.
        """
        if not isinstance(values, Mapping):
            raise UserError(f"{path}: its facts are damaged; fetch it again")
        found = {field.name: values.get(field.name) for field in fields(cls)}
        for name, value in found.items():
            kind = bool if name == "token_dropout" else str
            if value is not None and not isinstance(value, kind):
                raise UserError(f"{path}: its {name} ({value!r:.40}) is no {kind.__name__}; fetch "
                                "it again")  # fmt: skip
        return cls(**found)


@dataclass(frozen=True)
class Given:
    """What a user says where files of some formats are silent."""

    k: int | None = None
    """Latents active per residue."""
    variant: str | None = None
    """Which of a format's kinds it is, where the file does not say."""
    token_zscore: bool | None = None
    """Whether every residue is standardised over its own dimensions."""
    input_scale: float | None = None
    """s of x = s · activation, where the file lost it."""


@dataclass(frozen=True)
class Published:
    """An SAE as ``h = (x − b_dec) W_enc + b_enc``, x̂ = z W_dec + b_dec.

    z is ReLU of the k largest of h, or h where it is above θ. x = scale · n, where n is the
    activation or, with ``token_zscore``, its z-score over its own dimensions.

    Shapes are of a stranger's files: checked below, with words for whoever has to mend them.
    """

    path: Path
    """The weights file."""
    W_enc: np.ndarray
    """Encoder, ``[d_model, d_sae]``."""
    b_enc: np.ndarray
    """Its bias, ``[d_sae]``."""
    W_dec: np.ndarray
    """Decoder, ``[d_sae, d_model]``: a row per latent, with the norms it was published with."""
    b_dec: np.ndarray
    """Its bias, ``[d_model]``, subtracted before the encoder."""
    facts: Facts
    """Where it belongs."""
    k: int | None = None
    """Of a top-k SAE; None when the file does not say (``threshold`` is None too)."""
    threshold: np.ndarray | None = None
    """θ ≥ 0, ``[d_sae]``; None for a top-k SAE."""
    token_zscore: tuple[float, float] | None = None
    """As in ``SAEConfig``."""
    mean: np.ndarray | None = None
    """Subtracted from n, ``[d_model]``; None for nothing."""
    scale: float = 1.0
    """Factor between n and x."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """What else the file says, for the record."""

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit each other, or are not finite.

        Raises:
            UserError: naming the array.
        """
        d_model, d_sae = self.W_enc.shape
        require_shapes(self.path, self.W_enc, self.W_dec, self.b_dec)
        others = {"b_enc": d_sae, "threshold": d_sae, "mean": d_model}
        there = {n: size for n, size in others.items() if getattr(self, n) is not None}
        for name, size in there.items():
            _require_shape(self.path, name, getattr(self, name), (size,), self.W_enc)
        for name in ("W_enc", "W_dec", "b_dec", *there):
            largest = np.abs(getattr(self, name)).max()
            if not largest <= LARGEST:
                what = "values that are not finite" if not np.isfinite(largest) else (
                    f"values up to {largest:.0e}, which no SAE has")  # fmt: skip
                raise UserError(f"{self.path}: {name} has {what}; fetch it again, or choose "
                                "another SAE")  # fmt: skip
        if self.threshold is not None and self.threshold.min() < 0:
            raise UserError(f"{self.path}: a threshold is below 0, so latents would be negative")
        if self.token_zscore is not None and min(self.token_zscore) < 0:
            raise UserError(f"{self.path}: token_zscore {self.token_zscore} must not be below 0")
        if self.k is not None and not 1 <= self.k <= d_sae:
            raise UserError(f"{self.path}: k ({self.k}) must be 1 to d_sae ({d_sae})")
        if not 1e-30 < self.scale < 1e30:  # what float32 holds, also its inverse
            raise UserError(f"{self.path}: the input scale ({self.scale}) must be above 0, finite "
                            "and neither tiny nor huge")  # fmt: skip

    @property
    def sizes(self) -> tuple[int, int]:
        """d_model, d_sae."""
        return self.W_enc.shape[0], self.W_enc.shape[1]


def require_shapes(path: Path, W_enc: np.ndarray, W_dec: np.ndarray, b_dec: np.ndarray) -> None:
    """Refuse a decoder that does not fit its encoder; readers that fold one call it before.

    Raises:
        UserError: naming both shapes, and a transposed decoder as such.
    """
    _require_shape(path, "W_dec", W_dec, W_enc.shape[::-1], W_enc)
    _require_shape(path, "b_dec", b_dec, (len(W_enc),), W_enc)


def _require_shape(
    path: Path, name: str, found: np.ndarray, shape: tuple[int, ...], W_enc: np.ndarray
) -> None:
    if found.shape == shape:
        return
    which = "encoder" if W_enc.shape[0] > W_enc.shape[1] else "decoder"
    turned = name == "W_dec" and found.shape == shape[::-1]
    why = f"the {which} is transposed, or the file is damaged" if turned else "damaged"
    raise UserError(
        f"{path}: {name} is {list(found.shape)} and should be {list(shape)}, as W_enc is "
        f"{list(W_enc.shape)}: {why}; fetch it again"
    )


def matrix(arrays: Mapping[str, Any], key: str, path: Path, *, turn: bool = False) -> np.ndarray:
    """A float32 matrix of a file, transposed if the format keeps it so.

    Raises:
        UserError: it is no matrix of numbers.
    """
    return _float(arrays, key, path, 2).T if turn else _float(arrays, key, path, 2)


def vector(
    arrays: Mapping[str, Any], key: str, path: Path, *, of: np.ndarray | None = None
) -> np.ndarray:
    """A float32 vector of a file; with ``of``, an encoder, an entry for each of its latents.

    Raises:
        UserError: it is no vector of numbers, or of another length.
    """
    found = _float(arrays, key, path, 1)
    if of is not None:
        _require_shape(path, key, found, (of.shape[1],), of)
    return found


def _float(arrays: Mapping[str, Any], key: str, path: Path, ndim: int) -> np.ndarray:
    value = arrays[key]
    if not isinstance(value, np.ndarray) or value.ndim != ndim or not value.size:
        shape = list(value.shape) if isinstance(value, np.ndarray) else type(value).__name__
        raise UserError(f"{path}: {key} should have {ndim} dimensions, found {shape}")
    if value.dtype.kind not in "fV":  # bfloat16 is of kind V
        raise UserError(f"{path}: {key} holds {value.dtype}, not real numbers")
    with np.errstate(over="ignore"):  # a float64 too large becomes infinite, which is refused
        return np.ascontiguousarray(value, dtype=np.float32)


def same_threshold(theta: float, W_enc: np.ndarray) -> np.ndarray:
    """One θ for every latent."""
    with np.errstate(over="ignore"):  # infinite ones are refused
        return np.full(W_enc.shape[1], theta).astype(np.float32)


def unbiased(W_enc: np.ndarray, b_enc: np.ndarray, b_dec: np.ndarray) -> np.ndarray:
    """b_enc of the same SAE when b_dec is subtracted first: x W + b = (x − b_dec) W + b + b_dec W.

    In float64, since it is done once.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused later
        shift = b_dec.astype(np.float64) @ W_enc.astype(np.float64)
        return (b_enc.astype(np.float64) + shift).astype(np.float32)


def gated_as_threshold(
    W_enc: np.ndarray, gate: np.ndarray, r_mag: np.ndarray, b_mag: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """W_enc, b_enc and θ of a gated SAE (arXiv 2404.16014).

    u + gate > 0 decides, ReLU(e^r u + b_mag) is the value: with h = e^r u + b_mag that is
    h > b_mag − e^r gate.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        gain = np.exp(r_mag.astype(np.float64))
        theta = np.maximum(b_mag - gain * gate, 0.0)
    with np.errstate(over="ignore"):  # infinite weights are refused
        return (W_enc * gain).astype(np.float32), b_mag, theta.astype(np.float32)


def site_of(name: Any) -> str | None:
    """This project's name of a place in a parent; None where none is named.

    ``blocks.3.hook_resid_post`` (TransformerLens), ``esm.encoder.layer.3`` (Hugging Face),
    ``layers.3`` (sparsify) and ``resid_post_layer_3`` (dictionary_learning) are all what follows
    the fourth block. A place of another kind keeps its own name, which fits no store: better
    refused, until ``--site`` says what it is, than taken for whatever the store has.
    """
    if not isinstance(name, str) or not name:
        return None
    before = re.fullmatch(r"blocks\.(\d+)\.hook_resid_pre", name)
    if before:
        return f"block{int(before[1])}"
    after = re.fullmatch(
        r"blocks\.(\d+)\.hook_resid_post|(?:\w+\.)*(?:layers?|h|blocks)\.(\d+)(?:\.output)?"
        r"|resid_post_layer_(\d+)",
        name,
    )
    return f"block{int(next(g for g in after.groups() if g)) + 1}" if after else name


def model_of(name: Any) -> str | None:
    """This project's name of a parent that the Hub calls ``facebook/...``."""
    return name.removeprefix("facebook/") if isinstance(name, str) and name else None
