"""What is in the grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from extract.errors import UserError


class Preset(NamedTuple):
    """A grid of one parent."""

    short: str
    """The parent, in names."""
    sites: tuple[str, ...]
    widths: tuple[int, ...]
    ks: tuple[int, ...]


PRESETS = {
    "esm2-8m": Preset("esm2_8m", tuple(f"block{n}" for n in range(1, 7)), (1024, 4096),
                      (16, 32, 64)),
    "esm2-650m": Preset("esm2_650m", (*(f"block{n}" for n in range(4, 29, 4)), "block33"),
                        (4096, 16384), (32, 64, 128)),
}  # fmt: skip
"""Of ESM2-650M every fourth block from 4, and the last, 33."""


class Member(NamedTuple):
    """One SAE of the grid."""

    short: str
    site: str
    width: int
    k: int

    @property
    def name(self) -> str:
        """Of its folders, and in the zoo."""
        return f"{self.short}_{self.site}_{self.width}_k{self.k}"


@dataclass(frozen=True)
class ZooConfig:
    """Train, evaluate and pack a grid of SAEs; whatever is done is not done again."""

    activations: Path
    """Folder with one activation store for each site, as `python -m extract --site …` writes it."""
    out: Path
    """Folder of the runs, of what is packed and of the table."""
    preset: Literal["esm2-8m", "esm2-650m"] = "esm2-8m"
    """The grid; the next three flags replace parts of it."""
    sites: tuple[str, ...] = ()
    """Stores to train on."""
    widths: tuple[int, ...] = ()
    """Latents."""
    ks: tuple[int, ...] = ()
    """Active latents of a residue."""
    data: Path = Path("data")
    """Folder with the bundled, annotated proteins."""
    learning_rate: float = 1.5e-3
    """Peak of Adam's learning rate."""
    holdout_fraction: float = 0.02
    """Share of proteins kept from training; the others are seen once."""
    fidelity_proteins: int = 200
    """Annotated chains that reconstructions are spliced into."""
    min_positives: int = 50
    """Positive residues a concept needs in each part of the probes' split."""
    evaluate: bool = True
    """Also splice and probe; without it the table has held-out FVU, L0 and dead latents only."""
    licence: str = "mit"
    """Of the packed SAEs, as their cards state it."""
    launcher: Literal["here", "slurm", "submitit-local"] = "here"
    """One after another here, or a job array through submitit; submitit-local tries that here."""
    slurm_partition: str = ""
    """Of the job array."""
    slurm_gpus: int = 1
    """Of each task."""
    slurm_hours: int = 24
    """Of each task."""
    slurm_parallel: int = 16
    """Tasks at a time."""
    upload: str = ""
    """Hugging Face repository (owner/name) that the packed SAEs go to, and nothing else is done."""
    dry_run: bool = False
    """With --upload: only list what would go."""

    def members(self) -> list[Member]:
        """The grid, sites first within a width and k.

        Raises:
            UserError: a setting is out of range, or there is no store of a site.
        """
        preset = PRESETS[self.preset]
        sites, widths = self.sites or preset.sites, self.widths or preset.widths
        ks = self.ks or preset.ks
        for width in widths:
            if max(ks) > width:
                raise UserError(f"--ks {max(ks)}: is above --widths {width}; lower it")
        for site in sites:
            if not (self.activations / site / "manifest.json").exists():
                raise UserError(f"{self.activations}: has no store {site}; give --sites it has")
        return [Member(preset.short, s, w, k) for w in widths for k in ks for s in sites]

    def run(self, member: Member) -> Path:
        """Its run folder."""
        return self.out / "runs" / member.name

    def packed(self, member: Member) -> Path:
        """What is published of it."""
        return self.out / "packed" / member.name
