"""What a bundle says of its proteins themselves: letters, coordinates, a line of words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from explorer.build.arrays import write_array, write_pieces
from explorer.build.descriptions import descriptions
from explorer.build.inputs import BuildInputs
from explorer.build.order import ProteinOrder


def write_sequences(folder: Path, inputs: BuildInputs, order: ProteinOrder) -> None:
    """``sequences.npy``."""
    proteins = inputs.rows.proteins
    pieces = (
        np.frombuffer(proteins[i].sequence.encode("ascii"), np.uint8) for i in order.stored.tolist()
    )
    write_pieces(folder, "sequences", (inputs.rows.n_rows,), pieces)


def write_backbones(folder: Path, inputs: BuildInputs, order: ProteinOrder) -> None:
    """``structures.npy``, if any protein has one."""
    if inputs.backbones:
        numbers = [i for i in order.stored.tolist() if i in inputs.backbones]
        write_array(
            folder, "structures",
            np.concatenate([inputs.backbones[i] for i in numbers]).astype(np.float32),
        )  # fmt: skip


def protein_rows(inputs: BuildInputs, order: ProteinOrder) -> Iterator[tuple[Any, ...]]:
    """Rows of the table of proteins."""
    proteins = [inputs.rows.proteins[i] for i in order.stored.tolist()]
    config = inputs.config
    flat = [path for path in (config.swissprot, *config.uniprot) if path is not None]
    words = descriptions([p.id for p in proteins], flat, config.fasta)
    parts = {} if inputs.probes is None else inputs.probes.parts
    start = structure = 0
    for number, (stored, protein) in enumerate(zip(order.stored.tolist(), proteins, strict=True)):
        has = stored in inputs.backbones
        sha256 = hashlib.sha256(protein.sequence.encode()).hexdigest()
        yield (number, protein.id, words[number], start, len(protein.sequence), sha256,
               structure if has else None, parts.get(protein.id),
               inputs.clusters.get(protein.id))  # fmt: skip
        start += len(protein.sequence)
        structure += len(protein.sequence) * has
