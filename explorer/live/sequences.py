"""Sequences from what a person pastes or drops: FASTA, letters, PDB, mmCIF. Nothing is written.

Residues of a structure are mapped by SEQRES (``label_seq_id`` in mmCIF): the sequence that is
encoded is the whole chain as it was made, also where coordinates are missing, so no colour shifts.
A PDB file without SEQRES gives the residues that have coordinates.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from explorer.live.schema import LiveLimits, SequenceRecord, Uploaded
from explorer.server.proteins import pdb_text
from extract.errors import UserError
from extract.fasta import check_sequence, parse_fasta

_PDB = re.compile(r"^(HEADER|SEQRES|ATOM  |HETATM|MODEL |CRYST1|REMARK|TITLE )", re.MULTILINE)
_MMCIF = re.compile(r"^\s*(data_\S*|_entry\.id|_atom_site\.)", re.MULTILINE)
BACKBONE = ("N", "CA", "C", "O")


def read_upload(text: str, name: str, limits: LiveLimits) -> Uploaded:
    """The sequences in a text, each legal and of a length that is taken.

    Raises:
        UserError: naming the record and the position; too many, too long, or nothing in it.
    """
    name = name.replace("\\", "/").rpartition("/")[2][:80]
    if not text.strip():
        raise UserError("nothing was pasted; paste FASTA, a sequence, or a PDB or mmCIF file")
    if text.lstrip().startswith(">"):
        found = Uploaded(format="fasta", records=_of_fasta(text, name or "FASTA"))
    elif _MMCIF.match(text.lstrip()) and "_atom_site." in text:
        found = Uploaded(format="mmcif", records=_of_structure(text, name or "mmCIF file", True))
    elif _PDB.match(text.lstrip()):
        found = Uploaded(format="pdb", records=_of_structure(text, name or "PDB file", False))
    else:
        letters = re.sub(r"[\s\d]", "", text).removesuffix("*")
        sequence = check_sequence(letters, "the pasted sequence")
        records = [SequenceRecord(id="sequence", description="", sequence=sequence)]
        found = Uploaded(format="sequence", records=records)
    _check_limits(found.records, limits)
    return found


def _check_limits(records: list[SequenceRecord], limits: LiveLimits) -> None:
    if len(records) > limits.max_records:
        raise UserError(
            f"{len(records)} records are more than the {limits.max_records} that are taken at a "
            "time; give some of them"
        )
    for number, record in enumerate(records, start=1):
        check_length(record.sequence, limits, f"record {number} ({record.id[:60]})")
    total = sum(len(record.sequence) for record in records)
    if total > limits.max_total_residues:
        raise UserError(
            f"{total:,} residues are more than the {limits.max_total_residues:,} that are taken at "
            "a time; give fewer records"
        )


def check_length(sequence: str, limits: LiveLimits, what: str) -> None:
    """Refuse a sequence longer than the server takes."""
    if len(sequence) > limits.max_residues:
        raise UserError(
            f"{what}: {len(sequence):,} residues are more than the {limits.max_residues:,} that "
            "this server takes; give a part of it, or start it with --max-residues"
        )


def _of_fasta(text: str, name: str) -> list[SequenceRecord]:
    return [
        SequenceRecord(
            id=record.id,
            description=header.partition(" ")[2].strip()[:300],
            sequence=check_sequence(record.sequence, f"record {record.number} ({record.id[:60]})"),
        )
        for record, header in parse_fasta(text, name)
    ]


def _of_structure(text: str, name: str, mmcif: bool) -> list[SequenceRecord]:
    """Every chain of amino acids."""
    structure = _parsed(text, name, mmcif)
    records = []
    for chain in structure[0] if len(structure) else ():
        polymer = chain.get_polymer()
        if len(polymer) and "Peptide" in polymer.check_polymer_type().name:
            records.append(_of_chain(structure, chain.name, polymer, name))
    if not records:
        raise UserError(f"{name}: has no chain of amino acids with coordinates; give another file")
    return records


def _parsed(text: str, name: str, mmcif: bool) -> Any:
    try:
        import gemmi
    except ImportError:
        raise UserError(
            "reading structures needs gemmi; pip install gemmi, or paste FASTA"
        ) from None
    try:
        if mmcif:
            block = gemmi.cif.read_string(text).sole_block()
            structure = gemmi.make_structure_from_block(block)
        else:
            structure = gemmi.read_pdb_string(text)
    except (ValueError, RuntimeError, IndexError) as error:
        words = " ".join(str(error).split())[:200]
        raise UserError(
            f"{name}: can't be read as {'mmCIF' if mmcif else 'PDB'} ({words})"
        ) from None
    structure.setup_entities()
    structure.assign_label_seq_id()
    return structure


def _of_chain(structure: Any, chain: str, polymer: Any, name: str) -> SequenceRecord:
    import gemmi

    entity = structure.get_entity_of(polymer)
    whole = [gemmi.Entity.first_mon(item) for item in entity.full_sequence] if entity else []
    residues = list(polymer.first_conformer())
    if whole and all(residue.label_seq for residue in residues):
        places = [residue.label_seq - 1 for residue in residues]
    else:
        whole, places = [residue.name for residue in residues], list(range(len(residues)))
    sequence = "".join(_letter(item) for item in whole)
    numbers: list[str | None] = [None] * len(sequence)
    atoms = np.full((len(sequence), len(BACKBONE), 3), np.nan, np.float32)
    for place, residue in zip(places, residues, strict=True):
        numbers[place] = f"{residue.seqid.num}{residue.seqid.icode.strip()}"
        for k, atom_name in enumerate(BACKBONE):
            atom = residue.find_atom(atom_name, "*")
            if atom is not None:
                atoms[place, k] = atom.pos.tolist()
    entry = structure.name or name.partition(".")[0]
    return SequenceRecord(
        id=f"{entry.strip() or 'structure'}_{chain}"[:60], description=f"chain {chain}",
        sequence=check_sequence(sequence, f"{name}: chain {chain}"), chain=chain, numbers=numbers,
        structure=pdb_text(sequence, atoms),
    )  # fmt: skip


def _letter(residue: str) -> str:
    import gemmi

    info = gemmi.find_tabulated_residue(residue)
    letter = info.one_letter_code.upper() if info.is_amino_acid() else "X"
    return letter if letter.isalpha() and letter != "J" else "X"
