"""Does steering raise an amino acid at masked positions, and more than random latents do?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from extract.alphabet import AMINO_ACIDS, residue_tokens, residue_types
from extract.batching import token_batches
from extract.errors import UserError
from extract.plm import PackedTokens, ProteinLM
from steering.controls import matched_change, matched_latents
from steering.effects import EditedPasses, amino_acid_log_p, kl_divergence, relative_norms
from steering.hooks import Clamp, check_clamps, clamp_changes, decode_changes
from steering.torch_sae import TorchSAE


class MaskedBatch(NamedTuple):
    """Masked copies of sequences, packed."""

    tokens: PackedTokens
    """With the parent's mask token at the chosen positions."""
    rows: Int[Tensor, " masked"]
    """Packed rows of the masks, ascending."""
    proteins: Int[np.ndarray, " masked"]
    """Which sequence each mask belongs to."""


def masked_batches(
    model: ProteinLM,
    sequences: Sequence[str],
    *,
    mask_fraction: float = 0.1,
    copies: int = 1,
    seed: int = 0,
    batch_residues: int = 4096,
) -> Iterator[MaskedBatch]:
    """Copies of every sequence, each with its own random standard residues masked.

    Positions depend on (seed, the sequence's place in the list) only. The masks of a sequence's
    copies are disjoint: copies = 1 / mask_fraction masks every residue once.
    """
    if not 0 < mask_fraction < 1 or copies < 1:
        raise UserError(
            f"mask_fraction ({mask_fraction}) must be between 0 and 1, copies ({copies}) at least 1"
        )
    if model.mask_token is None:
        raise UserError(f"{model.name} was not trained on masks, so it has no masked positions")
    jobs: list[tuple[int, np.ndarray]] = []
    for protein, sequence in enumerate(sequences):
        standard = standard_residues(sequence)
        order = np.random.default_rng((seed, protein)).permutation(standard)
        n = max(1, round(mask_fraction * len(standard)))
        chunks = [np.sort(order[c * n : (c + 1) * n]) for c in range(copies)]
        jobs += [(protein, chunk) for chunk in chunks if len(chunk)]
    lengths = [len(sequences[protein]) for protein, _ in jobs]
    for batch in token_batches(range(len(jobs)), lengths, batch_residues):
        tokens = model.tokenize([sequences[jobs[j][0]] for j in batch])
        starts = np.cumsum([0, *tokens.lengths[:-1]]) + tokens.n_before
        rows = np.concatenate([s + jobs[j][1] for s, j in zip(starts, batch, strict=True)])
        proteins = np.concatenate([np.full(len(jobs[j][1]), jobs[j][0]) for j in batch])
        rows_T = torch.from_numpy(rows).to(tokens.ids.device)
        masked = tokens._replace(ids=tokens.ids.index_fill(0, rows_T, model.mask_token))
        yield MaskedBatch(masked, rows_T, proteins)


def standard_residues(sequence: str) -> Int[np.ndarray, " standard"]:
    """0-based places of a sequence's standard residues: those with a logit column of their own."""
    return np.flatnonzero(residue_types(residue_tokens(sequence)) < len(AMINO_ACIDS))


class MaskedEffect(NamedTuple):
    """Steering at masked positions, beside its controls. Means over each protein's masks; NaN
    for a protein without a standard residue."""

    target: Float[np.ndarray, " proteins"]
    """Mean Δlog p of the amino acid, the latent clamped to the value (nats)."""
    zeroed: Float[np.ndarray, " proteins"]
    """The same with the latent clamped to 0: strength 0 on the same axis."""
    controls: Float[np.ndarray, "controls proteins"]
    """The same for every control latent, its change of the target's norm at every position."""
    control_latents: Int[np.ndarray, " controls"]
    """The controls: nearest to the latent in log firing frequency."""
    target_kl: Float[np.ndarray, " proteins"]
    """Mean KL(base ‖ steered) under the target edit (nats)."""
    control_kl: Float[np.ndarray, "controls proteins"]
    """The same for every control."""
    relative_norm: Float[np.ndarray, " proteins"]
    """Mean ‖Δx‖ / ‖x‖ of the edit (the controls' is the same)."""
    n_positions: Int[np.ndarray, " proteins"]
    """Masked positions."""

    def excess(self) -> Float[np.ndarray, " proteins"]:
        """Target less the mean of its controls, protein by protein."""
        return self.target - self.controls.mean(axis=0)


@torch.inference_mode()
def masked_positions_effect(
    model: ProteinLM,
    sae: TorchSAE,
    sequences: Sequence[str],
    clamp: Clamp,
    amino_acid: str,
    *,
    frequency: Float[np.ndarray, " d_sae"],
    n_controls: int = 10,
    exclude: Sequence[int] = (),
    mask_fraction: float = 0.1,
    copies: int = 1,
    seed: int = 0,
    batch_residues: int = 4096,
) -> MaskedEffect:
    """Does clamping a latent raise an amino acid at masked positions more than controls do?

    Every sequence is run with a share of its residues masked, the edit applied at the masked
    positions only: unedited, clamped, clamped to 0, and once for each control. A control adds a
    change of the same norm as the target's at the same position, along its own decoder row.
    Cost: 3 + n_controls passes over copies · residues tokens.

    Args:
        model: the parent.
        sae: on the model's device.
        sequences: held-out proteins; the unit of the results.
        clamp: the latent and its strength.
        amino_acid: the one-letter code whose log p is followed.
        frequency: ``LoadedSAE.latent_frequency``, to match controls.
        n_controls: control latents.
        exclude: latents that may not be controls.
        mask_fraction: share of a sequence's residues masked at once.
        copies: masked copies of each sequence, their masks disjoint.
        seed: of the masks and of ties between controls.
        batch_residues: residues per forward pass.

    Raises:
        UserError: unknown latent or amino acid, too few controls, another parent.
    """
    if amino_acid not in tuple(AMINO_ACIDS):
        raise UserError(f"unknown amino acid {amino_acid!r}; it is one of {AMINO_ACIDS}")
    sae.require_parent(model)
    check_clamps(sae, [clamp])
    controls = matched_latents(frequency, clamp.latent, n_controls, seed=seed, exclude=exclude)
    measured, proteins = [], []
    batches = list(masked_batches(model, sequences, mask_fraction=mask_fraction, copies=copies,
                                  seed=seed, batch_residues=batch_residues))  # fmt: skip
    column = AMINO_ACIDS.index(amino_acid)
    for batch in tqdm(batches, desc=f"steer latent {clamp.latent}", unit="batch", disable=None):
        measured.append(_measure(model, sae, batch, clamp, controls, column))
        proteins.append(batch.proteins)
    if not measured:
        raise UserError("no sequence has a standard residue to mask; give other sequences")
    protein = np.concatenate(proteins)
    count = np.bincount(protein, minlength=len(sequences))
    columns_MR = np.concatenate(measured, axis=1)
    sums = np.stack([np.bincount(protein, m, minlength=len(sequences)) for m in columns_MR])
    means = np.divide(sums, count, out=np.full_like(sums, np.nan), where=count > 0)
    target, zeroed, target_kl, relative = means[:4]
    control_delta, control_kl = means[4:].reshape(2, n_controls, -1)
    return MaskedEffect(
        target, zeroed, control_delta, controls, target_kl, control_kl, relative, count
    )


def _measure(
    model: ProteinLM,
    sae: TorchSAE,
    batch: MaskedBatch,
    clamp: Clamp,
    controls: Int[np.ndarray, " controls"],
    column: int,
) -> Float[np.ndarray, "measures masked"]:
    """At every mask: target Δ, zeroed Δ, target KL, relative norm, controls' Δ, controls' KL."""
    passes = EditedPasses(model, sae.site, batch.tokens, batch.rows)
    columns = model.amino_acid_tokens
    base = amino_acid_log_p(passes.base_logits[batch.rows], columns)

    def delta_and_kl(delta_RD: Tensor) -> tuple[Tensor, Tensor]:
        log_p = amino_acid_log_p(passes.logits(delta_RD)[batch.rows], columns)
        return (log_p - base)[:, column], kl_divergence(base, log_p)

    target_RD, zeroed_RD = (
        decode_changes(sae, clamp_changes(sae, passes.x_RD, [c]), [c.latent])
        for c in (clamp, Clamp(clamp.latent, 0.0))
    )
    target, target_kl = delta_and_kl(target_RD)
    zeroed, _ = delta_and_kl(zeroed_RD)
    norms_R = torch.linalg.vector_norm(target_RD, dim=-1)
    pairs = [delta_and_kl(matched_change(sae, int(c), norms_R)) for c in controls]
    relative = relative_norms(target_RD, passes.x_RD)
    rows = [target, zeroed, target_kl, relative, *(d for d, _ in pairs), *(kl for _, kl in pairs)]
    return torch.stack(rows).cpu().numpy()
