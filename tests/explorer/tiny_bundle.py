"""A small bundle written straight from ``explorer.layout``, and the plain arrays it was made from.

Real sequences; latents that are rules with seeded noise. Tests compute what the server should say
from ``Tiny``'s dense arrays, never from the bundle's own.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from explorer import layout
from explorer.bundle import manifest_hash
from extract.alphabet import AMINO_ACIDS
from extract.files import file_sha256
from tests.explorer.tiny_tables import D_MODEL, D_SAE, DEAD, write_index, write_latents

DATA = Path(__file__).parents[2] / "data"
N_TOP_PROTEINS = 36
N_UNTRACKED = 5
HOSTILE = "ZN_FING/C4 <script>alert(1)</script> 100%"
THREE = {
    "ALA": "A", "CYS": "C", "ASP": "D", "GLU": "E", "PHE": "F", "GLY": "G", "HIS": "H",
    "ILE": "I", "LYS": "K", "LEU": "L", "MET": "M", "ASN": "N", "PRO": "P", "GLN": "Q",
    "ARG": "R", "SER": "S", "THR": "T", "VAL": "V", "TRP": "W", "TYR": "Y",
}  # fmt: skip


@dataclass
class Tiny:
    """What the bundle was made from."""

    folder: Path
    accessions: list[str]
    sequences: list[str]
    activations: list[np.ndarray]
    """Of each protein: float16 values as float32 ``[residues, d_sae]``."""
    concepts: list[tuple[str, str, str, str | None]] = field(default_factory=list)
    """Name, kind, level, letters."""
    spans: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Concept, protein, start, stop."""
    defined: np.ndarray = field(default_factory=lambda: np.zeros(0))
    structures: dict[int, np.ndarray] = field(default_factory=dict)
    thresholds: dict[tuple[int, int], float] = field(default_factory=dict)

    @property
    def n_tracked(self) -> int:
        return len(self.accessions) - N_UNTRACKED

    def maxima(self) -> np.ndarray:
        """``[proteins, d_sae]``"""
        return np.stack([a.max(axis=0) for a in self.activations])

    def inside(self, concept: int, protein: int) -> np.ndarray:
        """Residues in a concept: bool ``[residues]``."""
        letters = self.concepts[concept][3]
        if letters is not None:
            return np.array([c in letters for c in self.sequences[protein]])
        yes = np.zeros(len(self.sequences[protein]), dtype=bool)
        for c, p, start, stop in self.spans:
            if (c, p) == (concept, protein):
                yes[start:stop] = True
        return yes


def write_tiny(folder: Path, name: str = "tiny", seed: int = 0) -> Tiny:
    """Write a bundle; the same for the same arguments."""
    random = np.random.default_rng(seed)
    tiny = _proteins(folder)
    _annotate(tiny, random)
    tiny.activations = [_activate(tiny, p, random) for p in range(len(tiny.sequences))]
    for sub in ("by_latent", "by_protein", "tracks", "examples", "histogram", "logos", "neurons"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    _write_pairs(tiny)
    _write_examples(tiny, random)
    _write_rest(tiny, random)
    write_latents(tiny)
    write_index(tiny)
    _write_manifest(tiny, name, seed)
    return tiny


def _proteins(folder: Path) -> Tiny:
    accessions, sequences, structures = [], [], {}
    for entry in ("1ECA_A", "1UNF_A"):
        atoms, letters = _backbone(DATA / "structures" / f"{entry}.pdb.gz")
        structures[len(accessions)] = atoms
        accessions.append(entry)
        sequences.append(letters)
    with gzip.open(DATA / "swissprot.fasta.gz", "rt") as f:
        for record in f.read().split(">")[1:]:
            header, *lines = record.splitlines()
            if len(sequence := "".join(lines)) < 260 and len(accessions) < N_TOP_PROTEINS:
                accessions.append(header.split()[0].split("|")[-1])
                sequences.append(sequence)
    return Tiny(folder, accessions, sequences, [], structures=structures)


def _backbone(path: Path) -> tuple[np.ndarray, str]:
    """Backbone of the residues that a PDB file has; the first one's N is left out."""
    residues: dict[str, tuple[str, dict[str, list[float]]]] = {}
    with gzip.open(path, "rt") as f:
        for line in f:
            if line.startswith("ATOM") and line[17:20] in THREE:
                _, atoms = residues.setdefault(line[22:27], (THREE[line[17:20]], {}))
                atoms.setdefault(
                    line[12:16].strip(), [float(line[i : i + 8]) for i in (30, 38, 46)]
                )
    nothing = [np.nan] * 3
    xyz = [[a.get(n, nothing) for n in ("N", "CA", "C", "O")] for _, a in residues.values()]
    array = np.array(xyz, dtype=np.float32)
    array[0, 0] = np.nan
    return array, "".join(letter for letter, _ in residues.values())


def _annotate(tiny: Tiny, random: np.random.Generator) -> None:
    n = len(tiny.sequences)
    tiny.concepts = [
        ("C", "amino acid", "residue", "C"),
        ("helix", "dssp", "residue", None),
        (HOSTILE, "uniprot", "residue", None),
        ("Pfam PF00042", "protein", "protein", None),
    ]
    tiny.defined = random.random((4, n)) < 0.8
    tiny.defined[0] = True
    for p, sequence in enumerate(tiny.sequences):
        length = len(sequence)
        if tiny.defined[1, p]:
            for start in range(int(random.integers(0, 20)), length - 20, 45):
                tiny.spans.append((1, p, start, start + int(random.integers(5, 18))))
        if tiny.defined[2, p] and p % 3 == 0:
            # two that overlap
            tiny.spans += [(2, p, 4, 14), (2, p, 10, 22)]
        if tiny.defined[3, p] and p % 4 == 0:
            tiny.spans.append((3, p, 0, length))
    tiny.thresholds = {(0, 0): 0.5, (3, 1): 1.0, (3, 2): 0.25, (2, 2): 2.0, (5, 3): 0.0}


def _activate(tiny: Tiny, p: int, random: np.random.Generator) -> np.ndarray:
    sequence = tiny.sequences[p]
    length = len(sequence)
    noise = random.gamma(1.5, 1.0, (length, D_SAE)).astype(np.float32)
    fires = random.random((length, D_SAE)) < 0.02
    fires[:, 0] = [c == "C" for c in sequence]
    fires[:, 1] = [
        sequence[i] == "N" and sequence[i + 1 : i + 2] != "P" and sequence[i + 2 : i + 3] in "ST"
        for i in range(length)
    ]
    fires[:, 2] = [c in "KR" for c in sequence]
    # knows most helices, and fires a little elsewhere: hits, misses and wrong calls
    fires[:, 3] = (tiny.inside(1, p) & (random.random() < 0.7)) | (random.random(length) < 0.01)
    fires[:, DEAD] = False
    fires[:, 5] = random.random(length) < 0.6
    fires[:, 11] = fires[:, 11] & (p % 2 == 0)
    values = np.where(fires, noise + 0.01, 0)
    return values.astype(np.float16).astype(np.float32)


def _save(tiny: Tiny, name: str, array: np.ndarray) -> None:
    np.save(layout.array_path(tiny.folder, name), np.asarray(array, dtype=layout.ARRAYS[name]))


def _write_pairs(tiny: Tiny) -> None:
    maxima = tiny.maxima()
    argmax = np.stack([a.argmax(axis=0) for a in tiny.activations])
    for latent_major in (True, False):
        folder, other = ("by_latent", "protein") if latent_major else ("by_protein", "latent")
        rows = maxima.T if latent_major else maxima
        indptr, numbers, values, places = [0], [], [], []
        for i, row in enumerate(rows):
            active = np.flatnonzero(row)
            if latent_major:
                active = active[np.argsort(-row[active], kind="stable")]
            numbers += active.tolist()
            values += row[active].tolist()
            places += (argmax[active, i] if latent_major else argmax[i, active]).tolist()
            indptr.append(len(numbers))
        _save(tiny, f"{folder}/indptr", np.array(indptr))
        _save(tiny, f"{folder}/{other}", np.array(numbers))
        _save(tiny, f"{folder}/max", np.array(values))
        _save(tiny, f"{folder}/argmax", np.array(places))
    indptr, position, value = [0], [], []
    for a in tiny.activations[: tiny.n_tracked]:
        for j in np.flatnonzero(a.max(axis=0)):
            at = np.flatnonzero(a[:, j])
            position += at.tolist()
            value += a[at, j].tolist()
            indptr.append(len(position))
    _save(tiny, "tracks/indptr", np.array(indptr))
    _save(tiny, "tracks/position", np.array(position))
    _save(tiny, "tracks/value", np.array(value))


def groups_of(maxima: np.ndarray, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Proteins of each group of a latent, all of them."""
    order = np.argsort(-maxima, kind="stable")
    active = order[maxima[order] > 0]
    tenths = np.array_split(active[::-1], 10)
    groups = {"top": active, "random": random.permutation(active)}
    return groups | {f"q{i + 1}": tenth for i, tenth in enumerate(tenths)}


def _write_examples(tiny: Tiny, random: np.random.Generator) -> None:
    most = {"top": layout.N_TOP, "random": layout.N_RANDOM}
    indptr, proteins, entries, position, value = [0], [], [0], [], []
    total = np.zeros((D_SAE, len(layout.GROUPS)))
    for j in range(D_SAE):
        groups = groups_of(tiny.maxima()[:, j], random)
        for g, group in enumerate(layout.GROUPS):
            total[j, g] = len(groups[group])
            for p in groups[group][: most.get(group, layout.N_QUANTILE)].tolist():
                at = np.flatnonzero(tiny.activations[p][:, j])
                proteins.append(p)
                position += at.tolist()
                value += tiny.activations[p][at, j].tolist()
                entries.append(len(position))
            indptr.append(len(proteins))
    _save(tiny, "examples/total", total)
    for name, column in zip(("indptr", "protein", "entries", "position", "value"),
                            (indptr, proteins, entries, position, value)):  # fmt: skip
        _save(tiny, f"examples/{name}", np.array(column))


def _write_rest(tiny: Tiny, random: np.random.Generator) -> None:
    letters = "".join(tiny.sequences).encode()
    _save(tiny, "sequences", np.frombuffer(letters, dtype=np.uint8))
    counts, edges, quantiles = [], [], []
    for j in range(D_SAE):
        values = np.concatenate([a[:, j] for a in tiny.activations])
        values = values[values > 0]
        bins = np.zeros(layout.HISTOGRAM_BINS + 1)
        if len(values):
            bins = np.geomspace(values.min(), values.max(), layout.HISTOGRAM_BINS + 1)
            bins[-1] *= 1.000001
        counts.append(np.histogram(values, bins)[0] if len(values) else bins[:-1])
        edges.append(bins)
        active = tiny.maxima()[:, j]
        active = active[active > 0]
        quantiles.append(
            np.quantile(active, np.linspace(0, 1, 11)) if len(active) else np.zeros(11)
        )
    _save(tiny, "histogram/counts", np.array(counts))
    _save(tiny, "histogram/edges", np.array(edges))
    _save(tiny, "histogram/quantiles", np.array(quantiles))
    logos = random.dirichlet(np.ones(20), (D_SAE, layout.LOGO_WIDTH))
    logos[DEAD] = np.nan
    _save(tiny, "logos/frequencies", logos)
    _save(tiny, "logos/bits", np.nan_to_num(np.log2(20) + (logos * np.log2(logos)).sum(-1)))
    _save(tiny, "logit_effect", random.normal(size=(D_SAE, 20)))
    _save(tiny, "structures", np.concatenate(list(tiny.structures.values())))
    _save(tiny, "defined", np.packbits(tiny.defined, axis=1))
    indptr, proteins, entries, position, value = [0], [], [0], [], []
    for _ in range(D_MODEL):
        for p in random.choice(len(tiny.sequences), 10, replace=False).tolist():
            at = np.sort(random.choice(len(tiny.sequences[p]), 12, replace=False))
            proteins.append(p)
            position += at.tolist()
            value += random.gamma(2.0, 30.0, 12).tolist()
            entries.append(len(position))
        indptr.append(len(proteins))
    for name, column in zip(("indptr", "protein", "entries", "position", "value"),
                            (indptr, proteins, entries, position, value)):  # fmt: skip
        _save(tiny, f"neurons/{name}", np.array(column))


def _write_manifest(tiny: Tiny, name: str, seed: int) -> None:
    files = {
        path.relative_to(tiny.folder).as_posix(): {
            "bytes": path.stat().st_size, "sha256": file_sha256(path)
        }
        for path in sorted(tiny.folder.rglob("*")) if path.is_file()
        and path.name != layout.MANIFEST
    }  # fmt: skip
    manifest = {
        "format_version": layout.FORMAT_VERSION, "id": name, "name": f"Tiny {name}",
        "versions": {}, "model": "tiny", "weights": "random", "site": "block1", "block": 1,
        "architecture": "topk", "d_model": D_MODEL, "d_sae": D_SAE, "k": 4, "fvu": 0.3, "l0": 4.0,
        "dead": 1 / D_SAE, "loss_recovered": 0.9, "n_proteins": len(tiny.sequences),
        "n_residues": sum(map(len, tiny.sequences)), "n_tracked": tiny.n_tracked, "n_found": 1,
        "n_confirmed": 1, "n_f1_half": 1, "letters": AMINO_ACIDS,
        "has": {"probes": True, "structures": True, "effects": True, "tracks": True,
                "neurons": True},
        "provenance": {"seed": seed}, "files": files,
    }  # fmt: skip
    manifest["hash"] = manifest_hash(manifest)
    (tiny.folder / layout.MANIFEST).write_text(json.dumps(manifest))
