"""The constants of each architecture's recipe, with their sources."""

from __future__ import annotations

from typing import NamedTuple

from saejax.sae_config import Architecture, SAEConfig


class ArchitectureRecipe(NamedTuple):
    """What an architecture's authors trained with, for inputs of E‖x‖² = d_model."""

    learning_rate: float
    """Peak, at ``d_sae`` = 2**14 when it scales."""
    learning_rate_scales: bool
    """Whether the peak is divided by sqrt(d_sae / 2**14)."""
    adam_b1: float
    """Decay of Adam's first moment."""
    adam_b2: float
    """Decay of Adam's second moment."""
    adam_eps: float
    """Adam's epsilon."""
    unit_norm_decoder: bool
    """Rows of W_dec stay at unit norm, and their gradients orthogonal to them."""
    sparsity: float | None = None
    """λ."""
    sparsity_warmup_fraction: float = 0.0
    """Share of the run over which λ rises from 0."""


_GAO = ArchitectureRecipe(2e-4, True, 0.9, 0.999, 6.25e-10, True)
"""Gao et al. 2024 (arXiv 2406.04093): sections 3.1 and A.3 to A.5."""

RECIPES: dict[Architecture, ArchitectureRecipe] = {
    "topk": _GAO,
    # Bussmann et al. 2024 (arXiv 2412.06410) and 2025 (arXiv 2503.17547) change the selection
    # only; their runs use one rate for all. Differs: Gao et al.'s rule, as for topk.
    "batchtopk": _GAO,
    "matryoshka": _GAO,
    # Conerly et al., Circuits Updates January 2025 ("Dictionary learning optimization
    # techniques"): 2e-4, λ_S up to 20 and about 10, rising over the whole run.
    "jumprelu": ArchitectureRecipe(2e-4, False, 0.9, 0.999, 1e-8, False, 10.0, 1.0),
    # Rajamanoharan et al. 2024 (arXiv 2404.16014), appendix D: 3e-4, β₁ = 0. Differs: they sweep
    # λ; this one is a place to start from.
    "gated": ArchitectureRecipe(3e-4, False, 0.0, 0.999, 1e-8, True, 2.0),
    # Conerly et al., Circuits Updates April 2024 ("Update on how we train SAEs"): 5e-5, λ = 5,
    # rising over the first 5 % of the run.
    "relu": ArchitectureRecipe(5e-5, False, 0.9, 0.999, 1e-8, False, 5.0, 0.05),
}


def unit_norm_decoder(config: SAEConfig) -> bool:
    """Whether training keeps the decoder's rows at unit norm."""
    assert config.architecture != "threshold", "it is not trained"
    return RECIPES[config.architecture].unit_norm_decoder
