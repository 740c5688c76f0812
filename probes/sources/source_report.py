"""What reading one annotation file found, so that nothing is dropped in silence."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from extract.errors import UserError
from probes.data.rows import ProteinRows

log = logging.getLogger(__name__)

N_EXAMPLES = 10


@dataclass
class SourceReport:
    """What reading one annotation file found: counts for the summary."""

    file: str
    """File name, without its folder."""
    format: str = ""
    """How it was read."""
    n_records: int = 0
    """Records (or lines) in the file."""
    n_matched: int = 0
    """Records whose protein is in the activations with the same sequence."""
    n_not_in_store: int = 0
    """Records of proteins that are not in the activations."""
    not_in_store_ids: list[str] = field(default_factory=list)
    """The first ten of those."""
    n_cropped: int = 0
    """Matched records whose stored sequence is a proper prefix of theirs."""
    n_sequence_mismatch: int = 0
    """Records whose protein has another sequence in the activations; left undefined."""
    mismatched_ids: list[str] = field(default_factory=list)
    """The first ten of those."""
    n_without_sequence: int = 0
    """Records without a sequence (inactive UniProt entries): left out."""
    n_features: int = 0
    """Features used."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Features of types that are no property of a residue, by type."""
    uncertain: dict[str, int] = field(default_factory=dict)
    """Features at uncertain positions (``<1``, ``>9``, ``?``), by concept: excluded, and the
    concept is undefined in that protein."""
    n_isoform: int = 0
    """Features placed on another isoform's sequence: excluded."""
    n_beyond_crop: int = 0
    """Features wholly behind the end of a cropped sequence: excluded."""

    unknown_go: dict[str, int] = field(default_factory=dict)
    """GO terms that the given ontology does not have, by term: used without ancestors."""

    def count_unknown_go(self, terms: Iterable[str]) -> None:
        """Count terms that the ontology does not have."""
        for term in terms:
            self.unknown_go[term] = self.unknown_go.get(term, 0) + 1

    def find(self, rows: ProteinRows, protein_id: str) -> int | None:
        """Index of the protein, counting it when it is not there."""
        index = rows.index_of_id.get(protein_id)
        if index is None:
            self.n_not_in_store += 1
            _example(self.not_in_store_ids, protein_id)
        return index

    def match(self, rows: ProteinRows, protein_id: str, sequence: str) -> int | None:
        """Index of the record's protein when it may be used, counting why when it may not."""
        self.n_records += 1
        index = self.find(rows, protein_id)
        if index is None:
            return None
        stored = rows.proteins[index].sequence
        if not sequence.startswith(stored):
            self.mismatch(protein_id)
            return None
        self.n_matched += 1
        self.n_cropped += len(stored) < len(sequence)
        return index

    def mismatch(self, protein_id: str) -> None:
        """Count a record of another sequence."""
        self.n_sequence_mismatch += 1
        _example(self.mismatched_ids, protein_id)

    def finish(self, path: Path) -> None:
        """Refuse a file of which no record could be used; log what was left out.

        Raises:
            UserError: no protein matches.
        """
        if not self.n_records:
            raise UserError(f"{path}: has no record; it needs a line for each label or protein")
        if not self.n_matched:
            absent = self.not_in_store_ids
            example = f"; the first is {absent[0][:60]!r}" if absent else ""
            raise UserError(
                f"{path}: none of its {self.n_records} records fits a protein of the activations "
                f"({self.n_not_in_store} ids are not there{example}, {self.n_sequence_mismatch} "
                "have another sequence); check that ids and sequence versions agree"
            )
        log.info("%s: %d of %d records used", path, self.n_matched, self.n_records)
        if self.n_sequence_mismatch:
            log.warning("%s: %d records have another sequence than the activations (%s): left out",
                        path, self.n_sequence_mismatch, ", ".join(self.mismatched_ids))  # fmt: skip
        if self.uncertain:
            log.warning("%s: %d features at uncertain positions excluded",
                        path, sum(self.uncertain.values()))  # fmt: skip
        if self.unknown_go:
            log.warning("%s: GO terms not in the ontology, or obsolete there, used without "
                        "ancestors: %d (%s); a go-basic.obo of the same year may have them", path,
                        len(self.unknown_go),
                        ", ".join(sorted(self.unknown_go)[:N_EXAMPLES]))  # fmt: skip
        if self.n_without_sequence:
            log.warning("%s: %d records without a sequence left out", path, self.n_without_sequence)


def _example(examples: list[str], protein_id: str) -> None:
    if len(examples) < N_EXAMPLES and protein_id not in examples:
        examples.append(protein_id)
