"""Edit the residual stream of a running parent at the SAE's own site.

An edit adds ``decode(z′) − decode(z)`` to the stream, so what the SAE does not explain (its error
term) stays. The bias and the mean cancel in that difference::

    decode(z′) − decode(z) = Σ_j (z′_j − z_j) · W_dec[j] / scale

It is computed in this form, over the edited latents alone, which is exactly zero where nothing
changes; such rows are not written at all, so an empty edit leaves the logits bit-identical.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from extract.errors import UserError
from extract.plm import PackedTokens, ProteinLM
from steering.torch_sae import TorchSAE

if TYPE_CHECKING:
    from saejax.checkpoint import LoadedSAE

Edit = Callable[[Tensor], Tensor]
"""From the residual stream at the edited rows ``[rows, d_model]`` to what is added there."""


@dataclass(frozen=True)
class Clamp:
    """Set one latent to a value wherever the edit applies."""

    latent: int
    """Which latent of the dictionary."""
    value: float
    """What it becomes, in the SAE's own (normalised) latent units."""

    def __post_init__(self) -> None:
        """Check the value."""
        if not math.isfinite(self.value):
            raise UserError(
                f"latent {self.latent}: the strength ({self.value}) must be a finite number"
            )


def multiple_of_maximum(loaded: LoadedSAE, latent: int, multiple: float) -> float:
    """``multiple`` times the latent's largest value on the run's held-out residues.

    Raises:
        UserError: no such latent, or one that never fired there, so that it has no maximum.
    """
    maximum = float(loaded.latent_max[loaded.check_latent(latent)])
    if maximum <= 0:
        raise UserError(
            f"latent {latent} never fired on the held-out residues of {loaded.folder}, so a "
            f"multiple of its maximum ({multiple:g}x) means nothing; give a value without the x"
        )
    return multiple * maximum


def clamp_changes(
    sae: TorchSAE, x_RD: Float[Tensor, "rows d_model"], clamps: Sequence[Clamp]
) -> Float[Tensor, "rows clamps"]:
    """z′_j − z_j of every clamped latent, z from the top k of the raw activations ``x_RD``."""
    values, indices = sae.encode(x_RD)
    columns = [
        clamp.value - torch.where(indices == clamp.latent, values, 0.0).sum(-1) for clamp in clamps
    ]
    return torch.stack(columns, dim=-1) if columns else values.new_zeros((len(x_RD), 0))


def decode_changes(
    sae: TorchSAE, dz_RC: Float[Tensor, "rows clamps"], latents: Sequence[int]
) -> Float[Tensor, "rows d_model"]:
    """Σ_c dz[·, c] · W_dec[latents[c]] / scale: decode(z′) − decode(z), in raw units."""
    delta_RD = dz_RC.new_zeros((len(dz_RC), sae.d_model))
    for column, latent in enumerate(latents):
        delta_RD += dz_RC[:, column, None] * (sae.W_dec[latent] / sae.scale)
    return delta_RD


@contextmanager
def clamp_latents(
    model: ProteinLM,
    sae: TorchSAE,
    clamps: Sequence[Clamp],
    tokens: PackedTokens,
    *,
    rows: Int[Tensor, " rows"] | None = None,
) -> Iterator[None]:
    """Every forward pass of ``model`` on ``tokens`` inside the context has its latents clamped.

    ``x + decode(z′) − decode(z)`` at the SAE's site, z′ being z with the clamped latents set; all
    later blocks run. A clamped latent that was not among the top k joins them: no other latent is
    pushed out, so z′ may have more than k. Contexts nest; an inner one at the same site encodes
    what the outer one left. The stream is edited, not pinned: encoding it again may give other
    values, because encoder and decoder are not inverse.

    Args:
        model: the parent the SAE was trained on.
        sae: on the model's device.
        clamps: each latent at most once; none leaves the logits bit-identical.
        tokens: the batch of the passes inside the context (masks may differ, lengths may not).
        rows: packed rows to edit, residues only; by default every residue, never a special
            token.

    Raises:
        UserError: another parent, an unknown latent, one clamped twice, or a row that is no
            residue.
    """
    sae.require_parent(model)
    latents = check_clamps(sae, clamps)

    def edit(x_RD: Tensor) -> Tensor:
        return decode_changes(sae, clamp_changes(sae, x_RD, clamps), latents)

    with edit_residual(model, sae.site, edit, tokens, rows=rows):
        yield


@contextmanager
def edit_residual(
    model: ProteinLM,
    site: str,
    edit: Edit,
    tokens: PackedTokens,
    *,
    rows: Int[Tensor, " rows"] | None = None,
) -> Iterator[None]:
    """Add ``edit(x[rows])`` to the residual stream x at ``site``, in every pass on ``tokens``.

    Rows whose change is exactly zero are left alone, bit for bit. The hook goes when the context
    does, also after an exception.

    Raises:
        UserError: no such site, or a row that is no residue.
    """
    rows = check_rows(tokens, rows)

    def add(x: Tensor) -> Tensor | None:
        delta_RD = edit(x[rows]).to(x.dtype)
        changed = (delta_RD != 0).any(dim=-1)
        if not changed.any():
            return None
        edited = x.clone()
        edited[rows[changed]] += delta_RD[changed]
        return edited

    with _at_site(model, site, add, tokens):
        yield


@contextmanager
def replace_residual(
    model: ProteinLM,
    site: str,
    replacement: Edit,
    tokens: PackedTokens,
    *,
    rows: Int[Tensor, " rows"] | None = None,
) -> Iterator[None]:
    """Put ``replacement(x[rows])`` in place of x[rows] at ``site``, in every pass on ``tokens``.

    Other rows, and special tokens whatever ``rows``, stay bit for bit. The hook goes when the
    context does, also after an exception.

    Raises:
        UserError: no such site, or a row that is no residue.
    """
    rows = check_rows(tokens, rows)

    def put(x: Tensor) -> Tensor:
        return x.index_copy(0, rows, replacement(x[rows]).to(x.dtype))

    with _at_site(model, site, put, tokens):
        yield


@contextmanager
def _at_site(
    model: ProteinLM, site: str, change: Callable[[Tensor], Tensor | None], tokens: PackedTokens
) -> Iterator[None]:
    """Let ``change`` see the stream at ``site``, and replace it unless it returns None."""

    def hook(_module: torch.nn.Module, _args: tuple, x: Tensor) -> Tensor | None:
        if len(x) != len(tokens.ids):
            raise ValueError(
                f"the edit was made for a batch of {len(tokens.ids)} tokens but the model runs "
                f"on {len(x)}; open a context for each batch"
            )
        return change(x)

    handle = model.site_module(site).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@torch.inference_mode()
def steered_logits(
    model: ProteinLM,
    sae: TorchSAE,
    tokens: PackedTokens,
    clamps: Sequence[Clamp],
    rows: Int[Tensor, " rows"] | None = None,
) -> Float[Tensor, "tokens vocabulary"]:
    """Logits of every token under the clamps (see :func:`clamp_latents`)."""
    with clamp_latents(model, sae, clamps, tokens, rows=rows):
        return model.logits(tokens)


def check_clamps(sae: TorchSAE, clamps: Sequence[Clamp]) -> list[int]:
    """The clamped latents, or a :class:`UserError` if one is unknown or named twice."""
    latents: list[int] = []
    for clamp in clamps:
        if sae.check_latent(clamp.latent) in latents:
            raise UserError(f"latent {clamp.latent} is clamped twice; give it one value")
        latents.append(clamp.latent)
    return latents


def check_rows(tokens: PackedTokens, rows: Int[Tensor, " rows"] | None) -> Int[Tensor, " rows"]:
    """``rows`` on the batch's device, or every residue's; a :class:`UserError` if one is none."""
    residues = tokens.residue_rows()
    if rows is None:
        return residues
    rows = rows.to(residues)
    outside = rows[~torch.isin(rows, residues)]
    if len(outside):
        raise UserError(
            f"row {int(outside[0])} is not a residue of this batch of {len(tokens.ids)} tokens "
            f"({len(residues)} residues); edit rows of tokens.residue_rows() only"
        )
    return rows
