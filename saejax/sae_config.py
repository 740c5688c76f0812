"""What an SAE is: architecture and sizes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal, get_args

from extract.errors import UserError

Architecture = Literal["topk", "batchtopk", "matryoshka", "jumprelu", "gated", "relu"]
EncodeDtype = Literal["float32", "bfloat16"]
Form = Architecture | Literal["threshold"]
"""What an SAE can be: "threshold" is one that others trained and that is used as it is."""
FORMS: tuple[Form, ...] = (*get_args(Architecture), "threshold")

WITH_K: tuple[Architecture, ...] = ("topk", "batchtopk", "matryoshka")
"""Architectures that are told how many latents are active."""
WITH_SPARSITY: tuple[Architecture, ...] = ("jumprelu", "gated", "relu")
"""Architectures whose L0 follows from a penalty."""


@dataclass(frozen=True)
class SAEConfig:
    """Architecture and sizes of a sparse autoencoder, or of a transcoder."""

    d_model: int
    """Dimensions of the activations."""
    d_sae: int
    """Latents in the dictionary."""
    k: int
    """Latents active per residue (topk), or on average (batchtopk, matryoshka)."""
    k_aux: int
    """Dead latents that reconstruct the residual in AuxK."""
    architecture: Form = "topk"
    """How latents are selected."""
    d_out: int | None = None
    """Dimensions of the activations that a transcoder predicts; None for an autoencoder."""
    multi_topk: bool = False
    """topk: an eighth of the loss with 4k latents is added."""
    prefixes: tuple[int, ...] = ()
    """matryoshka: sizes of the nested dictionaries, the last of them d_sae."""
    prefix_weights: tuple[float, ...] = ()
    """matryoshka: weight of each one's loss; they are divided by their sum."""
    target_l0: float | None = None
    """jumprelu: the L0 to aim at."""
    k_max: int | None = None
    """Largest k in training, when it changes on the way; None: ``k``."""
    encode_dtype: EncodeDtype = "float32"
    """Number format of the encoder's matrix product in training."""
    token_zscore: tuple[float, float] | None = None
    """(ε, ε′) of an imported SAE that first standardises every residue over its own dimensions,
    n = (activation − μ) / (σ + ε) with the unbiased σ, and ends with n̂ (σ + ε′) + μ."""

    def __post_init__(self) -> None:
        """Check the sizes against each other."""
        if self.architecture not in FORMS:
            raise UserError(f"architecture {self.architecture!r} is none of {', '.join(FORMS)}")
        for name in ("d_model", "d_sae", "k", "k_aux"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} ({getattr(self, name)}) must be at least 1")
        for name in ("k", "k_aux", "k_max"):
            if (getattr(self, name) or 0) > self.d_sae:
                raise UserError(
                    f"{name} ({getattr(self, name)}) must be at most d_sae ({self.d_sae}); "
                    "lower it or train a wider dictionary"
                )
        self._check_options()
        if self.architecture == "matryoshka":
            self._check_prefixes()

    def _check_options(self) -> None:
        """Refuse what an architecture would ignore."""
        for name, only in (
            ("d_out", "topk"), ("multi_topk", "topk"), ("prefixes", "matryoshka"),
            ("prefix_weights", "matryoshka"), ("target_l0", "jumprelu"),
        ):  # fmt: skip
            if getattr(self, name) and self.architecture != only:
                what = "a transcoder" if name == "d_out" else name
                raise UserError(f"{what} goes with {only} only, not with {self.architecture}")
        if self.multi_topk and 4 * self.k > self.d_sae:
            raise UserError(
                f"multi_topk needs 4 k ({4 * self.k}) latents, more than d_sae ({self.d_sae}); "
                "lower k or train a wider dictionary"
            )
        if self.target_l0 is not None and not 0 < self.target_l0 <= self.d_sae:
            raise UserError(f"target_l0 ({self.target_l0}) must be above 0, and at most d_sae")

    def _check_prefixes(self) -> None:
        prefixes, weights = self.prefixes, self.prefix_weights
        ascending = all(a < b for a, b in itertools.pairwise(prefixes))
        if not prefixes or prefixes[0] < 1 or prefixes[-1] != self.d_sae or not ascending:
            raise UserError(
                f"prefixes ({', '.join(map(str, prefixes))}) must ascend from at least 1 to "
                f"d_sae ({self.d_sae})"
            )
        if weights and (len(weights) != len(prefixes) or min(weights) < 0 or not sum(weights)):
            raise UserError(
                f"prefix_weights ({', '.join(map(str, weights))}) must be one number ≥ 0 for each "
                f"of the {len(prefixes)} prefixes, not all 0"
            )

    @property
    def output_size(self) -> int:
        """Dimensions of the reconstruction."""
        return self.d_out or self.d_model

    @property
    def width(self) -> int:
        """Latents kept per residue in training: the largest k on the way."""
        return self.k_max or self.k
