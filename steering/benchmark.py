"""How often does steering move its target, beyond what controls do that disturb as much?

A target is a latent and what it should move:

- an **amino acid**: log p of it at masked positions, under the latent at the given strength;
- a **concept**: the probability that a probe of the concept (:mod:`steering.concept_probe`, which
  never saw the SAE) gives a variant which the edited model wrote into those masked positions, less
  that of the variant which the unedited model wrote with the same random numbers. The probe reads
  the unedited model.

Controls are random latents of about the same firing frequency and random directions. For each the
norm at which its mean KL(base ‖ steered) at masked positions equals the latent's is found from its
dose-response; the comparison is made there. A protein counts as steered where the target moves
further than the 95th percentile of its controls; the **success rate** is the share of proteins.
:func:`steering.success.chance` says what it is at most by chance, :func:`~steering.success.steers`
when a latent is said to steer. Controls that never reach the KL stand at their highest, and are
counted.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from extract.alphabet import AMINO_ACIDS
from extract.errors import UserError
from extract.plm import ProteinLM
from steering.belief import read_probes
from steering.controls import (
    Interval,
    bootstrap_mean,
    latent_directions,
    matched_latents,
    random_directions,
)
from steering.design import design
from steering.design_settings import DesignSettings
from steering.edits import Edit, Where, multiple_of_maximum
from steering.masked import masked_residues, scored_batches
from steering.success import amino_acid_readout, share_beyond, steers, success
from steering.sweep import DoseResponse, dose_response
from steering.torch_sae import TorchSAE

if TYPE_CHECKING:
    from saejax.checkpoint import LoadedSAE
    from steering.concept_probe import ConceptProbe

log = logging.getLogger(__name__)

GRID = (0.0, 0.25, 0.5, 1.0)
"""Strengths of the dose-response, in multiples of the benchmark's own."""


@dataclass(frozen=True)
class Target:
    """A latent, and what it should move."""

    name: str
    """The concept's, or the amino acid's letter."""
    kind: str
    """``amino acid``, or the kind of the concept."""
    latent: int
    """Which latent."""

    @property
    def is_amino_acid(self) -> bool:
        """Whether log p of an amino acid is followed."""
        return self.kind == "amino acid"


@dataclass(frozen=True)
class BenchmarkSettings:
    """How targets are tested."""

    strength: float = 1.0
    """Multiple of the latent's own maximum on the run's held-out residues."""
    mask_fraction: float = 0.2
    """Share of each protein's standard residues that is masked, and rewritten for concepts."""
    n_latents: int = 10
    """Random latents."""
    n_directions: int = 10
    """Random directions."""
    n_variants: int = 1
    """Variants of every protein and arm, for concepts."""
    seed: int = 0
    """Of masks, controls, draws and the bootstrap."""
    batch_residues: int = 4096
    """Residues per forward pass."""

    @property
    def n_controls(self) -> int:
        """Random latents and directions."""
        return self.n_latents + self.n_directions


class TargetResult(NamedTuple):
    """What became of one target."""

    target: Target
    """Which."""
    effect: Interval
    """Mean movement: Δlog p (nats) or change of probability. 95 %, bootstrap over proteins."""
    control: float
    """The mean of the controls' at equal KL."""
    success: Interval
    """Share of proteins above the 95th percentile of their controls at equal KL."""
    success_equal_norm: float
    """The same at equal norm; NaN for concepts."""
    controls_reached: float
    """Share of controls whose KL gets as high as the latent's."""
    facts: dict[str, float | str]
    """Of the latent: frequency, maximum, KL, its ratio to controls' of equal norm, and more."""
    per_protein: Float[np.ndarray, " proteins"]
    """Movement of each protein; NaN where nothing was masked."""
    n_controls: int
    """Random latents and directions."""

    @property
    def steers(self) -> bool:
        """Whether the latent steers: see :func:`steering.success.steers`."""
        return steers(self.success, self.n_controls)


def run_target(
    model: ProteinLM,
    sae: TorchSAE,
    loaded: LoadedSAE,
    sequences: Sequence[str],
    target: Target,
    settings: BenchmarkSettings,
    *,
    probes: Mapping[str, ConceptProbe],
    exclude: Sequence[int] = (),
) -> TargetResult:
    """Test one target on proteins that neither the SAE nor the choice of the latent has seen.

    Args:
        model: the parent.
        sae: on the model's device.
        loaded: the run, for frequencies and maxima.
        sequences: the proteins.
        target: which latent, and what it should move.
        settings: how.
        probes: of the concepts, by name.
        exclude: latents that may not be controls.

    Raises:
        UserError: a latent that never fired, too few others, or no probe of the concept.
    """
    value = multiple_of_maximum(loaded, target.latent, settings.strength)
    controls = matched_latents(
        loaded.latent_frequency, target.latent, settings.n_latents, seed=settings.seed,
        exclude=exclude,
    ).tolist()  # fmt: skip
    batches = list(
        scored_batches(model, sequences, mask_fraction=settings.mask_fraction, seed=settings.seed,
                       batch_residues=settings.batch_residues)
    )  # fmt: skip
    edits = [Edit(target.latent, "set", value * g, Where("masked")) for g in GRID]
    response = dose_response(
        model, sae, batches, edits, n_proteins=len(sequences), control_latents=controls,
        n_directions=settings.n_directions, seed=settings.seed,
        batch_tokens=settings.batch_residues,
    )  # fmt: skip
    facts = facts_of(sae, loaded, target.latent, response)
    if target.is_amino_acid:
        readout = amino_acid_readout(response, target.name)
        last = success(response, readout, seed=settings.seed)[-1]
        matched, _ = response.at_equal_kl(readout)
        return TargetResult(
            target, last.effect, float(np.nanmean(matched[:, -1])), last.steered_at_equal_kl,
            last.steered_at_equal_norm.mean, last.controls_reached, facts,
            readout[0, len(GRID) - 1], settings.n_controls,
        )  # fmt: skip
    if target.name not in probes:
        raise UserError(f"target {target.name!r}: no probe of this concept was given")
    directions = torch.cat([
        latent_directions(sae, controls),
        random_directions(sae.d_model, settings.n_directions, seed=settings.seed).to(sae.W_dec),
    ])  # fmt: skip
    norms, reached = equal_kl_norms(response)
    moved, of_controls = _rewritten(
        model, sae, sequences, edits[-1], directions * norms[:, None].to(directions),
        probes[target.name], settings,
    )  # fmt: skip
    return TargetResult(
        target, bootstrap_mean(moved, seed=settings.seed), float(of_controls.mean()),
        share_beyond(moved, of_controls, settings.seed), float("nan"), reached, facts, moved,
        settings.n_controls,
    )  # fmt: skip


def equal_kl_norms(response: DoseResponse) -> tuple[Float[Tensor, " controls"], float]:
    """By how much each control's norm must exceed the latent's for the same mean KL.

    Interpolated in the logarithms of both, at the grid's last strength; at most the largest norm
    that was run.

    Returns:
        The multiples, and the share of controls that get there.
    """
    grid = np.array(GRID)
    multiples = np.concatenate([grid, np.array(response.extra_norms) * grid[-1]])
    kl = response.kl[:, :, response.n_read > 0].mean(axis=2)
    wanted, found, reached = kl[0, len(GRID) - 1], [], []
    for curve in kl[1:]:
        usable = (curve > 0) & (multiples > 0)
        if not usable.any() or wanted <= 0:
            found.append(1.0)
            reached.append(False)
            continue
        order = np.argsort(curve[usable])
        x, y = np.log(curve[usable][order]), np.log(multiples[usable][order])
        found.append(float(np.exp(np.interp(np.log(wanted), x, y))))
        reached.append(curve[usable].max() >= wanted)
    return torch.tensor(found), float(np.mean(reached))


def _rewritten(
    model: ProteinLM,
    sae: TorchSAE,
    sequences: Sequence[str],
    edit: Edit,
    directions: Float[Tensor, "controls d_model"],
    probe: ConceptProbe,
    settings: BenchmarkSettings,
) -> tuple[Float[np.ndarray, " proteins"], Float[np.ndarray, "controls proteins"]]:
    """Change of the probe's mean probability, for the latent and each control."""
    moved = np.zeros((1 + len(directions), len(sequences)))
    for p, sequence in enumerate(sequences):
        positions = masked_residues(sequence, settings.mask_fraction, settings.seed)
        how = DesignSettings(
            "single", settings.n_variants, tuple(positions.tolist()), seed=settings.seed,
            batch_residues=settings.batch_residues,
        )  # fmt: skip
        arms = [design(model, sae, sequence, [], how), design(model, sae, sequence, [edit], how)]
        arms += [design(model, sae, sequence, [edit], how, direction_D=d) for d in directions]
        written = [v.sequence for arm in arms for v in arm]
        means = read_probes(model, written, [probe], batch_residues=settings.batch_residues)[:, 0]
        by_arm = means.reshape(len(arms), -1).mean(axis=1)
        moved[:, p] = by_arm[1:] - by_arm[0]
    return moved[0], moved[1:]


@torch.inference_mode()
def facts_of(
    sae: TorchSAE,
    loaded: LoadedSAE,
    latent: int,
    response: DoseResponse,
) -> dict[str, float | str]:
    """What may tell latents that steer from those that don't, at the grid's last strength."""
    kl = np.nanmean(response.kl[:, len(GRID) - 1], axis=1)
    controls = float(np.median(kl[1:])) if len(kl) > 1 else float("nan")
    delta = np.nanmean(response.delta_log_p[0, len(GRID) - 1], axis=0)
    return {
        "frequency": float(loaded.latent_frequency[latent]),
        "maximum": float(loaded.latent_max[latent]),
        "decoder_norm": float(torch.linalg.vector_norm(sae.W_dec[latent])),
        "relative_norm": float(np.nanmean(response.relative_norm[len(GRID) - 1])),
        "kl": float(kl[0]),
        "kl_of_controls": controls,
        "kl_ratio": float(kl[0] / controls) if controls > 0 else float("nan"),
        "largest_amino_acid_effect": float(delta.max()),
        "strongest_amino_acid": AMINO_ACIDS[int(delta.argmax())],
    }


def row_of(result: TargetResult) -> dict[str, Any]:
    """A line of the table."""
    t = result.target
    return {
        "target": t.name,
        "kind": t.kind,
        "latent": t.latent,
        "effect": result.effect.mean,
        "effect_low": result.effect.low,
        "effect_high": result.effect.high,
        "control": result.control,
        "success": result.success.mean,
        "success_low": result.success.low,
        "success_high": result.success.high,
        "success_equal_norm": result.success_equal_norm,
        "controls_reached": result.controls_reached,
        "n_proteins": int((~np.isnan(result.per_protein)).sum()),
        **result.facts,
        "steers": result.steers,
    }
