"""What to probe (:class:`ProbeConfig`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from extract.errors import UserError


@dataclass(frozen=True)
class ProbeConfig:
    """Ask every latent about every concept, on proteins unseen by the choice.

    Latents and thresholds are chosen on one part of the proteins (select: train and validation) and
    scored once on the other (test). No homology cluster lies in two parts.
    """

    run: Path
    """Folder of a finished ``python -m saejax.train``."""
    activations: tuple[Path, ...]
    """One or more activation stores (same parent and site as the run, no protein in two)."""
    out: Path | None = None
    """Folder of the tables; by default ``probes`` inside the run."""
    dssp: Path | None = None
    """Secondary structure: TSV[.gz] with columns id, sequence, dssp."""
    swissprot: Path | None = None
    """UniProt flat file, .dat[.gz]; ids are primary accessions."""
    uniprot: tuple[Path, ...] = ()
    """More of UniProtKB: flat files, JSON or TSV downloads (TSV with the columns Entry and
    Sequence), plain or gzipped."""
    labels: tuple[Path, ...] = ()
    """Your own labels: GFF3, BED, or TSV with the columns id, label and start, end (of a stretch),
    or position (of a residue), or neither (of a protein). Positions count from 1; in BED from 0."""
    clusters: Literal["mmseqs"] | Path | None = None
    """Homology clusters: TSV[.gz] with columns id, cluster, a line for every protein; MMseqs2's
    _cluster.tsv; UniProt's ID mapping to UniRef50; or "mmseqs" to run MMseqs2 now."""
    allow_random_split: bool = False
    """Split protein by protein when there are no clusters; relatives may then sit on both sides."""
    seed: int = 0
    """Seed of the split."""
    test_fraction: float = 0.3
    """Expected share of clusters in the test part."""
    validation_fraction: float = 0.2
    """Expected share of clusters in the validation part; the rest is for training."""
    min_positives: int = 50
    """Positive (and negative) residues a concept needs in each part."""
    min_fires: int = 100
    """Residues of the select part on which a precise latent must fire."""
    min_proteins: int = 10
    """Proteins of the select part in which a precise latent must fire."""
    n_precise: int = 10
    """Precise latents listed per concept."""
    sparse_k: int = 16
    """Latents of the k-sparse probe."""
    sparse_min_positives: int = 2000
    """Positive residues a concept needs in each part for the k-sparse and dense probes."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("min_positives", "min_fires", "min_proteins", "n_precise", "sparse_k",
                     "sparse_min_positives"):  # fmt: skip
            if getattr(self, name) < 1:
                raise UserError(f"{name} ({getattr(self, name)}) must be at least 1")
        if not 0 < self.test_fraction < 1:
            raise UserError(f"test_fraction ({self.test_fraction}) must be between 0 and 1")
        if not 0 <= self.validation_fraction < 1 - self.test_fraction:
            raise UserError(
                f"validation_fraction ({self.validation_fraction}) must be at least 0 and leave "
                f"something for training beside test_fraction ({self.test_fraction})"
            )
        if not self.activations:
            raise UserError("no --activations given; give at least one activation store")
        if self.clusters is None and not self.allow_random_split:
            raise UserError(
                "no --clusters given: a random split puts relatives in both parts and flatters "
                "every score; give a cluster file, or --clusters mmseqs, or say "
                "--allow-random-split"
            )

    @property
    def folder(self) -> Path:
        """Where the tables go."""
        return self.run / "probes" if self.out is None else self.out
