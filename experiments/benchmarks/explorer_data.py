"""A synthetic bundle of any size for the server's benchmark, written array by array.

A block of proteins is drawn residue by residue (k of the protein's own latents each, frequencies
log-normal) and repeated with other sequences until there are enough: sizes, and how they are
spread over latents and proteins, are those of a real bundle; what fires where means nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from experiments.benchmarks.explorer_tables import N_CONCEPTS, Size, made_up_name, write_index
from experiments.benchmarks.probe_data import AMINO_ACIDS_PERCENT
from explorer import layout
from explorer.bundle import manifest_hash
from extract.alphabet import AMINO_ACIDS

BLOCK = 500
"""Proteins that are drawn; the rest repeat their activations."""
FREQUENCY_SIGMA = 1.5
POOL = 1_300
"""Draws of the latents that a protein has at all: a latent that fires there fires on many residues
(13 in the demo's bundle, which has 2,048 latents)."""


def write_bundle(folder: Path, size: Size, seed: int = 0) -> None:
    """Write a bundle that opens without its checksums being compared (they are left out)."""
    random = np.random.default_rng(seed)
    for sub in ("by_latent", "by_protein", "tracks", "examples", "histogram", "logos"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    repeats = -(-size.n_proteins // BLOCK)
    assert repeats * BLOCK == size.n_proteins, f"n_proteins must be a multiple of {BLOCK}"
    lengths = np.clip(random.gamma(3.0, size.mean_length / 3, BLOCK), 40, 2_000).astype(np.int64)
    _write_sequences(folder, lengths, repeats, random)
    block = _draw_block(size, lengths, random)
    _write_by_protein(folder, block, repeats)
    _write_by_latent(folder, size, block, repeats)
    _write_rest(folder, size, lengths, random)
    n_active = np.bincount(block.entry_latent, minlength=size.d_sae) * repeats
    _write_latents(folder, size, block, n_active, repeats, random)
    write_index(folder, size, np.tile(lengths, repeats), random)
    _write_manifest(folder, size, int(lengths.sum()) * repeats)


@dataclass(frozen=True)
class _Block:
    """Activations of the proteins that are drawn, ordered by protein, latent and position."""

    pair_protein: np.ndarray
    pair_latent: np.ndarray
    pair_max: np.ndarray
    pair_argmax: np.ndarray
    edges: np.ndarray
    position: np.ndarray
    value: np.ndarray
    entry_latent: np.ndarray


def _draw_block(size: Size, lengths: np.ndarray, random: np.random.Generator) -> _Block:
    weight = np.exp(random.normal(0, FREQUENCY_SIGMA, size.d_sae))
    cumulative = np.cumsum(weight / weight.sum())
    protein = np.repeat(np.arange(BLOCK), lengths)
    position = np.concatenate([np.arange(n) for n in lengths])
    pools = np.searchsorted(cumulative, random.random((BLOCK, POOL)))
    pools = np.minimum(pools, size.d_sae - 1)
    latent = pools[protein[:, None], random.integers(0, POOL, (len(protein), size.k))]
    # ordered and without repeats by one number for protein, latent and position
    key = (protein[:, None] * size.d_sae + latent) * 4_096 + position[:, None]
    key = np.unique(key)
    pair, position = key >> 12, key & 4_095
    pairs, edges = np.unique(pair, return_index=True)
    edges = np.append(edges, len(key))
    value = random.gamma(2.0, 1.5, len(key)).astype(np.float16)
    highest = np.maximum.reduceat(value, edges[:-1])
    return _Block(
        pairs // size.d_sae, pairs % size.d_sae, highest.astype(np.float32),
        position[edges[:-1]], edges, position, value, pair % size.d_sae,
    )  # fmt: skip


def _open(folder: Path, name: str, shape: tuple[int, ...]) -> np.ndarray:
    path = layout.array_path(folder, name)
    return np.lib.format.open_memmap(path, "w+", layout.ARRAYS[name], shape)


def _repeat(folder: Path, name: str, part: np.ndarray, repeats: int) -> None:
    array = _open(folder, name, (len(part) * repeats,))
    part = part.astype(array.dtype)
    for i in tqdm(range(repeats), desc=name, disable=None, leave=False):
        array[i * len(part) : (i + 1) * len(part)] = part


def _pointers(folder: Path, name: str, edges: np.ndarray, repeats: int) -> None:
    lengths = np.tile(np.diff(edges), repeats)
    np.save(layout.array_path(folder, name), np.concatenate([[0], np.cumsum(lengths)]))


def _write_sequences(
    folder: Path, lengths: np.ndarray, repeats: int, random: np.random.Generator
) -> None:
    share = np.array(AMINO_ACIDS_PERCENT) / sum(AMINO_ACIDS_PERCENT)
    letters = np.frombuffer(AMINO_ACIDS.encode(), dtype=np.uint8)
    cumulative = np.cumsum(share)
    n = int(lengths.sum())
    array = _open(folder, "sequences", (n * repeats,))
    for i in range(repeats):
        drawn = np.searchsorted(cumulative, random.random(n, dtype=np.float32))
        array[i * n : (i + 1) * n] = letters[np.minimum(drawn, 19)]


def _write_by_protein(folder: Path, block: _Block, repeats: int) -> None:
    per_protein = np.bincount(block.pair_protein, minlength=BLOCK)
    edges = np.concatenate([[0], np.cumsum(per_protein)])
    _pointers(folder, "by_protein/indptr", edges, repeats)
    _repeat(folder, "by_protein/latent", block.pair_latent, repeats)
    _repeat(folder, "by_protein/max", block.pair_max, repeats)
    _repeat(folder, "by_protein/argmax", block.pair_argmax, repeats)
    _pointers(folder, "tracks/indptr", block.edges, repeats)
    _repeat(folder, "tracks/position", block.position, repeats)
    _repeat(folder, "tracks/value", block.value, repeats)


def _write_by_latent(folder: Path, size: Size, block: _Block, repeats: int) -> None:
    order = np.lexsort((-block.pair_max, block.pair_latent))
    counts = np.bincount(block.pair_latent, minlength=size.d_sae) * repeats
    np.save(layout.array_path(folder, "by_latent/indptr"), np.concatenate([[0], np.cumsum(counts)]))
    total = len(order) * repeats
    arrays = {
        name: _open(folder, f"by_latent/{name}", (total,)) for name in ("protein", "max", "argmax")
    }
    shift = np.arange(repeats) * BLOCK
    step = 20_000
    for i in tqdm(range(0, len(order), step), desc="by_latent", disable=None, leave=False):
        part = order[i : i + step]
        place = slice(i * repeats, (i + len(part)) * repeats)
        arrays["protein"][place] = (block.pair_protein[part][:, None] + shift).ravel()
        arrays["max"][place] = np.repeat(block.pair_max[part], repeats)
        arrays["argmax"][place] = np.repeat(block.pair_argmax[part], repeats)


def _write_rest(folder: Path, size: Size, lengths: np.ndarray, random: np.random.Generator) -> None:
    """Examples of 20 residues each, histograms, logos and effects."""
    kept = [layout.N_TOP, *[layout.N_QUANTILE] * 10, layout.N_RANDOM]
    edges = np.concatenate([[0], np.cumsum(np.tile(kept, size.d_sae))])
    n, width = int(edges[-1]), 20
    np.save(layout.array_path(folder, "examples/indptr"), edges)
    proteins = random.integers(0, size.n_proteins, n, dtype=np.uint32)
    np.save(layout.array_path(folder, "examples/protein"), proteins)
    np.save(layout.array_path(folder, "examples/entries"), np.arange(n + 1, dtype=np.int64) * width)
    row = np.sort(random.choice(lengths.min(), width, replace=False))
    _repeat(folder, "examples/position", row, n)
    _repeat(folder, "examples/value", random.gamma(2.0, 1.5, width), n)
    shapes = {
        "examples/total": (size.d_sae, len(layout.GROUPS)),
        "histogram/counts": (size.d_sae, layout.HISTOGRAM_BINS),
        "histogram/edges": (size.d_sae, layout.HISTOGRAM_BINS + 1),
        "histogram/quantiles": (size.d_sae, 11), "logos/frequencies": (size.d_sae, 21, 20),
        "logos/bits": (size.d_sae, 21), "logit_effect": (size.d_sae, 20),
    }  # fmt: skip
    for name, shape in shapes.items():
        array = random.random(shape) * (1_000 if layout.ARRAYS[name].kind == "u" else 1)
        np.save(layout.array_path(folder, name), array.astype(layout.ARRAYS[name]))
    bits = random.integers(0, 256, (N_CONCEPTS, -(-size.n_proteins // 8)), dtype=np.uint8)
    np.save(layout.array_path(folder, "defined"), bits | np.uint8(0b10110111))


def _write_latents(
    folder: Path, size: Size, block: _Block, n_active: np.ndarray, repeats: int,
    random: np.random.Generator,
) -> None:  # fmt: skip
    per_latent = np.bincount(block.pair_latent, minlength=size.d_sae) * repeats
    n_residues = max(int(n_active.sum()) // size.k, 1)
    filled: dict[str, object] = {
        "latent": np.arange(size.d_sae), "label": [made_up_name(random) for _ in range(size.d_sae)],
        "label_source": ["logo"] * size.d_sae, "kind": ["motif-like"] * size.d_sae,
        "flags": [""] * size.d_sae, "n_active": n_active, "n_proteins": per_latent,
        "frequency": n_active / n_residues, "protein_frequency": per_latent / size.n_proteins,
        "max": np.full(size.d_sae, 20.0), "confirmed": random.random(size.d_sae) < 0.1,
        "concept": [f"concept {i % N_CONCEPTS}" for i in range(size.d_sae)],
    }  # fmt: skip
    arrow = {"string": pa.string(), "bool": pa.bool_(), "int32": pa.int32(), "int64": pa.int64(),
             "float32": pa.float32(), "float64": pa.float64()}  # fmt: skip
    columns = []
    for name, kind in layout.LATENT_COLUMNS.items():
        empty: Any = [None] * size.d_sae
        if kind != "string":
            empty = random.random(size.d_sae) * (1_000 if kind == "int64" else 1)
            empty = empty.astype(bool if kind == "bool" else kind)
        columns.append(pa.array(filled.get(name, empty)).cast(arrow[kind]))
    table = pa.Table.from_arrays(columns, names=list(layout.LATENT_COLUMNS))
    pq.write_table(table, folder / "latents.parquet")


def _write_manifest(folder: Path, size: Size, n_residues: int) -> None:
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": ""}
        for path in sorted(folder.rglob("*.*"))
        if path.name != layout.MANIFEST
    }
    manifest = {
        "format_version": layout.FORMAT_VERSION, "id": "synthetic", "name": "synthetic",
        "versions": {}, "model": "none", "weights": "none", "site": "block1", "block": 1,
        "architecture": "topk", "d_model": size.d_model, "d_sae": size.d_sae, "k": size.k,
        "n_proteins": size.n_proteins, "n_residues": n_residues, "n_tracked": size.n_proteins,
        "letters": AMINO_ACIDS, "provenance": {}, "files": files,
        "has": {"probes": True, "structures": False, "effects": True, "tracks": True,
                "neurons": False},
    }  # fmt: skip
    manifest["hash"] = manifest_hash(manifest)
    (folder / layout.MANIFEST).write_text(json.dumps(manifest))
