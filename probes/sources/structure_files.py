"""The residues of one chain, from PDB and mmCIF files, each at its position in the protein.

A PDB file is read by its residue numbers, which must be 1 to L. mmCIF knows the whole chain as it
was made (``_entity_poly_seq``, the SEQRES records of old) and where in it each residue is
(``label_seq_id``), so residues without coordinates, insertion codes and a first number other than
1 shift nothing; where the chain has a tag that the protein lacks, or is a part of the protein, the
shift follows from the two sequences.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from extract.errors import UserError
from extract.files import open_text

STANDARD_OF = {"MSE": "M", "SEC": "U", "PYL": "O"}
"""Modified residues whose letter is known; others match any letter of the sequence."""

MMCIF = (".cif", ".cif.gz")
PDB = (".pdb", ".pdb.gz", ".ent", ".ent.gz")


class Residue(NamedTuple):
    """One residue with coordinates."""

    words: str
    """How an error names it: ``ALA 7``."""
    position: int
    """In the protein, from 0; at or behind its end where the stored sequence is cropped."""
    letter: str
    """One-letter code, X where it is none of the known."""
    atoms: dict[str, Float[np.ndarray, 3]]
    """Å, by name; of alternatives the one of highest occupancy."""


def stem(path: Path) -> str | None:
    """A structure file's name without its ending; None of other files."""
    endings = sorted((*PDB, *MMCIF), key=len, reverse=True)
    return next((path.name[: -len(e)] for e in endings if path.name.endswith(e)), None)


def residues(path: Path, sequence: str) -> Iterator[Residue]:
    """Residues of the protein's chain in a file, by the file's ending.

    Where a file has several chains of amino acids, that of the name's end (``1ABC_B`` → B) is
    meant.

    Raises:
        UserError: no such file as its ending says, not one chain, an insertion code or a number
            below 1 in a PDB file, or a sequence in an mmCIF file that does not fit the protein's.
    """
    if path.name.endswith(MMCIF):
        yield from _of_mmcif(path, sequence)
    else:
        yield from _of_pdb(path)


def _letter(resname: str) -> str:
    from Bio.Data.IUPACData import protein_letters_3to1

    return STANDARD_OF.get(resname) or protein_letters_3to1.get(resname.capitalize(), "X")


def _own_chain(path: Path, chains: dict[str, Any]) -> Any:
    """The only chain, or the one that the file's name ends with."""
    of_name = (stem(path) or "").rpartition("_")[2]
    if len(chains) > 1 and of_name in chains:
        return chains[of_name]
    if len(chains) != 1:
        found = ", ".join(repr(name) for name in chains) or "none"
        raise UserError(
            f"{path}: must hold one chain of amino acids (found: {found}); keep the protein's own, "
            "or name the file after it, as 1ABC_B for chain B"
        )
    return next(iter(chains.values()))


def _of_pdb(path: Path) -> Iterator[Residue]:
    from Bio.PDB.PDBExceptions import PDBConstructionException
    from Bio.PDB.PDBParser import PDBParser

    try:
        with open_text(path) as text:
            structure = PDBParser(QUIET=True).get_structure(path.name, text)
    except (ValueError, PDBConstructionException) as error:
        raise UserError(f"{path}: can't be read as a PDB file ({error}); fetch it again") from error
    models = list(structure) if structure is not None else []
    for residue in _own_chain(path, {c.id: c for c in models[0]} if models else {}):
        het, number, insertion = residue.id
        if het == "W" or (het.strip() and residue.resname not in STANDARD_OF):
            continue
        words = f"{residue.resname} {number}{insertion.strip()}"
        if insertion.strip() or number < 1:
            raise UserError(
                f"{path}: residue {words} has no position in the protein; number residues 1 to L "
                "as in its sequence, or give mmCIF"
            )
        atoms = {atom.get_name(): atom.coord for atom in residue}
        yield Residue(words, number - 1, _letter(residue.resname), atoms)


def _of_mmcif(path: Path, sequence: str) -> Iterator[Residue]:
    structure = _read_mmcif(path)
    peptides = {}
    for chain in structure[0] if len(structure) else ():
        polymer = chain.get_polymer()
        if len(polymer) and "Peptide" in polymer.check_polymer_type().name:
            peptides[chain.name] = polymer
    polymer = _own_chain(path, peptides)
    entity = structure.get_entity_of(polymer)
    whole = list(entity.full_sequence) if entity is not None else []
    labelled = all(residue.label_seq is not None for residue in polymer)
    shift = _shift(path, whole or _by_label(polymer), sequence) if labelled else 0
    for residue in polymer.first_conformer():
        words = f"{residue.name} {residue.seqid}"
        position = (residue.label_seq if labelled else residue.seqid.num) - 1 + shift
        if not labelled and (position < 0 or residue.seqid.icode.strip()):
            raise UserError(
                f"{path}: residue {words} has no position in the protein; the file lacks "
                "label_seq_id, so number residues 1 to L as in its sequence"
            )
        if position >= 0:  # else of a tag
            yield Residue(words, position, _letter(residue.name), _atoms(residue))


def _by_label(polymer: Any) -> list[str]:
    """Residues with coordinates, each at its place, of a file that tells nothing of the others.

    Programs that write what they refined or drew number residues 1, 2, … from the first that is
    there; where some in between are missing, the sequence does not fit and the file is refused.
    """
    whole = ["UNK"] * max(residue.label_seq for residue in polymer)
    for residue in polymer.first_conformer():
        whole[residue.label_seq - 1] = residue.name
    return whole


def _read_mmcif(path: Path) -> Any:
    """A structure of gemmi, its chains divided into polymers, ligands and water."""
    try:
        import gemmi
    except ImportError:
        raise UserError(
            f"{path}: reading mmCIF needs gemmi; pip install gemmi, or give a PDB file"
        ) from None
    try:
        with open_text(path) as text:
            block = gemmi.cif.read_string(text.read()).sole_block()
        structure = gemmi.make_structure_from_block(block)
    except (ValueError, RuntimeError, IndexError) as error:
        line = " ".join(str(error).split())
        raise UserError(
            f"{path}: can't be read as an mmCIF file ({line}); fetch it again"
        ) from error
    structure.setup_entities()
    return structure


def _atoms(residue: Any) -> dict[str, np.ndarray]:
    best: dict[str, Any] = {}
    for atom in residue:
        if atom.name not in best or atom.occ > best[atom.name].occ:
            best[atom.name] = atom
    return {name: np.array(atom.pos.tolist(), np.float32) for name, atom in best.items()}


def _shift(path: Path, whole: list[str], sequence: str) -> int:
    """What to add to a place in the chain to have the place in the protein.

    One of the two sequences must lie in the other. A microheterogeneous place (``SER,THR``) and an
    unknown residue fit any letter.
    """
    chain = np.array([_letter(name) if "," not in name else "X" for name in whole])
    protein = np.array(list(sequence))
    found = []
    for shift in range(-max(len(chain) - len(protein), 0), max(len(protein) - len(chain), 0) + 1):
        a, b = chain[max(-shift, 0) :], protein[max(shift, 0) :]
        n = min(len(a), len(b))
        if ((a[:n] == b[:n]) | (a[:n] == "X") | (b[:n] == "X")).all():
            found.append(shift)
    if 0 in found:
        return 0
    if len(found) != 1:
        how = "lies at several places in" if found else "neither holds nor lies in"
        raise UserError(
            f"{path}: the chain's sequence ({len(chain)} residues) {how} that of {stem(path)} "
            f"({len(protein)}); give the structure of that sequence"
        )
    return found[0]
