"""Batches of sequences, masked or not, and which residues are scored."""

from __future__ import annotations

import hashlib
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


class ScoredBatch(NamedTuple):
    """Sequences of one batch, and which of their residues are scored."""

    tokens: PackedTokens
    """With the parent's mask token at the scored rows, if they are masked."""
    rows: Int[Tensor, " scored"]
    """Packed rows that are scored, ascending."""
    targets: Int[Tensor, " scored"]
    """Logit columns of the amino acids that are there; on the CPU."""
    proteins: Int[np.ndarray, " scored"]
    """Which sequence each belongs to."""


def standard_residues(sequence: str) -> Int[np.ndarray, " standard"]:
    """0-based places of a sequence's standard residues: those with a logit column of their own."""
    return np.flatnonzero(residue_types(residue_tokens(sequence)) < len(AMINO_ACIDS))


def masked_residues(
    sequence: str, fraction: float, seed: int = 0, copy: int = 0
) -> Int[np.ndarray, " masked"]:
    """0-based standard residues to mask: ``fraction`` of them, at least one, ascending.

    They depend on (seed, sequence) alone, so neither on the batch nor on the other proteins. The
    masks of a sequence's copies are disjoint, so that the last ones may be smaller or empty:
    1 / fraction copies mask every residue once.
    """
    standard = standard_residues(sequence)
    digest = hashlib.sha256(sequence.encode()).digest()[:8]
    rng = np.random.default_rng((seed, int.from_bytes(digest, "big")))
    n = min(len(standard), max(1, round(fraction * len(standard))))
    return np.sort(rng.permutation(standard)[copy * n : (copy + 1) * n])


def scored_batches(
    model: ProteinLM,
    sequences: Sequence[str],
    *,
    mask_fraction: float | None = None,
    copies: int = 1,
    seed: int = 0,
    batch_residues: int = 4096,
) -> Iterator[ScoredBatch]:
    """Batches of the sequences in order.

    Args:
        model: the parent.
        sequences: legal residues.
        mask_fraction: share of each sequence's standard residues that are masked, and scored
            alone; None for none masked, and every standard residue scored.
        copies: of each sequence, their masks disjoint (see :func:`masked_residues`).
        seed: of the masks.
        batch_residues: residues per forward pass.

    Raises:
        UserError: a parent without a mask token.
    """
    mask = None if mask_fraction is None else model.mask_token
    if mask_fraction is not None and mask is None:
        raise UserError(f"{model.name} was not trained on masks, so it has no masked positions")
    if mask_fraction is None:
        jobs = [(i, standard_residues(s)) for i, s in enumerate(sequences)]
    else:
        jobs = [(i, masked_residues(s, mask_fraction, seed, copy))
                for i, s in enumerate(sequences) for copy in range(copies)]  # fmt: skip
        jobs = [job for job in jobs if job[1].size or copies == 1]
    lengths = [len(sequences[i]) for i, _ in jobs]
    for batch in token_batches(range(len(jobs)), lengths, batch_residues):
        of_batch = [jobs[j] for j in batch]
        tokens = model.tokenize([sequences[i] for i, _ in of_batch])
        starts = np.cumsum([0, *tokens.lengths[:-1]]) + tokens.n_before
        types = [residue_types(residue_tokens(sequences[i]))[chosen] for i, chosen in of_batch]
        columns = np.asarray(model.amino_acid_tokens)[np.concatenate(types)]
        placed = [start + chosen for start, (_, chosen) in zip(starts, of_batch, strict=True)]
        rows = torch.from_numpy(np.concatenate(placed)).to(tokens.ids.device)
        if mask is not None:
            tokens = tokens._replace(ids=tokens.ids.index_fill(0, rows, mask))
        proteins = np.concatenate([np.full(len(chosen), i) for i, chosen in of_batch])
        yield ScoredBatch(tokens, rows, torch.from_numpy(columns.astype(np.int64)), proteins)
