"""What to probe (:class:`ProbeConfig`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from extract.errors import UserError
from probes.protocols.pooling import Pooling

Baseline = Literal["neurons", "principal components", "random dictionary", "shuffled labels"]
Protocol = Literal["interplm", "interprot", "k-sparse", "families"]


@dataclass(frozen=True)
class ProbeConfig:
    """Ask every latent about every concept, on proteins unseen by the choice.

    Thresholds are fitted on one part of the proteins (train), latents chosen on another
    (validation) and scored once on a third (test). No homology cluster lies in two parts.
    """

    run: Path
    """Folder of a finished ``python -m saejax.train``."""
    activations: tuple[Path, ...]
    """One or more activation stores (same parent and site as the run, no protein in two)."""
    out: Path | None = None
    """Folder of the tables; by default ``probes`` inside the run."""
    check: bool = True
    """First reconstruct a few thousand residues, and stop if FVU is far from the run's own."""
    dssp: Path | None = None
    """Secondary structure: TSV[.gz] with columns id, sequence, dssp."""
    swissprot: Path | None = None
    """UniProt flat file, .dat[.gz]; ids are primary accessions."""
    uniprot: tuple[Path, ...] = ()
    """More of UniProtKB: flat files, JSON or TSV downloads (TSV with the columns Entry and
    Sequence), plain or gzipped."""
    go_obo: Path | None = None
    """The Gene Ontology, go-basic.obo[.gz]: a protein with a GO term then also has all terms above
    it (is_a, part_of). Without it, only the terms that its UniProtKB entry lists."""
    labels: tuple[Path, ...] = ()
    """Your own labels: GFF3, BED, or TSV with the columns id, label and start, end (of a stretch),
    or position (of a residue), or neither (of a protein). Positions count from 1; in BED from 0."""
    structures: Path | None = None
    """Folder with structures named after proteins, <id>.pdb[.gz] or <id>.cif[.gz]: tells which
    latents fire on residues that touch. Other proteins may have none."""
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
    sparse_k: tuple[int, ...] = (1, 2, 5, 16)
    """Latents of the k-sparse probes."""
    sparse_min_positives: int = 2000
    """Positive residues a concept needs in each part for the k-sparse and dense probes."""
    min_positive_proteins: int = 5
    """Positive (and negative) proteins that a concept of proteins needs in each part."""
    pooling: Pooling = "max"
    """A protein's value of a latent, for concepts of proteins: its residues' largest, or their
    mean, zeros included. Neurons and components, which have both signs, go by their mean."""
    baselines: tuple[Baseline, ...] = ("neurons", "principal components", "random dictionary",
                                       "shuffled labels")  # fmt: skip
    """What latents are compared with."""
    protocols: tuple[Protocol, ...] = ("interplm", "interprot", "k-sparse", "families")
    """Analyses beside our own."""
    shuffled_run: Path | None = None
    """A run on a parent with shuffled weights (``experiments/shuffled_parent.py``), to compare."""
    shuffled_activations: tuple[Path, ...] = ()
    """That parent's stores of the same proteins, in the order of --activations."""
    label_gb: float = 2.0
    """Labels held in memory at a time, in GB, a byte for each residue and concept. Where they are
    more, concepts go in chunks, and each chunk reads the latents again; results are the same."""
    dense_rows: int = 2_000_000
    """Leave neurons and components out above this many residues: they are held in memory."""
    bootstrap: int = 1000
    """Draws of homology clusters for the intervals."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("min_positives", "min_fires", "min_proteins", "n_precise", "bootstrap",
                     "sparse_min_positives", "min_positive_proteins", "dense_rows"):  # fmt: skip
            if getattr(self, name) < 1:
                raise UserError(f"{name} ({getattr(self, name)}) must be at least 1")
        if self.seed < 0:
            raise UserError(f"seed ({self.seed}) must be at least 0")
        if not self.sparse_k or min(self.sparse_k) < 1:
            raise UserError(f"sparse_k {self.sparse_k}: give one or more numbers of at least 1")
        if (self.shuffled_run is None) != (not self.shuffled_activations):
            raise UserError(
                "--shuffled-run and --shuffled-activations go together: a run on a parent with "
                "shuffled weights, and that parent's stores of the proteins in --activations"
            )
        if self.go_obo is not None and self.swissprot is None and not self.uniprot:
            raise UserError(
                f"--go-obo {self.go_obo} is for the GO terms of UniProtKB entries; give them with "
                "--swissprot or --uniprot, too"
            )
        if not self.label_gb > 0:
            raise UserError(f"label_gb ({self.label_gb}) must be above 0")
        self._check_fractions()
        if not self.activations:
            raise UserError("no --activations given; give at least one activation store")
        if self.clusters is None and not self.allow_random_split:
            raise UserError(
                "no --clusters given: a random split puts relatives in both parts and flatters "
                "every score; give a cluster file, or --clusters mmseqs, or say "
                "--allow-random-split"
            )

    def _check_fractions(self) -> None:
        if not 0 < self.test_fraction < 1:
            raise UserError(f"test_fraction ({self.test_fraction}) must be between 0 and 1")
        if not 0 < self.validation_fraction < 1 - self.test_fraction:
            raise UserError(
                f"validation_fraction ({self.validation_fraction}) must be above 0 and leave "
                f"something for training beside test_fraction ({self.test_fraction})"
            )

    @property
    def label_bytes(self) -> int:
        """``label_gb`` in bytes."""
        return int(self.label_gb * 1e9)

    @property
    def folder(self) -> Path:
        """Where the tables go."""
        return self.run / "probes" if self.out is None else self.out
