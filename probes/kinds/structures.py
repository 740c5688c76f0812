"""Coordinates of proteins, and whether residues that fire together touch in space."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.sparse import csr_matrix

from extract.errors import UserError
from probes.data.rows import OTHER_RESIDUE, ProteinRows
from probes.sources.structure_files import residues, stem

CONTACT_ANGSTROM = 8.0
"""Two residues touch when their Cβ are closer: the definition of CASP and of ESM's contact head."""

MIN_SEPARATION = 6
"""Residues between two that count: nearer ones touch because they are neighbours, or a helix."""

ALPHAFOLD_NAME = re.compile(r"AF-(?P<id>[A-Z0-9]+)-F1-model_v\d+")
"""Files of the AlphaFold database; their id is the UniProt accession."""

BACKBONE = ("N", "CA", "C", "O")
"""Atoms of :func:`read_backbone`."""

Structures = Mapping[int, Shaped[np.ndarray, "length 3"]]
"""Cβ coordinates in Å by protein index, NaN where unknown."""


class Contacts(NamedTuple):
    """Pairs of residues on which a latent fires, at least ``MIN_SEPARATION`` apart."""

    n_pairs: Int[np.ndarray, " latents"]
    """In the proteins with a structure, both coordinates known."""
    observed: Float[np.ndarray, " latents"]
    """Of them, those in contact."""
    expected: Float[np.ndarray, " latents"]
    """Contacts among random pairs of the same proteins and the same separations."""
    expected_of_residues: Float[np.ndarray, " latents"]
    """The same, times how much more than others its pairs of amino acids touch."""


def read_structures(
    folder: Path, rows: ProteinRows, read: Callable[[Path, str], np.ndarray] | None = None
) -> dict[int, np.ndarray]:
    """Coordinates of every protein with a file ``<id>.pdb[.gz]`` or ``<id>.cif[.gz]``.

    Also AlphaFold database names. Files of other proteins are left alone, and residues behind the
    end of a cropped one are dropped. Where residues lie: ``probes/sources/structure_files.py``.

    Args:
        folder: with the files.
        rows: the proteins.
        read: what is kept of a file, given the protein's sequence; by default :func:`read_cb`.

    Raises:
        UserError: no such folder, a file that does not fit, or none of any protein.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: is not a folder; give one with files <protein id>.pdb.gz")
    structures: dict[int, np.ndarray] = {}
    n_files = 0
    for path in sorted(folder.iterdir()):
        name = stem(path)
        if name is None:
            continue
        n_files += 1
        match = ALPHAFOLD_NAME.fullmatch(name)
        protein = rows.index_of_id.get(match["id"] if match else name)
        if protein is None:
            continue
        if protein in structures:
            raise UserError(
                f"{path}: there is another file for {rows.proteins[protein].id} in the folder; "
                "keep one of them"
            )
        structures[protein] = (read or read_cb)(path, rows.proteins[protein].sequence)
    if not structures:
        raise UserError(
            f"{folder}: none of its {n_files} structures is named after a protein of the "
            "activations; name them <protein id>.pdb, .cif, .pdb.gz or .cif.gz"
        )
    return structures


def read_cb(path: Path, sequence: str) -> Float[np.ndarray, "length 3"]:
    """Cβ coordinates of one chain; for glycine, and where none is given, an ideal one.

    The ideal Cβ follows from N, Cα and C (as in ProteinMPNN's code); Cα stands in where one of
    them is missing.

    Raises:
        UserError: the file can't be read, holds several chains or another sequence.
    """
    return _read_residues(path, sequence, (3,), cb_of)


def read_backbone(path: Path, sequence: str) -> Float[np.ndarray, "length 4 3"]:
    """Coordinates of N, Cα, C and O of one chain, NaN where unknown.

    Raises:
        UserError: as :func:`read_cb`.
    """
    unknown = np.full(3, np.nan, np.float32)

    def atoms_of(atoms: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.stack([atoms.get(name, unknown) for name in BACKBONE])

    return _read_residues(path, sequence, (len(BACKBONE), 3), atoms_of)


def _read_residues(
    path: Path,
    sequence: str,
    shape: tuple[int, ...],
    of: Callable[[Mapping[str, np.ndarray]], np.ndarray],
) -> np.ndarray:
    """What ``of`` makes of each residue's atoms, NaN where a residue is missing."""
    coordinates = np.full((len(sequence), *shape), np.nan, dtype=np.float32)
    for residue in residues(path, sequence):
        at = residue.position
        if at >= len(sequence):
            continue
        if residue.letter not in (sequence[at], "X") and sequence[at] != "X":
            raise UserError(
                f"{path}: residue {residue.words} is {residue.letter}, but position {at + 1} of "
                f"{stem(path)} is {sequence[at]}; give the structure of that sequence"
            )
        coordinates[at] = of(residue.atoms)
    if np.isnan(coordinates).all():
        raise UserError(f"{path}: holds no residue of the protein; check the file")
    return coordinates


def cb_of(atoms: Mapping[str, np.ndarray]) -> Float[np.ndarray, 3]:
    """Cβ of a residue's atoms: as given, ideal, or Cα; NaN without any of these."""
    if "CB" in atoms:
        return atoms["CB"]
    if all(name in atoms for name in ("N", "CA", "C")):
        n, ca, c = (atoms[name] for name in ("N", "CA", "C"))
        b, c_ca = ca - n, c - ca
        return ca - 0.58273431 * np.cross(b, c_ca) + 0.56802827 * b - 0.54067466 * c_ca
    return atoms["CA"] if "CA" in atoms else np.full(3, np.nan, np.float32)


def contact_pairs(
    latent: Int[np.ndarray, " firings"],
    row: Int[np.ndarray, " firings"],
    rows: ProteinRows,
    structures: Structures,
    d_sae: int,
) -> Contacts:
    """Contacts among the residues on which each latent fires, and among matched random pairs.

    Per protein, with F [latents, L] the firings, C the contacts and K the pairs that count::

        n_pairs  = ½ diag(F K Fᵀ)      observed = ½ diag(F C Fᵀ)
        expected = ½ diag(F P Fᵀ)      P_ij = share of the protein's pairs |i − j| apart in contact
        expected_of_residues = ½ diag(F (P · R) Fᵀ)
        R_ij = contacts / expected over all pairs of the amino acids of i and j, all structures

    R is the composition control: cysteines, and what is buried, touch whatever a latent knows.

    Args:
        latent: of every firing residue; those in proteins without a structure are not looked at.
        row: of every firing residue.
        rows: the residues.
        structures: coordinates.
        d_sae: latents.
    """
    totals = np.zeros((4, d_sae))
    order = np.argsort(row, kind="stable")
    latent, row = latent[order], row[order]
    ratio = _residue_ratio(rows, structures)
    for protein, coordinates in structures.items():
        at = rows.slice_of(protein)
        assert len(coordinates) == at.stop - at.start, "a coordinate for every residue"
        mine = slice(*np.searchsorted(row, [at.start, at.stop]))
        active, which = np.unique(latent[mine], return_inverse=True)
        if not len(active):
            continue
        position = row[mine] - at.start
        fires = csr_matrix(
            (np.ones(len(which), np.float32), (which, position)), (len(active), len(coordinates))
        )
        counts, contact, share = _pair_matrices(coordinates)
        residue = rows.residue_class[at]
        matrices = (counts, contact, share, share * ratio[residue[:, None], residue])
        for k, matrix in enumerate(matrices):
            met = np.asarray(fires @ matrix)[which, position]
            totals[k, active] += np.bincount(which, weights=met, minlength=len(active)) / 2
    return Contacts(totals[0].round().astype(np.int64), *totals[1:])


def _residue_ratio(
    rows: ProteinRows, structures: Structures
) -> Float[np.ndarray, "classes classes"]:
    """Contacts over expected contacts of every two amino acids, with 1 added to both."""
    n = OTHER_RESIDUE + 1
    observed, expected = np.ones(n * n), np.ones(n * n)
    for protein, coordinates in structures.items():
        residue = rows.residue_class[rows.slice_of(protein)].astype(np.int64)
        counts, contact, share = _pair_matrices(coordinates)
        i, j = np.nonzero(counts)
        pair = residue[i] * n + residue[j]
        observed += np.bincount(pair, weights=contact[i, j], minlength=n * n) / 2
        expected += np.bincount(pair, weights=share[i, j], minlength=n * n) / 2
    return (observed / expected).reshape(n, n).astype(np.float32)


def _pair_matrices(coordinates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(pairs that count, contacts, share in contact at that separation): float32 [L, L]."""
    length = len(coordinates)
    known = np.isfinite(coordinates).all(axis=1)
    x = np.nan_to_num(coordinates.astype(np.float64))
    x2 = (x**2).sum(axis=1)
    squared = x2[:, None] + x2 - 2 * (x @ x.T)
    separation = np.abs(np.arange(length)[:, None] - np.arange(length))
    counts = np.logical_and.outer(known, known) & (separation >= MIN_SEPARATION)
    contact = counts & (squared < CONTACT_ANGSTROM**2)
    n_pairs = np.bincount(separation[counts], minlength=length)
    n_contacts = np.bincount(separation[contact], minlength=length)
    share = np.divide(n_contacts, n_pairs, out=np.zeros(length), where=n_pairs > 0)
    return (
        counts.astype(np.float32),
        contact.astype(np.float32),
        np.where(counts, share[separation], 0).astype(np.float32),
    )
