"""Masked copies of sequences, where an edit's effect on predictions is measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from extract.alphabet import AMINO_ACIDS, residue_tokens, residue_types
from extract.batching import token_batches
from extract.errors import UserError
from extract.plm import PackedTokens, ProteinLM


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
