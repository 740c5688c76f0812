"""From edits to what they add to the residual stream.

With the error term kept, the SAE's site gets x + decode(z′) − decode(z): what the SAE does not
explain stays. The bias and the mean cancel in that difference::

    decode(z′) − decode(z) = Σ_j (z′_j − z_j) · W_dec[j] / scale

(times the residue's σ where an imported SAE has divided that out: ``TorchSAE.unit``). It is
computed in this form, over the edited latents alone, which is exactly zero where nothing changes.
With the error term dropped, the edited residues get decode(z′) alone.

For a TopK SAE z are the top k. A latent that is edited and was not among them joins them: no other
latent is pushed out, so z′ may have more than k.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steering.edits import OF_STREAM, Edit, Residues, latents_of, require_distinct
from steering.torch_sae import TorchLatents, TorchSAE

ErrorTerm = Literal["keep", "drop"]
"""Whether what the SAE does not explain stays at edited residues."""

JOIN_RULE = "an edited latent that was not among the top k joins them; none is pushed out"


class Change(NamedTuple):
    """What some edits do to the rows of a batch."""

    delta_RD: Float[Tensor, "rows d_model"]
    """What is added to the stream, in raw activation units; exactly 0 where nothing changes."""
    edited_R: Bool[Tensor, " rows"]
    """Rows at which any edit applies."""
    before_RC: Float[Tensor, "rows latents"]
    """z of the edited latents (:func:`steering.edits.latents_of`)."""
    after_RC: Float[Tensor, "rows latents"]
    """z′ of them."""


def check_edits(sae: TorchSAE, edits: Sequence[Edit]) -> None:
    """Refuse an unknown latent, or one that is edited twice at the same places.

    Raises:
        UserError: naming the latent.
    """
    for edit in edits:
        sae.check_latent(edit.latent)
    require_distinct(edits)


def change_of(
    sae: TorchSAE,
    edits: Sequence[Edit],
    x_RD: Float[Tensor, "rows d_model"],
    residues: Residues,
    *,
    error_term: ErrorTerm = "keep",
    latents: TorchLatents | None = None,
) -> Change:
    """What ``edits`` add to the raw activations ``x_RD`` of a batch's residues.

    Several edits of one latent apply in their order.

    Args:
        sae: on the activations' device.
        edits: passed by :func:`check_edits`.
        x_RD: activations at the SAE's site, one row for each of ``residues``.
        residues: of the batch.
        error_term: kept or dropped at edited rows.
        latents: ``sae.encode(x_RD)``, if it is known.
    """
    names = latents_of(edits)
    latents = sae.encode(x_RD) if latents is None else latents
    before_RC = latents.of(names)
    after_RC = before_RC.clone()
    edited_R = torch.zeros(len(x_RD), dtype=torch.bool, device=x_RD.device)
    extra_RD = torch.zeros((len(x_RD), sae.d_model), device=x_RD.device)
    for edit in edits:
        column = names.index(edit.latent)
        at = residues.chosen(edit.where, before_RC[:, column])
        edited_R |= at
        if edit.operation in OF_STREAM:
            extra_RD += torch.where(at[:, None], _of_stream(sae, edit, x_RD), 0.0)
        else:
            new = edit.apply(after_RC[:, column])
            after_RC[:, column] = torch.where(at, new, after_RC[:, column])
    delta_RD = decoded_change(sae, after_RC - before_RC, names, x_RD) + extra_RD
    if error_term == "drop":
        x_hat_RD = sae.decode(latents, x_RD)
        delta_RD = torch.where(edited_R[:, None], x_hat_RD + delta_RD - x_RD.float(), 0.0)
    return Change(delta_RD, edited_R, before_RC, after_RC)


def decoded_change(
    sae: TorchSAE,
    dz_RC: Float[Tensor, "rows latents"],
    latents: Sequence[int],
    x_RD: Float[Tensor, "rows d_model"],
) -> Float[Tensor, "rows d_model"]:
    """Σ_c dz[·, c] · W_dec[latents[c]] / scale: decode(z′) − decode(z), in raw units."""
    delta_RD = dz_RC.new_zeros((len(dz_RC), sae.d_model))
    unit_R1 = sae.unit(x_RD)
    for column, latent in enumerate(latents):
        delta_RD += dz_RC[:, column, None] * (sae.W_dec[latent] * unit_R1)
    return delta_RD


def _of_stream(sae: TorchSAE, edit: Edit, x_RD: Tensor) -> Float[Tensor, "rows d_model"]:
    row_D = sae.W_dec[edit.latent]
    if edit.operation == "direction":
        return edit.strength * row_D * sae.unit(x_RD)
    unit_D = row_D / torch.linalg.vector_norm(row_D)
    return -((x_RD.float() - sae.activation_mean) @ unit_D)[:, None] * unit_D
