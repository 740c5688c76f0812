"""Tasks of the worker on latents: a sequence, its mutants, all substitutions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from explorer.live.context import Context, Entries, require_length
from extract.alphabet import AMINO_ACIDS
from extract.batching import token_batches
from extract.errors import UserError

_MUTATION = re.compile(r"([A-Z])(\d{1,6})([A-Z])", re.ASCII)


def encode(context: Context, sae: str, sequence: str) -> dict[str, Any]:
    """Every latent that fires."""
    entries, kept = context.entries(sae, sequence)
    return {**entries._asdict(), "kept": kept}


def mutant_of(sequence: str, mutations: Sequence[str]) -> tuple[str, list[int]]:
    """The mutated sequence, and the 0-based positions that changed, ascending.

    Raises:
        UserError: a mutation that is none, of another residue than is there, or a second one of
            a position.
    """
    letters, places = list(sequence), []
    for text in mutations:
        found = _MUTATION.fullmatch(text.strip().upper())
        if found is None or found[3] not in AMINO_ACIDS:
            raise UserError(
                f"mutation {text[:20]!r}: must be the residue that is there, its position and one "
                "of the 20 standard residues, such as A42V"
            )
        position = int(found[2])
        if not 1 <= position <= len(sequence):
            raise UserError(f"mutation {text}: the sequence has residues 1 to {len(sequence)}")
        if sequence[position - 1] != found[1]:
            raise UserError(
                f"mutation {text}: residue {position} is {sequence[position - 1]}, not {found[1]}"
            )
        if position - 1 in places:
            raise UserError(f"mutation {text}: residue {position} is mutated twice; give one")
        letters[position - 1] = found[3]
        places.append(position - 1)
    return "".join(letters), sorted(places)


def mutate(context: Context, sae: str, sequence: str, mutations: Sequence[str]) -> dict[str, Any]:
    """Latents of the wild type and of the mutant; those whose values differ anywhere."""
    mutant, positions = mutant_of(sequence, mutations)
    before, _ = context.entries(sae, sequence)
    after, _ = context.entries(sae, mutant)
    latents = np.union1d(before.latent, after.latent)
    columns = {int(j): i for i, j in enumerate(latents)}
    tables = [_dense(entries, columns, len(sequence)) for entries in (before, after)]
    change = tables[1] - tables[0]
    at = np.abs(change).argmax(axis=0)
    largest = np.take_along_axis(change, at[None], axis=0)[0]
    changed = np.flatnonzero(largest)
    return {
        "mutant": mutant, "positions": positions, "latents": latents[changed],
        "change": largest[changed], "at": at[changed], "before": tables[0][:, changed],
        "after": tables[1][:, changed], "n_same": len(latents) - len(changed),
    }  # fmt: skip


def _dense(entries: Entries, columns: dict[int, int], n_residues: int) -> np.ndarray:
    table = np.zeros((n_residues, len(columns)), np.float32)
    table[entries.position, [columns[int(j)] for j in entries.latent]] = entries.value
    return table


@torch.inference_mode()
def scan(
    context: Context, sae: str, sequence: str, latent: int, start: int, end: int, at: int | None
) -> dict[str, Any]:
    """One latent under every substitution of residues ``start`` to ``end`` (from 0, half-open).

    Each mutant runs whole through the parent: its maximum over residues, and its value at ``at``
    (by default where the wild type has its maximum).
    """
    loaded = context.get(sae)
    loaded.sae.check_latent(latent)
    require_length(loaded.model, sequence)
    wild = _values_of(loaded, [sequence], latent)[0]
    at = int(wild.argmax()) if at is None else at
    highest = np.full((end - start, len(AMINO_ACIDS)), wild.max(), np.float32)
    there = np.full_like(highest, wild[at])
    jobs = [(i, a) for i in range(start, end) for a, letter in enumerate(AMINO_ACIDS)
            if letter != sequence[i]]  # fmt: skip
    done = 0
    lengths = [len(sequence)] * len(jobs)
    for batch in token_batches(range(len(jobs)), lengths, context.settings.batch_residues):
        context.report(done / max(len(jobs), 1), "substitutions")
        mutants = [_with(sequence, *jobs[n]) for n in batch]
        for n, values in zip(batch, _values_of(loaded, mutants, latent), strict=True):
            i, a = jobs[n]
            highest[i - start, a], there[i - start, a] = values.max(), values[at]
        done += len(batch)
    return {
        "max": highest, "value_at": there, "at": at, "wild_max": float(wild.max()),
        "wild_at": float(wild[at]), "n_passes": len(jobs),
    }  # fmt: skip


def _with(sequence: str, i: int, letter: int) -> str:
    return f"{sequence[:i]}{AMINO_ACIDS[letter]}{sequence[i + 1 :]}"


def _values_of(loaded: Any, sequences: Sequence[str], latent: int) -> list[np.ndarray]:
    """A latent along each of some sequences."""
    tokens = loaded.model.tokenize(sequences)
    x_RD = loaded.model.residual(tokens, loaded.sae.site)[tokens.residue_rows()]
    values = loaded.sae.encode(x_RD).of([latent])[:, 0].cpu().numpy()
    return np.split(values, np.cumsum([len(s) for s in sequences])[:-1])
