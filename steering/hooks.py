"""Edit the residual stream of a running parent at the SAE's own site.

Rows that an edit does not change are not written at all, so an empty edit leaves the logits
bit-identical. What edits add to the stream is in ``steering/changes.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor

from extract.errors import UserError
from extract.plm import PackedTokens, ProteinLM
from steering.changes import ErrorTerm, change_of, check_edits
from steering.edits import Edit, Residues
from steering.torch_sae import TorchSAE

Adds = Callable[[Tensor], Tensor]
"""From the residual stream at some rows ``[rows, d_model]`` to what is added, or put, there."""


@contextmanager
def edit_latents(
    model: ProteinLM,
    sae: TorchSAE,
    edits: Sequence[Edit],
    tokens: PackedTokens,
    *,
    error_term: ErrorTerm = "keep",
) -> Iterator[None]:
    """Every forward pass of ``model`` on ``tokens`` inside the context has its latents edited.

    x + decode(z′) − decode(z) at the SAE's site, or decode(z′) at edited residues if the error
    term is dropped; all later blocks run. Contexts nest; an inner one at the same site encodes
    what the outer one left. The stream is edited, not pinned: encoding it again may give other
    values, because encoder and decoder are not inverse.

    Args:
        model: the parent the SAE was trained on.
        sae: on the model's device.
        edits: none leaves the logits bit-identical. Special tokens are never edited.
        tokens: the batch of the passes inside the context (masks may differ, lengths may not).
        error_term: whether what the SAE does not explain stays at edited residues.

    Raises:
        UserError: another parent, an unknown latent, one edited twice at the same residues, or a
            range that leaves a sequence.
    """
    sae.require_parent(model)
    check_edits(sae, edits)
    residues = Residues(tokens, model.mask_token)

    def add(x_RD: Tensor) -> Tensor:
        return change_of(sae, edits, x_RD, residues, error_term=error_term).delta_RD

    with edit_residual(model, sae.site, add, tokens):
        yield


@contextmanager
def edit_residual(
    model: ProteinLM,
    site: str,
    edit: Adds,
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
    replacement: Adds,
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
    edits: Sequence[Edit],
    *,
    error_term: ErrorTerm = "keep",
) -> Float[Tensor, "tokens vocabulary"]:
    """Logits of every token under the edits (see :func:`edit_latents`)."""
    with edit_latents(model, sae, edits, tokens, error_term=error_term):
        return model.logits(tokens)


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
