"""Run a parent model over proteins and fill a store, shard by shard."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from tqdm import tqdm

from extract.alphabet import residue_tokens
from extract.batching import proteins_of_rows, token_batches
from extract.errors import UserError, require_free_space
from extract.fasta import FastaReport, Protein, TooLong
from extract.files import versions
from extract.plm import ProteinLM
from extract.store import CHUNK_ROWS, DTYPES, FORMAT_VERSION, ActivationStore, ShardSpec
from extract.writer import StoreWriter

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExtractConfig:
    """Run a protein language model over a FASTA file and store its residual stream.

    Residues only: the tokens the model adds at both ends are dropped. An interrupted run goes on
    where it stopped when the same command is given again.
    """

    fasta: Path
    """FASTA or FASTA.gz with the proteins."""
    out: Path
    """Folder of the activation store (made, or resumed)."""
    model: str = "esm2_t6_8M_UR50D"
    """An ESM2 model, from esm2_t6_8M_UR50D to esm2_t48_15B_UR50D."""
    site: str = "block4"
    """Where to read: block0 (embeddings), block1 ... blockN (after block n), or final."""
    weights: Path | None = None
    """Weights file (fair-esm .pt, Hugging Face model.safetensors or pytorch_model.bin)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format on disk; bfloat16 halves the size."""
    max_residues: int = 1022
    """Longest protein, in residues."""
    too_long: TooLong = "skip"
    """What happens to longer proteins: leave out (skip) or cut at this length (crop)."""
    token_dropout: bool = True
    """ESM2's 0.88 embedding scale, on by default as in fair-esm and Hugging Face."""
    batch_residues: int = 1024
    """Residues per forward pass; about 1,000 suit a CPU's cache, a GPU wants more."""
    shard_rows: int = 16384
    """Rows (residues) per shard, the unit of resuming; a multiple of 1024."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.shard_rows < CHUNK_ROWS or self.shard_rows % CHUNK_ROWS:
            raise UserError(f"--shard-rows ({self.shard_rows}) must be a multiple of {CHUNK_ROWS}")
        if self.batch_residues < 1:
            raise UserError(f"--batch-residues ({self.batch_residues}) must be at least 1")


def extract(
    config: ExtractConfig, model: ProteinLM, proteins: list[Protein], report: FastaReport
) -> ActivationStore:
    """Fill the store ``config.out`` with ``model``'s residual stream at ``config.site``.

    Every shard is computed from its own proteins alone, in batches that depend on nothing else,
    so that resuming gives the same bytes.

    Raises:
        UserError: the disk lacks room, or the folder holds something else.
    """
    model.check_site(config.site)
    offsets = np.cumsum([0, *(len(p.sequence) for p in proteins)])
    manifest = _manifest(config, model, report, n_rows=int(offsets[-1]))
    if not (config.out / "manifest.json").exists():
        width = DTYPES[config.dtype].itemsize * model.d_model + 7
        require_free_space(config.out, int(offsets[-1]) * width)
    writer = StoreWriter.create_or_resume(config.out, manifest, proteins)
    if writer.complete:
        log.info("%s: already complete, nothing to do", config.out)
        return ActivationStore.open(config.out)
    todo = [s for s in writer.shards if s.index not in writer.done]
    if len(todo) < len(writer.shards):
        log.info("%s: resuming, %d of %d shards left", config.out, len(todo), len(writer.shards))
    with tqdm(total=int(offsets[-1]), unit="res", unit_scale=True, disable=None) as bar:
        bar.update(int(offsets[-1]) - sum(s.stop - s.start for s in todo))
        for shard in todo:
            rows = _shard_rows(config, model, proteins, offsets, shard)
            writer.write_shard(shard, rows, _side_arrays(proteins, offsets, shard))
            bar.update(shard.stop - shard.start)
    done = writer.finish()
    log.info("%s: %d residues of %d proteins at %s, gamma %.2f", config.out, done["n_rows"],
             done["n_proteins"], config.site, done["gamma"])  # fmt: skip
    return ActivationStore.open(config.out)


def _manifest(config: ExtractConfig, model: ProteinLM, report: FastaReport, n_rows: int) -> dict:
    parent = model.describe()
    del parent["lm_head"]  # activations do not depend on it, so it may change before a resumption
    return {
        "format_version": FORMAT_VERSION,
        "parent": parent,
        "site": config.site,
        "d_model": model.d_model,
        "special_tokens_dropped": ["<cls>", "<eos>"],
        "dtype": config.dtype,
        "n_rows": n_rows,
        "n_proteins": report.n_kept,
        "source": asdict(report),
        "shard_rows": config.shard_rows,
        "batch_residues": config.batch_residues,
        "versions": versions("torch", "numpy", "tensorstore"),
    }


@torch.inference_mode()
def residue_activations(
    model: ProteinLM, sequences: list[str], site: str, *, batch_residues: int = 4096
) -> list[np.ndarray]:
    """Residual stream of each sequence at ``site``: float32 ``[residues, d_model]`` each."""
    lengths = [len(s) for s in sequences]
    out: list[np.ndarray] = []
    for batch in token_batches(range(len(sequences)), lengths, batch_residues):
        tokens = model.tokenize([sequences[i] for i in batch])
        x = model.residual(tokens, site)[tokens.residue_rows()]
        cuts = np.cumsum([lengths[i] for i in batch])[:-1]
        out += np.split(x.to("cpu", torch.float32).numpy(), cuts)
    return out


def _shard_rows(
    config: ExtractConfig,
    model: ProteinLM,
    proteins: list[Protein],
    offsets: np.ndarray,
    shard: ShardSpec,
) -> np.ndarray:
    """Activations of a shard's rows; a protein that straddles its edge is computed whole."""
    members = proteins_of_rows(offsets, shard.start, shard.stop)
    sequences = [proteins[i].sequence for i in members]
    rows = residue_activations(model, sequences, config.site, batch_residues=config.batch_residues)
    first = int(offsets[members.start])
    return np.concatenate(rows)[shard.start - first : shard.stop - first]


def _side_arrays(
    proteins: list[Protein], offsets: np.ndarray, shard: ShardSpec
) -> dict[str, np.ndarray]:
    members = proteins_of_rows(offsets, shard.start, shard.stop)
    lengths = [len(proteins[i].sequence) for i in members]
    first = int(offsets[members.start])
    rows = slice(shard.start - first, shard.stop - first)
    tokens = np.concatenate([residue_tokens(proteins[i].sequence) for i in members])
    return {
        "protein_idx": np.repeat(np.array(members, dtype=np.uint32), lengths)[rows],
        "pos": np.concatenate([np.arange(n) for n in lengths]).astype(np.uint16)[rows],
        "token_id": tokens.astype(np.uint8)[rows],
    }
