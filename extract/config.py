"""Settings of ``python -m extract``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from extract.errors import UserError
from extract.fasta import MAX_POSITION
from extract.location import Location
from extract.selection import Selection, TooLong
from extract.store import CHUNK_ROWS


@dataclass(frozen=True)
class ExtractConfig:
    """Run a protein language model over a FASTA file and store its activations.

    Residues only: the tokens the model adds at both ends are dropped. An interrupted run goes on
    where it stopped when the same command is given again. See also `python -m extract verify` and
    `python -m extract info`.
    """

    fasta: Path
    """FASTA or FASTA.gz with the proteins, of any size."""
    out: Path
    """Folder of the activation store, s3://bucket/prefix or gs://bucket/prefix (made, or resumed).
    With several sites a folder of stores, one for each."""
    model: str = "esm2_t6_8M_UR50D"
    """Parent model: esm2_t6_8M_UR50D to esm2_t48_15B_UR50D, ESM-1b or 1v, UniRep, or one of your
    own as package.module:function (docs/parents.md)."""
    site: tuple[str, ...] = ("block4",)
    """Where to read: block0 (embeddings), block1 ... blockN (after block n), final, or a part of a
    block: blockN.attn, blockN.mlp. Several share one forward pass."""
    weights: Path | None = None
    """Weights file (fair-esm .pt, Hugging Face model.safetensors or pytorch_model.bin; UniRep:
    model_weights.npz); by default they are looked for and fetched."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """Number format of the forward pass; bfloat16 is faster and less exact (docs/benchmarks.md)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format on disk; bfloat16 halves the size."""
    min_residues: int = 1
    """Shortest protein, in residues."""
    max_residues: int | None = None
    """Longest protein, in residues; by default what the parent takes (1022 for ESM2)."""
    too_long: TooLong = "skip"
    """What happens to longer proteins: leave out (skip) or cut at this length (crop)."""
    illegal: Literal["error", "skip"] = "error"
    """What happens to a record with an illegal letter: stop with its name, or leave it out."""
    sample: int | Literal["all"] | None = None
    """Draw this many distinct sequences by a seeded hash, the same on every machine, in the order
    of the hash (all: every distinct one). By default every record in the file's order."""
    seed: int = 0
    """Seed of the sample."""
    token_dropout: bool = True
    """ESM2's 0.88 embedding scale, on by default as in fair-esm and Hugging Face."""
    batch_residues: int = 1024
    """Residues per forward pass; about 1,000 suit a CPU's cache, a GPU wants more (16,384)."""
    shard_rows: int = 16384
    """Rows (residues) per shard, the unit of resuming; a multiple of 1024 (262,144 for millions of
    proteins)."""
    engine: Literal["local", "ray"] = "local"
    """What runs the shards: processes of this machine (or of a SLURM or torchrun job), or Ray."""
    processes: int | None = None
    """Processes on this machine; by default one for each GPU, or one. With Ray: tasks at once."""
    device: str | None = None
    """Torch device; by default every process takes a GPU of its own, else the CPU."""
    dry_run: bool = False
    """Count, measure the rate for some seconds, print what it would cost, and write nothing."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.shard_rows < CHUNK_ROWS or self.shard_rows % CHUNK_ROWS:
            raise UserError(f"--shard-rows ({self.shard_rows}) must be a multiple of {CHUNK_ROWS}")
        if self.batch_residues < 1:
            raise UserError(f"--batch-residues ({self.batch_residues}) must be at least 1")
        if self.processes is not None and self.processes < 1:
            raise UserError(f"--processes ({self.processes}) must be at least 1")
        if not self.site or len(set(self.site)) < len(self.site):
            raise UserError(f"--site ({' '.join(self.site)}): name at least one site, each once")
        self.selection(MAX_POSITION)

    def selection(self, longest: int) -> Selection:
        """Which sequences to use, with a parent that takes up to ``longest`` residues."""
        return Selection(
            min_residues=self.min_residues,
            max_residues=longest if self.max_residues is None else self.max_residues,
            too_long=self.too_long,
            illegal=self.illegal,
            sample=self.sample,
            seed=self.seed,
        )

    def places(self) -> list[Location]:
        """Where the store of each site is."""
        out = Location.of(self.out)
        return [out] if len(self.site) == 1 else [out / site for site in self.site]
