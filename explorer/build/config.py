"""What to build a bundle from (:class:`BuildConfig`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from extract.command_line import Optional
from extract.errors import UserError


@dataclass(frozen=True)
class BuildConfig:
    """Build the bundle of one SAE: everything that the explorer shows, in one folder.

    The same command goes on with an interrupted build, to the same bytes. Without --probes or
    --structures the bundle is made all the same, and the pages show less.
    """

    run: Path
    """Folder of a finished `python -m saejax.train`."""
    activations: tuple[Path, ...]
    """One or more activation stores of the run's parent and site: the proteins to show."""
    out: Path
    """Folder of the bundle, new or of an interrupted build."""
    check: bool = True
    """First reconstruct a few thousand residues, and stop if FVU is far from the run's own."""
    probes: Optional[Path] = None
    """Tables of `python -m probes` of the same run and activations."""
    latents: Optional[Path] = None
    """Latents of `python -m saejax.latents`; by default those in the probes' folder, else they are
    made and removed again."""
    name: Optional[str] = None
    """What pages call this SAE; by default its parent, site and size. Its id in links follows."""
    dssp: Optional[Path] = None
    """Secondary structure: TSV[.gz] with columns id, sequence, dssp."""
    swissprot: Optional[Path] = None
    """UniProt flat file, .dat[.gz]; also describes its proteins."""
    uniprot: tuple[Path, ...] = ()
    """More of UniProtKB: flat files, JSON or TSV downloads."""
    go_obo: Optional[Path] = None
    """The Gene Ontology, go-basic.obo[.gz], for the terms above those that entries list."""
    labels: tuple[Path, ...] = ()
    """Your own labels: GFF3, BED or TSV, as `python -m probes` reads them."""
    structures: Optional[Path] = None
    """Folder with structures named after proteins, <id>.pdb[.gz] or <id>.cif[.gz]."""
    clusters: Optional[Path] = None
    """Homology clusters, as `python -m probes` reads them; by default the probes'."""
    fasta: tuple[Path, ...] = ()
    """FASTA files whose headers describe the proteins; of UniProt's the name and the organism."""
    fidelity: Optional[Path] = None
    """JSON of `python -m steering.fidelity`, for the loss that the SAE recovers."""
    tracks_gb: float = 1.0
    """Room for every latent's activation along proteins, in 10⁹ bytes: those with a structure come
    first, then the annotated ones. Other proteins only show their maxima and their examples."""
    memory_gb: float = 1.0
    """How much the sorting by latent may hold, in 10⁹ bytes, where latents are made."""
    effects: bool = True
    """Effects of decoder rows on the parent's amino-acid logits; needs the parent's weights."""
    effect_residues: int = 2000
    """Residues over which these effects are averaged, in whole proteins."""
    umap: bool = True
    """A map of the decoder rows. Without it latents have no place on the map."""
    neurons: bool = True
    """Examples of the parent's own dimensions, for blind rating."""
    weights: Optional[Path] = None
    """Weights of the parent; by default they are looked for as `python -m extract` does."""
    device: Optional[str] = None
    """Torch device of the parent; by default the first GPU, else the CPU."""
    model: Optional[str] = None
    """Only for a parent of your own: its package.module:function, to allow that code to run."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not self.activations:
            raise UserError("no --activations given; give at least one activation store")
        for name in ("tracks_gb", "memory_gb"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name} ({getattr(self, name)}) must not be negative")
        if self.memory_gb == 0:
            raise UserError("memory_gb (0) must be above 0")
        if self.effect_residues < 1:
            raise UserError(f"effect_residues ({self.effect_residues}) must be at least 1")
        if self.name is not None and not self.name.strip():
            raise UserError("--name: is empty; give words, or leave the flag out")
        if self.go_obo is not None and self.swissprot is None and not self.uniprot:
            raise UserError(
                f"--go-obo {self.go_obo} is for the GO terms of UniProtKB entries; give them with "
                "--swissprot or --uniprot, too"
            )
