"""Rows, columns and annotation files by hand."""

import gzip
from pathlib import Path

import numpy as np

from extract.alphabet import residue_tokens
from extract.fasta import Protein
from probes.data.concepts import Concept, Level
from probes.data.rows import ProteinRows
from saejax.latents import StoreLatents


def make_rows(**sequences) -> ProteinRows:
    """Rows of named sequences."""
    proteins = [Protein(name, sequence) for name, sequence in sequences.items()]
    tokens = np.concatenate([residue_tokens(p.sequence) for p in proteins])
    return ProteinRows(proteins, tokens.astype(np.uint8))


def concept(concepts, name):
    """The concept of that name."""
    return next(c for c in concepts if c.name == name)


def yes(concepts, name, rows):
    """Rows of the concept of that name."""
    return concept(concepts, name).labels(rows.n_rows).nonzero()[0].tolist()


def columns_of(dense: np.ndarray):
    """A dense, nonnegative matrix [rows, latents] as unsorted LatentColumns."""
    n, d = dense.shape
    indices = np.tile(np.arange(d, dtype=np.int32), (n, 1))
    return StoreLatents(dense.astype(np.float32), indices, d).by_latent()


def flat_file_record(accession: str, sequence: str, features=(), *, length=None) -> str:
    """A minimal flat-file record; a feature is (type, from, to) or a raw FT line."""
    lines = [
        f"ID   {accession + '_TEST':<24}Reviewed;  {length or len(sequence):>10} AA.",
        f"AC   {accession}; OLD{accession};",
    ]
    for feature in features:
        if isinstance(feature, str):
            lines.append(feature)
        else:
            kind, start, end = feature
            lines.append(f"FT   {kind:<8} {start!s:>6} {end!s:>6}")
    lines.append(f"SQ   SEQUENCE   {len(sequence)} AA;  1000 MW;  0123456789ABCDEF CRC64;")
    lines += [f"     {sequence[i : i + 60]}" for i in range(0, len(sequence), 60)]
    return "\n".join([*lines, "//", ""])


def write(path: Path, text: str) -> Path:
    """Write text, gzipped if the name says so."""
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def dssp_table(proteins, seed=0) -> str:
    """Random runs of states for some proteins."""
    rng = np.random.default_rng(seed)
    lines = ["id\tsequence\tdssp"]
    for protein in proteins:
        runs = "".join(rng.choice(list("HEC")) * int(rng.integers(3, 12)) for _ in protein.sequence)
        lines.append(f"{protein.id}\t{protein.sequence}\t{runs[: len(protein.sequence)]}")
    return "\n".join(lines) + "\n"


def make_concept(name, spans, n_proteins, *, level: Level = "residue", defined=None):
    """A concept from row spans, defined in all proteins unless said."""
    everywhere = np.ones(n_proteins, bool) if defined is None else np.asarray(defined)
    return Concept(name, "own", np.asarray(spans, np.int64).reshape(-1, 2), everywhere, level)
