"""The flags of the commands that take many proteins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from extract.alphabet import AMINO_ACIDS
from extract.command_line import Optional, Several, require_at_least
from extract.errors import UserError
from extract.fasta import Protein
from extract.selection import FastaSource, Selection, TooLong
from steering.config import SteerConfig
from steering.edits import OF_STREAM, WITHOUT_STRENGTH, EditRequest, Operation, Where

if TYPE_CHECKING:
    from steering.benchmark import BenchmarkSettings


@dataclass(frozen=True, kw_only=True)
class SweepConfig(SteerConfig):
    """Dose-response of one latent over many proteins, beside random latents and directions.

    Example: python -m steering sweep --run runs/x --latent 123 --fasta proteins.fasta --sample 200
    --out sweep/
    """

    fasta: Path
    """FASTA or FASTA.gz of proteins that the SAE was not trained on."""
    latent: int
    """Which latent."""
    operation: Operation = "set"
    """What is done to it."""
    strengths: Several[float] = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
    """The grid: multiples of the latent's maximum on the run's held-out residues, of `scale`
    factors."""
    where: Literal["masked", "all", "active"] = "masked"
    """Residues that are edited and read out: the masked ones, or with unmasked input all of them
    or those on which the latent fires (read out are then all)."""
    amino_acid: Optional[str] = None
    """Whose log p is followed; by default the one that the latent raises most on half of the
    proteins, reported on the other half."""
    sample: Optional[int] = None
    """Distinct sequences to take, by seeded hash; by default every record."""
    too_long: TooLong = "skip"
    """What happens to sequences longer than the parent takes: leave out (skip), or cut (crop)."""
    mask_fraction: float = 0.1
    """Share of each protein's standard residues that is masked at once."""
    random_latents: int = 10
    """Controls: latents that fire about as often, their change of the same norm."""
    random_directions: int = 10
    """Controls: random directions of the same norm."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        super().__post_init__()
        if not self.strengths or not all(map(math.isfinite, self.strengths)):
            raise UserError(f"--strengths {self.strengths}: finite numbers, at least one")
        if len(set(self.strengths)) < len(self.strengths):
            raise UserError(f"--strengths {self.strengths}: one of them is given twice")
        if self.operation in WITHOUT_STRENGTH:
            raise UserError(f"--operation {self.operation} has no strength to sweep")
        if self.amino_acid is not None and self.amino_acid not in tuple(AMINO_ACIDS):
            raise UserError(f"--amino-acid {self.amino_acid!r}: must be one of {AMINO_ACIDS}")
        if not 0 < self.mask_fraction < 1:
            raise UserError(f"--mask-fraction ({self.mask_fraction}) must be between 0 and 1")
        require_at_least(self, 0, "random_latents", "random_directions")
        require_at_least(self, 1, "sample")
        if self.operation in OF_STREAM and self.where == "active":
            raise UserError(f"--where active: {self.operation} does not depend on the latent")

    def requests(self) -> list[EditRequest]:
        """One edit for each strength."""
        of_maximum = self.operation != "scale"
        return [
            EditRequest(self.latent, self.operation, s, of_maximum, Where(self.where))
            for s in sorted(self.strengths)
        ]


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(SteerConfig):
    """How often does steering move its target beyond controls that disturb as much?

    Example: python -m steering benchmark --run runs/x --targets targets.csv --fasta unseen.fasta
    --probe helix.npz --out benchmark/
    """

    targets: Path
    """CSV with the columns target, kind, latent: an amino acid (kind "amino acid") or a concept
    whose probe is given, and the latent that should move it."""
    fasta: Path
    """FASTA or FASTA.gz of proteins that neither the SAE nor the choice of latents has seen."""
    probe: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    """A concept's probe (.npz, steering.concept_probe), named as the target; may be given again."""
    strength: float = 1.0
    """Multiple of each latent's own maximum on the run's held-out residues."""
    sample: Optional[int] = None
    """Distinct sequences to take, by seeded hash; by default every record."""
    too_long: TooLong = "skip"
    """What happens to sequences longer than the parent takes: leave out (skip), or cut (crop)."""
    mask_fraction: float = 0.2
    """Share of each protein's standard residues that is masked, and rewritten for concepts."""
    random_latents: int = 10
    """Controls: latents that fire about as often."""
    random_directions: int = 10
    """Controls: random directions."""
    variants: int = 1
    """Variants of every protein and arm, for concepts."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        super().__post_init__()
        if not (math.isfinite(self.strength) and self.strength > 0):
            raise UserError(f"--strength ({self.strength}) must be a number above 0")
        if not 0 < self.mask_fraction < 1:
            raise UserError(f"--mask-fraction ({self.mask_fraction}) must be between 0 and 1")
        require_at_least(self, 1, "random_latents", "random_directions", "variants", "sample")

    def settings(self) -> BenchmarkSettings:
        """How targets are tested."""
        from steering.benchmark import BenchmarkSettings

        return BenchmarkSettings(
            self.strength, self.mask_fraction, self.random_latents, self.random_directions,
            self.variants, self.seed, self.batch_residues,
        )  # fmt: skip


def read_proteins(config: SweepConfig | BenchmarkConfig, max_residues: int) -> list[Protein]:
    """The proteins of a sweep or benchmark.

    Raises:
        UserError: a file or record that is not as it must be, or no protein left.
    """
    selection = Selection(max_residues=max_residues, too_long=config.too_long,
                          sample=config.sample, seed=config.seed)  # fmt: skip
    return list(FastaSource(config.fasta, selection))
