"""What an edit does to the parent's predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from extract.alphabet import AMINO_ACIDS
from extract.errors import UserError
from extract.plm import PackedTokens, ProteinLM
from steering.hooks import (
    Clamp,
    check_clamps,
    check_rows,
    clamp_changes,
    clamp_latents,
    decode_changes,
    edit_residual,
    replace_residual,
)
from steering.torch_sae import TorchSAE


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


class ClampEffect(NamedTuple):
    """What one clamp did at the edited positions."""

    clamp: Clamp
    """Which latent, to which value."""
    fired_on: float
    """Share of the edited positions on which the latent fired before the edit."""
    mean_before: float
    """Mean of the latent there before the edit (normalised latent units)."""
    mean_norm: float
    """Mean ‖Δx‖ of this clamp alone (raw activation units)."""
    relative_norm: float
    """Mean ‖Δx‖ / ‖x‖ of this clamp alone."""


class SequenceEffect(NamedTuple):
    """One sequence with and without an edit. Residues are rows, ``AMINO_ACIDS`` columns."""

    sequence: str
    """The sequence."""
    positions: Int[np.ndarray, " edited"]
    """0-based residues at which the edit applied."""
    base_log_p: Float[np.ndarray, "residues 20"]
    """log p without the edit (nats)."""
    steered_log_p: Float[np.ndarray, "residues 20"]
    """log p under the edit (nats)."""
    kl: Float[np.ndarray, " residues"]
    """KL(base ‖ steered) at each residue (nats)."""
    clamps: list[ClampEffect]
    """What each clamp changed, in the order given."""
    relative_norm: float
    """Mean ‖Δx‖ / ‖x‖ over edited positions, all clamps together."""

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
    clamps: Sequence[Clamp],
    positions: Sequence[int] | None = None,
) -> SequenceEffect:
    """Run a sequence with and without the clamps, unmasked.

    Args:
        model: the parent.
        sae: on the model's device.
        sequence: legal residues.
        clamps: each latent at most once.
        positions: 0-based residues to edit; by default all.

    Raises:
        UserError: as :func:`steering.hooks.clamp_latents`, a parent without logits, or an edit
            so strong that the output overflows.
    """
    sae.require_parent(model)
    latents = check_clamps(sae, clamps)
    tokens = model.tokenize([sequence])
    residues = tokens.residue_rows()
    chosen = np.arange(len(sequence)) if positions is None else np.array(positions, dtype=np.int64)
    rows = residues[torch.from_numpy(chosen).to(residues.device)]
    passes = EditedPasses(model, sae.site, tokens, rows)
    dz_RC = clamp_changes(sae, passes.x_RD, clamps)
    delta_RD = decode_changes(sae, dz_RC, latents)
    columns = model.amino_acid_tokens
    base = amino_acid_log_p(passes.base_logits[residues], columns)
    with clamp_latents(model, sae, clamps, tokens, rows=rows):
        steered = amino_acid_log_p(model.logits(tokens)[residues], columns)
    kl = kl_divergence(base, steered)
    if not (steered.isfinite().all() and kl.isfinite().all()):
        strengths = ", ".join(f"latent {c.latent} = {c.value:g}" for c in clamps)
        raise UserError(
            f"{strengths}: so strong an edit that the model's output is not finite; a latent's own "
            "maximum is a sensible size, write it as LATENT=1x"
        )
    return SequenceEffect(
        sequence, chosen, base.cpu().numpy(), steered.cpu().numpy(), kl.cpu().numpy(),
        _clamp_effects(sae, passes.x_RD, dz_RC, clamps),
        float(relative_norms(delta_RD, passes.x_RD).mean()),
    )  # fmt: skip


def _clamp_effects(
    sae: TorchSAE, x_RD: Tensor, dz_RC: Tensor, clamps: Sequence[Clamp]
) -> list[ClampEffect]:
    effects = []
    for clamp, dz_R in zip(clamps, dz_RC.T, strict=True):
        before_R = clamp.value - dz_R
        delta_RD = decode_changes(sae, dz_R[:, None], [clamp.latent])
        effects.append(
            ClampEffect(
                clamp=clamp,
                fired_on=float((before_R > 0).float().mean()),
                mean_before=float(before_R.mean()),
                mean_norm=float(torch.linalg.vector_norm(delta_RD, dim=-1).mean()),
                relative_norm=float(relative_norms(delta_RD, x_RD).mean()),
            )
        )
    return effects


def relative_norms(
    delta_RD: Float[Tensor, "rows d_model"], x_RD: Float[Tensor, "rows d_model"]
) -> Float[Tensor, " rows"]:
    """‖Δx‖ / ‖x‖ at each row."""
    norm = torch.linalg.vector_norm
    return norm(delta_RD, dim=-1) / norm(x_RD, dim=-1)


class EditedPasses:
    """Forward passes over one batch with different changes at the same rows of one site.

    Blocks before the site run once, whatever the number of changes.
    """

    def __init__(
        self, model: ProteinLM, site: str, tokens: PackedTokens, rows: Int[Tensor, " rows"]
    ) -> None:
        """Run the unedited pass; ``rows`` are the packed rows that changes apply to."""
        self._model, self._site, self._tokens = model, site, tokens
        self._rows = check_rows(tokens, rows)
        self._stream_site = model.stream_site(site)
        found = model.residuals(tokens, (self._stream_site, site))
        self._stream = found[self._stream_site]
        self.x_RD: Float[Tensor, "rows d_model"] = found[site][self._rows]
        self.base_logits: Float[Tensor, "tokens vocabulary"] = self._logits(self._stream)

    def logits(self, delta_RD: Float[Tensor, "rows d_model"]) -> Float[Tensor, "tokens vocabulary"]:
        """Logits with ``delta_RD`` added at the rows; no pass when all of it is zero."""
        if not delta_RD.any():
            return self.base_logits
        if self._stream_site == self._site:
            change = delta_RD.to(self._stream.dtype)
            return self._logits(self._stream.index_add(0, self._rows, change))
        with edit_residual(
            self._model, self._site, lambda _: delta_RD, self._tokens, rows=self._rows
        ):
            return self._logits(self._stream)

    def spliced(self, x_RD: Float[Tensor, "rows d_model"]) -> Float[Tensor, "tokens vocabulary"]:
        """Logits with ``x_RD`` in place of the rows' own activations at the site."""
        if self._stream_site == self._site:
            put = x_RD.to(self._stream.dtype)
            return self._logits(self._stream.index_copy(0, self._rows, put))
        with replace_residual(
            self._model, self._site, lambda _: x_RD, self._tokens, rows=self._rows
        ):
            return self._logits(self._stream)

    def _logits(self, x: Tensor) -> Tensor:
        return self._model.logits_from(x, self._tokens, self._stream_site)
