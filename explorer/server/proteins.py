"""Answers about proteins: annotations, active latents, backbones."""

from __future__ import annotations

import re
from sqlite3 import Row

import numpy as np

from explorer.schema import ProteinDetail, ProteinLatent, ProteinLatents, Track
from explorer.server.errors import NotFound
from explorer.server.library import Library
from explorer.server.source import Source, flat_ranges, significant

UNIPROT = re.compile(
    r"[OPQ][0-9][A-Z0-9]{3}[0-9]|[A-NR-Z][0-9](?:[A-Z][A-Z0-9]{2}[0-9]){1,2}", re.ASCII
)
"""https://www.uniprot.org/help/accession_numbers"""
PDB = re.compile(r"([0-9][A-Za-z0-9]{3})(?:[_:.]([A-Za-z0-9]{1,4}))?", re.ASCII)

_THREE = {
    "A": "ALA", "C": "CYS", "D": "ASP", "E": "GLU", "F": "PHE", "G": "GLY", "H": "HIS",
    "I": "ILE", "K": "LYS", "L": "LEU", "M": "MET", "N": "ASN", "P": "PRO", "Q": "GLN",
    "R": "ARG", "S": "SER", "T": "THR", "V": "VAL", "W": "TRP", "Y": "TYR", "U": "SEC",
    "O": "PYL", "B": "ASX", "Z": "GLX",
}  # fmt: skip
_ATOMS = ((" N  ", "N"), (" CA ", "C"), (" C  ", "C"), (" O  ", "O"))
_MOST_NUMBERED = 9_999
"""Residues that the columns of the PDB format can number."""


def protein_detail(library: Library, accession: str) -> ProteinDetail:
    """A protein, its annotations, and the dictionaries that have the same sequence of it.

    Raises:
        NotFound: no bundle has it.
    """
    found = _everywhere(library, accession)
    source, row = found[0]
    sequence = source.sequence(row)
    same = [(s, r) for s, r in found if s.sequence(r) == sequence]
    annotated = [(s, s.features([r["protein"]])[r["protein"]]) for s, r in same]
    return ProteinDetail(
        accession=accession,
        description=row["description"],
        sequence=sequence,
        features=next((features for _, features in annotated if features), []),
        structure=any(r["structure"] is not None for _, r in same),
        saes=[s.id for s, _ in same],
        url=_url(accession),
    )


def _everywhere(library: Library, accession: str) -> list[tuple[Source, Row]]:
    rows = ((source, source.find_protein(accession)) for source in library)
    found = [(source, row) for source, row in rows if row is not None]
    if not found:
        raise NotFound(f"no bundle has the protein {accession[:60]!r}; try the search box")
    return found


def _url(accession: str) -> str | None:
    if UNIPROT.fullmatch(accession):
        return f"https://www.uniprot.org/uniprotkb/{accession}/entry"
    if found := PDB.fullmatch(accession):
        return f"https://www.rcsb.org/structure/{found[1].upper()}"
    return None


def protein_latents(source: Source, accession: str, n: int) -> ProteinLatents:
    """Active latents of a protein by max / (the latent's own max) × log(proteins / with it).

    The logarithm is that of information retrieval (Spärck Jones 1972, doi:10.1108/eb026526): what
    fires everywhere says little about this protein.
    """
    row = source.protein(accession)
    start, stop = (int(i) for i in source["by_protein/indptr"][row["protein"] :][:2])
    latents = source["by_protein/latent"][start:stop].astype(np.int64)
    maxima = source["by_protein/max"][start:stop]
    places = source["by_protein/argmax"][start:stop]
    indptr = source["by_latent/indptr"]
    share = maxima / np.maximum(source.latent_max[latents], np.finfo(np.float32).tiny)
    rarity = np.log(source.n_proteins / np.maximum(indptr[latents + 1] - indptr[latents], 1))
    scores = share * rarity
    order = np.argsort(-scores, kind="stable")[:n]
    tracked = row["protein"] < source.n_tracked
    return ProteinLatents(
        sae=source.id,
        accession=accession,
        total=stop - start,
        latents=[
            ProteinLatent(
                latent=(j := int(latents[i])),
                label=source.labels[j],
                kind=source.kinds[j],
                max=float(significant(maxima[i])),
                argmax=int(places[i]) + 1,
                score=float(significant(scores[i])),
                track=_track(source, start + int(i)) if tracked else None,
            )
            for i in order
        ],
    )


def _track(source: Source, pair: int) -> Track:
    position, value = source.track(pair)
    return Track(
        positions=(position.astype(np.int64) + 1).tolist(), values=significant(value).tolist()
    )


def structure(library: Library, accession: str) -> str:
    """The backbone in PDB format: chain A, a residue's number is its position in the sequence.

    Raises:
        NotFound: no bundle has the protein, or none has its structure.
    """
    for source, row in _everywhere(library, accession):
        if row["structure"] is not None:
            atoms = source["structures"][row["structure"] : row["structure"] + row["length"]]
            return pdb_text(source.sequence(row), atoms)
    raise NotFound(f"{accession}: no bundle has a structure of this protein")


def pdb_text(sequence: str, atoms: np.ndarray) -> str:
    """N, CA, C and O of each residue (``[residues, 4, 3]``, Å) as PDB lines; NaN is left out."""
    lines = ["REMARK   2 BACKBONE ONLY; RESIDUE NUMBERS ARE POSITIONS IN THE SEQUENCE"]
    present = np.asarray(np.isfinite(atoms).all(axis=-1))
    serial = 0
    for i in np.flatnonzero(present.any(axis=-1))[:_MOST_NUMBERED].tolist():
        if i >= _MOST_NUMBERED:
            break
        residue = _THREE.get(sequence[i], "UNK")
        for k, (atom, element) in enumerate(_ATOMS):
            if present[i, k]:
                serial += 1
                x, y, z = atoms[i, k].tolist()
                lines.append(
                    f"ATOM  {serial % 100_000:5d} {atom} {residue} A{i + 1:4d}    "
                    f"{x:8.3f}{y:8.3f}{z:8.3f}{1:6.2f}{0:6.2f}          {element:>2s}"
                )
    return "\n".join([*lines, "TER", "END", ""])


def residues_active(source: Source, protein: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latents of a tracked protein, and of all their entries the position and the owner's row."""
    start, stop = (int(i) for i in source["by_protein/indptr"][protein : protein + 2])
    latents = source["by_protein/latent"][start:stop].astype(np.int64)
    edges = source["tracks/indptr"][start : stop + 1]
    _, owner = flat_ranges(edges[:-1], edges[1:])
    return latents, source["tracks/position"][edges[0] : edges[-1]], owner
