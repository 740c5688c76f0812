"""Groups of settings of a run, each a frozen dataclass that becomes flags of the command line."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from extract.command_line import Optional, Several
from extract.errors import UserError
from extract.fasta import MAX_POSITION
from extract.selection import Selection, TooLong
from extract.store import CHUNK_ROWS
from saejax.sae_config import Architecture, EncodeDtype

DEAD_AFTER_TOKENS = 10_000_000
"""Gao et al. 2024 (arXiv 2406.04093), section 2.4: dead is silent for 10 M tokens."""

Tracker = Literal["tensorboard", "wandb", "trackio"]


@dataclass(frozen=True)
class Dictionary:
    """The dictionary: architecture and sizes (docs/training.md tells when to choose which)."""

    architecture: Architecture = "topk"
    """How active latents are chosen: topk is the simplest, and a good first choice;
    docs/training.md tells them apart."""
    d_sae: int = 2048
    """Latents in the dictionary: what the SAE can learn to name."""
    k: int = 32
    """Latents active per residue (topk), or on average (batchtopk, matryoshka). How many the others
    have follows from --sparsity."""
    k_aux: Optional[int] = None
    """Dead latents used by AuxK; by default half of d_model (Gao et al.)."""
    multi_topk: bool = False
    """topk: add an eighth of the loss with 4k latents, so that more of them can be used at
    inference than in training (Gao et al., section 4.2)."""
    prefixes: Optional[tuple[int, ...]] = None
    """matryoshka: ascending sizes of the nested dictionaries, the last of them --d-sae; by default
    a sixteenth, an eighth, a quarter and half of it, and all."""
    prefix_weights: Optional[tuple[float, ...]] = None
    """matryoshka: weight of each nested dictionary's loss; by default all the same."""
    sparsity: Optional[float] = None
    """jumprelu, gated, relu: λ, the weight of the sparsity penalty, for inputs of E‖x‖² = d_model;
    by default the architecture's own."""
    target_l0: Optional[float] = None
    """jumprelu: aim at this L0 instead of a weight λ (docs/training.md)."""


@dataclass(frozen=True)
class Recipe:
    """How it is optimised."""

    learning_rate: Optional[float] = None
    """Peak of Adam's learning rate; by default the architecture's own, for topk and its kin
    2e-4 / sqrt(d_sae / 16384) (Gao et al.)."""
    warmup_steps: int = 1000
    """Steps over which the learning rate rises from zero; at most a tenth of the run."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this global norm (Gao et al.). Their loss is a mean over the
    dimensions; 1 / d_model is what a clip at 1 is for a loss that is a sum over them."""
    encoder_norm: float = 1.0
    """topk, batchtopk, matryoshka: norm of the encoder's rows at the start, which are the
    decoder's times this."""
    decay_fraction: float = 0.2
    """Share of the run over which the learning rate falls linearly to zero, at its end."""
    auxk_coefficient: float = 1 / 32
    """Weight of the AuxK loss (Gao et al.)."""
    dead_after_tokens: Optional[int] = None
    """Residues without firing after which a latent counts as dead; by default 10 M, or an eighth
    of the run when that is less."""
    k_start: Optional[int] = None
    """Start with this many active latents, and come down (or up) to --k linearly over
    --k-anneal-fraction of the run."""
    k_anneal_fraction: float = 0.1
    """Share of the run over which k goes from --k-start to --k."""
    sparsity_warmup_fraction: Optional[float] = None
    """Share of the run over which λ rises linearly from 0; by default the architecture's own."""
    ema_decay: Optional[float] = None
    """Keep an exponential moving average of the weights with this decay (0.999 in Gao et al.),
    and evaluate and load that one."""
    accumulate_steps: int = 1
    """Parts of a batch that are computed one after another and their gradients averaged, when a
    whole batch does not fit into memory."""
    encode_dtype: EncodeDtype = "float32"
    """Number format of the encoder's matrix product; bfloat16 inputs are summed in float32."""


@dataclass(frozen=True)
class Reporting:
    """What is written, and when."""

    log_every_steps: int = 50
    """Steps between lines of metrics.jsonl."""
    eval_every_steps: Optional[int] = None
    """Steps between evaluations on held-out residues; by default only at the end."""
    checkpoint_every_steps: int = 1000
    """Steps between checkpoints."""
    keep_checkpoints: int = 2
    """Newest checkpoints that stay."""
    trackers: Several[Tracker] = ()
    """Where metrics go besides metrics.jsonl; each needs its package (pip install wandb)."""


@dataclass(frozen=True)
class Layout:
    """Devices and processes (docs/training.md)."""

    latent_devices: int = 1
    """Devices that share one dictionary, when it outgrows a single one; a divisor of their
    number. The others share the batch."""
    coordinator: Optional[str] = None
    """host:port of process 0 of several; auto finds it under SLURM and on Kubernetes."""
    num_processes: Optional[int] = None
    """Processes in all; with --coordinator host:port."""
    process_id: Optional[int] = None
    """Which of them this is, from 0; with --coordinator host:port."""


@dataclass(frozen=True)
class StreamConfig:
    """With ``--source stream``: the parent, and the proteins it runs over while the SAE trains."""

    fasta: Optional[Path] = None
    """FASTA or FASTA.gz with the proteins."""
    model: str = "esm2_t6_8M_UR50D"
    """The parent, as for ``python -m extract``."""
    site: str = "block4"
    """Where to read, as for ``python -m extract``."""
    weights: Optional[Path] = None
    """Weights file (fair-esm .pt, Hugging Face model.safetensors or pytorch_model.bin)."""
    token_dropout: bool = True
    """ESM2's 0.88 embedding scale, on by default as in fair-esm and Hugging Face."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """Number format of the parent's forward pass."""
    sample: Optional[int] = None
    """Draw this many distinct sequences by a seeded hash; by default all."""
    min_residues: int = 1
    """Shortest protein, in residues."""
    max_residues: Optional[int] = None
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
    parent_device: Optional[str] = None
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


GROUP_TYPES = (Dictionary, Recipe, Reporting, Layout, StreamConfig)
"""In the order of ``TrainConfig``'s groups."""


def flag(name: str) -> str:
    """A field's name on the command line."""
    return f"--{name.replace('_', '-')}"
