"""Where latents fire: the best examples of a latent as highlighted sequences."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from extract.store import ActivationStore
from saejax.latents import LatentColumns

FLANK = 24
"""Residues shown on either side of an example's maximum."""


class Residue(NamedTuple):
    """One letter of an example."""

    letter: str
    """Amino acid."""
    position: int
    """Position in the protein, from 1."""
    value: float
    """Activation of the latent, 0 where it is silent."""
    shade: float
    """Activation over the latent's largest one in this store: 0 to 1, one scale per latent."""
    structure: str
    """DSSP state: helix (H, G, I), strand (E, B), other; blank when unknown."""


class Example(NamedTuple):
    """A protein on which a latent fires."""

    protein: str
    """Its id."""
    maximum: float
    """The latent's largest activation there."""
    n_fires: int
    """Residues of the protein on which it fires."""
    n_residues: int
    """Length of the protein."""
    residues: list[Residue]
    """The window around the maximum."""


def best_examples(
    columns: LatentColumns,
    store: ActivationStore,
    latent: int,
    *,
    structures: dict[str, str],
    allowed: set[str],
    n: int = 5,
) -> list[Example]:
    """The proteins with the largest activation of a latent, one window each.

    Args:
        columns: latents of the store.
        store: whose proteins are shown.
        latent: which one.
        structures: DSSP string by protein id.
        allowed: ids that may be shown (those unseen by the choice).
        n: how many.
    """
    rows, values = columns.column(latent)
    if not len(rows):
        return []
    top = float(values.max())
    owner = np.searchsorted(store.offsets, rows, side="right") - 1
    examples = []
    shown: set[int] = set()
    for entry in np.argsort(-values, kind="stable"):
        protein = int(owner[entry])
        if protein in shown or store.proteins[protein].id not in allowed:
            continue
        shown.add(protein)
        mine = owner == protein
        positions = rows[mine] - store.offsets[protein]
        examples.append(_window(store, protein, positions, values[mine], top, structures))
        if len(examples) == n:
            break
    return examples


def _window(
    store: ActivationStore,
    protein: int,
    positions: np.ndarray,
    values: np.ndarray,
    top: float,
    structures: dict[str, str],
) -> Example:
    record = store.proteins[protein]
    activation = np.zeros(len(record.sequence))
    activation[positions] = values
    centre = int(activation.argmax())
    start = max(0, min(centre - FLANK, len(record.sequence) - 2 * FLANK - 1))
    window = range(start, min(start + 2 * FLANK + 1, len(record.sequence)))
    states = structures.get(record.id, "")
    residues = [
        Residue(record.sequence[i], i + 1, float(activation[i]), float(activation[i] / top),
                _state(states[i] if i < len(states) else ""))
        for i in window
    ]  # fmt: skip
    return Example(record.id, float(activation.max()), len(positions), len(activation), residues)


def _state(dssp: str) -> str:
    if dssp and dssp in "HGI":
        return "helix"
    if dssp and dssp in "EB":
        return "strand"
    return "other" if dssp else ""
