"""Dose-response of one latent, beside what random latents and random directions do.

Every strength s of a grid is given to the latent, as a multiple of its own maximum on the run's
held-out residues, and so are its controls: each adds, at the same residues, a change of the same
norm (decoder norm × strength) along another direction::

    latent             the edit itself
    random latents     decoder rows of latents that fire about as often
    random directions  drawn evenly from the sphere

Strength 0 of the same latent is part of the grid. Read out at the same residues is the mean change
of log p of each amino acid, and KL(base ‖ steered), for each protein: proteins are the unit of
every interval. Two edits of the same norm can disturb the model very unequally, so that
:meth:`DoseResponse.at_equal_kl` compares them at the same KL; for this the controls are also run at
a few multiples of the norm of the largest edit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm import tqdm

from extract.errors import UserError
from extract.plm import ProteinLM
from steering.changes import ErrorTerm, change_of, check_edits
from steering.controls import latent_directions, matched_change, random_directions
from steering.edits import Edit, Residues
from steering.effects import amino_acid_log_p, kl_divergence, relative_norms, require_finite
from steering.masked import ScoredBatch
from steering.passes import EditedPasses
from steering.torch_sae import TorchSAE

EXTRA_NORMS = (2.0, 4.0, 8.0)
"""By default."""


NAN = float("nan")


class DoseResponse(NamedTuple):
    """Effects at the read-out residues, means over each protein's; NaN for a protein without.

    Behind the strengths stand the controls' extra norms, NaN for the latent itself.
    """

    edits: list[Edit]
    """The latent's edits, one for each strength."""
    control_latents: Int[np.ndarray, " controls"]
    """The random latents; arms 1 to ``len(control_latents)``."""
    n_directions: int
    """Random directions; the arms behind those."""
    extra_norms: tuple[float, ...]
    """Norms of the controls behind the strengths', in multiples of the last edit's."""
    delta_log_p: Float[np.ndarray, "arms norms proteins 20"]
    """Mean Δlog p of every amino acid (nats); arm 0 is the latent."""
    kl: Float[np.ndarray, "arms norms proteins"]
    """Mean KL(base ‖ steered) (nats)."""
    relative_norm: Float[np.ndarray, "strengths proteins"]
    """Mean ‖Δx‖ / ‖x‖, of all arms alike."""
    n_read: Int[np.ndarray, " proteins"]
    """Residues read out."""

    @property
    def n_controls(self) -> int:
        """Random latents and directions."""
        return len(self.control_latents) + self.n_directions

    def at_equal_kl(
        self, readout: Float[np.ndarray, "arms norms proteins"]
    ) -> tuple[
        Float[np.ndarray, "controls strengths proteins"],
        Bool[np.ndarray, "controls strengths proteins"],
    ]:
        """Each control's read-out where its KL is that of the latent, and whether it got so far.

        It is interpolated along the control's own norms, linearly in log KL between neighbours.
        Where its KL never gets so high, its value at its highest KL stands; below its lowest, it
        shrinks with √KL, as small changes do.
        """
        wanted = self.kl[0, : len(self.edits)]
        found = np.full((len(readout) - 1, *wanted.shape), np.nan)
        for arm in range(1, len(readout)):
            for protein in range(readout.shape[2]):
                found[arm - 1, :, protein] = _interpolated(
                    self.kl[arm, :, protein], readout[arm, :, protein], wanted[:, protein]
                )
        return found, self.kl[1:].max(axis=1)[:, None] >= wanted


def _interpolated(kl: np.ndarray, value: np.ndarray, at: np.ndarray) -> np.ndarray:
    """``value`` of a curve over KL at other KLs."""
    usable = (kl > 0) & np.isfinite(value)
    if not usable.any():
        return np.zeros(at.shape) if np.isfinite(value).all() else np.full(at.shape, np.nan)
    order = np.argsort(kl[usable])
    x, y = np.log(kl[usable][order]), value[usable][order]
    wanted = np.log(np.maximum(at, 1e-30))
    inside = np.interp(wanted, x, y)
    return np.where(wanted < x[0], y[0] * np.exp(np.minimum(wanted - x[0], 0) / 2), inside)


@torch.inference_mode()
def dose_response(
    model: ProteinLM,
    sae: TorchSAE,
    batches: Sequence[ScoredBatch],
    edits: Sequence[Edit],
    *,
    n_proteins: int,
    control_latents: Sequence[int] = (),
    n_directions: int = 0,
    extra_norms: Sequence[float] = EXTRA_NORMS,
    error_term: ErrorTerm = "keep",
    seed: int = 0,
    batch_tokens: int = 4096,
) -> DoseResponse:
    """Run every strength of a latent and of its controls over the proteins.

    Cost: blocks up to the site once, those behind it once for each strength of the latent, and for
    each strength and extra norm of each control.

    Args:
        model: the parent.
        sae: on the model's device.
        batches: proteins, masked or not; read out is at their scored rows.
        edits: of one latent, one for each strength, ascending, at the same residues; one of
            strength 0 belongs to them.
        n_proteins: how many proteins the batches number.
        control_latents: see :func:`steering.controls.matched_latents`.
        n_directions: random directions.
        extra_norms: of the controls, in multiples of the last edit's.
        error_term: of the latent's edits. Controls match the norm of the whole change.
        seed: of the directions.
        batch_tokens: most tokens per forward pass.

    Raises:
        UserError: an unknown latent, another parent, or an edit that makes the output overflow.
    """
    sae.require_parent(model)
    for edit in edits:
        check_edits(sae, [edit])
    directions = torch.cat([
        latent_directions(sae, control_latents),
        random_directions(sae.d_model, n_directions, seed=seed).to(sae.W_dec.device),
    ])  # fmt: skip
    sums, count = None, np.zeros(n_proteins)
    what = f"latent {edits[0].latent}" if edits else "no edit"
    for batch in tqdm(batches, desc=what, unit="batch", disable=None, leave=False):
        found = _measure(
            model, sae, batch, edits, directions, extra_norms, error_term, batch_tokens
        )
        if sums is None:
            sums = np.zeros((*found.shape[:-1], n_proteins))
        for protein in np.unique(batch.proteins):
            sums[..., protein] += found[..., batch.proteins == protein].sum(axis=-1)
        count += np.bincount(batch.proteins, minlength=n_proteins)
    if sums is None:
        raise UserError("no sequence has a standard residue to read out; give other sequences")
    means = np.divide(sums, count, out=np.full_like(sums, np.nan), where=count > 0)
    return DoseResponse(
        list(edits),
        np.asarray(control_latents, dtype=np.int64),
        n_directions,
        tuple(extra_norms) if len(directions) else (),
        np.moveaxis(means[:, :, :20], 2, 3),
        means[:, :, 20],
        means[0, : len(edits), 21],
        count.astype(np.int64),
    )


def _measure(
    model: ProteinLM,
    sae: TorchSAE,
    batch: ScoredBatch,
    edits: Sequence[Edit],
    directions: Float[Tensor, "controls d_model"],
    extra_norms: Sequence[float],
    error_term: ErrorTerm,
    batch_tokens: int,
) -> Float[np.ndarray, "arms norms 22 read"]:
    """At every read-out row of every arm and norm: 20 Δlog p, KL, ‖Δx‖/‖x‖."""
    residues = Residues(batch.tokens, model.mask_token)
    passes = EditedPasses(model, sae.site, batch.tokens, batch_tokens=batch_tokens)
    latents = sae.encode(passes.x_RD)
    columns = model.amino_acid_tokens
    base = amino_acid_log_p(passes.base_logits[batch.rows], columns)
    read = torch.searchsorted(passes.rows, batch.rows)
    extra = extra_norms if len(directions) else ()
    found = torch.full((1 + len(directions), len(edits) + len(extra), 22, len(batch.rows)), NAN)
    norms_R = torch.zeros(0)
    for i, edit in enumerate(edits):
        change = change_of(sae, [edit], passes.x_RD, residues, error_term=error_term,
                           latents=latents)  # fmt: skip
        norms_R = torch.linalg.vector_norm(change.delta_RD, dim=-1)
        deltas = [change.delta_RD, *(matched_change(d, norms_R) for d in directions)]
        found[:, i, :21] = _effects(passes, deltas, batch.rows, base, columns, edit)
        found[:, i, 21] = relative_norms(change.delta_RD, passes.x_RD)[read]
    for i, multiple in enumerate(extra, start=len(edits)):
        deltas = [matched_change(d, multiple * norms_R) for d in directions]
        found[1:, i, :21] = _effects(passes, deltas, batch.rows, base, columns, edits[-1])
    return found.double().numpy()


def _effects(
    passes: EditedPasses,
    deltas: Sequence[Tensor],
    rows: Tensor,
    base: Tensor,
    columns: np.ndarray,
    edit: Edit,
) -> Float[Tensor, "changes 21 read"]:
    """Δlog p of 20 amino acids and KL, of every change."""
    found = []
    for logits in passes.each(deltas):
        log_p = amino_acid_log_p(logits[rows], columns)
        kl = kl_divergence(base, log_p)
        require_finite([edit], log_p, kl)
        found.append(torch.cat([(log_p - base).T, kl[None]]))
    return torch.stack(found).cpu()
