"""Synthetic codes of any size, and all that a build asks of a run, without a parent or activations.

A residue has ``k`` draws from its protein's own pool of latents, whose frequencies over the
dictionary are log-normal, as in ``explorer_data``; decoder rows and sequences are random. Codes go
to the disk as ``python -m saejax.latents`` writes them, by residue; sorting them by latent is left
to the build.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flax import nnx

from experiments.benchmarks.explorer_data import FREQUENCY_SIGMA
from explorer.build.config import BuildConfig
from explorer.build.inputs import BuildInputs
from extract.alphabet import AMINO_ACIDS, residue_tokens
from extract.fasta import Protein
from extract.files import write_json_atomically
from probes.annotations import Annotations
from probes.data.rows import ProteinRows
from saejax import latent_arrays as arrays
from saejax.architectures import ARCHITECTURES
from saejax.latent_arrays import ShardLog
from saejax.latent_store import FORMAT_VERSION, LatentStore
from saejax.latent_writer import RowWriter, write_columns
from saejax.loaded_sae import LoadedSAE
from saejax.model import Constants
from saejax.sae_config import SAEConfig
from saejax.sparse import SparseLatents

AT_ONCE = 500
"""Proteins that are drawn at once."""
RESIDUES_PER_PAIR = 8
"""On how many residues of a protein a latent fires that fires there at all: 13 in the demo's
bundle, whose proteins are longer."""


@dataclass(frozen=True)
class Point:
    """One size."""

    d_sae: int
    n_proteins: int
    mean_length: int = 60
    k: int = 16
    d_model: int = 320

    def lengths(self) -> np.ndarray:
        """Residues of each protein, the same at every call."""
        drawn = np.random.default_rng(0).gamma(6.0, self.mean_length / 6, self.n_proteins)
        return np.clip(drawn, 20, 1_000).astype(np.int64)


def write_codes(point: Point, folder: Path) -> None:
    """The half of a latent store that encoding leaves: ``rows/`` and its log."""
    lengths, random = point.lengths(), np.random.default_rng(1)
    weight = np.exp(random.normal(0, FREQUENCY_SIGMA, point.d_sae))
    cumulative = np.cumsum(weight / weight.sum())
    (folder / "building").mkdir(parents=True)
    log = ShardLog(folder / "building" / "rows.jsonl")
    writer = RowWriter(folder, log, int(lengths.sum()), point.d_sae)
    writer.start_at(0)
    row = 0
    for first in range(0, point.n_proteins, AT_ONCE):
        codes = _drawn(point, lengths[first : first + AT_ONCE], cumulative, random)
        writer.add(row, codes)
        row += len(codes.values)
    writer.finish()


def _drawn(
    point: Point, lengths: np.ndarray, cumulative: np.ndarray, random: np.random.Generator
) -> SparseLatents:
    """Codes of some proteins; a latent that was drawn twice on a residue fires there once."""
    size = np.maximum(lengths * point.k // RESIDUES_PER_PAIR, 2 * point.k)
    start = np.cumsum(size) - size
    pools = np.searchsorted(cumulative, random.random(int(size.sum())))
    owner = np.repeat(np.arange(len(lengths)), lengths)
    drawn = (random.random((len(owner), point.k)) * size[owner][:, None]).astype(np.int64)
    latent = np.sort(np.minimum(pools, point.d_sae - 1)[start[owner][:, None] + drawn], axis=1)
    value = random.gamma(2.0, 1.5, latent.shape).astype(np.float32) + np.float32(1e-3)
    value[:, 1:][latent[:, 1:] == latent[:, :-1]] = 0
    return SparseLatents(value, latent.astype(np.int32))  # type: ignore[arg-type]


def sorted_codes(point: Point, folder: Path, memory_gb: float) -> LatentStore:
    """The other half, by latent, as a build makes it that is given no latents."""
    n_rows = int(point.lengths().sum())
    begun = folder / "building"
    rows, columns = (ShardLog(begun / f"{name}.jsonl") for name in ("rows", "columns"))
    write_columns(folder, rows, columns, n_rows, memory_gb)
    write_json_atomically(folder / "manifest.json", {
        "format_version": FORMAT_VERSION, "n_rows": n_rows, "d_sae": point.d_sae,
        "n_entries": rows.lines[-1]["entries"], "bytes": arrays.array_bytes(folder),
        "state": "complete",
    })  # fmt: skip
    return LatentStore.open(folder)


def inputs_of(point: Point, out: Path) -> BuildInputs:
    """A run of random weights and proteins of random letters; without probes or structures."""
    config = SAEConfig(point.d_model, point.d_sae, point.k, point.k, "topk")
    constants = Constants(np.zeros(point.d_model, np.float32), 1.0)
    sae = ARCHITECTURES["topk"](config, constants, rngs=nnx.Rngs(0))
    parent = {"name": "synthetic", "weights": {"source": "none"}}
    record = {"store": {"parent": parent, "site": "block1"}, "results": {"l0": float(point.k)}}
    loaded = LoadedSAE(Path("synthetic"), sae, config, record)
    letters = np.frombuffer(AMINO_ACIDS.encode(), np.uint8)
    lengths = point.lengths()
    random = np.random.default_rng(2)
    text = letters[random.integers(0, 20, int(lengths.sum()))].tobytes().decode()
    ends = np.cumsum(lengths).tolist()
    proteins = [
        Protein(f"P{i:06d}", text[end - n : end])
        for i, (end, n) in enumerate(zip(ends, lengths.tolist(), strict=True))
    ]
    rows = ProteinRows(proteins, residue_tokens(text).astype(np.uint8))
    asked = BuildConfig(
        Path("synthetic"), (Path("synthetic"),), out, effects=False, neurons=False, name="synthetic"
    )
    gc.collect()
    return BuildInputs(asked, loaded, [], rows, Annotations.load(rows), None, {}, {}, None)
