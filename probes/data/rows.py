"""The residues of several activation stores, laid end to end as the rows of one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int, UInt8

from extract.alphabet import AMINO_ACID_TOKENS, AMINO_ACIDS
from extract.errors import UserError
from extract.fasta import Protein
from extract.store import ActivationStore

OTHER_RESIDUE = len(AMINO_ACIDS)
"""Class of B, Z, U, O and X in :attr:`ProteinRows.residue_class`."""


@dataclass(frozen=True)
class ProteinRows:
    """Which protein, and which amino acid, every row is."""

    proteins: Sequence[Protein]
    """In row order, ids unique."""
    token_id: UInt8[np.ndarray, " rows"]
    """ESM token of every row."""
    crop_lengths: frozenset[int] = frozenset()
    """Lengths, in residues, at which a store cut longer proteins; one this long may be a prefix."""

    @classmethod
    def from_stores(cls, stores: Sequence[ActivationStore]) -> ProteinRows:
        """Lay stores end to end.

        Raises:
            UserError: a protein id occurs twice.
        """
        proteins: list[Protein] = []
        home: dict[str, ActivationStore] = {}
        for store in stores:
            for protein in store.proteins:
                if protein.id in home:
                    raise UserError(
                        f"protein {protein.id!r} is in {home[protein.id].folder} and in "
                        f"{store.folder}; ids must be unique over all --activations, leave one out"
                    )
                home[protein.id] = store
                proteins.append(protein)
        selections = [s.manifest["source"].get("selection", {}) for s in stores]
        crops = {s["max_residues"] for s in selections if s.get("too_long") == "crop"}
        tokens = np.concatenate([s.side_array("token_id") for s in stores])
        return cls(proteins, tokens, frozenset(crops))

    @property
    def n_rows(self) -> int:
        """Residues."""
        return len(self.token_id)

    @property
    def n_proteins(self) -> int:
        """Proteins."""
        return len(self.proteins)

    @cached_property
    def offsets(self) -> Int[np.ndarray, " proteins_and_end"]:
        """First row of every protein, and the number of rows at the end."""
        ends = np.cumsum([len(p.sequence) for p in self.proteins], dtype=np.int64)
        assert ends[-1] == self.n_rows, "sequences and rows differ in length"
        return np.append(0, ends)

    @cached_property
    def protein_idx(self) -> Int[np.ndarray, " rows"]:
        """Protein of every row, int32."""
        return np.repeat(np.arange(self.n_proteins, dtype=np.int32), np.diff(self.offsets))

    @cached_property
    def index_of_id(self) -> dict[str, int]:
        """Position of a protein by its id."""
        return {p.id: i for i, p in enumerate(self.proteins)}

    @cached_property
    def residue_class(self) -> Int[np.ndarray, " rows"]:
        """0 to 19 in the order of ``AMINO_ACIDS``, or ``OTHER_RESIDUE``: int8."""
        class_of_token = np.full(256, OTHER_RESIDUE, dtype=np.int8)
        class_of_token[AMINO_ACID_TOKENS] = np.arange(len(AMINO_ACIDS))
        return class_of_token[self.token_id]

    def slice_of(self, protein: int) -> slice:
        """Rows of one protein."""
        return slice(int(self.offsets[protein]), int(self.offsets[protein + 1]))

    def protein_of(self, rows: Int[np.ndarray, " any"]) -> Int[np.ndarray, " any"]:
        """Protein of the given rows, without a table of all rows."""
        return np.searchsorted(self.offsets, rows, side="right") - 1

    def may_be_cropped(self, protein: int) -> bool:
        """Whether the stored sequence may be the beginning of a longer one."""
        return len(self.proteins[protein].sequence) in self.crop_lengths
