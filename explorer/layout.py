"""What lies in a bundle: one immutable folder for one SAE.

A bundle is read by memory mapping and by SQLite, so opening it costs nothing and it may be larger
than memory. Rows, proteins, positions and latents count from 0 here. Proteins are in the order of
the activation stores, those with tracks first. Layout::

    manifest.json               see Manifest; written last: a folder without it is no bundle
    latents.parquet             a row for each latent, LATENT_COLUMNS
    index.sqlite                SCHEMA: proteins, concepts, spans, associations, neighbours, search
    sequences.npy               uint8 [residues]: ASCII letters of all proteins, end to end
    by_latent/indptr.npy        int64 [d_sae + 1]
    by_latent/protein.npy       uint32 [pairs]: proteins in which a latent is active, highest first
    by_latent/max.npy           float32 [pairs]
    by_latent/argmax.npy        uint16 [pairs]: position of the maximum
    by_protein/indptr.npy       int64 [proteins + 1]
    by_protein/latent.npy       uint32 [pairs]: latents active in a protein, ascending
    by_protein/max.npy          float32 [pairs]
    by_protein/argmax.npy       uint16 [pairs]
    tracks/indptr.npy           int64 [tracked pairs + 1]: of the pairs of by_protein, those of the
                                first manifest["n_tracked"] proteins
    tracks/position.npy         uint16 [entries], ascending within a pair
    tracks/value.npy            float16 [entries]
    examples/indptr.npy         int64 [d_sae × len(GROUPS) + 1]: latent-major, groups as in GROUPS
    examples/protein.npy        uint32 [examples]
    examples/total.npy          uint32 [d_sae, len(GROUPS)]: proteins that belong to the group
    examples/entries.npy        int64 [examples + 1]
    examples/position.npy       uint16 [entries], ascending within an example
    examples/value.npy          float16 [entries]
    histogram/counts.npy        uint32 [d_sae, HISTOGRAM_BINS]: active residues by value
    histogram/edges.npy         float32 [d_sae, HISTOGRAM_BINS + 1]: log scale; zeros if dead
    histogram/quantiles.npy     float32 [d_sae, 11]: of the protein maxima
    logos/frequencies.npy       float16 [d_sae, LOGO_WIDTH, 20], NaN for too few sites; letters as
                                in extract.alphabet.AMINO_ACIDS order given in manifest["letters"]
    logos/bits.npy              float16 [d_sae, LOGO_WIDTH]
    logit_effect.npy            float32 [d_sae, 20]; absent without the parent's head
    structures.npy              float32 [residues with a structure, 4, 3]: N, CA, C, O in Å, NaN
                                where missing; proteins.structure says where one starts
    defined.npy                 uint8 [concepts, ceil(proteins / 8)]: np.packbits of whether the
                                concept's answer is known; absent without annotations
    neurons/                    protein, entries, position, value: examples of the parent's own
                                dimensions, indptr [d_model + 1], as in examples/ with one group
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

FORMAT_VERSION = 1

GROUPS = ("top", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "q8", "q9", "q10", "random")
"""Groups of examples, in order."""
N_TOP, N_QUANTILE, N_RANDOM = 64, 16, 16
"""How many of each are kept."""
HISTOGRAM_BINS = 40
LOGO_FLANK = 10
LOGO_WIDTH = 2 * LOGO_FLANK + 1

ARRAYS: dict[str, np.dtype] = {
    "sequences": np.dtype(np.uint8),
    "by_latent/indptr": np.dtype(np.int64),
    "by_latent/protein": np.dtype(np.uint32),
    "by_latent/max": np.dtype(np.float32),
    "by_latent/argmax": np.dtype(np.uint16),
    "by_protein/indptr": np.dtype(np.int64),
    "by_protein/latent": np.dtype(np.uint32),
    "by_protein/max": np.dtype(np.float32),
    "by_protein/argmax": np.dtype(np.uint16),
    "tracks/indptr": np.dtype(np.int64),
    "tracks/position": np.dtype(np.uint16),
    "tracks/value": np.dtype(np.float16),
    "examples/indptr": np.dtype(np.int64),
    "examples/protein": np.dtype(np.uint32),
    "examples/total": np.dtype(np.uint32),
    "examples/entries": np.dtype(np.int64),
    "examples/position": np.dtype(np.uint16),
    "examples/value": np.dtype(np.float16),
    "histogram/counts": np.dtype(np.uint32),
    "histogram/edges": np.dtype(np.float32),
    "histogram/quantiles": np.dtype(np.float32),
    "logos/frequencies": np.dtype(np.float16),
    "logos/bits": np.dtype(np.float16),
    "logit_effect": np.dtype(np.float32),
    "structures": np.dtype(np.float32),
    "defined": np.dtype(np.uint8),
    "neurons/indptr": np.dtype(np.int64),
    "neurons/protein": np.dtype(np.uint32),
    "neurons/entries": np.dtype(np.int64),
    "neurons/position": np.dtype(np.uint16),
    "neurons/value": np.dtype(np.float16),
}
"""Every array file, without ``.npy``, and its type."""

OPTIONAL_ARRAYS = frozenset(
    {"logit_effect", "structures", "defined"}
    | {name for name in ARRAYS if name.startswith(("neurons/", "logos/"))}
)
"""Those that a bundle may lack."""

LATENT_COLUMNS = {
    "latent": "int32", "label": "string", "label_source": "string", "kind": "string",
    "flags": "string",  # further kinds, separated by ", "
    "frequency": "float64", "protein_frequency": "float64", "n_active": "int64",
    "n_proteins": "int64", "max": "float32", "p99": "float32", "span": "float32",
    "decoder_norm": "float32", "x": "float32", "y": "float32",
    "consensus": "string", "enriched": "string",
    # the concept with the best F1 on validation, null without probes
    "concept": "string", "f1": "float32",
    # the annotation that names the latent (probes' latents.csv), null without one
    "named": "string", "precision": "float32", "precision_low": "float32",
    "precision_high": "float32", "expected": "float32", "named_recall": "float32",
    "named_base_rate": "float32", "named_residues": "int64", "named_clusters": "int64",
    "named_q": "float64", "confirmed": "bool",
}  # fmt: skip
"""Columns of ``latents.parquet`` and their types; any but the first block may be null."""

SCHEMA = """
CREATE TABLE proteins (
    protein INTEGER PRIMARY KEY, accession TEXT NOT NULL UNIQUE, description TEXT NOT NULL,
    start INTEGER NOT NULL,          -- of its residues in sequences.npy
    length INTEGER NOT NULL,
    sha256 TEXT NOT NULL,            -- of the sequence
    structure INTEGER,               -- its first row in structures.npy, NULL without one
    part TEXT,                       -- train, validation or test of the probes' split
    cluster TEXT);
CREATE INDEX proteins_sha256 ON proteins (sha256);
CREATE TABLE concepts (
    concept INTEGER PRIMARY KEY,     -- row of defined.npy
    name TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, level TEXT NOT NULL,
    letters TEXT,                    -- of an amino acid or class; its spans are not stored
    n_spans INTEGER NOT NULL,
    n_positive INTEGER, n_clusters INTEGER, base_rate REAL,   -- of the test part; NULL unprobed
    best INTEGER, found INTEGER);    -- the latent that training chose; whether it is found
CREATE TABLE spans (                 -- occurrences, half-open, from 0
    concept INTEGER NOT NULL, protein INTEGER NOT NULL,
    start INTEGER NOT NULL, stop INTEGER NOT NULL);
CREATE INDEX spans_protein ON spans (protein);
CREATE INDEX spans_concept ON spans (concept, protein);
CREATE TABLE scores (
    concept INTEGER NOT NULL,
    features TEXT NOT NULL,          -- latent (the chosen one), neuron, component, random,
    -- shuffled_labels, shuffled_parent, all_positive
    f1 REAL, f1_low REAL, f1_high REAL, precision REAL, recall REAL,
    auroc REAL, PRIMARY KEY (concept, features));
CREATE TABLE associations (          -- best concepts of a latent, best latents of a concept
    latent INTEGER NOT NULL, concept INTEGER NOT NULL, threshold REAL NOT NULL,
    f1_validation REAL, f1 REAL, precision REAL, recall REAL, auroc REAL, n_called INTEGER, q REAL,
    PRIMARY KEY (latent, concept)) WITHOUT ROWID;
CREATE INDEX associations_concept ON associations (concept, f1_validation DESC);
CREATE TABLE neighbours (
    latent INTEGER NOT NULL, kind TEXT NOT NULL, rank INTEGER NOT NULL, other INTEGER NOT NULL,
    value REAL NOT NULL, PRIMARY KEY (latent, kind, rank)) WITHOUT ROWID;
CREATE VIRTUAL TABLE latent_search USING fts5 (label, concepts, consensus);   -- rowid = latent
CREATE VIRTUAL TABLE concept_search USING fts5 (name, kind);                  -- rowid = concept
CREATE VIRTUAL TABLE protein_search USING fts5 (accession, description);      -- rowid = protein
"""
"""Of ``index.sqlite``."""

MANIFEST = "manifest.json"

Manifest = dict[str, Any]
"""``manifest.json``: format_version; id, name; created by versions (software); model, weights,
site, block, architecture, d_model, d_sae, k; fvu, l0, dead, loss_recovered; n_proteins, n_residues,
n_tracked; n_found, n_confirmed, n_f1_half; letters (order of the 20 amino acids in arrays); has
(schema.Parts); provenance (run config, stores, probes config, hashes); files: path → bytes, sha256;
hash: SHA-256 of all of the above, which names the bundle's content and is its ETag."""


def array_path(folder: Path, name: str) -> Path:
    """File of an array of :data:`ARRAYS`."""
    return folder / f"{name}.npy"
