"""How variants of a sequence are made by re-decoding: see :mod:`steering.design`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from extract.errors import UserError
from steering.masked import standard_residues

Method = Literal["single", "gibbs"]
"""One pass, or sweeps; see the table in :mod:`steering.design`."""

DEFAULT_MASK_FRACTION = 0.15
"""Share that ESM2 was trained with (Lin et al. 2023)."""


@dataclass(frozen=True)
class DesignSettings:
    """How variants are made."""

    method: Method = "single"
    """One pass, or Gibbs-style sweeps."""
    n_variants: int = 100
    """How many variants."""
    positions: tuple[int, ...] | None = None
    """0-based residues that may change; by default all. Non-standard ones never do."""
    fixed: tuple[int, ...] = ()
    """0-based residues that stay, also where ``positions`` names them."""
    mask_fraction: float | None = None
    """single: share of the free positions that each variant masks. By default 0.15, or all of
    them where ``positions`` are given."""
    n_per_step: int = 1
    """gibbs: positions that are masked together."""
    n_sweeps: int = 1
    """gibbs: how many times every free position has its turn, at most."""
    max_changes: int | None = None
    """Most positions in which a variant may differ from the input; by default any number. A choice
    that would go beyond is not taken; gibbs ends when the budget is used up."""
    temperature: float = 1.0
    """T: 1 draws from the model's own probabilities, 0 takes the likeliest residue."""
    seed: int = 0
    """Of everything random."""
    batch_residues: int = 4096
    """Residues per forward pass; at least one variant."""

    def __post_init__(self) -> None:
        """Check every number."""
        share = self.mask_fraction
        if share is not None and self.method == "gibbs":
            raise UserError(
                "mask_fraction belongs to the method single; gibbs masks n_per_step positions at "
                "a time"
            )
        if share is not None and not 0 < share <= 1:
            raise UserError(f"mask_fraction ({share}) must be above 0 and at most 1")
        if not 0 <= self.temperature < float("inf"):
            raise UserError(f"temperature ({self.temperature}) must be 0 or more, and finite")
        if self.seed < 0:
            raise UserError(f"seed ({self.seed}) must be 0 or more")
        budget = 1 if self.max_changes is None else self.max_changes
        counts = (self.n_variants, self.n_per_step, self.n_sweeps, budget, self.batch_residues)
        if min(counts) < 1:
            raise UserError(
                f"n_variants ({self.n_variants}), n_per_step ({self.n_per_step}), n_sweeps "
                f"({self.n_sweeps}), max_changes ({self.max_changes}) and batch_residues "
                f"({self.batch_residues}) must be at least 1"
            )

    @property
    def share(self) -> float:
        """Share of the free positions that a single pass masks."""
        if self.mask_fraction is not None:
            return self.mask_fraction
        return DEFAULT_MASK_FRACTION if self.positions is None else 1.0


def free_positions(sequence: str, settings: DesignSettings) -> Int[np.ndarray, " free"]:
    """0-based residues that may change: standard ones, in ``positions`` and not ``fixed``.

    Raises:
        UserError: a position outside the sequence, or none that may change.
    """
    for name, given in (("positions", settings.positions or ()), ("fixed", settings.fixed)):
        outside = [p for p in given if not 0 <= p < len(sequence)]
        if outside:
            raise UserError(
                f"{name}: residue {outside[0] + 1} is outside the sequence, whose residues are "
                f"1 to {len(sequence)}"
            )
    free = standard_residues(sequence)
    if settings.positions is not None:
        free = free[np.isin(free, settings.positions)]
    free = free[~np.isin(free, settings.fixed)]
    if not len(free):
        raise UserError(
            "no residue may change: give positions with one of the 20 standard amino acids that "
            "is not fixed"
        )
    return free
