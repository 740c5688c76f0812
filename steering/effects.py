"""What an edit does to the parent's predictions in one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from extract.alphabet import AMINO_ACIDS
from extract.errors import UserError
from extract.plm import PackedTokens, ProteinLM
from steering.changes import ErrorTerm, change_of, check_edits
from steering.edits import Edit, Residues
from steering.passes import EditedPasses
from steering.torch_sae import TorchLatents, TorchSAE


def amino_acid_log_p(
    logits: Float[Tensor, "rows vocabulary"], columns: Int[np.ndarray, " 20"]
) -> Float[Tensor, "rows 20"]:
    """Log probability of the 20 standard amino acids, in the order of ``AMINO_ACIDS``.

    The full-vocabulary softmax restricted to the 20 and renormalised over them, which equals the
    softmax over their 20 logits. Natural logarithm.

    Args:
        logits: of a parent.
        columns: that parent's ``amino_acid_tokens``.
    """
    wanted = torch.from_numpy(columns).to(logits.device)
    return logits[:, wanted].float().log_softmax(dim=-1)


def delta_log_p(
    base_logits: Float[Tensor, "rows vocabulary"],
    steered_logits: Float[Tensor, "rows vocabulary"],
    columns: Int[np.ndarray, " 20"],
) -> Float[Tensor, "rows 20"]:
    """Δlog p = log p_steered − log p_base, as :func:`amino_acid_log_p` (nats)."""
    return amino_acid_log_p(steered_logits, columns) - amino_acid_log_p(base_logits, columns)


def kl_divergence(
    base_log_p: Float[Tensor, "rows 20"], steered_log_p: Float[Tensor, "rows 20"]
) -> Float[Tensor, " rows"]:
    """KL(base ‖ steered) = Σ_a p_base (log p_base − log p_steered) at each position (nats)."""
    return (base_log_p.exp() * (base_log_p - steered_log_p)).sum(dim=-1)


class EditEffect(NamedTuple):
    """What one edit did at the residues it applied to, apart from the other edits."""

    edit: Edit
    """The edit."""
    n_edited: int
    """Residues it applied to."""
    fired_on: float
    """Share of them on which the latent fired before (NaN if there are none, as below)."""
    mean_before: float
    """Mean of the latent there before the edit (normalised latent units)."""
    mean_norm: float
    """Mean ‖Δx‖ of this edit alone, the error term kept (raw activation units)."""
    relative_norm: float
    """Mean ‖Δx‖ / ‖x‖ of this edit alone, the error term kept."""


class SequenceEffect(NamedTuple):
    """One sequence with and without edits. Residues are rows, ``AMINO_ACIDS`` columns."""

    sequence: str
    """The sequence."""
    masked: Int[np.ndarray, " masked"]
    """0-based residues that the model did not see, in either pass."""
    edited: Bool[np.ndarray, " residues"]
    """Residues at which any edit applied."""
    base_log_p: Float[np.ndarray, "residues 20"]
    """log p without the edits (nats)."""
    steered_log_p: Float[np.ndarray, "residues 20"]
    """log p under the edits (nats)."""
    kl: Float[np.ndarray, " residues"]
    """KL(base ‖ steered) at each residue (nats)."""
    edits: list[EditEffect]
    """What each edit changed, in the order given."""
    relative_norm: float
    """Mean ‖Δx‖ / ‖x‖ over edited residues, all edits together; 0 where there are none."""

    @property
    def delta_log_p(self) -> Float[np.ndarray, "residues 20"]:
        """log p_steered − log p_base (nats): the heatmap."""
        return self.steered_log_p - self.base_log_p

    def argmax_residues(self) -> tuple[str, str]:
        """The likeliest amino acid at each residue, before and after."""
        before, after = (
            "".join(AMINO_ACIDS[i] for i in log_p.argmax(axis=1))
            for log_p in (self.base_log_p, self.steered_log_p)
        )
        return before, after


@torch.inference_mode()
def sequence_effect(
    model: ProteinLM,
    sae: TorchSAE,
    sequence: str,
    edits: Sequence[Edit],
    *,
    masked: Sequence[int] = (),
    error_term: ErrorTerm = "keep",
) -> SequenceEffect:
    """Run a sequence with and without the edits.

    Args:
        model: the parent.
        sae: on the model's device.
        sequence: legal residues.
        edits: see :mod:`steering.edits`.
        masked: 0-based residues to hide from the model, in both passes.
        error_term: kept or dropped at edited residues.

    Raises:
        UserError: as :func:`steering.hooks.edit_latents`, a parent without logits or, if any
            residue is to be masked, without a mask token, or an edit so strong that the output
            overflows.
    """
    sae.require_parent(model)
    check_edits(sae, edits)
    tokens = mask_residues(model, model.tokenize([sequence]), masked)
    residues = Residues(tokens, model.mask_token)
    passes = EditedPasses(model, sae.site, tokens)
    latents = sae.encode(passes.x_RD)
    change = change_of(sae, edits, passes.x_RD, residues, error_term=error_term, latents=latents)
    columns = model.amino_acid_tokens
    base = amino_acid_log_p(passes.base_logits[passes.rows], columns)
    steered = amino_acid_log_p(passes.logits(change.delta_RD)[passes.rows], columns)
    kl = kl_divergence(base, steered)
    require_finite(edits, steered, kl)
    return SequenceEffect(
        sequence,
        np.array(sorted(masked), dtype=np.int64),
        change.edited_R.cpu().numpy(),
        base.cpu().numpy(),
        steered.cpu().numpy(),
        kl.cpu().numpy(),
        [_edit_effect(sae, edit, passes.x_RD, residues, latents) for edit in edits],
        _mean_relative_norm(change.delta_RD, passes.x_RD, change.edited_R),
    )


def mask_residues(model: ProteinLM, tokens: PackedTokens, masked: Sequence[int]) -> PackedTokens:
    """``tokens`` of one sequence with the parent's mask token at 0-based residues.

    Raises:
        UserError: a parent without a mask token, or a residue outside the sequence.
    """
    if not len(masked):
        return tokens
    if model.mask_token is None:
        raise UserError(f"{model.name} was not trained on masks, so it has no masked residues")
    rows, chosen = tokens.residue_rows(), torch.as_tensor(list(masked))
    if not (int(chosen.min()) >= 0 and int(chosen.max()) < len(rows)):
        raise UserError(
            f"residues to mask: outside the sequence, whose residues are 1 to {len(rows)}"
        )
    return tokens._replace(ids=tokens.ids.index_fill(0, rows[chosen.to(rows)], model.mask_token))


def require_finite(edits: Sequence[Edit], *outputs: Tensor) -> None:
    """Refuse an edit so strong that the parent's output is not finite."""
    if not all(bool(output.isfinite().all()) for output in outputs):
        raise UserError(
            f"{'; '.join(map(str, edits))}: so strong an edit that the model's output is not "
            "finite; a latent's own maximum is a sensible size, write it as LATENT:set:1xmax"
        )


def _edit_effect(
    sae: TorchSAE, edit: Edit, x_RD: Tensor, residues: Residues, latents: TorchLatents
) -> EditEffect:
    change = change_of(sae, [edit], x_RD, residues, latents=latents)
    at, n = change.edited_R, int(change.edited_R.sum())
    before_R = change.before_RC[at, 0]
    norms_R = torch.linalg.vector_norm(change.delta_RD[at], dim=-1)
    nan = float("nan")
    return EditEffect(
        edit,
        n,
        float((before_R > 0).float().mean()) if n else nan,
        float(before_R.mean()) if n else nan,
        float(norms_R.mean()) if n else nan,
        _mean_relative_norm(change.delta_RD, x_RD, at) if n else nan,
    )


def _mean_relative_norm(delta_RD: Tensor, x_RD: Tensor, at: Tensor) -> float:
    return float(relative_norms(delta_RD[at], x_RD[at]).mean()) if at.any() else 0.0


def relative_norms(
    delta_RD: Float[Tensor, "rows d_model"], x_RD: Float[Tensor, "rows d_model"]
) -> Float[Tensor, " rows"]:
    """‖Δx‖ / ‖x‖ at each row; 0 where nothing changes, also of a zero x."""
    norms_R = torch.linalg.vector_norm(delta_RD, dim=-1)
    return torch.where(norms_R > 0, norms_R / torch.linalg.vector_norm(x_RD, dim=-1), 0.0)
