"""What an SAE is (:class:`SAEConfig`) and how it is trained (:class:`TrainConfig`)."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro

from extract.errors import UserError
from extract.fasta import MAX_POSITION
from extract.selection import Selection, TooLong
from extract.store import CHUNK_ROWS

DEAD_AFTER_TOKENS = 10_000_000
"""Gao et al. 2024 (arXiv 2406.04093), section 2.4: dead is silent for 10 M tokens."""


@dataclass(frozen=True)
class SAEConfig:
    """A TopK sparse autoencoder (Gao et al. 2024, arXiv 2406.04093)."""

    d_model: int
    """Dimensions of the activations."""
    d_sae: int
    """Latents in the dictionary."""
    k: int
    """Latents active per residue."""
    k_aux: int
    """Dead latents that reconstruct the residual in AuxK."""

    def __post_init__(self) -> None:
        """Check the sizes against each other."""
        for name in ("d_model", "d_sae", "k", "k_aux"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} ({getattr(self, name)}) must be at least 1")
        for name in ("k", "k_aux"):
            if getattr(self, name) > self.d_sae:
                raise UserError(
                    f"{name} ({getattr(self, name)}) must be at most d_sae ({self.d_sae}); "
                    "lower it or train a wider dictionary"
                )


@dataclass(frozen=True)
class StreamConfig:
    """With ``--source stream``: the parent, and the proteins it runs over while the SAE trains."""

    fasta: Path | None = None
    """FASTA or FASTA.gz with the proteins."""
    model: str = "esm2_t6_8M_UR50D"
    """The parent, as for ``python -m extract``."""
    site: str = "block4"
    """Where to read, as for ``python -m extract``."""
    weights: Path | None = None
    """Weights file (fair-esm .pt, Hugging Face model.safetensors or pytorch_model.bin)."""
    token_dropout: bool = True
    """ESM2's 0.88 embedding scale, on by default as in fair-esm and Hugging Face."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """Number format of the parent's forward pass."""
    sample: int | None = None
    """Draw this many distinct sequences by a seeded hash; by default all."""
    min_residues: int = 1
    """Shortest protein, in residues."""
    max_residues: int | None = None
    """Longest protein, in residues; by default what the parent takes (1022 for ESM2)."""
    too_long: TooLong = "skip"
    """What happens to longer proteins: leave out (skip) or cut at this length (crop)."""
    illegal: Literal["error", "skip"] = "error"
    """What happens to a record with an illegal letter: stop with its name, or leave it out."""
    batch_residues: int = 1024
    """Residues per forward pass; about 1,000 suit a CPU's cache, a GPU wants more."""
    shard_rows: int = 16384
    """Rows (residues) computed at a time; a multiple of 1024."""
    normalizer_rows: int = 262_144
    """Rows from which mean and scale are estimated before training starts."""
    parent_device: str | None = None
    """Torch device of the parent, such as cuda:0; by default the first GPU, else the CPU. The SAE
    trains on the other GPUs, or takes turns with the parent when there is only one."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.shard_rows < CHUNK_ROWS or self.shard_rows % CHUNK_ROWS:
            raise UserError(f"--shard-rows ({self.shard_rows}) must be a multiple of {CHUNK_ROWS}")
        for name in ("batch_residues", "normalizer_rows"):
            if getattr(self, name) < 1:
                raise UserError(f"{flag(name)} ({getattr(self, name)}) must be at least 1")
        self.selection(MAX_POSITION, seed=0)

    def selection(self, longest: int, *, seed: int) -> Selection:
        """Distinct sequences in the order of their hashes, for a parent that takes ``longest``."""
        return Selection(
            min_residues=self.min_residues,
            max_residues=longest if self.max_residues is None else self.max_residues,
            too_long=self.too_long,
            illegal=self.illegal,
            sample="all" if self.sample is None else self.sample,
            seed=seed,
        )

    def given(self) -> list[str]:
        """Flags whose values are not the defaults."""
        plain = StreamConfig()
        changed = (f.name for f in fields(self) if getattr(self, f.name) != getattr(plain, f.name))
        return [flag(name) for name in changed]


def flag(name: str) -> str:
    """A field's name on the command line."""
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True)
class TrainConfig:
    """Train a TopK sparse autoencoder on activations, on every visible device.

    They come from a store, or with ``--source stream`` from the parent as it runs over a FASTA
    file, without a disk in between. The recipe is Gao et al. 2024 (arXiv 2406.04093): TopK with
    AuxK, unit-norm decoder rows, Adam. An interrupted run goes on from its last checkpoint, to the
    identical result, when the same command is given again.
    """

    activations: Path | None = None
    """Activation store made by ``python -m extract``; required unless the source is a stream."""
    out: Path = tyro.MISSING
    """Folder of the run (made, or resumed)."""
    source: Literal["store", "stream"] = "store"
    """Where activations come from: a store (--activations), or a parent that runs over --fasta."""
    eval_activations: Path | None = None
    """Store of other proteins for the held-out figures; by default proteins are held out of
    ``activations`` or ``fasta`` (see holdout_fraction)."""
    holdout_fraction: float = 0.02
    """Share of proteins kept from training when there is no eval_activations, chosen by hash."""
    d_sae: int = 2048
    """Latents in the dictionary."""
    k: int = 32
    """Latents active per residue."""
    k_aux: int | None = None
    """Dead latents used by AuxK; by default half of d_model (Gao et al.)."""
    epochs: int = 4
    """Passes over the activations."""
    batch_size_tokens: int = 2048
    """Residues per step, over all devices."""
    learning_rate: float | None = None
    """Peak of Adam's learning rate; by default 2e-4 / sqrt(d_sae / 2**14) (Gao et al.)."""
    warmup_steps: int = 1000
    """Linear warm-up, at most a tenth of the run."""
    decay_fraction: float = 0.2
    """Share of the run over which the learning rate falls linearly to zero, at its end."""
    auxk_coefficient: float = 1 / 32
    """Weight of the AuxK loss (Gao et al.)."""
    dead_after_tokens: int | None = None
    """Residues without firing after which a latent counts as dead; by default 10 M, or an eighth
    of the run when that is less."""
    seed: int = 0
    """Seed of the initial weights and of the order of the data."""
    log_every_steps: int = 50
    """Steps between lines of metrics.jsonl."""
    checkpoint_every_steps: int = 1000
    """Steps between checkpoints."""
    pool_shards: int | None = None
    """Neighbouring shards that are shuffled together in memory: 4 by default for a stream. For a
    store, whose chunks of 1,024 rows are permuted first unless this is given, it makes the order
    that a stream of the same proteins has."""
    stream: Annotated[StreamConfig, tyro.conf.OmitArgPrefixes] = field(default_factory=StreamConfig)
    """Only with ``--source stream``."""

    def __post_init__(self) -> None:
        """Check the numbers, and that the flags belong to the source."""
        self._check_source()
        if self.pool_shards is not None and self.pool_shards < 1:
            raise UserError(f"--pool-shards ({self.pool_shards}) must be at least 1")
        for name in ("d_sae", "k", "epochs", "batch_size_tokens", "log_every_steps",
                     "checkpoint_every_steps"):  # fmt: skip
            if getattr(self, name) < 1:
                raise UserError(f"{name} ({getattr(self, name)}) must be at least 1")
        if not 0 < self.holdout_fraction < 1:
            raise UserError(f"holdout_fraction ({self.holdout_fraction}) must be between 0 and 1")
        if not 0 <= self.decay_fraction <= 1:
            raise UserError(f"decay_fraction ({self.decay_fraction}) must be from 0 to 1")
        if self.learning_rate is not None and not 0 < self.learning_rate < 1:
            raise UserError(f"learning_rate ({self.learning_rate}) must be between 0 and 1")
        self.sae(d_model=1)  # sizes that do not fit together are told before a parent is loaded

    def _check_source(self) -> None:
        if self.source == "stream":
            if self.stream.fasta is None:
                raise UserError("--source stream needs --fasta: give a FASTA file of proteins")
            if self.activations is not None:
                raise UserError(
                    "--activations does not go with --source stream, which computes its own; "
                    "remove one of the two"
                )
            return
        if self.stream.given():
            raise UserError(
                f"{', '.join(self.stream.given())}: only with --source stream; add that, or "
                "remove the flag to train from a store"
            )
        if self.activations is None:
            raise UserError(
                "--activations is required: give a store made by python -m extract, or train "
                "without one by --source stream --fasta proteins.fasta"
            )

    def sae(self, d_model: int) -> SAEConfig:
        """The SAE to train on activations of ``d_model`` dimensions."""
        k_aux = min(self.k_aux or max(1, d_model // 2), self.d_sae)
        return SAEConfig(d_model=d_model, d_sae=self.d_sae, k=self.k, k_aux=k_aux)

    def peak_learning_rate(self) -> float:
        """Gao et al.'s scaling rule unless one was given."""
        return self.learning_rate or 2e-4 / (self.d_sae / 2**14) ** 0.5

    def dead_threshold_tokens(self, n_steps: int) -> int:
        """Residues of silence that make a latent dead, in a run of ``n_steps``."""
        of_run = max(1, n_steps * self.batch_size_tokens // 8)
        return self.dead_after_tokens or min(DEAD_AFTER_TOKENS, of_run)
