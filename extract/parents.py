"""Every parent model by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from extract.plm import ProteinLM
from extract.weights import load_esm2


def load_parent(
    name: str,
    *,
    weights: str | Path | None = None,
    token_dropout: bool = True,
    device: str | None = None,
) -> ProteinLM:
    """Load a parent for inference.

    Args:
        name: one of the published ESM2 models.
        weights: a file to load instead of looking for one.
        token_dropout: ESM2's 0.88 embedding scale (the default of fair-esm and Hugging Face).
        device: a torch device; by default the first GPU, else the CPU.

    Raises:
        UserError: unknown model, no weights to be had, or a file that does not fit the model.
    """
    return load_esm2(name, weights=weights, token_dropout=token_dropout, device=device)


def load_parent_of(
    manifest: Mapping, *, weights: str | Path | None = None, device: str | None = None
) -> ProteinLM:
    """Load the parent that a store's manifest names; whether its weights fit is checked later."""
    parent = manifest["parent"]
    dropout = parent["token_dropout"]
    return load_parent(parent["name"], weights=weights, token_dropout=dropout, device=device)
