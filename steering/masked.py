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
    """Sequences of one batch, once or several times, and which of their residues are scored."""

    tokens: PackedTokens
    """With the parent's mask token at the scored rows, if they are masked."""
    rows: Int[Tensor, " scored"]
    """Packed rows that are scored, ascending."""
    types: Int[np.ndarray, " scored"]
    """Places in ``AMINO_ACIDS`` of the amino acids that are there."""
    targets: Int[Tensor, " scored"]
    """Logit columns of them; on the CPU."""
    proteins: Int[np.ndarray, " scored"]
    """Which sequence each belongs to."""


Job = tuple[int, Int[np.ndarray, " _"]]
"""Which sequence to run, and its 0-based standard residues that are scored, ascending."""


def standard_residues(sequence: str) -> Int[np.ndarray, " standard"]:
    """0-based places of a sequence's standard residues: those with a logit column of their own."""
    return np.flatnonzero(residue_types(residue_tokens(sequence)) < len(AMINO_ACIDS))


def masked_residues(sequence: str, fraction: float, seed: int = 0) -> Int[np.ndarray, " masked"]:
    """0-based standard residues to mask: ``fraction`` of them, at least one, ascending.

    They depend on (seed, sequence) alone, so neither on the batch nor on the other proteins.
    """
    standard = standard_residues(sequence)
    digest = hashlib.sha256(sequence.encode()).digest()[:8]
    rng = np.random.default_rng((seed, int.from_bytes(digest, "big")))
    return np.sort(rng.permutation(standard)[: max(1, round(fraction * len(standard)))])


def disjoint_parts(
    positions: Int[np.ndarray, " positions"], n: int | None, seed: int = 0
) -> list[Int[np.ndarray, " _"]]:
    """The positions in ``n`` random parts of nearly one size, each ascending and none empty.

    There are as many parts as positions if ``n`` is larger, or None.
    """
    n = len(positions) if n is None else min(n, len(positions))
    drawn = np.random.default_rng(seed).permutation(positions)
    return [np.sort(part) for part in np.array_split(drawn, n)] if n else []


def scored_batches(
    model: ProteinLM,
    sequences: Sequence[str],
    *,
    mask_fraction: float | None = None,
    seed: int = 0,
    batch_residues: int = 4096,
) -> Iterator[ScoredBatch]:
    """Batches of the sequences in order.

    Args:
        model: the parent.
        sequences: legal residues.
        mask_fraction: share of each sequence's standard residues that are masked, and scored
            alone; None for none masked, and every standard residue scored.
        seed: of the masks.
        batch_residues: residues per forward pass.

    Raises:
        UserError: a parent without a mask token.
    """
    if mask_fraction is None:
        jobs, mask = [(i, standard_residues(s)) for i, s in enumerate(sequences)], None
    elif model.mask_token is None:
        raise UserError(f"{model.name} was not trained on masks, so it has no masked positions")
    else:
        jobs = [(i, masked_residues(s, mask_fraction, seed)) for i, s in enumerate(sequences)]
        mask = model.mask_token
    yield from batches_of_jobs(model, sequences, jobs, mask=mask, batch_residues=batch_residues)


def batches_of_jobs(
    model: ProteinLM,
    sequences: Sequence[str],
    jobs: Sequence[Job],
    *,
    mask: int | None,
    batch_residues: int = 4096,
) -> Iterator[ScoredBatch]:
    """Batches of the jobs in order; the scored residues are masked with ``mask``, if it is given.

    Args:
        model: the parent.
        sequences: legal residues.
        jobs: a sequence may be in several.
        mask: the parent's mask token; None for none masked.
        batch_residues: residues per forward pass.
    """
    lengths = [len(sequences[i]) for i, _ in jobs]
    for batch in token_batches(range(len(jobs)), lengths, batch_residues):
        of_batch = [jobs[j] for j in batch]
        tokens = model.tokenize([sequences[i] for i, _ in of_batch])
        starts = np.cumsum([0, *tokens.lengths[:-1]]) + tokens.n_before
        types = np.concatenate(
            [residue_types(residue_tokens(sequences[i]))[chosen] for i, chosen in of_batch]
        ).astype(np.int64)
        columns = np.asarray(model.amino_acid_tokens)[types].astype(np.int64)
        placed = [start + chosen for start, (_, chosen) in zip(starts, of_batch, strict=True)]
        rows = torch.from_numpy(np.concatenate(placed)).to(tokens.ids.device)
        if mask is not None:
            tokens = tokens._replace(ids=tokens.ids.index_fill(0, rows, mask))
        proteins = np.concatenate([np.full(len(chosen), i) for i, chosen in of_batch])
        yield ScoredBatch(tokens, rows, types, torch.from_numpy(columns), proteins)
