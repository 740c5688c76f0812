"""What an SAE is (:class:`SAEConfig`) and how it is trained (:class:`TrainConfig`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from extract.errors import UserError

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
class TrainConfig:
    """Train a TopK sparse autoencoder on an activation store, on every visible device.

    The recipe is Gao et al. 2024 (arXiv 2406.04093): TopK with AuxK, unit-norm decoder rows,
    Adam. An interrupted run goes on from its last checkpoint, to the identical result, when the
    same command is given again.
    """

    activations: Path
    """Activation store made by ``python -m extract``."""
    out: Path
    """Folder of the run (made, or resumed)."""
    eval_activations: Path | None = None
    """Store of other proteins for the held-out figures; by default proteins are held out of
    ``activations`` (see holdout_fraction)."""
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

    def __post_init__(self) -> None:
        """Check the numbers."""
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
